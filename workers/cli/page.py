"""How state looks on a terminal: tables and warnings, the same in all commands."""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDEST = 30  # a column of names
NARROW = 100  # columns; a terminal with fewer is a narrow one


def open_console() -> Console:
    """Return the terminal; what is no terminal gets lines of a width that tables fit into."""
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, NARROW)
    return console


def make_table(*columns: str, last: str = "") -> Table:
    """Return a table without lines.

    ``columns``: names, with ">" in front if they hold numbers; ``last``: a column of words, which
    may take several lines. On a narrow terminal names may, too, or there is no place for the words.
    """
    narrow = open_console().width < NARROW
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        right = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=right or not narrow,
            overflow="fold" if narrow else "ellipsis",
            max_width=_WIDEST,
        )
    if last:
        table.add_column(last, overflow="fold", min_width=None if narrow else 22)
    return table


def keep_printable(text: str) -> str:
    """Return text that gives a terminal no orders, whoever has written it.

    An address in UTF-8 may hold control characters of its own (U+009B begins an escape sequence), line
    separators, and what turns the direction of all that follows.
    """
    if text.isprintable():
        return text
    return "".join([character if character.isprintable() else "?" for character in text])


def add_row(table: Table, *cells: object) -> None:
    """Add a row; what strangers have named is no markup. A list is a cell of several lines."""
    table.add_row(*map(_fill_cell, cells))


def _fill_cell(cell: object) -> Text:
    if isinstance(cell, list):
        return Text("\n".join(keep_printable(str(line)) for line in cell))
    return Text(keep_printable(f"{cell:,}" if isinstance(cell, int) else str(cell)))


def warn(text: str) -> None:
    """Say something that is no result."""
    print(f"outgate: {text}", file=sys.stderr)
