"""Reads what came to a mailbox domain of ours: a complaint, a bounce, or something else."""

from relay.feedback.arf import Abuse, read_abuse, read_original
from relay.feedback.bounce import Bounce, read_bounce
from relay.feedback.pieces import Pieces


def read_report(octets: bytes) -> Abuse | Bounce | None:
    """Return what a message reports; None when it is no report that is understood.

    Takes time in proportion to ``octets``, and never raises.
    """
    pieces = Pieces(octets)
    return read_abuse(pieces) or read_bounce(pieces, read_original(pieces))
