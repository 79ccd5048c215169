"""How many sessions send a tenant's mail just now, in this process.

A session counts from the first message on that was proven to be the tenant's: what anybody can say
in MAIL must not use up what the tenant may have.
"""

from collections import Counter
from collections.abc import Iterable

from relay.config.schema import Tenant


class TenantSessions:
    """Counts them, and says when there are too many. One for each process."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def enter(self, tenant: Tenant, mine: set[str]) -> bool:
        """Count a session for a tenant, once; False: there are as many as may be.

        ``mine``: names of the tenants that the session counts for already; this one joins them.
        """
        if tenant.name in mine:
            return True
        if tenant.connections is not None and self._count[tenant.name] >= tenant.connections:
            return False
        self._count[tenant.name] += 1
        mine.add(tenant.name)
        return True

    def leave(self, mine: Iterable[str]) -> None:
        """A session has ended."""
        for name in mine:
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
