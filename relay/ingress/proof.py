"""What a message shows of who sent it: the second half of admission, at its end.

Network and MAIL FROM have named the candidates (admission.py): one tenant, or, for the null sender,
all whose networks the client is in. A tenant that asks for proof gets none of the messages that do
not show it: Google's addresses are every Google customer's.

    network  nothing more was asked for
    header   the tenant's secret stands in the head (secret.py)
    dkim     a signature of one of its domains holds (RFC 6376), or Google's own for it

A signature can be used again: whoever has got a signed message of a tenant can send it once more, to
others, from Google's addresses and under the tenant's name. That is no proof of who sends; but every
message to several people comes several times with one signature, too. So it is not refused, and how
often each signature was seen here stands in the event (``seen``).
"""

import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from relay.config.schema import Tenant
from relay.dkim.key import Keys
from relay.dkim.verify import Verifier
from relay.ingress.admission import Admission, Refusal
from relay.ingress.author import find_authors
from relay.ingress.secret import Secrets

# Google signs so for domains that have no key of their own: a date stands between.
_FALLBACK = re.compile(r"([a-z0-9-]{1,253})\.[0-9]{8}\.gappssmtp\.com")
# What is hashed elsewhere than on the loop, octets: a thread costs 0.1 ms, and so do these.
_LARGE = 64 * 1024
_REMEMBERED = 10_000  # signatures

_NO_PROOF = "Relaying denied: no proof that the owner of the sender's domain sent this"
_NOT_ALIGNED = "The From field names others than the sender's organisation"


@dataclass(frozen=True, slots=True)
class Proven:
    """Whose message it is, and by what: ``network``, ``header`` or ``dkim`` and the domain."""

    tenant: Tenant
    by: str
    domain: str = ""  # that signed
    seen: int = 0  # how often this signature came before, as far as this process remembers


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say just now whose it is: the DNS does not answer. ``reason``: for the log."""

    reason: str


class Seals:
    """Signatures that were seen, the latest ones: how often."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def count(self, seal: bytes) -> int:
        """Return how often this one came before."""
        seen = self._seen.pop(seal, 0)
        self._seen[seal] = seen + 1
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return seen


@dataclass(frozen=True)
class Judge:
    """What all messages of a process are judged with."""

    admission: Admission
    secrets: Secrets
    keys: Keys | None  # None: there is no DNS, and no signature holds
    seals: Seals


class Evidence:
    """Of one message, gathered while it comes in."""

    def __init__(self, judge: Judge, candidates: Sequence[Tenant], head: bytes) -> None:
        """``head``: the header block as received, the last CRLF included."""
        self._judge = judge
        self._candidates = candidates
        self._head = head
        self._verifier: Verifier | None = None
        self._by_secret: Tenant | None = None
        if self._is_enough_to_be_near:
            return
        self._by_secret = judge.secrets.find(head, candidates)
        if self._by_secret is None and any("dkim" in t.proof for t in candidates):
            self._verifier = Verifier(head, self._is_wanted, now=time.time())

    @property
    def _is_enough_to_be_near(self) -> bool:
        return len(self._candidates) == 1 and not self._candidates[0].proof

    @property
    def needs_body(self) -> bool:
        """False when the head has shown all that there is to be seen."""
        return self._verifier is not None and self._verifier.is_hopeful

    async def feed(self, octets: bytes) -> None:
        """Take the next octets of the body, as received; only while it is needed."""
        assert self._verifier is not None
        if len(octets) > _LARGE:
            await trio.to_thread.run_sync(self._verifier.feed, octets)
        else:
            self._verifier.feed(octets)

    async def conclude(self, *, null_sender: bool) -> Proven | Refusal | Unknown:
        """Decide whose message it is, when all of it has come."""
        proven = await self._prove()
        if null_sender and isinstance(proven, Refusal):
            # It may be of somebody who was no candidate because our sets are not there yet.
            if self._judge.admission.knows_all_candidates():
                return proven
            return Unknown(f"{proven.reason}; there are sets whose networks are not known yet")
        if not isinstance(proven, Proven) or not proven.tenant.align_from:
            return proven
        if null_sender and proven.by == "header":
            return proven  # Google's own notices are from mailer-daemon@googlemail.com
        known = self._verifier.fields if self._verifier is not None else None
        authors = find_authors(self._head, known)
        if not authors:
            return Refusal(_NOT_ALIGNED, "the From field is missing, there twice, or unreadable")
        for domain in authors:
            if not self._judge.admission.owns(proven.tenant, domain):
                return Refusal(
                    _NOT_ALIGNED, f"{domain} in From is not of tenant {proven.tenant.name}"
                )
        return proven

    async def _prove(self) -> Proven | Refusal | Unknown:
        if self._is_enough_to_be_near:
            return Proven(self._candidates[0], "network")
        if self._by_secret is not None:
            return Proven(self._by_secret, "header")
        reasons = []
        if any("header" in tenant.proof for tenant in self._candidates):
            reasons.append("no valid secret header")
        if self._verifier is not None:
            if self._judge.keys is None:
                return Unknown("no DNS to look DKIM keys up in")
            verdict = await self._verifier.conclude(self._judge.keys)
            tenant = self._find_owner(verdict.domain) if verdict.domain else None
            if tenant is not None:
                seen = self._judge.seals.count(verdict.seal)
                return Proven(tenant, "dkim", verdict.domain, seen)
            if verdict.temporary:
                return Unknown(verdict.reason)
            reasons.append(verdict.reason)
        return Refusal(_NO_PROOF, "; ".join(reasons))

    def _is_wanted(self, domain: str) -> bool:
        return self._find_owner(domain) is not None

    def _find_owner(self, domain: str) -> Tenant | None:
        """Return the candidate whose signature one of this domain (d=) is."""
        for tenant in self._candidates:
            if "dkim" in tenant.proof and (
                self._judge.admission.owns(tenant, domain) or _is_fallback(tenant, domain)
            ):
                return tenant
        return None


def _is_fallback(tenant: Tenant, domain: str) -> bool:
    """Tell whether Google signs so for a domain of the tenant."""
    if not tenant.dkim_fallback or (found := _FALLBACK.fullmatch(domain)) is None:
        return False
    # a-b.example and a.b.example are the same here; Google has no other name for them.
    return any(found[1] == own.replace(".", "-") for own in tenant.domains)
