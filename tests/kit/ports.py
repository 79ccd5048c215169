"""Free ports on loopback."""

import socket
from pathlib import Path


def find_free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on. Another process may take it before the caller does."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int, address: str = "127.0.0.1") -> bool:
    """Say whether a connection to the port is accepted now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def count_open(port: int) -> int:
    """Return how many connections to a port of loopback are open at both ends, as the kernel has it.

    One that the client has closed counts no more, whatever its server is busy with.
    """
    # proc(5): local address and port in hexadecimal, the other side's, the state; 01: ESTABLISHED.
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    ends = [line.split()[1:4] for line in lines]
    return sum(local.endswith(f":{port:04X}") and state == "01" for local, _, state in ends)
