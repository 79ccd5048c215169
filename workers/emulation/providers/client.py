"""What a provider remembers of one client address."""

from dataclasses import dataclass, field

from workers.emulation.providers.allowance import Quota
from workers.emulation.providers.books import Books
from workers.emulation.providers.bucket import Buckets
from workers.emulation.providers.patience import Patience
from workers.emulation.providers.profile import Profile


@dataclass(slots=True)
class Client:
    """One address. ``open``: its connections at this moment."""

    address: str
    books: Books
    patience: Patience
    quota: Quota | None
    buckets: Buckets = field(default_factory=Buckets)
    open: int = 0


def make_client(profile: Profile, address: str, day: int) -> Client:
    """Make an address that was never seen before."""
    books = Books()
    rules, quota = profile.allowance, None
    if rules is not None:
        limit = rules.maximum if address in rules.known else rules.first
        quota = Quota(rules, limit, day=day, last_used=day)
    return Client(address, books, Patience(profile.escalation, profile.block, books), quota)


def find_quota(client: Client, day: int) -> Quota | None:
    """Return the quota as it is today; None when the provider has none."""
    if client.quota is not None:
        client.quota.turn(day)
    return client.quota
