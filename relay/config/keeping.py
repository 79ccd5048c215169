"""What is wrong with what is kept: the archive and the audit trail."""

from collections.abc import Iterator

from relay.config.schema import Config


def find_keeping_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[archive]`` and ``[audit]``."""
    yield from ()
