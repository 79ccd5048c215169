"""Whose words a provider says it in: the texts of replies.toml.

They are those that the providers themselves, or the programs, send. A style says only what it
says in words of its own; the rest is said in those of "generic".
"""

import functools
import importlib.resources
import tomllib

import msgspec

from relay.errors import ConfigError
from workers.emulation.behaviour import Refusal

GENERIC = "generic"
KINDS = (
    "throttled",
    "too-many-connections",
    "messages-per-connection",
    "too-many-recipients",
    "greylisted",
    "blocked",
    "blocked-for-now",
    "allowance",
    "unknown",
    "spam",
    "tls-required",
    "too-large",
)

_Styles = dict[str, dict[str, tuple[tuple[int, str, str], ...]]]
Wording = dict[str, tuple[Refusal, ...]]


@functools.cache
def load_styles() -> dict[str, Wording]:
    """Read the texts that come with the program; each style has all of ``KINDS``.

    Raises ConfigError when a file that belongs to the program is wrong.
    """
    place = importlib.resources.files("workers.emulation.providers").joinpath("replies.toml")
    try:
        found = msgspec.convert(tomllib.loads(place.read_text("utf-8")), _Styles)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError([f"workers/emulation/providers/replies.toml: {error}"]) from error
    generic = found[GENERIC]
    return {
        style: {
            kind: tuple(Refusal(*reply) for reply in texts.get(kind) or generic[kind])
            for kind in KINDS
        }
        for style, texts in found.items()
    }


def say(refusal: Refusal, host: str, address: str, recipient: bytes) -> Refusal:
    """Fill in who speaks, and to whom. Texts without braces come back as they are."""
    text = refusal.text
    if "{" not in text:
        return refusal
    # Not ``format``: what a stranger calls himself is put in as it is.
    text = text.replace("{address}", address).replace("{host}", host)
    text = text.replace("{recipient}", recipient.decode("ascii", "replace"))
    return Refusal(refusal.code, refusal.status, text)
