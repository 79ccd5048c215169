"""What the DKIM signatures of one message prove (RFC 6376 §6), while it arrives.

The question is stricter than a receiver's: is this message, all of it, of one of these domains? So
a signature over the beginning of the body (l=) proves nothing, and neither does one of a message
that can be read in two ways. The verdict says why, for the log.

    verifier = Verifier(head, wanted)
    for piece in body:          # only if verifier.is_hopeful
        verifier.feed(piece)
    verdict = await verifier.conclude(keys)
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay.dkim.canon import BODIES, Form, SimpleBody, relax_field
from relay.dkim.fields import Fields
from relay.dkim.key import Keys, PublicKey
from relay.dkim.signature import NAME, Signature, parse_signature, read_domain
from relay.dkim.tags import Unproven
from relay.net.resolver import NameUnavailable

MOST = 5  # signatures that are tried: each may cost a look-up, and 50 us
# Gmail takes no larger head, and one with 2000 recipients, the most that it sends to, has so many
# lines; each of our fields costs a little.
_HEAD_OCTETS = 512 * 1024
_HEAD_LINES = 10_000
_NAMED = 3  # other domains that a reason names


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. ``domain`` and ``selector``: of the signature that verified, "" for none.

    ``temporary``: none verified, and for one of them the DNS could not answer. ``reason``: why none
    did. ``seal``: the octets of b= of the one that did; the same ones mean the same signed message.
    """

    domain: str = ""
    selector: str = ""
    temporary: bool = False
    reason: str = ""
    seal: bytes = b""


class Verifier:
    """Verifies one message."""

    def __init__(
        self, head: bytes, wanted: Callable[[str], bool], *, now: float | None = None
    ) -> None:
        """``head``: as received, lines that end in CRLF, without the blank line after them.

        ``wanted`` is asked of each d=, in lower case; signatures of other domains are not read.
        ``now``: seconds since 1970.
        """
        self._now = time.time() if now is None else now
        self._reasons: list[str] = []
        self._signatures: list[tuple[int, Signature]] = []  # with their places in the head
        self._bodies: dict[Form, SimpleBody] = {}
        self.fields: Fields | None = None  # of the head, if they were looked at
        try:
            self._read(head, wanted)
        except Unproven as problem:
            self._reasons = [str(problem)]
        for _, signature in self._signatures:
            form = signature.terms.body_form
            self._bodies.setdefault(form, BODIES[form]())

    @property
    def is_hopeful(self) -> bool:
        """Tell whether there is a signature for which it is worth reading the body."""
        return bool(self._signatures)

    def feed(self, octets: bytes) -> None:
        """Take the next piece of the body, cut anywhere. Large ones take time: 100 KiB take 1 ms."""
        for body in self._bodies.values():
            body.feed(octets)

    async def conclude(self, keys: Keys) -> Verdict:
        """Return the verdict. Once, after the last piece."""
        digests = {form: body.finish() for form, body in self._bodies.items()}
        temporary = False
        for place, signature in self._signatures:
            terms = signature.terms
            try:
                self._check_body(signature, digests[terms.body_form])
                key = await keys.find(terms.selector, terms.domain)
                self._check_head(place, signature, key)
            except (Unproven, NameUnavailable) as problem:
                temporary = temporary or isinstance(problem, NameUnavailable)
                self._reasons.append(f"{terms.selector}/{terms.domain}: {problem}")
            else:
                return Verdict(terms.domain, terms.selector, seal=signature.seal)
        return Verdict(temporary=temporary, reason="; ".join(self._reasons))

    def _read(self, head: bytes, wanted: Callable[[str], bool]) -> None:
        """Find the signatures that are worth more. Raises Unproven."""
        if NAME not in head.lower():
            raise Unproven("no DKIM signature")
        _check_lines(head)
        self._fields = self.fields = Fields(head)
        places = list(self._find_wanted(wanted))
        froms = len(self._fields.find(b"from"))
        if froms != 1:
            # h= must name From, but it need not name it twice: then another that somebody has put
            # on top is not signed, and it is the one that people see (RFC 6376 §8.15).
            raise Unproven("several From fields" if froms else "no From field")
        for place, domain in places:
            try:
                signature = parse_signature(self._fields[place], now=self._now)
            except Unproven as problem:
                self._reasons.append(f"{domain}: {problem}")
            else:
                self._signatures.append((place, signature))

    def _find_wanted(self, wanted: Callable[[str], bool]) -> Iterator[tuple[int, str]]:
        """Yield place and domain of the first few of a wanted domain. Raises Unproven for none."""
        found = 0
        others: dict[str, None] = {}
        for place in self._fields.find(NAME):
            domain = read_domain(self._fields[place])
            if not domain or not wanted(domain):
                others[domain or "?"] = None
                continue
            yield place, domain
            found += 1
            if found == MOST:
                return
        if not found:
            named = ", ".join(list(others)[:_NAMED])
            raise Unproven(f"no DKIM signature of these domains, only of {named}")

    def _check_body(self, signature: Signature, digest: bytes) -> None:
        covered = signature.terms.length
        if covered is not None and covered != (
            length := self._bodies[signature.terms.body_form].length
        ):
            # RFC 6376 §8.2: what stands behind is anybody's.
            raise Unproven(f"it covers {covered} of {length} octets of the body (l=)")
        if signature.digest != digest:
            raise Unproven("the body is not the one that was signed")

    def _check_head(self, place: int, signature: Signature, key: PublicKey) -> None:
        terms = signature.terms
        if key.algorithm != terms.algorithm:
            raise Unproven("the key is of another kind than a=")
        if key.exact and terms.identity != terms.domain:
            raise Unproven("i= is below d=, which the key does not allow (t=s)")
        # RFC 6376 §3.7: the field itself comes last, with nothing in b= and without its CRLF.
        signed = [*self._fields.choose(terms.names, but=place), signature.unsealed]
        if terms.head_form == "relaxed":
            signed = [relax_field(field) for field in signed]
        if not key.verify(signature.seal, b"\r\n".join(signed)):
            raise Unproven("the head is not the one that was signed, or not with this key")


def _check_lines(head: bytes) -> None:
    """Raise Unproven for a head that is too large, or that others may cut into lines otherwise."""
    lines = head.count(b"\r\n")
    if len(head) > _HEAD_OCTETS or lines > _HEAD_LINES:
        raise Unproven(f"the head has {len(head)} octets in {lines} lines, which is too much")
    if not lines == head.count(b"\r") == head.count(b"\n"):
        raise Unproven("the head has a CR or LF that is not part of a line end")
