"""Asking rspamd: a POST to /checkv2 of its worker, over HTTP on TCP or on a Unix socket.

The message is the body; the envelope goes in header fields (rspamd's "protocol" page). The answer is
a JSON object of which three things matter: the action, the score and the symbols. Symbols have
options, which quote the message; of those nothing is kept.

rspamd closes after each answer (as of 3.4). The client keeps connections all the same, for what may
stand between: a proxy, a later version.
"""

import re
from collections.abc import Iterator

import httpx2
import msgspec

from relay.net.answer import open_answer, read_body
from relay.net.neighbour import Neighbour
from relay.net.tls import make_client_context
from relay.scan.inquiry import Inquiry, Scan, ScanFailed, ScanRefused, show

_MAX_REPLY = 1 << 20  # octets
# rspamd breaks the connection off above 80 KiB of header fields. Of a message to very many the last
# recipients are left out: rules about recipients want some of them, and their number.
_MAX_RECIPIENTS = 48 * 1024  # octets of Rcpt fields
_MAX_VALUE = 1024  # octets
_MAX_ACTION = 64  # characters
_MAX_SYMBOLS = 10
_MAX_SYMBOL = 64  # characters

# Senders decide what stands in addresses and in EHLO; RFC 9110 §5.5 on what no field may have.
_UNFIT = re.compile(rb"[\x00-\x1f\x7f]")
_FIXED = ((b"Accept-Encoding", b"identity"), (b"User-Agent", b"outgate"))

Field = tuple[bytes, bytes]


class _Symbol(msgspec.Struct):
    score: float = 0.0


class _Reply(msgspec.Struct):
    action: str
    score: float
    symbols: dict[str, _Symbol] = {}


_decode = msgspec.json.Decoder(_Reply).decode


class Rspamd:
    """One rspamd. Any number of tasks may ask at the same time."""

    def __init__(self, place: Neighbour, *, connections: int) -> None:
        """``connections``: so many at a time."""
        host = f"[{place.host}]" if ":" in place.host else place.host
        authority = "localhost" if place.path else f"{host}:{place.port}"
        self._url = httpx2.URL(f"http://{authority}/checkv2")
        transport = httpx2.AsyncHTTPTransport(
            verify=make_client_context(verify=False),  # there is no TLS; a default one takes long
            trust_env=False,
            uds=place.path or None,
            limits=httpx2.Limits(max_connections=connections),
        )
        self._client = httpx2.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, timeout=None
        )

    async def ask(self, inquiry: Inquiry) -> Scan:
        """Show a message. Raises ScanFailed; the deadline is the caller's."""
        fields = [*_FIXED, *make_fields(inquiry)]
        request = self._client.build_request(
            "POST", self._url, headers=fields, content=inquiry.message
        )
        try:
            async with open_answer(self._client, request) as response:
                return read_reply(await _read(response))
        except httpx2.HTTPError as error:
            raise ScanFailed(_explain(error)) from error

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._client.aclose()


def make_fields(inquiry: Inquiry) -> Iterator[Field]:
    """Yield the header fields that tell rspamd of an envelope."""
    yield b"From", b"<%b>" % _clean(inquiry.sender)
    room = _MAX_RECIPIENTS
    for recipient in inquiry.recipients:
        value = b"<%b>" % _clean(recipient)
        room -= len(value) + len(b"Rcpt: \r\n")
        if room < 0:
            break
        yield b"Rcpt", value
    for name, text in (
        (b"IP", inquiry.client),
        (b"Helo", inquiry.hello),
        (b"Queue-Id", inquiry.message_id),
    ):
        if value := _clean(text.encode("utf-8", "replace")):
            yield name, value


def _clean(value: bytes) -> bytes:
    """Make a field's value of what somebody wrote: no line ends, no spaces around it."""
    return _UNFIT.sub(b"?", value[:_MAX_VALUE]).strip(b" ")


async def _read(response: httpx2.Response) -> bytes:
    """Return the body of a good answer. Raises ScanFailed, httpx2.HTTPError."""
    if response.status_code == 413:
        raise ScanRefused("the message is larger than rspamd's max_message")
    if response.status_code != 200:
        raise ScanFailed(f"rspamd answered with status {response.status_code}")
    octets = await read_body(response, _MAX_REPLY)
    if len(octets) > _MAX_REPLY:
        raise ScanFailed(f"more than {_MAX_REPLY} octets are not an answer of rspamd")
    return octets


def read_reply(body: bytes) -> Scan:
    """Read the JSON of an answer. Raises ScanFailed."""
    try:
        reply = _decode(body)  # a score is finite: msgspec refuses what JSON has no number for
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ScanFailed(f"not an answer of rspamd: {show(str(error), 200)}") from error
    action = reply.action.strip().lower()
    if not action or len(action) > _MAX_ACTION:
        raise ScanFailed(f"not an answer of rspamd: the action is {show(action, _MAX_ACTION)!r}")
    return Scan(show(action, _MAX_ACTION), reply.score, _list_symbols(reply.symbols))


def _list_symbols(symbols: dict[str, _Symbol]) -> str:
    """Name those that weigh most: "SUBJ_ALL_CAPS 3.0, MISSING_DATE 1.0"."""
    ranked = sorted(symbols.items(), key=lambda item: -abs(item[1].score))[:_MAX_SYMBOLS]
    return ", ".join(f"{show(name, _MAX_SYMBOL)} {symbol.score:.1f}" for name, symbol in ranked)


def _explain(error: httpx2.HTTPError) -> str:
    """The client's words, or those of what stands behind it: some errors have none of their own."""
    cause: BaseException | None = error
    while cause is not None:
        if text := str(cause):
            return show(text, 200)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
