import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.errors import StartError
from relay.process import Backoff, describe_end
from tests.kit.alive import is_alive
from workers.cli.child import Child

_ROOT = Path(__file__).parents[3]

_READY = f"import sys, time; sys.path.insert(0, {str(_ROOT)!r}); from relay.ready import say_ready; say_ready(); "
_SERVE = _READY + "time.sleep(60)"


def _child(program: str) -> Child:
    return Child("ingress 1", [sys.executable, "-c", program])


@asynccontextmanager
async def _running(child: Child) -> AsyncIterator[None]:
    """Run it until the block ends, then see that it stops."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            yield
            child.stop()
            await child.ended.wait()


async def _next_pid(child: Child, previous: int | None = None) -> int:
    while child.pid is None or child.pid == previous:  # noqa: ASYNC110
        await trio.sleep(0.01)
    return child.pid


async def test_child_says_when_it_is_ready() -> None:
    child = _child(_SERVE)
    assert not child.ready.is_set()

    async with _running(child):
        await child.ready.wait()

    assert child.pid is None


async def test_child_that_was_killed_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    child = _child(_SERVE)

    async with _running(child):
        await child.ready.wait()
        pid = await _next_pid(child)
        os.kill(pid, signal.SIGKILL)
        await _next_pid(child, pid)

    assert "ingress 1 was ended by SIGKILL; starting it again in 0.2 s" in caplog.text


async def test_child_that_ended_without_an_error_is_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    child = _child(_READY)

    async with _running(child):
        while caplog.text.count("starting it again") < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)

    assert "ingress 1 ended with exit status 0; starting it again in 0.2 s" in caplog.text
    assert "starting it again in 0.4 s" in caplog.text


async def test_refused_configuration_is_not_tried_again() -> None:
    child = _child("raise SystemExit(2)")

    with pytest.raises(StartError, match="ingress 1 refused its configuration"):
        await child.run()

    assert child.ended.is_set()


async def test_child_that_never_gets_ready_is_given_up() -> None:
    child = _child("raise SystemExit(1)")

    with pytest.raises(StartError, match="exit status 1 before it was ready, 3 times"):
        await child.run()


async def test_program_that_is_not_there_is_given_up() -> None:
    with pytest.raises(StartError, match="before it was ready"):
        await Child("x", ["/nonexistent"]).run()


async def test_stop_during_the_wait_does_not_start_it_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    child = _child(_READY)

    async with _running(child):
        while "starting it again in 0.4 s" not in caplog.text:  # noqa: ASYNC110
            await trio.sleep(0.01)
        child.stop()
        with trio.fail_after(0.35):
            await child.ended.wait()


async def test_stop_is_a_request_and_kill_is_not() -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = _child(stubborn + _SERVE)

    async with _running(child):
        await child.ready.wait()
        child.stop()
        with trio.move_on_after(0.2):
            await child.ended.wait()
        assert not child.ended.is_set()
        child.kill()
        await child.ended.wait()


async def test_cancellation_leaves_no_process() -> None:
    child = _child(_SERVE)
    pid = None
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            await child.ready.wait()
            pid = child.pid
            scope.cancel()

    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


_PARENT = f"""
import sys, trio
sys.path.insert(0, {str(_ROOT)!r})
from workers.cli.child import Child
async def main():
    child = Child("x", [sys.executable, "-c", {_SERVE!r}])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.run)
        await child.ready.wait()
        print(child.pid, flush=True)
trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the child itself watches")
async def test_child_dies_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.stdout.close()
    os.kill(pid, 0)

    parent.kill()
    parent.wait()

    with trio.fail_after(10):
        while is_alive(pid):  # noqa: ASYNC110
            await trio.sleep(0.01)


def test_waits_double_until_something_has_lived() -> None:
    backoff = Backoff(first=0.2, last=1, healthy=30)

    assert [backoff.next_wait(0) for _ in range(5)] == [0.2, 0.4, 0.8, 1, 1]
    assert backoff.next_wait(31) == 0.2
    assert backoff.next_wait(29) == 0.4


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "ended with exit status 0"), (-9, "was ended by SIGKILL"), (-64, "was ended by SIGRTMAX")],
)
def test_end_is_described(status: int, words: str) -> None:
    assert describe_end(status) == words
