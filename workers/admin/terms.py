"""The words that a message is found by: its addresses, their domains, its Message-ID, its tenant.

Each is a letter that says what it is, and the word as it is compared. Pure.
"""

import functools

from relay.address import find_domain
from workers.admin.entry import Entry, strip_brackets

TENANT, SENDER, SENDER_DOMAIN, MESSAGE_ID, RECIPIENT, DOMAIN = "t", "s", "o", "m", "r", "d"


@functools.lru_cache(maxsize=16_384)
def _fold_domain(domain: str) -> str:
    return find_domain(b"@" + domain.encode("utf-8", "replace")) or domain.lower()


def take_domain(address: str) -> str:
    """Return the domain of an address as queues name it; "" of what has none."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    return _fold_domain(domain) if domain else ""


def list_terms(entry: Entry) -> list[str]:
    """Return what a message is found by, each once. The tenant's is always there, and the first."""
    terms = [TENANT + entry.tenant]
    if entry.sender is not None:
        terms.append(SENDER + entry.sender.lower())
        if domain := take_domain(entry.sender):
            terms.append(SENDER_DOMAIN + domain)
    if entry.message_id:
        terms.append(MESSAGE_ID + entry.message_id)
    domains = {take_domain(address) for address in entry.people} | entry.domains
    terms += [RECIPIENT + address for address in entry.people]
    terms += [DOMAIN + domain for domain in domains if domain]
    return terms


def make_address_term(kind: str, domain_kind: str, wanted: str) -> str:
    """Return the term of an address, or of all of a domain ("@example.com")."""
    if wanted.startswith("@"):
        return domain_kind + _fold_domain(wanted[1:])
    return kind + wanted.strip("<>").lower()


def make_domain_term(domain: str) -> str:
    """Return the term of a recipients' domain."""
    return DOMAIN + _fold_domain(domain.removeprefix("@"))


def make_message_id_term(name: str) -> str:
    """Return the term of a Message-ID, with what stands around it or without."""
    return MESSAGE_ID + strip_brackets(name)
