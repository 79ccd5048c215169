"""``python -m tests.bench``: run it all, print it, say whether what was promised holds."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from relay.config.units import parse_octets
from tests.bench import control, headofline, looking, lookups, machine, scale
from tests.bench.gated import measure_gated
from tests.bench.limits import measure_limits
from tests.bench.memory import measure_idle, measure_large
from tests.bench.process import Others
from tests.bench.progress import Progress
from tests.bench.report import Figures, Report, name_load
from tests.bench.rotation import measure_rotation
from tests.bench.system import SYSTEMS, BenchFailed
from tests.bench.throughput import Load, Run, measure
from tests.bench.tls.figures import Step as TlsStep
from tests.bench.tls.figures import plan as plan_tls
from tests.bench.tls.measure import Run as TlsRun
from tests.bench.tls.measure import measure as measure_tls
from tests.kit import postfix, sink

_COUNTS = {4096: 10_000, 102_400: 3_000}
# Share of the machine's CPU used by what has no part in a run; the kernel's own work is in it.
_NOISE = 0.10
_QUEUES = ("headofline", "scale", "limits", "rotation", "gated", "dns", "looking", "control")
_PARTS = (*SYSTEMS, "memory", "tls", *_QUEUES)
_R = TypeVar("_R", Run, TlsRun)


def main() -> int:
    """Return 0 when everything was measured and holds, 1 when not, 2 when nothing can run."""
    options = _parse()
    # The default would end us without ending what we have started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with_sink = [part for part in options.only if part not in (*_QUEUES, "tls")]
    if with_sink and (obstacle := sink.find_obstacle()):
        sys.stderr.write(f"bench: {obstacle}\n")
        return 2
    if (with_sink or "tls" in options.only) and (obstacle := postfix.find_obstacle()):
        sys.stderr.write(f"bench: without Postfix: {obstacle}\n")
        options.only = [part for part in options.only if not part.startswith("postfix")]
        options.postfix = False
    report = Report(machine.describe())
    whole = False
    try:
        _run(options, report)
        whole = True
    except (BenchFailed, RuntimeError) as error:  # RuntimeError: a system did not start
        sys.stderr.write(f"\nbench: {error}\nbench: what was measured until then:\n")
    except KeyboardInterrupt:
        sys.stderr.write("\nbench: interrupted; what was measured until then:\n")
    report.show(Console(width=None if sys.stdout.isatty() else 140))
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    kept = all(kept for _, kept in report.promises())
    return 0 if whole and (kept or options.quick) else 1


def _run(options: argparse.Namespace, report: Report) -> None:
    steps = _plan(options)
    memory = "memory" in options.only
    in_tls = _plan_tls(options)
    queues = [part for part in _QUEUES if part in options.only]
    progress = Progress(len(steps) + 2 * memory + len(in_tls) + len(queues))
    for name, load, number in steps:
        progress.begin(f"{name}, {name_load(load)}, round {number}")
        report.runs.append(_measure_quietly(partial(measure, name, load, progress), options))
        progress.end(_name_result(report.runs[-1]))
    if memory:
        _run_memory(options, report, progress)
    for name, case, number in in_tls:
        progress.begin(f"{name}, TLS, {case.name}, round {number}")
        report.tls.runs.append(
            _measure_quietly(partial(measure_tls, name, case, progress), options)
        )
        progress.end(_name_result(report.tls.runs[-1]))
    for part in queues:
        progress.begin(part)
        others = Others()
        report.parts[part] = figures = _measure_queues(part, progress, quick=options.quick)
        report.noise[part] = noise = others.share()
        kept = "as promised" if all(p.kept for p in figures.promises()) else "MISSED"
        progress.end(f"{kept}; others used {noise:.0%} of the CPU")


def _run_memory(options: argparse.Namespace, report: Report, progress: Progress) -> None:
    progress.begin("idle sessions")
    report.idle = measure_idle(progress)
    progress.end(f"{report.idle.per_session:.1f} KiB a session")
    progress.begin("large messages")
    count = 5 if options.quick else 20
    report.large = measure_large(progress, count=count)
    progress.end(f"{report.large.seconds:.1f} s")


def _measure_queues(part: str, progress: Progress, *, quick: bool) -> Figures:
    """Measure what is about queues, limits, sources, names and control; without Postfix beside it."""
    match part:
        case "headofline":
            size = headofline.QUICK if quick else headofline.Size()
            return headofline.measure_head_of_line(progress, size)
        case "scale":
            return scale.measure_scale(progress, scale.QUICK if quick else scale.Size())
        case "limits":
            return measure_limits(progress, seconds=12 if quick else 35)
        case "rotation":
            return measure_rotation(progress)
        case "gated":
            queues, seconds = (2_000, 5.0) if quick else (10_000, 20.0)
            return measure_gated(progress, queues=queues, seconds=seconds)
        case "dns":
            return lookups.measure_look_ups(progress, lookups.QUICK if quick else lookups.Size())
        case "looking":
            return looking.measure_looking(progress, looking.QUICK if quick else looking.Size())
        case "control":
            return control.measure_control(progress, control.QUICK if quick else control.Size())
        case _:
            raise AssertionError(part)


def _measure_quietly(measure_once: Callable[[], _R], options: argparse.Namespace) -> _R:
    """Measure again while others are at work; of the tries, the one with the least noise.

    The choice looks at the noise alone, never at the result.
    """
    runs: list[_R] = []
    for _ in range(1 + options.patience):
        runs.append(measure_once())
        if runs[-1].others <= _NOISE:
            break
    return min(runs, key=lambda run: run.others)


def _name_result(run: Run | TlsRun) -> str:
    noise = f"; NOISY: others used {run.others:.0%} of the CPU" if run.others > _NOISE else ""
    return f"{run.rate:,.0f}/s, {sum(run.cpu.values()):.2f} ms CPU a message{noise}"


def _plan(options: argparse.Namespace) -> list[tuple[str, Load, int]]:
    """Systems take turns within each round, so that a noisy minute hits them all."""
    systems = [name for name in SYSTEMS if name in options.only]
    steps = []
    for size in options.size:
        count = options.messages or _COUNTS.get(size, 3_000) // (10 if options.quick else 1)
        for number in range(1, options.rounds + 1):
            steps += [(name, Load(size, count, reuse=False), number) for name in systems]
        # Not what Gmail does, and not what counts; it shows what connections cost.
        steps += [(name, Load(size, count, reuse=True), 1) for name in systems if not options.quick]
    return steps


def _plan_tls(options: argparse.Namespace) -> list[TlsStep]:
    if "tls" not in options.only:
        return []
    return plan_tls(rounds=options.rounds, quick=options.quick, postfix=options.postfix)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages, one round")
    parser.add_argument("--messages", type=int, help="messages in a run (10000, 3000 at 100KiB)")
    parser.add_argument(
        "--size", type=parse_octets, action="append", help='body: "4KiB"; may repeat'
    )
    parser.add_argument("--rounds", type=int, help="rounds of each run (3)")
    parser.add_argument(
        "--patience", type=int, default=2, metavar="N", help="repeat a noisy run up to N times (2)"
    )
    parser.add_argument("--only", choices=_PARTS, action="append", help="a part; may repeat")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    options = parser.parse_args()
    options.postfix = True
    options.only = list(options.only or _PARTS)
    options.size = options.size or list(_COUNTS)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


if __name__ == "__main__":
    sys.exit(main())
