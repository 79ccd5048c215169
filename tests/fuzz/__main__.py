"""``python -m tests.fuzz [--seconds N] [TARGET ...]`` (``make fuzz``): fuzz one target after another.

The corpus of each grows under .fuzz/TARGET/corpus and serves the next run. What was found is kept in
.fuzz/TARGET/findings; give its octets to the target's ``check`` (or put them among its SEEDS) to see it
again. The exit code says whether anything was found.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import TARGETS
from tests.fuzz.run import Outcome, run_target
from tests.fuzz.target import load_target

_HOME = Path(__file__).parents[2] / ".fuzz"


def main(arguments: list[str] | None = None) -> int:
    """Run all of them, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    options = parser.parse_args(arguments)
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there is {', '.join(TARGETS)}")
    found = []
    for name in names:
        home = _HOME / name
        _write_seeds(home / "corpus", load_target(name).SEEDS)
        outcome = run_target(name, home, options.seconds)
        if not outcome.is_sound:
            found.append(outcome)
    for outcome in found:
        _show(outcome)
    return 1 if found else 0


def _write_seeds(corpus: Path, seeds: Sequence[bytes]) -> None:
    """Put the seeds where the engine looks, under the names that it would give them."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def _show(outcome: Outcome) -> None:
    kept = "\n".join(f"  {path} ({path.stat().st_size} octets)" for path in outcome.findings)
    sys.stderr.write(f"\n{outcome.target}: {outcome.words}\n{kept}\n{outcome.tail}\n")


if __name__ == "__main__":
    sys.exit(main())
