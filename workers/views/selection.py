"""What somebody means: which deliveries, and whether a queue is among them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from relay.address import find_domain
from relay.model import read_home
from relay.store.keys import Queue

_PLACES = ("tenant", "domain", "site", "source")


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything that is given must match; what is empty stands for all."""

    tenant: str = ""
    domain: str = ""
    site: str = ""
    source: str = ""
    ids: tuple[str, ...] = ()  # of messages, or of deliveries (ID.NUMBER)

    def covers(self, queue: Queue, site: str) -> bool:
        """Tell whether a queue of that site is meant.

        By source only what is pinned to it: anything else belongs to no source before it is sent.
        """
        return (
            self.tenant in ("", queue.tenant)
            and self.domain in ("", queue.domain)
            and self.site in ("", site)
            and self.source in ("", queue.source)
        )

    def describe(self) -> dict[str, object]:
        """Return what was given, for an event."""
        places = {name: getattr(self, name) for name in _PLACES if getattr(self, name)}
        return {**places, **({"ids": list(self.ids)} if self.ids else {})}

    def spell(self) -> str:
        """Return the options that mean the same."""
        given = ((name, getattr(self, name)) for name in _PLACES)
        parts = [f"--{name} {shlex.quote(value)}" for name, value in given if value]
        return " ".join([*parts, *(f"--id {one}" for one in self.ids)]) or "--all"

    def __str__(self) -> str:
        parts = [f"{name} {getattr(self, name)}" for name in _PLACES if getattr(self, name)]
        return ", ".join([*parts, *(f"message {one}" for one in self.ids)]) or "everything"


def make_selection(
    tenant: str = "", domain: str = "", site: str = "", source: str = "", ids: Sequence[str] = ()
) -> Selection:
    """Return what somebody has given. Raises ValueError, beginning with the word that is wrong."""
    return Selection(tenant, _read_domain(domain), site, source, tuple(map(_read_id, ids)))


def _read_domain(text: str) -> str:
    if not text:
        return ""
    domain = find_domain(b"x@" + text.encode())
    if not domain:
        raise ValueError(f"domain {text}: not a domain name")
    return domain


def _read_id(text: str) -> str:
    message, _, number = text.upper().partition(".")
    try:
        read_home(message)
    except ValueError as error:
        raise ValueError(f"id {text}: {error}") from None
    if number and not number.isdecimal():
        raise ValueError(f"id {text}: a delivery's number stands behind the dot")
    return f"{message}.{number}" if number else message
