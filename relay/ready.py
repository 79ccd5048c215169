"""How a service tells the supervisor that started it that it has begun to serve."""

import contextlib
import os

VARIABLE = "OUTGATE_READY_FD"


def say_ready() -> None:
    """Tell the supervisor that this process is ready; without one, do nothing.

    The descriptor is closed after that: a second call does nothing.
    """
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor:
        return
    # A supervisor that has gone away is no reason for a service to fail.
    with contextlib.suppress(OSError), open(int(descriptor), "wb") as pipe:
        pipe.write(b"ready\n")
