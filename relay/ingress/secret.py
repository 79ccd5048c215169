"""The secret header of a tenant: its proof, and taken off before a message is stored.

Taking it off is the one change to a message that we make unasked (besides our own Received line), so
that no receiver learns what proves a tenant. Secrets are compared in constant time, and never leave
this module.
"""

import hmac
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

from relay.config.schema import Tenant
from relay.config.tenants import LEAST_SECRET
from relay.ingress.head import find_values

_log = logging.getLogger("outgate.ingress")

REFRESH = 60.0  # seconds between two looks at the files


class Secrets:
    """The header fields of all tenants, and what is valid in them. One for each process."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        """Reads the files; one that cannot be read leaves its tenant without a valid secret."""
        self._tenants = [tenant for tenant in tenants if tenant.header]
        self._patterns = {t.name: make_pattern(t.header) for t in self._tenants}
        self._needles = {t.name: t.header.lower().encode("ascii") for t in self._tenants}
        self._valid: dict[str, tuple[bytes, ...]] = {}
        self.refresh()

    async def run(self) -> None:
        """Read the files from time to time, until cancelled: secrets change without a restart."""
        while True:
            await trio.sleep(REFRESH)
            self.refresh()

    def refresh(self) -> None:
        """Read the files now. One that has become unreadable, or empty, changes nothing."""
        for tenant in self._tenants:
            if tenant.header_secret_file:
                self._refresh(tenant)

    def _refresh(self, tenant: Tenant) -> None:
        try:
            secrets = tuple(Path(tenant.header_secret_file).read_bytes().split())
        except OSError as error:
            _log.error(
                "tenant %s: header_secret_file cannot be read: %s; what it held stays valid",
                tenant.name,
                error.strerror,
            )
            return
        if not secrets or any(len(secret) < LEAST_SECRET for secret in secrets):
            _log.error(
                "tenant %s: header_secret_file holds no secrets of %d characters or more, a line "
                "each; what it held stays valid",
                tenant.name,
                LEAST_SECRET,
            )
            return
        self._valid[tenant.name] = secrets

    def find(self, head: bytes, candidates: Sequence[Tenant]) -> Tenant | None:
        """Return the tenant whose secret stands in the head of a message, None: nobody's.

        The field must be there once: of two, somebody else may have added one.
        """
        lowered = head[: 256 * 1024].lower()
        for tenant in candidates:
            needle = self._needles.get(tenant.name)
            if needle is None or "header" not in tenant.proof or needle not in lowered:
                continue
            values = list(find_values(head, tenant.header))
            if len(values) == 1 and self._is_valid(tenant, values[0]):
                return tenant
        return None

    def _is_valid(self, tenant: Tenant, value: bytes) -> bool:
        # All of them, always: which one it was, or that there are two, takes no time to tell.
        found = False
        for secret in self._valid.get(tenant.name, ()):
            found |= hmac.compare_digest(secret, value)
        return found

    def remove(self, head: bytes, tenants: Sequence[Tenant]) -> bytes:
        """Return a head without the secret fields of these tenants, whatever stands in them."""
        for tenant in tenants:
            pattern = self._patterns.get(tenant.name)
            if pattern is not None:
                head = pattern.sub(b"", head)
        return head


def make_pattern(name: str) -> re.Pattern[bytes]:
    """Return what matches a header field of this name, with its folded lines (RFC 5322 §2.2.3).

    The last line of a message may have no end: BDAT can bring one.
    """
    field = re.escape(name.encode("ascii"))
    line = rb"[^\r\n]*(?:\r\n|\Z)"
    return re.compile(rb"(?im)^" + field + rb"[ \t]*:" + line + rb"(?:[ \t]" + line + rb")*")
