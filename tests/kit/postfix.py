"""A Postfix of one's own: Debian's programs, everything else in a temporary directory.

The system's /etc/postfix and /var/spool/postfix are neither read nor written. ``master`` runs in
the foreground as our child, in a process group of its own, so that stopping it stops all of it.
Needs root, as Postfix does: ``find_obstacle`` says what is missing, for tests to skip with.
"""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.kit.program import Program

_DAEMONS = Path("/usr/lib/postfix/sbin")
_OWNER, _GROUP = "postfix", "postdrop"

# Debian's master.cf without chroot, without delivery programs, with one listener, and with the
# tlsproxy that is commented out there.
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup     unix  n - n 60    1 pickup
cleanup    unix  n - n -     0 cleanup
qmgr       unix  n - n 300   1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
tlsproxy   unix  - - n -     0 tlsproxy
rewrite    unix  - - n -     - trivial-rewrite
bounce     unix  - - n -     0 bounce
defer      unix  - - n -     0 bounce
trace      unix  - - n -     0 bounce
verify     unix  - - n -     1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n -     - proxymap
proxywrite unix  - - n -     1 proxymap
smtp       unix  - - n -     - smtp
relay      unix  - - n -     - smtp
error      unix  - - n -     - error
retry      unix  - - n -     - error
discard    unix  - - n -     - discard
virtual    unix  - n n -     - virtual
anvil      unix  - - n -     1 anvil
scache     unix  - - n -     1 scache
postlog    unix-dgram n - n - 1 postlogd
"""

# What it takes to run apart from the system's instance and from DNS. Nothing here slows it down.
_ALONE = {
    "compatibility_level": "3.6",
    "mail_owner": _OWNER,
    "setgid_group": _GROUP,
    "daemon_directory": str(_DAEMONS),
    "command_directory": "/usr/sbin",
    "shlib_directory": "/usr/lib/postfix",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "myhostname": "postfix.example.net",
    "mydestination": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    "disable_dns_lookups": "yes",
    "smtp_host_lookup": "native",
    "smtpd_peername_lookup": "no",
}

# Directories of a queue, and those that need other rights than 0700 for the owner.
_QUEUE = [
    "active",
    "bounce",
    "corrupt",
    "defer",
    "deferred",
    "flush",
    "hold",
    "incoming",
    "maildrop",
    "private",
    "public",
    "saved",
    "trace",
]
_OPEN = {"maildrop": 0o730, "public": 0o710}


def find_obstacle() -> str | None:
    """Return why no Postfix can be started here, or None."""
    if not (_DAEMONS / "master").is_file():
        return "postfix is not installed (Debian package postfix)"
    if os.geteuid() != 0:
        return "postfix needs root"
    return None


class Postfix(Program):
    """One instance, running from ``start`` to ``stop``; also a context manager.

    ``main`` holds main.cf parameters, added to those that keep the instance apart.
    """

    name = "postfix"

    def __init__(self, main: Mapping[str, str] | None = None, *, port: int | None = None) -> None:
        super().__init__(port)
        # Not below pytest's tmp_path: its daemons run as `postfix` and must reach the directory.
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.directory.chmod(0o755)
        self.log = self.directory / "log"
        self.queue = self.directory / "queue"
        self._main = _ALONE | self._places() | dict(main or {})

    def _launch(self) -> subprocess.Popen[bytes]:
        self._lay_out()
        with (self.directory / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                [_DAEMONS / "master", "-d", "-c", self.directory / "etc"],
                # A process group of its own: master ends with a signal to the whole group.
                process_group=0,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env={"PATH": os.defpath, "MAIL_CONFIG": str(self.directory / "etc")},
            )

    def stop(self) -> None:
        """End every process of the instance, and remove its directory."""
        master = self._process
        super().stop()
        if master is not None:
            _end_group(master.pid)
        shutil.rmtree(self.directory, ignore_errors=True)

    def read_log(self) -> str:
        """Return what the instance has logged so far."""
        texts = [p.read_text("utf-8", "replace") for p in (self.directory / "stderr", self.log) if p.exists()]  # fmt: skip
        return "".join(texts)

    def read_output(self) -> str:
        """Return the log: Postfix says everything there."""
        return self.read_log()

    def count_queued(self) -> int:
        """Return how many messages are in the queue, wherever in it."""
        return sum(
            1
            for name in ("maildrop", "incoming", "active", "deferred", "hold")
            for path in (self.queue / name).rglob("*")
            if path.is_file()
        )

    def _places(self) -> dict[str, str]:
        return {
            "queue_directory": str(self.queue),
            "data_directory": str(self.directory / "data"),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self.directory),
        }

    def _lay_out(self) -> None:
        """What ``postfix start`` would make, without its look at the rest of the system."""
        owner, group = pwd.getpwnam(_OWNER), grp.getgrnam(_GROUP)
        (self.directory / "etc").mkdir()
        (self.directory / "etc/main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in self._main.items())
        )
        (self.directory / "etc/master.cf").write_text(_MASTER.format(port=self.port))
        self.queue.mkdir(mode=0o755)
        (self.queue / "pid").mkdir(mode=0o755)
        for path in (self.directory / "data", *(self.queue / name for name in _QUEUE)):
            path.mkdir()
            os.chown(path, owner.pw_uid, group.gr_gid if path.name in _OPEN else owner.pw_gid)
            path.chmod(_OPEN.get(path.name, 0o700))


def maildir_settings(domain: str, directory: Path) -> dict[str, str]:
    """Return the settings of an instance that keeps all mail of ``domain`` in one Maildir.

    The Maildir is ``directory/inbox``; the directory is given to `nobody`, who writes it.
    """
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {
        "virtual_mailbox_domains": domain,
        "virtual_mailbox_maps": "static:inbox/",
        "virtual_mailbox_base": str(directory),
        "virtual_uid_maps": f"static:{nobody.pw_uid}",
        "virtual_gid_maps": f"static:{nobody.pw_gid}",
    }


def _end_group(group: int) -> None:
    """Wait shortly for what is left of a process group, then kill it."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
