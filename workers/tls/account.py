"""How sessions with hosts went, put into the words of TLS reports (RFC 8460)."""

from dataclasses import dataclass

from relay.store.tlsrpt import PolicyType
from workers.hosts import Host
from workers.tls.guard import Failing, Guard
from workers.tls.sts import StsPolicies, StsPolicy
from workers.tls.tally import Tally

# Without a policy nobody has said who the host should be: only whether there is TLS counts.
_NO_SESSION = ("starttls-not-supported", "validation-failure")


@dataclass(frozen=True, slots=True)
class _Policy:
    """A policy as reports name it: kind, its lines, and the hosts that it is about."""

    kind: PolicyType
    strings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


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
        sts, trouble = self._find_policy(domain)
        if guard.policy == "dane":
            policy = _describe_dane(guard)
            if not guard.tlsa and failing not in _NO_SESSION:
                # RFC 8460 §4.3.2.1: whatever the certificate is, records that cannot be used are
                # not what their owner thinks that they are.
                failing, text = "tlsa-invalid", "none of its TLSA records can be used"
        elif sts is not None and (guard.policy == "sts" or guard.tested):
            policy = _describe_sts(sts)
            if guard.tested == "unnamed":
                failing, text = "validation-failure", f"{host.name} is not in the policy"
        else:
            if trouble:  # RFC 8460 §4.3.2.2: a policy that cannot be had is a failure of its own
                self._count(domain, _Policy("sts"), host, source, trouble, "")
            policy = _Policy("no-policy-found")
            failing = failing if failing in _NO_SESSION else ""
        self._count(domain, policy, host, source, failing, text)

    def note_unfit(self, domain: str, name: str, failing: Failing, text: str) -> None:
        """Count a host that was not even connected to."""
        sts, _ = self._find_policy(domain)
        dane = failing == "dnssec-invalid" or sts is None
        policy = _Policy("tlsa", (), (name,)) if dane or sts is None else _describe_sts(sts)
        self._count(domain, policy, Host(name, "", 0), "", failing, text)

    def _count(
        self, domain: str, policy: _Policy, host: Host, source: str, failing: Failing, text: str
    ) -> None:
        self._tally.note(
            domain, policy.kind, policy.strings, policy.hosts,
            host.name, source, failing, text, host.address,
        )  # fmt: skip

    def _find_policy(self, domain: str) -> tuple[StsPolicy | None, Failing]:
        if self._policies is None:
            return None, ""
        # What the session was opened by: that may take longer than the answer is fresh.
        return self._policies.recall(domain)


def _describe_sts(policy: StsPolicy) -> _Policy:
    return _Policy("sts", tuple(policy.text.splitlines()), policy.mx)


def _describe_dane(guard: Guard) -> _Policy:
    # RFC 8460 §1.1: the policy domain of TLSA records is their base domain.
    records = (f"{t.usage} {t.selector} {t.matching} {t.data.hex()}" for t in guard.tlsa)
    return _Policy("tlsa", tuple(records), guard.names[:1])
