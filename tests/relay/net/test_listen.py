import contextlib
import errno
import itertools
import socket
import subprocess
import sys

import pytest
import trio
import trio.testing

from relay.errors import StartError
from relay.net.listen import accept_loop, open_listener, unmap


def test_a_taken_port_says_what_to_do() -> None:
    with open_listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]

        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}: .*another program has it"):
            open_listener("127.0.0.1", port)
        with pytest.raises(StartError):
            open_listener("127.0.0.1", port, shared=True)


def test_processes_share_a_port_only_when_both_say_so() -> None:
    with open_listener("127.0.0.1", 0, shared=True) as first:
        port = first.getsockname()[1]
        with open_listener("127.0.0.1", port, shared=True):
            pass
        with pytest.raises(StartError):
            open_listener("127.0.0.1", port)


def test_an_address_that_is_not_ours_says_so() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0: .*not on this machine"):
        open_listener("192.0.2.1", 0)


def test_both_families_on_one_port() -> None:
    try:
        six = open_listener("::", 0)
    except StartError:
        pytest.skip("no IPv6 here")
    with six, open_listener("0.0.0.0", six.getsockname()[1]):
        pass


async def test_connections_are_taken_with_their_address() -> None:
    taken: list[tuple[socket.socket, str]] = []
    with open_listener("127.0.0.1", 0) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, lambda s, a: taken.append((s, a)))
            clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
            with trio.fail_after(5):
                while len(taken) < 5:  # noqa: ASYNC110 - the kernel has no event for us
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    assert [address for _, address in taken] == ["127.0.0.1"] * 5
    for sock in [*clients, *(sock for sock, _ in taken)]:
        sock.close()


class Exhausted(socket.socket):
    """A listener of a process that has no file descriptors left, for a while."""

    failures = 3
    code = errno.EMFILE

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(self.code, "no")
        return super().accept()


@pytest.mark.parametrize(("code", "pause"), [(errno.EMFILE, 0.3), (errno.ECONNABORTED, 0)])
async def test_running_out_of_descriptors_is_waited_for(
    code: int, pause: float, autojump_clock: trio.testing.MockClock
) -> None:
    done = trio.Event()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(Exhausted(socket.AF_INET, socket.SOCK_STREAM))
        listener.code = code
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stack.enter_context(socket.create_connection(listener.getsockname()))
        start = trio.current_time()

        def take(sock: socket.socket, _: str) -> None:
            sock.close()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, take)
            await done.wait()
            nursery.cancel_scope.cancel()

    assert trio.current_time() - start == pytest.approx(pause)


async def test_a_burst_of_connections_does_not_keep_the_others_waiting() -> None:
    taken: list[socket.socket] = []
    waits: list[int] = []
    with open_listener("127.0.0.1", 0) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(100)]

        async def work() -> None:
            while len(taken) < 100:
                waits.append(len(taken))
                await trio.lowlevel.checkpoint()

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_loop, listener, lambda s, _: taken.append(s))
                await work()
                nursery.cancel_scope.cancel()

    for sock in [*clients, *taken]:
        sock.close()
    # Tasks that are ready run in any order: two batches may come one after the other.
    assert max(after - before for before, after in itertools.pairwise(waits)) <= 32


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
    ],
)
def test_an_address_is_shown_in_one_way(address: str, shown: str) -> None:
    assert unmap(address) == shown


def test_a_process_opens_as_many_files_as_it_may() -> None:
    # In a process of its own: what is raised is not lowered again here.
    program = """\
import resource
from relay.net.listen import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print(allow_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert done.stdout.split() == ["300", "300", "300"]
