"""The figures as tables for a terminal, and as JSON; what was promised, and whether it holds."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.memory import Idle, Large
from tests.bench.promise import Promise
from tests.bench.throughput import Load, Run
from tests.bench.tls.figures import Tls

_RATIO = {4096: 2.0, 102_400: 1.3}  # outgate : Postfix, at least
_PROVEN_RATIO = 1.5  # with tenants, proof and trail : Postfix without any of that, at least
_PER_SESSION = 40.0  # KiB, at most
_IN_FLIGHT = 2.5  # peak of resident memory to bytes in flight, at most
_P99 = 1.0  # seconds, at most


_THROUGHPUT = """\
Messages a second, from smtp-source to smtp-sink, 20 sessions
accepted: rate of the last 250. CPU: ms a message of the system; harness: of source and sink.
others: share of the machine's CPU that went to anything else."""
_PROCESSES = "The median round by process"


class Figures(Protocol):
    """What one part of the bench has measured; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        ...

    def describe(self) -> Iterator[str]:
        """Yield the figures as lines."""
        ...


@dataclass(slots=True)
class Report:
    """Everything that one call of the bench measured."""

    machine: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    idle: Idle | None = None
    large: Large | None = None
    tls: Tls = field(default_factory=Tls)
    parts: dict[str, Figures] = field(default_factory=dict)
    noise: dict[str, float] = field(default_factory=dict)  # share of the CPU of others, by part

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` writes."""
        return {
            "machine": self.machine,
            "runs": [asdict(run) | {"rate": run.rate} for run in self.runs],
            "idle": self.idle and asdict(self.idle) | {"per_session": self.idle.per_session},
            "large": self.large and asdict(self.large),
            "tls": self.tls.as_json(),
            "parts": {name: asdict(figures) for name, figures in self.parts.items()},
            "noise": self.noise,
            "promises": [{"what": text, "kept": kept} for text, kept in self.promises()],
        }

    def promises(self) -> Iterator[Promise]:
        """Yield what was promised, with the figure, and whether it holds."""
        yield from self._speed_promises()
        yield from self._proof_promises()
        yield from self._memory_promises()
        yield from self.tls.promises()
        for figures in self.parts.values():
            yield from figures.promises()

    def _speed_promises(self) -> Iterator[Promise]:
        for load, ratio in self.ratios().items():
            if not load.reuse and load.size in _RATIO:
                wanted = _RATIO[load.size]
                yield Promise(
                    f"{name_load(load)}: {ratio:.2f} x Postfix as installed (at least {wanted})",
                    ratio >= wanted,
                )

    def _proof_promises(self) -> Iterator[Promise]:
        for load, ratio in self.ratios(of="outgate-proven").items():
            if not load.reuse and load.size in _RATIO:
                yield Promise(
                    f"{name_load(load)}, each proven by DKIM, audit trail on: {ratio:.2f} x Postfix "
                    f"as installed, without that (at least {_PROVEN_RATIO})",
                    ratio >= _PROVEN_RATIO,
                )

    def _memory_promises(self) -> Iterator[Promise]:
        if self.idle:
            each = self.idle.per_session
            yield Promise(
                f"{each:.1f} KiB for an idle session (at most {_PER_SESSION:.0f})",
                each <= _PER_SESSION,
            )
        if self.large:
            for name in ("ingress", "worker"):
                ratio = self.large.ratio(name)
                yield Promise(
                    f"{name}: peak {ratio:.2f} x the bytes in flight (at most {_IN_FLIGHT})",
                    ratio <= _IN_FLIGHT,
                )
            yield Promise(
                f"small messages beside large ones: p99 {self.large.p99:.3f} s (at most {_P99:.0f})",
                self.large.p99 <= _P99,
            )

    def ratios(self, system: str = "postfix", *, of: str = "outgate") -> dict[Load, float]:
        """Return the median rate of ``of`` to that of ``system``, for each load that both have run."""
        groups = group(self.runs)
        return {
            load: _median(outgate) / _median(theirs)
            for (name, load), outgate in groups.items()
            if name == of and (theirs := groups.get((system, load)))
        }

    def show(self, console: Console) -> None:
        """Print it all."""
        for key, value in self.machine.items():
            console.print(f"{key:>20}  {value}", highlight=False)
        if self.runs:
            console.print(_throughput_table(group(self.runs)))
            console.print(_process_table(group(self.runs)))
        for system in ("postfix", "postfix-tuned"):
            for load, ratio in self.ratios(system).items():
                console.print(f"{name_load(load)}: outgate passes {ratio:.2f} x what {system} does")
        if self.idle:
            console.print(
                f"Idle: ingress {self.idle.start} KiB at the start, {self.idle.held} KiB with "
                f"{self.idle.sessions} sessions"
            )
        if self.large:
            _show_large(console, self.large)
        for line in self.tls.describe():
            console.print(line, highlight=False)
        for name, figures in self.parts.items():
            for line in figures.describe():
                console.print(line, highlight=False)
            console.print(f"  (others used {self.noise[name]:.0%} of the CPU)", highlight=False)
        for text, kept in self.promises():
            console.print(f"{'kept  ' if kept else 'MISSED'}  {text}", highlight=False)


