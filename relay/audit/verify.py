"""Verifying a whole trail: every chain, and that none is missing.

It finds any line that was changed, taken out, put in or moved, files and chains that are missing,
and wrong seals; with what the store knows, also ends that were cut off. Memory does not grow with
the trail.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from relay.audit.chain import list_chains
from relay.audit.findings import Known, Report
from relay.audit.purged import find_purged
from relay.audit.reading import ChainReader


def verify(
    directory: Path,
    *,
    keys: Sequence[bytes] = (),
    known: Known | None = None,
    tell: Callable[[int], None] | None = None,
    now: float | None = None,
) -> Report:
    """Read everything. Raises StartError, OSError.

    ``keys``: any of them may have signed; ``known``: what the store knew before, None when it is
    not asked; ``tell`` hears how many lines were read; ``now``: seconds since 1970.
    """
    report = Report()
    purged = find_purged(directory)
    now = time.time() if now is None else now
    chains = list_chains(directory)
    for path in chains:
        reader = ChainReader(
            path,
            report,
            keys=keys,
            known=known,
            purged=purged.get(path.name),
            now=now,
            tell=tell,
        )
        reader.run()
    if known is not None:
        _check_missing({path.name for path in chains}, known, report)
    return report


def _check_missing(there: set[str], known: Known, report: Report) -> None:
    for chain, head in sorted(known.heads.items()):
        if chain not in there:
            report.find(chain, "", 0, f"the chain is missing; the store knows {head.n} lines of it")
    for chain, head in known.lost:
        text = f"line {head.n} was there once; the end of the chain was cut off or changed"
        report.find(chain, "", 0, f"{text}, and the chain went on without it")
