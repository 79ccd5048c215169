"""MTA-STS: policies that domains publish about TLS with their mail hosts (RFC 8461).

A TXT record announces a policy and names its version; the policy itself comes over HTTPS, and the
web's authorities vouch for it. It is kept until its ``max_age`` is over, whatever happens to the
record and the web server meanwhile: who can suppress these must not be able to suppress TLS.

Where a policy is found, nearest first: in this process (``find_now``, a look into a dict), in the
store, where all workers share it, at the domain. What a process knows it looks up again after a
minute, in the store and in the DNS: what others fetched, and another version, are noticed soon.
"""

import contextlib
import functools
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import trio

from relay.config import Config
from relay.errors import OutgateError, StoreError, StoreUnavailable
from relay.net.resolver import NameUnavailable, Resolver
from relay.store.stscache import StoredSts, StsCache
from workers.tls.fetch import MAX_OCTETS, StsFetchFailed, fetch_policy, make_context
from workers.tls.guard import Failing

Mode = Literal["enforce", "testing", "none"]
_MODES: dict[str, Mode] = {"enforce": "enforce", "testing": "testing", "none": "none"}

MAX_AGE = 31_557_600  # RFC 8461 §3.2: a year; what is more is taken as this
MAX_PATTERNS = 100  # of one policy
MAX_LINES = 1000  # ... with all that we do not know

CACHE_SIZE = 10_000  # domains that a process knows about
LOOK_AGAIN = 60.0
UNAVAILABLE_FOR = 5.0  # the DNS does not answer: as long as the resolver remembers that
FAILED_FOR = 300.0  # RFC 8461 §3.3: a version that failed is left alone for at least so long
# §3.3 suggests a look once a day; what lives shorter is fetched again when half of that is over.
REFRESH_AFTER = 86_400.0
MIN_AGE = 60.0  # a policy of no age at all would be fetched for every message
CONCURRENT = 256  # fetches at a time; the rest wait for their turn before their time runs

