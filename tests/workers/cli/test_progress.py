"""The display, drawn for narrow and wide terminals and for none."""

import io

import pytest
from rich.console import Console

from workers.cli.progress import (
    ReceiverCount,
    Snapshot,
    SourceCount,
    format_line,
    open_display,
    render,
)

SNAPSHOT = Snapshot(
    phase="waiting until nothing is queued",
    elapsed=74.6,
    messages=100_000,
    sent=99_999,
    recipients=250_000,
    ledger={"accepted": 250_000, "delivered": 201_002, "bounced": 4_500, "queued": 44_498},
    sources=(SourceCount("a", "127.0.0.11", 5, 123_456), SourceCount("b", "127.0.0.12", 3, 0)),
    receivers=tuple(
        ReceiverCount(f"good{n}.test", "hangs up in every seventh message, or after it", 45_678)
        for n in range(8)
    ),
)
START = Snapshot("starting", 0.0, 10, 0, 20, {})


def draw(snapshot: Snapshot, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(snapshot, width))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_fits_a_terminal(width: int) -> None:
    lines = draw(SNAPSHOT, width)

    assert len(lines) <= 23
    assert max(len(line.rstrip()) for line in lines) <= width
    assert not any("…" in line for line in lines)


def test_the_picture_has_every_figure() -> None:
    text = "\n".join(draw(SNAPSHOT, 80))

    for figure in ("99,999 of 100,000", "1:14", "201,002", "44,498", "123,456", "weight 62%"):
        assert figure in text


def test_nothing_yet_can_be_drawn() -> None:
    assert any("accepted" in line for line in draw(START, 80))


def test_a_line_says_the_same() -> None:
    assert format_line(SNAPSHOT) == (
        "1:14 waiting until nothing is queued: 99999 of 100000 messages sent; recipients: "
        "250000 accepted, 201002 delivered, 4500 bounced, 44498 queued; "
        "messages by source: a=123456 b=0"
    )


def test_without_a_terminal_there_is_a_line_for_each_phase() -> None:
    console = Console(file=io.StringIO(), width=80)
    with open_display(console) as show:
        for snapshot in (START, START, SNAPSHOT, SNAPSHOT):
            show(snapshot)

    lines = console.file.getvalue().splitlines()
    assert [line[:6] for line in lines] == ["0:00 s", "1:14 w"]
