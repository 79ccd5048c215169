"""Tokens that let somebody in: a file with one a line, all of them valid, read again as it changes."""

import hmac
import logging
from hashlib import sha256
from pathlib import Path

import trio

from relay.errors import StartError
from workers.admin.http.brake import Brake

_log = logging.getLogger("outgate.admin")

_REFRESH = 10.0  # seconds between two looks at the file
_LEAST = 16  # characters
_MOST = 1000  # tokens


class Tokens:
    """The valid tokens. ``needed``: False where none is configured. ``brake``: on wrong ones."""

    def __init__(self, path: str) -> None:
        """Read the file; "": no token is needed. Raises StartError."""
        self.needed = bool(path)
        self.brake = Brake()
        self._path = path
        self._valid: list[bytes] = []  # digests: of the same length, whatever somebody sends
        if self.needed:
            try:
                self._valid = _read(path)
            except (OSError, ValueError) as error:
                raise StartError(f"admin.token_file {path}: {_spell(error)}") from error

    async def run(self) -> None:
        """Read the file from time to time, until cancelled: tokens change without a restart."""
        while True:
            await trio.sleep(_REFRESH)
            self.refresh()

    def refresh(self) -> None:
        """Read the file now. One that has become unreadable, or empty, changes nothing."""
        if not self.needed:
            return
        try:
            self._valid = _read(self._path)
        except (OSError, ValueError) as error:
            text = "admin.token_file %s: %s; the tokens that it held stay valid"
            _log.error(text, self._path, _spell(error))

    def find(self, token: str) -> str:
        """Return the name of a token, to be written down: eight digits of its digest; "": not valid.

        Each of them is compared, in the same time, whatever somebody has sent.
        """
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = [hmac.compare_digest(digest, one) for one in self._valid]
        return digest.hex()[:8] if any(found) else ""


def _read(path: str) -> list[bytes]:
    tokens = Path(path).read_bytes().split()
    if not tokens:
        raise ValueError("it is empty; put a token into it: openssl rand -hex 32")
    if any(len(token) < _LEAST for token in tokens):
        raise ValueError(f"a token needs {_LEAST} characters or more: openssl rand -hex 32")
    if len(tokens) > _MOST:
        raise ValueError(f"there are more than {_MOST} tokens")
    return [sha256(token).digest() for token in tokens]


def _spell(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)
