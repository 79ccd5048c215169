"""Writing the content of a message: dots stuffed, the end marked (RFC 5321 §4.5.2, §4.1.1.4)."""

_TERMINATOR = b".\r\n"


class DotStuffer:
    """Turns content that comes in pieces into what stands on the wire between 354 and the answer.

    A piece may begin and end anywhere, also between CR and LF or before a dot. So the last two
    octets of what came before are kept, and nothing else. They begin as the CRLF that ended the
    DATA command: a dot in the first line is nothing special.

    Only CRLF begins a line. A bare LF before a dot gets no second dot, because a receiver that
    reads correctly would leave it in the message; that content has none is the ingress' duty.
    """

    __slots__ = ("_before",)

    def __init__(self) -> None:
        self._before = b"\r\n"

    def write(self, piece: bytes, *, last: bool) -> bytes:
        """Return the octets to send for this piece, with the terminator behind the last one.

        Content that does not end in CRLF gets one: there is no way to say otherwise in DATA.
        """
        before = self._before
        wire = piece
        # rfind() skips what cannot be part of it, replace() looks at each octet, twice.
        if piece.rfind(b"\r\n.") >= 0:
            wire = piece.replace(b"\r\n.", b"\r\n..")
        if before == b"\r\n" and piece.startswith(b"."):
            wire = b"." + wire
        elif before.endswith(b"\r") and piece.startswith(b"\n."):
            wire = b"\n." + wire[1:]
        self._before = before = piece[-2:] if len(piece) > 1 else (before + piece)[-2:]
        if not last:
            return wire
        return wire + (_TERMINATOR if before == b"\r\n" else b"\r\n" + _TERMINATOR)
