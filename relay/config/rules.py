"""What is wrong with the rules of a configuration, and with the scanners and footers they name."""

from collections.abc import Iterator

from relay.config.schema import Config


def find_rule_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[[rule]]``, ``[[scanner]]`` and ``[[footer]]``."""
    yield from ()
