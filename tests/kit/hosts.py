"""Hosts on this machine: network namespaces with addresses of their own, on networks that can be cut.

with open_network("store", "mail") as network:
    mx = network.add("mx", mail=["198.18.2.9"])
    worker = network.add("w1", store=["198.18.1.3"], mail=["198.18.2.3"])
    with mx.inside():
        ...                               # sockets and children made here are that host's
    process = worker.start([sys.executable, "-m", ...], output)
    worker.cut("store")                   # no packet passes, either way; nobody is told
    worker.mend("store")
    worker.kill()                         # its processes and its links, at once

Each network is a bridge in one more namespace, the *switch*; each host has a leg, a veth pair, in
the networks that it is in. Nothing has a name outside: a namespace lives as long as we hold its
file descriptor or a process of ours is in it, and with it its devices go. So nothing is left
behind, also when the tests are killed. The addresses are those set aside for testing between
networks (RFC 2544, 198.18.0.0/15); no route leads out of the namespaces.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from relay.tether import tethered

_ROOT = Path(__file__).parents[2]
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>; os.setns has it from Python 3.12 on
_OWN = "/proc/thread-self/ns/net"
_TUN = Path("/dev/net/tun")


@functools.cache
def find_obstacle() -> str | None:
    """Return why there can be no hosts here, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces cannot be made here: not root on Linux"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"there is no {program}(8) (Debian package iproute2)"
    if not os.access(_TUN, os.W_OK):
        return f"slow links cannot be made here: no {_TUN}"
    try:
        with open_network("one") as network:
            network.add("probe", one=["198.18.255.1"])
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
    except subprocess.CalledProcessError as error:
        return f"network devices cannot be made here: {error.stderr.strip()}"
    return None


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


class Namespace:
    """A network namespace of ours; loopback is up."""

    def __init__(self) -> None:
        """Raises OSError where that is not allowed."""
        home = os.open(_OWN, os.O_RDONLY)
        try:
            _call("unshare", _CLONE_NEWNET)
            self._file = os.open(_OWN, os.O_RDONLY)
            _call("setns", home, _CLONE_NEWNET)
        finally:
            os.close(home)
        self.ip("link", "set", "dev", "lo", "up")

    @property
    def path(self) -> str:
        """Its name for programs that we start."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace: so is what it makes, sockets, threads and children.

        Sockets stay where they were made, whoever uses them later.
        """
        home = os.open(_OWN, os.O_RDONLY)
        try:
            _call("setns", self._file, _CLONE_NEWNET)
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
            os.close(home)

    def ip(self, *arguments: str) -> None:
        """Run ip(8) here. Raises CalledProcessError."""
        self.run("ip", *arguments)

    def run(self, *command: str) -> None:
        """Run a program here, to its end. Raises CalledProcessError."""
        with self.inside():
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)

    def close(self) -> None:
        os.close(self._file)


