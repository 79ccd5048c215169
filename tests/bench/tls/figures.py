"""What the TLS part runs, and what its figures promise."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from tests.bench.promise import Promise
from tests.bench.tls.measure import Case, Run

Step = tuple[str, Case, int]  # system, case, number of the round

_RATIO = 1.5  # outgate : the fastest Postfix, at least
_LISTED = 8  # processes, those that use most

_MAIN = Case("ECDSA", each=100, count=4_000)
_RSA = replace(_MAIN, kind="RSA")
# A handshake for each message on the way in. The generator makes the other half of each, on the
# same cores: it is shown, and nothing is promised of it.
_SINGLE = Case("ECDSA", each=1, count=2_000)
_PROMISED = (_MAIN, _RSA)


def plan(*, rounds: int, quick: bool, postfix: bool) -> list[Step]:
    """Return what is to be run, in order: systems in turn within a round.

    ``postfix``: it is installed.
    """
    steps = [
        (name, _MAIN, number)
        for number in range(1, rounds + 1)
        for name in ("generator", "postfix", "outgate", "postfix-tuned")
    ]
    steps += [("postfix-each", _MAIN, 1), ("postfix", _RSA, 1), ("outgate", _RSA, 1)]
    steps += [(name, _SINGLE, 1) for name in ("generator", "postfix", "outgate")]
    if quick:
        steps = [(n, replace(c, count=c.count // 2), r) for n, c, r in steps if c in _PROMISED]
    return [step for step in steps if postfix or not step[0].startswith("postfix")]


@dataclass(slots=True)
class Tls:
    """All runs, in the order in which they were made."""

    runs: list[Run] = field(default_factory=list)

    def as_json(self) -> list[dict[str, object]]:
        """Return what ``--json`` writes."""
        return [
            asdict(run)
            | {"rate": run.rate, "sent": run.sent._asdict(), "arrived": run.arrived._asdict()}
            for run in self.runs
        ]

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        for case in self._cases():
            if case.each > 1 and (ratios := self.ratios(case)):
                name, ratio = min(ratios.items(), key=lambda item: item[1])
                yield Promise(
                    f"TLS, {case.name}: {ratio:.2f} x {name} (at least {_RATIO})", ratio >= _RATIO
                )
        yield from self._handshake_promises()

    def _handshake_promises(self) -> Iterator[Promise]:
        ours = [run for run in self.runs if run.system == "outgate"]
        if not ours:
            return
        worst = max(ours, key=lambda run: run.arrived.handshakes - run.fewest)
        sent, arrived = worst.sent, worst.arrived
        yield Promise(
            f"TLS: {sent.messages:,} messages, {sent.handshakes:,} handshakes in (at most "
            f"{sent.sessions:,}, the sessions), {arrived.handshakes:,} out (at most "
            f"{worst.fewest:,})",
            all(run.is_thrifty for run in ours),
        )

    def ratios(self, case: Case) -> dict[str, float]:
        """Return outgate's median rate to that of each Postfix that has run the case."""
        rates = {name: statistics.median(r.rate for r in runs) for name, runs in self._of(case)}
        if "outgate" not in rates:
            return {}
        return {n: rates["outgate"] / rate for n, rate in rates.items() if n.startswith("postfix")}

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines; none when nothing was run."""
        if self.runs:
            yield from self._describe()

    def _describe(self) -> Iterator[str]:
        yield "TLS on both sides, messages a second (4 KiB, 20 sessions at a time, TLS 1.3)"
        for case in self._cases():
            yield f"  {case.name}, {case.count:,} messages"
            for name, runs in self._of(case):
                yield from _describe(name, runs)
            for name, ratio in self.ratios(case).items():
                yield f"    outgate passes {ratio:.2f} x what {name} does"

    def _cases(self) -> list[Case]:
        return list(dict.fromkeys(run.case for run in self.runs))

    def _of(self, case: Case) -> list[tuple[str, list[Run]]]:
        """Return the rounds of each system under a case."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.case == case:
                found.setdefault(run.system, []).append(run)
        return list(found.items())


def _describe(name: str, runs: list[Run]) -> Iterator[str]:
    """Yield the median of a system's rounds, with all of them, and what the middle one cost."""
    middle = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
    rounds = " ".join(f"{run.rate:,.0f}" for run in runs)
    yield (
        f"    {name:14} {statistics.median(run.rate for run in runs):7,.0f} ({rounds})"
        f"  accepted {middle.case.count / middle.accept_seconds:,.0f}"
        f"  CPU {sum(middle.cpu.values()):.2f} ms, source {middle.harness.get('source', 0):.2f}, "
        f"sink {middle.harness.get('sink', 0):.2f}  others {middle.others:.0%}"
    )
    yield f"      {_name_handshakes(middle)}"
    if middle.cpu:
        costs = sorted(middle.cpu.items(), key=lambda item: -item[1])[:_LISTED]
        yield "      " + ", ".join(f"{process} {cost:.2f}" for process, cost in costs)


def _name_handshakes(run: Run) -> str:
    resumed = f" ({run.arrived.resumed:,} resumed)" if run.arrived.resumed else ""
    return (
        f"of {run.sent.messages:,} messages: {run.sent.handshakes:,} handshakes in "
        f"{run.sent.sessions:,} sessions in, {run.arrived.handshakes:,}{resumed} in "
        f"{run.arrived.sessions:,} out, at most {run.arrived.most_open} open"
    )
