"""Who may come in: a token, or being on this host; and no page of somebody else's in a browser here.

Without tokens the service listens on loopback only (relay/config/running.py), and whoever can open a
connection there may look. A browser on this host can, too, whatever page it shows; so
- the Host field must name this host: a name that somebody has pointed at 127.0.0.1 (DNS rebinding) is
  turned away;
- who wants to change something sends the field ``X-Outgate: 1``, which no form of another site can
  send, and no script without leave (CORS), which we give nobody. Also who shows the token as a cookie:
  the browser sends that by itself.

Probes are answered to anybody; why something is not ready they tell only to who may see the rest.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.admin.http.answers import refuse
from workers.admin.http.tokens import Tokens

COOKIE = "outgate_token"
WHO = "outgate.who"  # in the scope: the name of the token that somebody has shown, or ""
SEES = "outgate.sees"  # in the scope: whether he may see what is behind the door
_PROBES = frozenset(("/healthz", "/readyz"))  # asked by address, by programs
_OPEN = frozenset(("/", "/login", "/logout"))  # the page that asks for the token
_SAFE = frozenset(("GET", "HEAD"))


class Access:
    """The application behind a door."""

    def __init__(self, application: ASGIApp, tokens: Tokens) -> None:
        self._application = application
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        request = Request(scope)
        wait = self._find_wait(request)
        if wait and self._is_shut(request):
            answer = refuse(429, f"too many wrong tokens from this address: wait {wait} s")
            answer.headers["Retry-After"] = str(wait)
            await answer(scope, receive, send)
            return
        # Who has to wait has no token for now: else an open path would say which one is right.
        scope[WHO] = "" if wait else self._find_who(request)
        scope[SEES] = bool(scope[WHO]) if self._tokens.needed else _comes_here(request)
        status, text = self._check(request, scope[WHO])
        if not text:
            await self._application(scope, receive, send)
            return
        answer = refuse(status, text)
        if status == 401:
            answer.headers["WWW-Authenticate"] = 'Bearer realm="outgate"'
        await answer(scope, receive, send)

    def _check(self, request: Request, who: str) -> tuple[int, str]:
        """Return why somebody may not, or ""."""
        path = request.scope[
            "path"
        ]  # what routing goes by: url.path is made with the Host field, too
        if path in _PROBES:
            return 200, ""
        if not self._tokens.needed and not _comes_here(request):
            return 403, (
                "the Host field names another host: use http://127.0.0.1 or http://localhost, "
                "or set admin.token_file"
            )
        is_open = path in _OPEN or path.startswith("/static/")
        if self._tokens.needed and not who and not is_open:
            return 401, "a token is needed: Authorization: Bearer TOKEN, one of admin.token_file"
        if request.method in _SAFE or _shows_token(request):
            return 200, ""
        if request.headers.get("x-outgate") != "1":
            return 403, "who changes something sends the field X-Outgate: 1"
        if not _is_own_page(request):
            return 403, "this page is another's: its scripts may not change anything here"
        return 200, ""

    def _find_wait(self, request: Request) -> int:
        """Return for how many seconds whoever shows a token from there has to wait."""
        if not self._tokens.needed:
            return 0
        return self._tokens.brake.find_wait(find_client(request))

    def _is_shut(self, request: Request) -> bool:
        """Tell what is not there meanwhile: all but the page and probes, which ask for no token."""
        path = request.scope["path"]
        return path not in _PROBES and path != "/" and not path.startswith("/static/")

    def _find_who(self, request: Request) -> str:
        if not self._tokens.needed:
            return ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.cookies.get(COOKIE, "")
        token = token.strip()
        who = self._tokens.find(token)
        if token and not who:
            self._tokens.brake.note(find_client(request), token)
        return who


def find_client(request: Request) -> str:
    """Return the address that a request came from."""
    return request.client.host if request.client else "0.0.0.0"  # noqa: S104 - nothing listens


def _shows_token(request: Request) -> bool:
    """Tell whether the token is where only a program that knows it can have put it."""
    bears = request.headers.get("authorization", "").lower().startswith("bearer ")
    return bears and bool(request.scope[WHO])


def _comes_here(request: Request) -> bool:
    """Tell whether the Host field names loopback, by address or as localhost."""
    try:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_own_page(request: Request) -> bool:
    """Browsers say which page a script belongs to (Origin, RFC 6454 §7); others say nothing."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
