"""Has the other end of a loopback connection, in another process, read what it was sent?

Only then is a border between two packets one between two reads, too. The kernel is asked about the
other end's socket, sock_diag(7): it answers at once, where /proc/net/tcp lists them all. On loopback what was
sent is in the other end's buffer when send() returns; its acknowledgement may take 40 ms more.
"""

import socket
import struct
import time

_HEADER = struct.Struct("=IHHII")  # netlink(7): length, type, flags, sequence, port
_BY_FAMILY, _REQUEST, _ERROR = 20, 1, 2
_ID = struct.Struct("!HH16s16s12s")  # sock_diag(7), inet_diag_sockid: ports, addresses, the rest
_ANY = b"\0\0\0\0" + b"\xff" * 8  # of any interface, whatever its cookie
_QUEUE = _HEADER.size + 4 + _ID.size + 4  # where idiag_rqueue stands in an inet_diag_msg


def wait_until_read(sock: socket.socket, *, seconds: float = 10) -> None:
    """Wait until the other end has read all that was sent, or is gone."""
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as kernel:  # NETLINK_SOCK_DIAG
        while _count_unread(sock, kernel):
            assert time.monotonic() < deadline, "the other end does not read"
            time.sleep(0.0002)


def _count_unread(sock: socket.socket, kernel: socket.socket) -> int:
    (host, port), (other_host, other_port) = sock.getsockname(), sock.getpeername()
    here, there = (socket.inet_aton(one).ljust(16, b"\0") for one in (host, other_host))
    identity = _ID.pack(other_port, port, there, here, _ANY)
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST, 0, 0)
    kernel.send(header + request)
    answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] == _ERROR:  # no such socket: it has closed
        return 0
    return int(struct.unpack_from("=I", answer, _QUEUE)[0])
