"""A message's parts, as its story tells them: a delivery for each recipient domain."""

from dataclasses import dataclass

from relay.address import find_domain
from relay.config import Config
from relay.store.queue import Store

_ENDS = ("delivered", "bounced")


@dataclass(frozen=True, slots=True)
class Part:
    """One delivery of a message, as its story tells it."""

    id: str
    tenant: str  # "": the story does not say
    domain: str
    ended: bool


def read_parts(events: list[dict[str, object]]) -> list[Part]:
    """Return a message's deliveries: numbered in the order of their domains' first recipients."""
    accepted = next((event for event in events if event.get("event") == "accepted"), {})
    recipients = accepted.get("recipients", [])
    assert isinstance(recipients, list)
    domains = dict.fromkeys(find_domain(str(address).encode()) for address in recipients)
    ended = {str(event.get("delivery", "")) for event in events if _is_end(event)}
    message_id = str(accepted.get("id", ""))
    parts = []
    for number, domain in enumerate(domains):
        identity = f"{message_id}.{number}"
        if domain is not None:
            tenant = str(accepted.get("tenant", ""))
            parts.append(Part(identity, tenant, domain, identity in ended))
    return parts


def _is_end(event: dict[str, object]) -> bool:
    return event.get("event") in _ENDS or event.get("next") == "assume-delivered"


async def list_places(store: Store, config: Config, part: Part) -> list[str]:
    """Return the queues in which a delivery that is ready can be."""
    tenants = [part.tenant] if part.tenant else [tenant.name for tenant in config.tenant]
    sources = [source.name for source in config.source]
    return await store.list_ready_queues(tenants, part.domain, sources)
