"""The sets of networks that tenants send from: are they fresh, and does one wait for an operator?"""

from collections.abc import Sequence

from relay.config import Config
from relay.errors import StoreError, StoreUnavailable
from relay.ingress.networks.definition import Definition, list_used
from relay.store.link import Link
from relay.store.networks import Listing, StoredSets
from workers.doctor.finding import Finding

_PATIENCE = 3  # times its interval, until a set counts as old


async def check_networks(config: Config, link: Link) -> Sequence[Finding]:
    """Check each set that is refreshed ("networks")."""
    used = {name: one for name, one in list_used(config).items() if not one.is_fixed}
    try:
        listing = await StoredSets(link).read(used)
    except (StoreUnavailable, StoreError):
        text = "the store could not be asked"
        return [Finding("networks", name, "skipped", text) for name in used]
    return [_judge(one, listing) for one in used.values()]


def _judge(one: Definition, listing: Listing) -> Finding:
    refused = listing.refused.get(one.name)
    if refused is not None and refused.origin == one.origin:
        text = f"what was published anew is not taken: {refused.why}"
        advice = f"if it is right: outgate networks --accept {one.name} --why TEXT"
        return Finding("networks", one.name, "error", text, advice)
    good = listing.good.get(one.name)
    advice = f"is an ingress running? What does `outgate networks --check {one.name}` say?"
    if good is None or good.origin != one.origin:
        if one.seed:
            text = f"never refreshed: in use is what was known in {one.seeded}"
            return Finding("networks", one.name, "notice", text, advice)
        return Finding("networks", one.name, "error", "not known: nobody can send", advice)
    age = max(0.0, listing.now - good.time)
    text = f"{len(good.networks)} networks, {age / 60:.0f} minutes old"
    if age > _PATIENCE * one.refresh:
        text += f", to be refreshed every {one.refresh / 60:.0f}"
        return Finding("networks", one.name, "warning", text, advice)
    return Finding("networks", one.name, "ok", text)
