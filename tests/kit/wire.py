"""A long wire: ``python -m tests.kit.wire NEAR FAR DELAY LOSS``, a process of its own.

It makes two network devices (TAP) in the namespace that it is started in, and passes frames from
one to the other, both ways: each after DELAY seconds, or not at all, for a share LOSS of them. It
says "ready" on standard output, and ends when its standard input does.
"""

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

# <linux/if_tun.h>: TUNSETIFF; a device for Ethernet frames, without a header in front of each. The
# kernel completes checksums and cuts segments to size before it hands them to us.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME = 65536


def open_tap(name: str) -> int:
    """Make a device, and return the file that its frames go through. Raises OSError."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
    fcntl.ioctl(file, _TUNSETIFF, request)
    return file


def pass_frames(near: int, far: int, delay: float, loss: float) -> None:
    """Pass frames until standard input ends. The delay is the same for all, so order is kept."""
    other = {near: far, far: near}
    under_way: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([sys.stdin, near, far], [], [], wait)
        if sys.stdin in ready:
            return
        now = time.monotonic()
        for file in ready:
            frame = os.read(file, _FRAME)
            if random.random() >= loss:
                under_way.append((now + delay, other[file], frame))
        while under_way and under_way[0][0] <= now:
            _, file, frame = under_way.popleft()
            try:
                os.write(file, frame)
            except OSError:  # the device is down, or full: a wire loses what it cannot carry
                continue


def main() -> None:
    """Make the devices, and pass frames."""
    near, far, delay, loss = sys.argv[1:]
    files = open_tap(near), open_tap(far)
    print("ready", flush=True)  # noqa: T201
    pass_frames(*files, float(delay), float(loss))


if __name__ == "__main__":
    main()
