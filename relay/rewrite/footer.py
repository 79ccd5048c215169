"""Puts a footer below the text of a message."""


def add_footer(message: bytes, text: str, html: str) -> bytes:
    """Return the message with a footer below its text. Raises CannotChange."""
    raise NotImplementedError