class Host(Namespace):
    """A host: its addresses, its legs in networks, and the processes that run on it."""

    def __init__(self, name: str, network: "Network") -> None:
        super().__init__()
        self.name = name
        self._network = network
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(
        self, argv: Sequence[str], output: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Run a program here; it dies with us. ``output``: a file for all that it prints.

        ``argv[0]`` is an absolute path. In the main thread only (relay.tether says why).
        """
        with self.inside(), output.open("ab") as file:
            process = subprocess.Popen(
                tethered(argv, signal.SIGKILL), cwd=_ROOT, env={**os.environ, **environment},
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, process_group=0,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def stop(self) -> None:
        """Ask all its processes to end, and see to it that they do."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        self.kill_processes()

    def kill_processes(self) -> None:
        """End them all, as a crash would."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def kill(self) -> None:
        """The power fails: no word to anybody, not even that connections are over."""
        for leg in self._network.find_legs(self):
            self._network.cut(self, leg)
        self.kill_processes()

    def cut(self, network: str) -> None:
        """No packet passes to or from here; both sides find out by waiting."""
        self._network.cut(self, network)

    def deafen(self, network: str) -> None:
        """Packets go out from here, and none comes in."""
        self._network.deafen(self, network)

    def slow(self, network: str, *, delay: float, loss: float) -> None:
        """Each packet takes ``delay`` s to pass, to and from here, or is lost, this share of them."""
        self._network.slow(self, network, delay=delay, loss=loss)

    def mend(self, network: str) -> None:
        """What was cut, or deaf, is not any more; a slow link stays slow."""
        self._network.mend(self, network)


class Network:
    """The switch, and the hosts on it."""

    def __init__(self, *names: str) -> None:
        """``names``: of the networks, at most seven characters each."""
        self._switch = Namespace()
        self._hosts: dict[str, Host] = {}
        self._bridges: dict[str, str] = {}  # port in the switch -> the bridge that it belongs to
        self._wires: list[subprocess.Popen[bytes]] = []
        for name in names:
            self._add_bridge(name)

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def _add_bridge(self, name: str) -> None:
        # No spanning tree and no delay: a port works at once.
        self._switch.ip("link", "add", "name", name, "type", "bridge", "forward_delay", "0")
        self._switch.ip("link", "set", "dev", name, "up")

    def add(self, name: str, **addresses: Sequence[str]) -> Host:
        """Add a host; for each of its networks the addresses that it has there, the first is its own.

        ``name``: at most seven characters.
        """
        host = self._hosts[name] = Host(name, self)
        for network, ours in addresses.items():
            port = f"{name}-{network}"
            self._switch.ip(
                *("link", "add", "name", port, "type", "veth"),
                *("peer", "name", network, "netns", host.path),
            )
            for address in ours:
                host.ip("addr", "add", f"{address}/24", "dev", network)
            host.ip("link", "set", "dev", network, "up")
            self._bridges[port] = network
            self._plug(port)
        return host

    def _plug(self, port: str) -> None:
        self._switch.ip("link", "set", "dev", port, "master", self._bridges[port], "up")

    def find_legs(self, host: Host) -> list[str]:
        """Return the networks that a host is in."""
        ports = [port.rpartition("-") for port in self._bridges]
        return [network for name, _, network in ports if name == host.name]

    def cut(self, host: Host, network: str) -> None:
        # Taken off the bridge, and not down: then the kernel would tell those on it.
        self._switch.ip("link", "set", "dev", f"{host.name}-{network}", "nomaster")

    def deafen(self, host: Host, network: str) -> None:
        port = f"{host.name}-{network}"
        self._switch.run("tc", "qdisc", "replace", "dev", port, "root", "blackhole")

    def mend(self, host: Host, network: str) -> None:
        port = f"{host.name}-{network}"
        with suppress(subprocess.CalledProcessError):  # it heard all the time
            self._switch.run("tc", "qdisc", "del", "dev", port, "root")
        self._plug(port)

    def slow(self, host: Host, network: str, *, delay: float, loss: float) -> None:
        """Put a wire (tests.kit.wire) between a host's port and its network.

        tc-netem(8) would do the same; not every kernel has it.
        """
        port, number = f"{host.name}-{network}", len(self._wires)
        near, far, between = f"near{number}", f"far{number}", f"between{number}"
        with self._switch.inside():
            wire = subprocess.Popen(
                [sys.executable, "-m", "tests.kit.wire", near, far, str(delay), str(loss)],
                cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        self._wires.append(wire)
        assert wire.stdout is not None
        assert wire.stdout.readline() == b"ready\n"
        self._add_bridge(between)
        self._bridges |= {far: self._bridges[port], near: between, port: between}
        for device in (far, near, port):
            self._plug(device)

    def close(self) -> None:
        """End all processes; with the last of them and with us the hosts are gone."""
        for host in self._hosts.values():
            host.kill_processes()
        for wire in self._wires:
            wire.communicate()
        for namespace in (*self._hosts.values(), self._switch):
            namespace.close()


@contextmanager
def open_network(*names: str) -> Iterator[Network]:
    """Make networks until the block ends. Raises OSError, CalledProcessError."""
    with contextlib.closing(Network(*names)) as network:
        yield network
