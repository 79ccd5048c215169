import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.smtp.data import DataReader, LineEndingRepair, LineEndings
from relay.smtp.stuffing import DotStuffer
from tests.kit.receiving import cut_at, cut_in_two


def read(portions: list[bytes], *, least: int = 0) -> tuple[bytes, bool, bytes]:
    """Return the content, whether it ended, and what is left in the buffer behind it."""
    reader, buffer, content = DataReader(), bytearray(), b""
    reader.begin(buffer)
    for number, portion in enumerate(portions):
        buffer += portion
        piece, ended = reader.read(buffer, least)
        content += piece
        if ended:
            buffer += b"".join(portions[number + 1 :])
            return content, True, bytes(buffer)
    return content, False, bytes(buffer)


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),  # RFC 5321 §4.5.2: a dot that should have been stuffed
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
        (b"a\r\n\r\n.\r\n", b"a\r\n\r\n"),
    ],
)
def test_content_is_the_same_at_every_border(wire: bytes, content: bytes) -> None:
    wire += b"QUIT\r\n"

    for one, two in cut_in_two(wire):
        assert read([one, two]) == (content, True, b"QUIT\r\n")
    assert read([wire[place : place + 1] for place in range(len(wire))]) == (
        content,
        True,
        b"QUIT\r\n",
    )


# What other servers have been seen to end a message at.
NO_ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n", b"\r\0\n.\r\n",
    b"\r\n.\n\n", b"\r\n. \r\n", b"\r\n .\r\n", b"\r\n.\x0b\n", b"\r\n.\x85", b"\0.\0", b"\r\n..\r\n",
]  # fmt: skip


@pytest.mark.parametrize("trick", NO_ENDS)
def test_a_message_ends_nowhere_else(trick: bytes) -> None:
    wire = b"a" + trick + b"MAIL FROM:<evil@x.test>\r\n"

    for one, two in cut_in_two(wire):
        content, ended, rest = read([one, two])
        assert not ended
        content, ended, rest = read([one, two, b".\r\nQUIT\r\n"])
        assert ended
        assert content.endswith(b"MAIL FROM:<evil@x.test>\r\n")
        assert rest == b"QUIT\r\n"


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"\r\n", b".", b"\r", b"\n"])),
       st.lists(st.integers(0, 9)), st.integers(0, 12))  # fmt: skip
@example([b".", b"\r\n", b".", b"\r\n"], [1, 1, 1, 1], 0)
def test_content_in_is_content_out(pieces: list[bytes], cuts: list[int], least: int) -> None:
    content = b"".join(pieces) + b"\r\n"
    stuffer = DotStuffer()
    wire = b"".join(stuffer.write(part, last=False) for part in cut_at(content, cuts))
    wire += stuffer.write(b"", last=True)

    assert read(cut_at(wire + b"RSET\r\n", cuts), least=least) == (content, True, b"RSET\r\n")


@given(st.binary(max_size=50), st.lists(st.integers(0, 9)))
def test_nothing_is_held_back_but_what_may_be_an_end(wire: bytes, cuts: list[int]) -> None:
    reader, buffer = DataReader(), bytearray()
    reader.begin(buffer)

    for portion in cut_at(wire, cuts):
        buffer += portion
        _, ended = reader.read(buffer, 8)
        if ended:
            return
        assert len(buffer) < 8 + 6 or not portion


def judge(portions: list[bytes]) -> str:
    endings = LineEndings()
    for portion in portions:
        endings.check(portion)
    return endings.fault


@pytest.mark.parametrize("good", [b"", b"a", b"\r\n", b"a\r\n\r\nb", b"\r\n" * 9])
def test_line_ends_that_are_right(good: bytes) -> None:
    assert {judge([one, two]) for one, two in cut_in_two(good)} == {""}


@pytest.mark.parametrize(
    "bad", [b"\n", b"\r", b"a\nb\r\n", b"a\rb\r\n", b"\r\r\n", b"\r\n\n", b"\n\r", b"a\r\n\r"]
)
def test_line_ends_that_are_not(bad: bytes) -> None:
    assert all("bare CR or LF" in judge([one, two]) for one, two in cut_in_two(bad))


def test_a_nul_is_named_whatever_else_is_wrong() -> None:
    for one, two in cut_in_two(b"a\n\0\r\n"):
        assert judge([one, two]) == "Message contains a NUL octet"


def repair(portions: list[bytes]) -> bytes:
    repairing = LineEndingRepair()
    out = [repairing.repair(portion, last=False) for portion in portions]
    return b"".join(out) + repairing.repair(b"", last=True)


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a b\r\n"),
        (b"a\r\r\n", b"a \r\n"),
        (b"a\n\r", b"a\r\n "),
        (b"a\0b\r\n", b"ab\r\n"),
        (b"a\r\0\nb", b"a\r\nb"),
        (b"\0", b""),
        (b"a\n.\nMAIL\r\n", b"a\r\n.\r\nMAIL\r\n"),
    ],
)
def test_repair_at_every_border(content: bytes, stored: bytes) -> None:
    for one, two in cut_in_two(content):
        assert repair([one, two]) == stored
    assert judge([stored]) == ""


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"."])), st.lists(st.integers(0, 3)))
def test_what_was_repaired_has_no_faults(pieces: list[bytes], cuts: list[int]) -> None:
    content = b"".join(pieces)

    stored = repair(cut_at(content, cuts))

    assert judge([stored]) == ""
    assert stored == repair([content])
