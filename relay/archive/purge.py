"""What may be taken away: older than the archive keeps it, and under no hold.

Holds are read anew for each batch: one that is placed while a purge runs counts from the next batch
on. Nothing is removed here; who does it writes down first what goes (workers/cli/archivepurge.py).
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from relay.archive.archive import Copies
from relay.archive.hold import read_holds
from relay.archive.name import Place, format_day
from relay.archive.search import Query, find_days
from relay.archive.vault import Vault

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one tenant and day, in one copy: those that go, and how many stay for holds."""

    tenant: str
    day: str
    going: tuple[Place, ...]
    held: int

    @property
    def names(self) -> list[str]:
        """The objects to remove."""
        return [place.name for place in self.going]


async def find_old(
    copies: Copies, vault: Vault, before: float, tenant: str = ""
) -> AsyncGenerator[Batch, None]:
    """Yield what one copy has from before a time (seconds since 1970), the oldest days first.

    Raises ArchiveUnavailable and ArchiveDamaged.
    """
    query = Query(tenant=tenant, last=format_day(before))
    for name, days in (await find_days(vault, query)).items():
        for day in days:
            old = [one for one in await vault.list_places(name, day) if one.time < before]
            for start in range(0, len(old), _BATCH):
                batch = old[start : start + _BATCH]
                holds = await read_holds(copies)
                going = [one for one in batch if not any(hold.covers(one) for hold in holds)]
                yield Batch(name, day, tuple(going), len(batch) - len(going))
