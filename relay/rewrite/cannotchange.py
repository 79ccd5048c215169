"""What is said when a message must stay, or can only stay, as it is."""

from relay.errors import OutgateError


class CannotChange(OutgateError):
    """A message is not changed; the text says why, and holds nothing of its content."""
