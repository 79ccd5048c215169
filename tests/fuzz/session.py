"""The receiving session: no exception, replies in form, no more messages than ends, bounded buffers.

The first octet is how a client does: how it is cut, and what it is refused. The rest is what it says.
"""

import re
from unittest import mock

import relay.smtp.incoming as incoming_module
from relay.smtp.server import MAX_LINE, Aborted, Closed, Data, EndOfMessage, Event, Mail, Rcpt
from tests.fuzz.target import cut, take_octet
from tests.kit.receiving import Exchange, Refusals

# Small, so that generated sessions meet the limits and the borders of pieces.
LIMITS = {"max_message": 60, "max_recipients": 3}
PIECE = 16
# Ends whatever may be open: content, or the largest of the chunks. In the middle of content, how
# much of it has been looked at depends on the portions.
END = b"\r\n.\r\n" + b"NOOP\r\n" * 22 + b"\r\n.\r\n"

_REPLIES = re.compile(rb"(?:(?:([2-5]\d\d)-[ -~]*\r\n)*[2-5]\d\d [ -~]*\r\n)*")
_LONGEST = 512  # octets of a reply's line, RFC 5321 §4.5.3.1.5
_LAST = re.compile(rb"BDAT +\d+ +LAST", re.IGNORECASE)
_REFUSALS: tuple[Refusals, ...] = (
    {},
    {EndOfMessage: (451, "4.0.0", "Later")},
    {Mail: (550, "5.0.0", "No"), Data: (550, "5.0.0", "No")},
    {Rcpt: (421, "4.0.0", "Bye")},
)

_ENVELOPE = b"EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
SEEDS = [
    b"\0" + _ENVELOPE + b"DATA\r\nA: b\r\n\r\n..x\r\n.\r\nQUIT\r\n",
    b"\1" + _ENVELOPE + b"BDAT 4\r\nabcdBDAT 5 LAST\r\nab\r\n\nRSET\r\n",
    b"\0" + _ENVELOPE + b"DATA\r\nx\n.\r\ny\r.\r\n\r\n.\r\n",
    b"\x18" + _ENVELOPE + b"DATA\r\nx\n.\r\ny\r.\r\n\0\r\n.\r\n",
    b"\2" + _ENVELOPE + b"BDAT 4\r\nabcdBDAT 5 LAST\r\nab\r\n\n",
    b"\3" + _ENVELOPE,
    b"\4EHLO me\r\nSTARTTLS\r\nEHLO me\r\nMAIL FROM:<a@b> REQUIRETLS\r\n",
    b"\4EHLO me\r\nSTARTTLS\r\nQUIT\r\nMAIL FROM:<a@b>\r\n",
    b"\x18HELO me\r\nMAIL FROM:<a@b> SIZE=61\r\nMAIL FROM:<> BODY=8BITMIME\r\nDATA\r\n",
    b"\xe8EHLO [IPv6:::1]\r\nMAIL FROM:<\xc3\xa4@b> SMTPUTF8 RET=HDRS ENVID=a+2B\r\n",
    b'\0EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<"a b"@c.d> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y\r\nRCPT TO:<@a,@b:c@d>\r\n',
    b"\0EHLO me\r\nMAIL FROM:<a@b> SMTPUT\x7fF8\r\n",
    b"\0" + _ENVELOPE + b"BDAT 0 LAST\r\nBDAT 121\r\n" + b"x" * 121,
    b"\0" + b"x" * (MAX_LINE + 1) + b"\r\n",
    b"\0NOOP\nVRFY a\r\nHELP\r\nEXPN x\r\nAUTH PLAIN\r\n",
]


def run(
    portions: list[bytes], refusals: Refusals, *, repair: bool, starttls: bool = False
) -> tuple[list[Event], list[bytes], bytes]:
    """Return events, messages and replies of a session; its buffers are bounded."""
    exchange = Exchange(
        refusals=refusals, repair_line_endings=repair, starttls=starttls, requiretls=starttls,
        **LIMITS,
    )  # fmt: skip
    replies = exchange.say_in(portions)
    longest = max(map(len, portions), default=0)
    assert exchange.most_buffered <= max(MAX_LINE, PIECE + 8) + longest
    events = exchange.events
    if events and isinstance(events[-1], Closed):
        # How soon content is known to be void depends on the portions.
        events = [event for event in events if not isinstance(event, Aborted)]
    return events, exchange.messages, replies


def check(octets: bytes) -> None:
    """The same events and replies however it is cut; each message had an end of its own."""
    how, stream = take_octet(octets)
    stream += END
    refusals = _REFUSALS[how & 3]
    starttls, repair = bool(how & 4), bool(how & 8)
    with mock.patch.object(incoming_module, "PIECE", PIECE):
        cut_up = run(cut(how >> 4, stream), refusals, repair=repair, starttls=starttls)
        # What stands behind STARTTLS is seen only where it comes with it.
        if not starttls:
            assert run([stream], refusals, repair=repair) == cut_up
    events, messages, replies = cut_up
    assert _REPLIES.fullmatch(replies), replies
    assert all(len(line) <= _LONGEST for line in replies.splitlines(keepends=True))
    assert len(messages) == replies.count(b"250 2.0.0 ID\r\n")
    ends = sum(isinstance(event, EndOfMessage) for event in events)
    assert ends == len(messages) or EndOfMessage in refusals
    assert ends <= stream.count(b".\r\n") + len(_LAST.findall(stream))
    for message in messages:
        assert b"\0" not in message
        assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")
        assert len(message) <= LIMITS["max_message"] * (2 if repair else 1)
