"""ClamAV as it really is, on loopback: clamd with a database of one signature, and no other.

    with Clamd() as clamd:
        Scanner(..., address=clamd.tcp)     # or clamd.unix
        ...                                 # what contains MARKER is infected: SIGNATURE

It takes a tenth of a second to start: what takes real ones so long is the real database. Nothing is
downloaded, nothing is asked for outside. ``crash``, ``freeze`` and ``thaw`` are for who wants
trouble; after a crash ``start`` brings it back, in the same place.

Needs Debian's clamav-daemon: ``find_obstacle`` says so, for tests to skip with. No privileges. (Its
AppArmor profile lets it use /tmp, and that is where it is put.)
"""

import os
import shutil
import signal
import subprocess

from relay.tether import tethered
from tests.kit.daemon import Daemon

MARKER = b"outgate-test-marker: this is no virus"
SIGNATURE = "Outgate.Test.Marker.UNOFFICIAL"  # the last part is clamd's word for other people's
STREAM_MAX = 27 << 20  # octets

_CONFIG = """\
Foreground yes
LogTime no
DatabaseDirectory {directory}/db
TemporaryDirectory {directory}
PidFile {directory}/clamd.pid
LocalSocket {directory}/clamd.sock
FixStaleSocket yes
TCPSocket {port}
TCPAddr 127.0.0.1
MaxThreads 10
StreamMaxLength {stream}
MaxFileSize {stream}
MaxScanSize {stream}
SelfCheck 0
"""


def find_obstacle() -> str | None:
    """Say what is missing to run it here."""
    return None if _find() else "clamd not installed (Debian's clamav-daemon)"


def _find() -> str | None:
    return shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Clamd(Daemon):
    """One clamd, with a directory of its own."""

    name = "clamd"

    def __init__(self) -> None:
        super().__init__("og-clamd-", within="/tmp")
        database = self.directory / "db"
        database.mkdir()
        (database / "test.ndb").write_text(f"Outgate.Test.Marker:0:*:{MARKER.hex()}\n")

    def _launch(self) -> subprocess.Popen[bytes]:
        program = _find()
        if program is None:
            raise RuntimeError("clamd is not installed")
        file = self.directory / "clamd.conf"
        file.write_text(_CONFIG.format(directory=self.directory, port=self.port, stream=STREAM_MAX))
        with self.output.open("ab") as output:
            # A run of tests that is killed must not leave daemons behind.
            return subprocess.Popen(
                tethered([program, "-c", str(file)], signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
