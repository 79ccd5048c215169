"""What receivers and their people tell us later about mail of ours: complaints, and late bounces.

Bytes in, plain values out, and nothing raises: whoever wants can send us a report, and may write in
it what he likes. So what is read here is a claim, until it names a message that we have sent
(``match``), and what is known of that comes from its story in the store (``origin``), not from the
report.

``pieces`` takes a report apart, ``arf`` reads complaints, ``bounce`` those that come as bounces.
"""

from relay.feedback.arf import Abuse
from relay.feedback.bounce import Bounce, Failure
from relay.feedback.match import find_message_id
from relay.feedback.origin import Origin, find_origin
from relay.feedback.report import read_report

__all__ = [
    "Abuse",
    "Bounce",
    "Failure",
    "Origin",
    "find_message_id",
    "find_origin",
    "read_report",
]