def group(runs: Sequence[Run]) -> dict[tuple[str, Load], list[Run]]:
    """Return the rounds of each system under each load, in order."""
    groups: dict[tuple[str, Load], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.system, run.load), []).append(run)
    return groups


def name_load(load: Load) -> str:
    """Return a load's name: ``4 KiB``, ``100 KiB, kept sessions``."""
    return f"{load.size // 1024} KiB" + (", kept sessions" if load.reuse else "")


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.rate for run in runs)


def _middle(runs: Sequence[Run]) -> Run:
    """The round whose rate is the median, or the one just above it."""
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


def _throughput_table(groups: dict[tuple[str, Load], list[Run]]) -> Table:
    table = _make_table("body", "system", title=_THROUGHPUT)
    for title in ("messages", "median", "rounds", "accepted", "CPU ms", "harness", "others"):
        table.add_column(title, justify="right", no_wrap=True)
    for (name, load), runs in groups.items():
        middle = _middle(runs)
        table.add_row(
            name_load(load),
            name,
            str(load.count),
            f"{_median(runs):,.0f}",
            " ".join(f"{run.rate:,.0f}" for run in runs),
            f"{load.count / middle.accept_seconds:,.0f}",
            f"{sum(middle.cpu.values()):.2f}" if middle.cpu else "-",
            f"{sum(middle.harness.values()):.2f}",
            f"{middle.others:.0%}",
        )
    return table


def _process_table(groups: dict[tuple[str, Load], list[Run]]) -> Table:
    table = _make_table(
        "body", "system", "CPU ms a message, by process", title=_PROCESSES, lines=True
    )
    table.add_column("peak RSS, MiB")
    for (name, load), runs in groups.items():
        middle = _middle(runs)
        costs = sorted((middle.cpu | middle.harness).items(), key=lambda item: -item[1])
        shown = [(process, cost) for process, cost in costs if cost >= 0.005]
        table.add_row(
            name_load(load),
            name,
            "\n".join(f"{cost:.3f} {process}" for process, cost in shown),
            "\n".join(_name_peak(middle.peak.get(process)) for process, _ in shown),
        )
    return table


def _name_peak(kib: int | None) -> str:
    return "" if kib is None else f"{kib / 1024:.0f}"


def _make_table(*columns: str, title: str, lines: bool = False) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", show_lines=lines)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _show_large(console: Console, large: Large) -> None:
    console.print(
        f"Large: {large.messages} x {large.size / 1e6:.0f} MB at once: accepted in "
        f"{large.accept_seconds:.1f} s, delivered in {large.seconds:.1f} s"
    )
    for name, peak in large.peak.items():
        console.print(
            f"  {name}: {large.start[name] / 1024:.0f} MiB before, peak {peak / 1024:.0f} MiB, "
            f"{large.ratio(name):.2f} x the bytes in flight"
        )
    console.print(
        f"  {large.small} messages of 4 KiB beside them: p50 {large.p50 * 1000:.0f} ms, "
        f"p99 {large.p99 * 1000:.0f} ms, longest {large.longest * 1000:.0f} ms"
    )
