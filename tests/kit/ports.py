"""Free ports on loopback."""

import socket


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
