"""What this process counts while it works: numbers for operators, and nothing that mail depends on.

``COUNTERS.add`` is an addition in a dict, and nothing else: it is called on the way of every message. Every
two seconds ``relay/store/counters.py`` takes what has gathered and adds it in the store to what all
processes have counted. What a process had not handed in when it died is lost: two seconds' numbers. The
ledger is exact, and apart (relay/store/DESIGN.md).

Nothing here grows with what strangers do: of sites and tenants each process tells the first SITES and
TENANTS apart; what else comes is "other", together.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping

OTHER = "other"
SITES, TENANTS = 200, 200  # that one process tells apart
_MOST = 3000  # kinds of each counter between two takes
_LONGEST = 120  # characters of a label

# The labels of each counter, in order.
LABELS: Mapping[str, tuple[str, ...]] = {
    # Messages that came in, by what became of them: accepted refused postponed limited. The tenant is
    # "" where nobody knows whose a message would have been.
    "messages": ("tenant", "result"),
    # Octets of messages: "in" accepted, "out" delivered.
    "message_bytes": ("direction",),
    # Transactions with hosts, by what they brought: delivered deferred bounced unknown. One for each
    # delivery and try, however many recipients.
    "attempts": ("site", "source", "result"),
    # Hosts' answers about recipients, by what they were read as (workers/replies), else by the first
    # digit: "2xx".
    "replies": ("site", "label"),
    # SMTP sessions: "in" those that brought a message, "out" all that were opened. The level is none,
    # opportunistic or verified; the version TLSv1.3 ..., "" for none.
    "tls_sessions": ("direction", "level", "version"),
    # Events that listeners were not told: relay/store/broadcast.py.
    "events_dropped": (),
}

# Upper bounds of the buckets, s; the last bucket has none, and is not named.
HISTOGRAMS: Mapping[str, tuple[float, ...]] = {
    # From a message's final dot to its 250.
    "accept_seconds": (
        *(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
        *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    ),
    # From there until a host has taken it, for each delivery.
    "delivery_seconds": (
        *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
        *(60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0),
    ),
    # One transaction with a host.
    "attempt_seconds": (
        *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
        *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    ),
}

# A counter and its labels. A histogram's are its buckets' bounds ("0.5", "+Inf"), each of which counts
# what is above the one before; and "sum", in microseconds: everything here is whole numbers.
Kind = tuple[str, tuple[str, ...]]

SUM = "sum"
_BOUNDED = {"site": SITES, "tenant": TENANTS}


class _Series:
    """One histogram of a process: a number for each bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0  # s

    def list_kinds(self, name: str) -> Iterator[tuple[Kind, int]]:
        """Yield what is counted, of kinds that there is something of."""
        for label, count in zip(
            [*map("{:g}".format, self.bounds), "+Inf"], self.counts, strict=True
        ):
            if count:
                yield (name, (label,)), count
        if any(self.counts):
            yield (name, (SUM,)), int(self.total * 1e6)


class Counters:
    """The numbers of one process since they were taken last."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {label: set() for label in _BOUNDED}
        self._counts: dict[str, dict[tuple[str, ...], int]] = {}
        self._series: dict[str, _Series] = {}
        self._left: dict[Kind, int] = {}  # what was given back
        self._clear()

    def _clear(self) -> None:
        self._counts = {name: {} for name in LABELS}
        self._series = {name: _Series(bounds) for name, bounds in HISTOGRAMS.items()}

    def add(self, name: str, labels: tuple[str, ...] = (), amount: int = 1) -> None:
        """Count: ``labels`` are the values for LABELS[name], in that order."""
        try:
            self._counts[name][labels] += amount
        except KeyError:
            self._begin(name, labels, amount)

    def observe(self, name: str, seconds: float) -> None:
        """Count one of HISTOGRAMS: it took so long."""
        series = self._series[name]
        series.counts[bisect_left(series.bounds, seconds)] += 1
        series.total += seconds

    def _begin(self, name: str, labels: tuple[str, ...], amount: int) -> None:
        """The first of its kind, or one of those that are not told apart."""
        counts = self._counts[name]
        labels = self._bound(name, labels)
        if labels not in counts and len(counts) >= _MOST:
            _, labels = fold((name, labels))
        counts[labels] = counts.get(labels, 0) + amount

    def _bound(self, name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        values = []
        for label, text in zip(LABELS[name], labels, strict=True):
            value = _clean(text)
            known = self._known.get(label)
            if known is not None and value not in known:
                if len(known) < _BOUNDED[label]:
                    known.add(value)
                else:
                    value = OTHER
            values.append(value)
        return tuple(values)

    def take(self) -> dict[Kind, int]:
        """Return what has gathered, and begin anew."""
        found, self._left = self._left, {}
        counts, series = self._counts, self._series
        self._clear()
        for name, kinds in counts.items():
            _merge(found, (((name, labels), amount) for labels, amount in kinds.items()))
        for name, one in series.items():
            _merge(found, one.list_kinds(name))
        return found

    def give_back(self, counts: Mapping[Kind, int]) -> None:
        """What was taken and could not be handed in comes with the next take."""
        _merge(self._left, counts.items())


def _merge(into: dict[Kind, int], more: Iterable[tuple[Kind, int]]) -> None:
    for kind, amount in more:
        into[kind] = into.get(kind, 0) + amount


def fold(kind: Kind) -> Kind:
    """Return what a kind is counted as where there are too many: all that could be many is "other"."""
    name, labels = kind
    few = ("direction", "level", "result")
    names = LABELS.get(name)
    if names is None:
        return kind  # a histogram's: those are few
    return name, tuple(v if n in few else OTHER for n, v in zip(names, labels, strict=True))


def _clean(value: str) -> str:
    """A label stands in a field of a hash, between bars (relay/store/counters.py)."""
    return value[:_LONGEST].replace("|", "_").replace("\n", "_")


COUNTERS = Counters()
