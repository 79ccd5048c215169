"""What a session with one host must show, and who demands it."""

from dataclasses import dataclass
from typing import Literal

from relay.config.schema import TlsLevel
from relay.errors import TlsFailed
from relay.net.resolver import Tlsa

# Who demands: the receiver's zone, the receiver's policy, the sender, a rule or a site of ours; or nobody.
Policy = Literal["dane", "sts", "requiretls", "rule", "site", "opportunistic", "none"]

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
    matter; the first is asked for (SNI). None: the host's own.
    """

    policy: Policy
    level: TlsLevel
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    requiretls: bool = False  # the host must offer REQUIRETLS (RFC 8689)
    # The domain has a policy that is in testing: what is wrong is reported, and mail goes all the
    # same. "named": the policy names this host; "unnamed": it does not.
    tested: Literal["", "named", "unnamed"] = ""

    @property
    def demands_tls(self) -> bool:
        """True when nothing goes out in clear."""
        return self.level in ("require", "verify")

    @property
    def demand(self) -> str:
        """Who demands what, in words; "" when nobody does."""
        if not self.demands_tls:
            return ""
        return f"{_WHO[self.policy]} {'verified TLS' if self.level == 'verify' else 'TLS'}"


_WHO: dict[Policy, str] = {
    "dane": "its TLSA records (DANE) demand",
    "sts": "the domain's MTA-STS policy demands",
    "requiretls": "the sender (REQUIRETLS) demands",
    "rule": "a rule of ours (tls of its [[rule]]) demands",
    "site": "our configuration (tls of its [[site]]) demands",
}
OPPORTUNISTIC = Guard("opportunistic", "opportunistic")
