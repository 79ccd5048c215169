"""Thirty megabytes: the same octets out as in, and never all of them in memory."""

import hashlib
import tracemalloc
from pathlib import Path

import pytest

from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

SIZE = 30_000_000
PART = 256 * 1024


def make_content(*, final_newline: bool) -> bytes:
    """Lines of every length, many of which begin with dots; ends of parts fall anywhere."""
    lines = [b"." * (n % 4) + b"%d" % n + b"x" * (n % 71) for n in range(SIZE // 45)]
    return b"Subject: huge\r\n\r\n" + b"\r\n".join(lines) + (b"\r\n" if final_newline else b"")


@pytest.mark.parametrize(
    ("offers", "final_newline", "verb"),
    [
        (("PIPELINING", "CHUNKING"), True, "DATA"),
        (("PIPELINING", "CHUNKING"), False, "BDAT"),
        (("CHUNKING",), False, "BDAT"),
    ],
)
async def test_it_arrives_as_it_came(
    server: Server, tmp_path: Path, offers: tuple[str, ...], final_newline: bool, verb: str
) -> None:
    content = make_content(final_newline=final_newline)
    async with open_host(offers=offers) as host:
        async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
            await works.post_in_parts(content, size=PART)
            await works.wait_for(delivered=1, seconds=60)
            works.check()
        (message,) = host.messages
        assert len(message.content) == len(content)
        assert hashlib.sha256(message.content).digest() == hashlib.sha256(content).digest()
        assert any(line.startswith(verb) for line in host.commands)


async def test_only_a_few_parts_are_in_memory_at_a_time(server: Server, tmp_path: Path) -> None:
    content = make_content(final_newline=True)[:10_000_000] + b"\r\n"
    async with open_host() as host:
        host.discard = True  # or the receiver's memory would be measured
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, running=False, routes=routes) as works:
            await works.post_in_parts(content, size=PART)
            tracemalloc.start()
            try:
                await works.run_until(delivered=1)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert peak < 12 * PART
