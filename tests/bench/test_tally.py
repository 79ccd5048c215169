"""The counting sink of the bench: what it records, and what is told from that."""

import socket

import pytest

from tests.kit.tally import (
    Tally,
    count_connections,
    count_windows,
    find_longest_gap,
    find_percentile,
    select_messages,
)

SECOND = [number / 10 for number in range(100)]  # ten each second, for ten seconds


def talk(sock: socket.socket, octets: bytes) -> bytes:
    sock.sendall(octets)
    return sock.recv(4096)


def visit(port: int, source: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
    assert sock.recv(100)[:3] == b"220"
    return sock


@pytest.mark.slow
def test_it_sees_connections_and_final_dots() -> None:
    with Tally() as tally:
        with visit(tally.port, "127.0.0.11") as first, visit(tally.port, "127.0.0.12") as second:
            assert talk(first, b"EHLO x\r\n")[:4] == b"250-"
            group = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
            assert talk(first, group).count(b"\r\n") == 3
            assert talk(first, b"A: b\r\nX-Sent: 12.5\r\n\r\nhello\r\n.\r\n")[:3] == b"250"
            assert talk(second, group + b".\r\n").count(b"\r\n") == 4
            assert talk(first, b"QUIT\r\n")[:3] == b"221"
        with visit(tally.port, "127.0.0.13"):
            pass
        assert tally.wait(lambda: len(tally.records) == 8, seconds=5)
    messages = select_messages(tally.records)
    assert [(one.sent, one.client) for one in messages] == [(12.5, "127.0.0.11"), (0, "127.0.0.12")]
    assert count_connections(tally.records) == 2


@pytest.mark.slow
def test_an_answer_may_have_to_wait() -> None:
    with Tally(pause=0.2) as tally, visit(tally.port, "127.0.0.11") as sock:
        assert talk(sock, b"MAIL\r\nRCPT\r\nDATA\r\n.\r\nNOOP\r\n").count(b"\r\n") == 3
        assert sock.recv(100).count(b"\r\n") == 2
        assert tally.wait(lambda: len(tally.records) == 2, seconds=5)


@pytest.mark.parametrize(
    ("begin", "end", "fewest", "most"),
    [(0, 10, 20, 20), (1.05, 9, 20, 20), (8, 10.5, 15, 20), (9, 12, 0, 10)],
)
def test_every_window_counts(begin: float, end: float, fewest: int, most: int) -> None:
    found = count_windows(SECOND, seconds=2, begin=begin, end=end)
    assert found == pytest.approx((fewest, most), abs=1)


def test_a_burst_and_a_gap_are_found_wherever_they_are() -> None:
    times = sorted([*SECOND, *([4.321] * 7)])
    assert count_windows(times, seconds=1, begin=0, end=9)[1] == 17
    times = [when for when in SECOND if not 4.3 <= when < 5]
    assert count_windows(times, seconds=1, begin=0, end=9)[0] == 3
    assert find_longest_gap(times, begin=0, end=9) == pytest.approx(0.8)


def test_a_window_must_fit() -> None:
    with pytest.raises(ValueError, match="no 10 s"):
        count_windows(SECOND, seconds=10, begin=1, end=10)


def test_a_percentile_is_one_of_the_values() -> None:
    assert find_percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0
    assert find_percentile(list(range(1, 101)), 0.99) == 100
