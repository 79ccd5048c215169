"""Tie a process to its parent: when the parent dies, however it dies, the child does too.

The problem: after ``kill -9`` of a supervisor its children go on, hold the ports and the store's
files, and keep the next start from working. The obvious answer, ``preexec_fn`` with prctl, runs
Python between fork and exec, which can deadlock beside threads (and warns since Python 3.12).
So on Linux the child is started through this file, run as a script: it sets the signal, makes
sure that the parent is still there, and becomes the program asked for. The setting survives exec
(prctl(2), PR_SET_PDEATHSIG). That costs one interpreter start of some 15 ms.

The kernel means the parent *thread*: the signal comes when the thread that forked ends. Children
must therefore be started in the main thread, never through ``trio.to_thread`` (which is what
``trio.lowlevel.open_process`` does).

Other systems have no such signal. There ``watch_parent`` does it for programs of ours; a store
that was left behind is found and stopped by the next start (relay.store.embedded).
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_PARENT = "OUTGATE_PARENT"


def tethered(argv: Sequence[str], number: signal.Signals) -> list[str]:
    """Return a command line that runs ``argv`` and gets signal ``number`` when we die."""
    if sys.platform != "linux":
        return list(argv)
    # -I -S: this file needs nothing but the standard library, and starts in half the time.
    tether = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number))]
    return [*tether, *argv]


def watch_parent(*, seconds: float = 1) -> None:
    """End this process when its parent has gone, where the kernel cannot do it for us.

    Does nothing unless a supervisor named itself in OUTGATE_PARENT.
    """
    parent = os.environ.get(_PARENT, "")
    if parent and sys.platform != "linux":
        threading.Thread(target=_watch, args=(int(parent), seconds), daemon=True).start()


def _watch(parent: int, seconds: float) -> None:
    while os.getppid() == parent:
        time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def name_parent() -> dict[str, str]:
    """Return what a child needs in its environment for ``watch_parent``."""
    return {_PARENT: str(os.getpid())}


def _become(parent: int, number: int, argv: list[str]) -> None:
    import ctypes  # only in the script: the supervisor has no use for it

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew of us
        sys.exit(1)
    try:
        os.execv(argv[0], argv)  # noqa: S606
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
