"""Replies of receivers as they are classified: whatever they say, the first digit has the last word."""

from workers.replies.classifier import read_reply
from workers.replies.label import Action
from workers.replies.transcript import read_replies

SEEDS = [
    b"550 5.1.1 <bob@y.test>: Recipient address rejected: User unknown",
    b"421-4.7.0 [192.0.2.1] Our system has detected an unusual rate of\n421 4.7.0 unsolicited mail",
    b"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
    b"550-a\\n550 sorry, no mailbox here by that name (#5.1.1)",
    b"4.2.2 over quota",
    b"\xff\xfe user user user is is not not known known",
]


def check(octets: bytes) -> None:
    """Each reply is read, and ends a message only when it is for good."""
    lines = octets.decode("utf-8", "replace").split("\n")
    for said in read_replies(lines):
        reading = read_reply(said.code, said.status, said.text)
        digit = said.code // 100 if said.code else int(said.status[:1] or 0)
        assert reading.permanent == (digit == 5)
        assert reading.permanent or reading.action is not Action.BOUNCE
        assert reading.rest >= 0
