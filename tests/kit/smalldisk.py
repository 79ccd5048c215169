"""A disk of its own, so small that it can be filled: a tmpfs, for tests that may mount one.

    with open_small_disk(base / "disk") as disk:
        disk.fill()      # not an octet more can be written
        disk.free()

``find_obstacle`` says why it cannot be had here, for tests to skip with.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_SIZE = 512 * 1024  # octets


@cache
def find_obstacle() -> str:
    """Say what is missing; "" when nothing is."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return "mounting a tmpfs needs root"
    with tempfile.TemporaryDirectory() as base:
        done = _mount(Path(base))
        if done.returncode == 0:
            _unmount(Path(base))
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"cannot mount a tmpfs here: {said}" if done.returncode else ""


class SmallDisk:
    """A mounted one. Its own file is ``ballast``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            size = 64 * 1024
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextlib.contextmanager
def open_small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount it at ``path``, which is made; unmount it in the end, whoever may still use it."""
    path.mkdir(parents=True)
    done = _mount(path)
    if done.returncode:
        raise RuntimeError(done.stderr.decode("utf-8", "replace"))
    try:
        yield SmallDisk(path)
    finally:
        _unmount(path)


def _mount(path: Path) -> "subprocess.CompletedProcess[bytes]":
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0755", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False)


def _unmount(path: Path) -> None:
    # Lazily: a process that was killed may need a moment to let go of its files.
    subprocess.run(["umount", "-l", str(path)], check=True, capture_output=True)
