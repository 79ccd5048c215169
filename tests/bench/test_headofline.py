"""The silent host of the head-of-line measurement is what it says."""

import socket

import pytest

from tests.bench.headofline import _open_abyss


@pytest.mark.slow
def test_the_abyss_neither_accepts_nor_refuses() -> None:
    with _open_abyss() as port, socket.socket() as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.connect(("127.0.0.1", port))
