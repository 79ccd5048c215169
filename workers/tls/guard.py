"""What a session with one host must show, and who demands it."""

from dataclasses import dataclass
from typing import Literal

from relay.config.schema import TlsLevel
from relay.errors import TlsFailed
from relay.net.resolver import Tlsa

# Who demands: the receiver's zone, the receiver's policy, the sender, our configuration, what the
# host has shown before; or nobody.
Policy = Literal["dane", "sts", "requiretls", "site", "learnt", "opportunistic", "none"]

# RFC 8460 §4.3: why a session was not as it should have been. "": it was.
Failing = Literal[
    "",
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]


class TlsUntrusted(TlsFailed):
    """TLS with a host is not what it should be. ``failing`` as reports say it (RFC 8460 §4.3)."""

    def __init__(self, failing: Failing, text: str) -> None:
        super().__init__(text)
        self.failing: Failing = failing


@dataclass(frozen=True, slots=True)
class Guard:
    """What one host must show.

    ``level``: as for a site. With ``tlsa`` the certificate is held against these records instead
    of the authorities that we trust. ``names``: one of them must be in the certificate, where names
    matter; the first is asked for (SNI).
    """

    policy: Policy
    level: TlsLevel
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    requiretls: bool = False  # the host must offer REQUIRETLS (RFC 8689)
    tested: bool = False  # the domain's policy is in testing: report what is wrong, and deliver
