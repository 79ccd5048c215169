"""What was promised of the figures, one line each."""

from typing import NamedTuple


class Promise(NamedTuple):
    """``what``: the figure, and in brackets what it should be."""

    what: str
    kept: bool
