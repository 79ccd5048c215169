"""One target under atheris: coverage-guided, in this process, until time is over or it has found one.

    python -m tests.fuzz.engine TARGET CORPUS [options of libFuzzer]

It exits with libFuzzer's code: 77 for an exception, 70 for an input that takes too long, 71 for too
much memory.
"""

import sys

import atheris

from tests.fuzz import TARGETS


def main() -> None:
    """Instrument what is ours, and go."""
    name = sys.argv.pop(1)
    if name not in TARGETS:
        sys.exit(f"no target {name}; there is {', '.join(TARGETS)}")
    with atheris.instrument_imports(include=["relay"]):
        from tests.fuzz.target import load_target

        target = load_target(name)
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