# §3.1, the ABNF: what begins like this is meant to be a record, and there must be only one.
_BEGIN = re.compile(rb"v=STSv1[ \t]*;")
_FIELD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+")
_ID = re.compile(rb"id=([A-Za-z0-9]{1,32})")
_SECONDS = re.compile(r"[0-9]{1,10}")
# §3.2: A-labels. The underscore is not a host name's, but hosts in the wild have it.
_PATTERN = re.compile(
    r"(?=.{1,253}\Z)(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)


class StsInvalid(OutgateError):
    """What a domain publishes is not a policy."""

    failing: Failing = "sts-policy-invalid"


class StsPolicy(msgspec.Struct, frozen=True):
    """A policy. ``mx``: patterns in lower case. ``max_age``: seconds."""

    id: str
    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def matches(self, host: str) -> bool:
        """Tell whether mail may go to a host of this name (RFC 8461 §4.1).

        A wildcard stands for one label, the left-most.
        """
        host = host.lower().rstrip(".")
        _, dot, parent = host.partition(".")
        return host in self.mx or (bool(dot) and f"*.{parent}" in self.mx)

    @property
    def text(self) -> str:
        """The policy as we have understood it, in the form in which it is published."""
        patterns = "".join(f"mx: {pattern}\n" for pattern in self.mx)
        return f"version: STSv1\nmode: {self.mode}\n{patterns}max_age: {self.max_age}\n"


def parse_record(txts: Sequence[bytes]) -> str | None:
    """Return the id in the TXT records of ``_mta-sts.<domain>``; None: no policy is announced."""
    # RFC 8461 §3.1: anything else at this name does not count; two records are as good as none.
    records = [txt for txt in txts if _BEGIN.match(txt)]
    if len(records) != 1:
        return None
    _, *fields = (field.strip(b" \t") for field in records[0].split(b";"))
    if fields and not fields[-1]:
        fields.pop()  # the last field may have a semicolon behind it
    if not all(_FIELD.fullmatch(field) for field in fields):
        return None
    found = _ID.fullmatch(next((field for field in fields if field.startswith(b"id=")), b""))
    return found[1].decode("ascii") if found else None


def parse_policy(octets: bytes, ident: str = "") -> StsPolicy:
    """Read a policy (RFC 8461 §3.2); ``ident``: the id of the record. Raises StsInvalid."""
    if len(octets) > MAX_OCTETS:
        raise StsInvalid(f"a policy of {len(octets)} octets is too long")
    fields, mx = _read_fields(octets)
    if fields.get("version") != "STSv1":
        raise StsInvalid(f"the policy's version is {_show(fields.get('version'))}, not STSv1")
    mode = _MODES.get(fields.get("mode", ""))
    if mode is None:
        raise StsInvalid(f"the policy's mode is {_show(fields.get('mode'))}")
    age = fields.get("max_age", "")
    if not _SECONDS.fullmatch(age):
        raise StsInvalid(f"the policy's max_age is {_show(fields.get('max_age'))}")
    if mode != "none" and not mx:
        raise StsInvalid(f"the policy is in mode {mode} and has no mx")
    return StsPolicy(ident, mode, tuple(dict.fromkeys(mx)), min(int(age), MAX_AGE))


def _read_fields(octets: bytes) -> tuple[dict[str, str], list[str]]:
    """Return the fields, the first of each name, and the patterns for hosts."""
    fields: dict[str, str] = {}
    mx: list[str] = []
    lines = octets.decode("ascii", "replace").split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise StsInvalid(f"the policy has more than {MAX_LINES} lines")
    for line in lines:
        # Blank lines and blanks at the end are not in the ABNF; they are in real policies.
        name, colon, value = line.strip().partition(":")
        if not colon and name:
            raise StsInvalid(f"a line of the policy is {_show(name)}: expected NAME: VALUE")
        value = value.strip()
        if name == "mx":
            mx.append(_read_pattern(value))
        else:
            # RFC 8461 §3.2: a field that may not be repeated counts as it stands first.
            fields.setdefault(name, value)
    if len(mx) > MAX_PATTERNS:
        raise StsInvalid(f"the policy has {len(mx)} lines of mx; at most {MAX_PATTERNS} are read")
    return fields, mx


def _read_pattern(value: str) -> str:
    pattern = value.lower()
    if not _PATTERN.fullmatch(pattern):
        raise StsInvalid(f"the policy's mx is {_show(value)}: expected a host name")
    return pattern


def _show(value: str | None) -> str:
    return "missing" if value is None else ascii(value[:80])


Answer = tuple[StsPolicy | None, Failing]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A policy, and when: seconds since 1970."""

    policy: StsPolicy
    fetched: float
    expires: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A fetch that failed; ``until`` (the loop's clock) that version is not tried again."""

    ident: str
    until: float
    failing: Failing
    text: str

    def bars(self, ident: str) -> bool:
        """Tell whether this version is not to be tried just now."""
        return self.ident == ident and self.until > trio.current_time()


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a domain. ``until``: on the loop's clock."""

    answer: Answer = (None, "")
    until: float = 0.0
    copy: _Copy | None = None
    settled: str = ""  # the announced id for which the copy was fetched, or found good
    failure: _Failure | None = None


_NOTHING = _Known()


class StsPolicies:
    """The policies of all domains. One for each process."""

    def __init__(
        self,
        config: Config,
        resolver: Resolver,
        cache: StsCache | None,
        *,
        is_allowed: Callable[[str], bool],
        spawn: Callable[..., object],
        report: Callable[[str, str], object] = lambda _domain, _text: None,
        clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
    ) -> None:
        """Raises StartError for a ``delivery.ca_file`` that cannot be used.

        ``cache``: None keeps what is found in this process only. ``is_allowed``: tells whether an
        address may be connected to. ``spawn``: starts a task in the background, as a nursery's
        ``start_soon``; it must outlive the use of this. ``report`` is told domain and reason when
        a policy that is in use could not be fetched again. ``clock``: seconds since 1970.
        """
        self._resolver = resolver
        self._get = functools.partial(
            fetch_policy,
            resolver=resolver,
            context=make_context(config.delivery.ca_file),
            is_allowed=is_allowed,
            port=config.tls.mta_sts_port,
        )
        self._cache = cache
        self._spawn = spawn
        self._report = report
        self._clock = clock
        # So that workers do not all refresh at the same time: the first does it for the others.
        self._haste = (chance or random.Random()).uniform(0.9, 1.0)  # noqa: S311 - no secret
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._flights: dict[str, trio.Event] = {}
        self._refreshing: set[str] = set()
        self._slots = trio.CapacityLimiter(CONCURRENT)

    @property
    def size(self) -> int:
        """How many domains are known."""
        return len(self._known)

    def find_now(self, domain: str) -> Answer | None:
        """Return what ``find`` would, if that is known; None when it has to be looked up."""
        known = self._known.get(domain)
        if known is None or known.until <= trio.current_time():
            return None
        self._known.move_to_end(domain)
        return known.answer

    async def find(self, domain: str) -> Answer:
        """Return the policy of a recipient domain (lower case, A-labels), or why there is none.

        Without a policy the second is "" when the domain announces none, else what is reported.
        May take as long as a fetch; raises nothing for what a stranger does, or without the store.
        """
        while True:
            if (answer := self.find_now(domain)) is not None:
                return answer
            if (flight := self._flights.get(domain)) is None:
                return await self._lead(domain)
            # When the one who looked was cancelled, the first to wake up here looks in its place.
            await flight.wait()

    def recall(self, domain: str) -> Answer:
        """Return what was found last, also when that has to be looked up again."""
        return self._known.get(domain, _NOTHING).answer

    def explain(self, domain: str) -> str:
        """Return why the last fetch failed; "" when it did not, or there was none."""
        failure = self._known.get(domain, _NOTHING).failure
        return failure.text if failure else ""

    async def _lead(self, domain: str) -> Answer:
        """Look up on behalf of everybody who wants to know at this moment."""
        flight = self._flights[domain] = trio.Event()
        try:
            known = await self._look_up(domain, self._known.get(domain, _NOTHING))
            self._keep(domain, known)
            return known.answer
        finally:
            del self._flights[domain]
            flight.set()

    def _keep(self, domain: str, known: _Known) -> None:
        self._known[domain] = known
        self._known.move_to_end(domain)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)

    async def _look_up(self, domain: str, before: _Known) -> _Known:
        copy = await self._find_copy(domain, before.copy)
        settled, failure = before.settled, before.failure
        try:
            ident = parse_record((await self._resolver.find_txt(f"_mta-sts.{domain}")).records)
        except NameUnavailable:
            return self._conclude(copy, settled, failure, keep=UNAVAILABLE_FOR)
        # RFC 8461 §3.1, §5.1: without a record nothing is fetched; what we have stays in force.
        if ident is None:
            return self._conclude(copy, settled, failure)
        is_barred = failure is not None and failure.bars(ident)
        if copy is not None and ident in (copy.policy.id, settled):
            # The second: another worker has fetched a later policy for another id. Ours has not
            # changed since it was settled, so it is the DNS near us that is behind. Fetching
            # again would only make the two take turns at it until the record's TTL is over.
            if not is_barred and self._is_due(copy):
                self._start_refresh(domain, ident, copy)
            return self._conclude(copy, ident, failure)
        if not is_barred:
            copy, failure = await self._fetch(domain, ident, copy)
            settled = settled if failure else ident
        return self._conclude(copy, settled, failure, ident=ident)

    def _conclude(
        self,
        copy: _Copy | None,
        settled: str,
        failure: _Failure | None,
        *,
        ident: str = "",
        keep: float = LOOK_AGAIN,
    ) -> _Known:
        """Say what is known now, and for how long. ``ident``: what the domain announces."""
        now = trio.current_time()
        if copy is not None:
            until = now + min(keep, copy.expires - self._clock())
            return _Known((copy.policy, ""), until, copy, settled, failure)
        if failure is not None and failure.ident == ident:
            until = min(now + keep, failure.until)
            return _Known((None, failure.failing), until, failure=failure)
        return _Known((None, ""), now + keep, failure=failure)

    # -- the store

    async def _find_copy(self, domain: str, own: _Copy | None) -> _Copy | None:
        """Return the latest copy that is still good: ours, or the one in the store."""
        copy = _find_latest(own, await self._read(domain))
        return copy if copy is not None and copy.expires > self._clock() else None

    async def _read(self, domain: str) -> _Copy | None:
        if self._cache is None:
            return None
        try:
            if (stored := await self._cache.read(domain)) is None:
                return None
            policy = parse_policy(stored.text.encode(), stored.id)
        except (StoreUnavailable, StoreError, StsInvalid):
            return None  # mail does not wait for that: we fetch for ourselves
        return _Copy(policy, stored.fetched, stored.expires)

    async def _share(self, domain: str, copy: _Copy) -> None:
        if self._cache is None:
            return
        stored = StoredSts(copy.policy.id, copy.policy.text, copy.fetched, copy.expires)
        with contextlib.suppress(StoreUnavailable, StoreError):  # the others fetch for themselves
            await self._cache.write(domain, stored, lifetime=copy.expires - copy.fetched)

    # -- the domain

    async def _fetch(
        self, domain: str, ident: str, before: _Copy | None
    ) -> tuple[_Copy | None, _Failure | None]:
        """Fetch the policy; when that fails, the copy is the one that we had before."""
        try:
            async with self._slots:
                policy = parse_policy(await self._get(domain), ident)
        except (StsFetchFailed, StsInvalid) as error:
            # RFC 8461 §3.3: administrators should hear of it before the copy is too old.
            if before is not None and before.policy.mode != "none":
                self._report(domain, str(error))
            until = trio.current_time() + FAILED_FOR
            return before, _Failure(ident, until, error.failing, str(error))
        now = self._clock()
        copy = _Copy(policy, now, now + max(policy.max_age, MIN_AGE))
        await self._share(domain, copy)
        return copy, None

    def _is_due(self, copy: _Copy) -> bool:
        wait = min((copy.expires - copy.fetched) / 2, REFRESH_AFTER)
        return self._clock() >= copy.fetched + wait * self._haste

    def _start_refresh(self, domain: str, ident: str, before: _Copy) -> None:
        if domain not in self._refreshing:
            self._refreshing.add(domain)
            self._spawn(self._refresh, domain, ident, before)

    async def _refresh(self, domain: str, ident: str, before: _Copy) -> None:
        """Fetch early, while the copy is still good: nobody waits for this."""
        try:
            copy, failure = await self._fetch(domain, ident, before)
            # It may have been looked up meanwhile, and another version been found.
            now = self._known.get(domain, _NOTHING)
            self._keep(domain, self._conclude(_find_latest(copy, now.copy), now.settled, failure))
        finally:
            self._refreshing.discard(domain)


def _find_latest(one: _Copy | None, other: _Copy | None) -> _Copy | None:
    copies = [copy for copy in (one, other) if copy is not None]
    return max(copies, key=lambda copy: copy.fetched, default=None)
