"""How sessions with hosts went, put into the words of TLS reports (RFC 8460)."""

from workers.hosts import Host
from workers.tls.guard import Failing
from workers.tls.sts import StsPolicies, StsPolicy
from workers.tls.tally import Tally


class Account:
    """Notes each session, and each one that was not to be had, under the policy that applied."""

    def __init__(self, tally: Tally, policies: StsPolicies | None) -> None:
        self._tally = tally
        self._policies = policies

    def note(self, domain: str, host: Host, source: str, failing: Failing, text: str) -> None:
        """Count a session with a host for a domain. ``failing``: "" where all was as it should be.

        ``source``: the address that it was opened from.
        """
        guard = host.guard
        policy, trouble = self._find_policy(domain)
        if guard.policy == "dane":
            strings = tuple(
                f"{t.usage} {t.selector} {t.matching} {t.data.hex()}" for t in guard.tlsa
            )
            self._tally.note(domain, "tlsa", strings, (), host.name, source, failing, text)
        elif policy is not None and (guard.policy == "sts" or guard.tested):
            if guard.tested == "unnamed":
                failing, text = "validation-failure", f"{host.name} is not in the policy"
            self._tally.note(
                domain, "sts", _quote(policy), policy.mx, host.name, source, failing, text
            )
        else:
            # RFC 8460 §4.3.2.1: a policy that cannot be had is a failure of its own.
            if trouble:
                self._tally.note(domain, "sts", (), (), host.name, source, trouble, "")
            missing = failing if failing in _NO_SESSION else ""
            self._tally.note(domain, "no-policy-found", (), (), host.name, source, missing, text)

    def note_unfit(self, domain: str, host: str, failing: Failing, text: str) -> None:
        """Count a host that was not even connected to."""
        policy, _ = self._find_policy(domain)
        if failing == "dnssec-invalid" or policy is None:
            self._tally.note(domain, "tlsa", (), (), host, "", failing, text)
        else:
            self._tally.note(domain, "sts", _quote(policy), policy.mx, host, "", failing, text)

    def _find_policy(self, domain: str) -> tuple[StsPolicy | None, Failing]:
        if self._policies is None:
            return None, ""
        return self._policies.find_now(domain) or (None, "")


def _quote(policy: StsPolicy) -> tuple[str, ...]:
    return tuple(policy.text.splitlines())


# Without a policy nobody has said who the host should be: only whether there is TLS counts.
_NO_SESSION = ("starttls-not-supported", "validation-failure")
