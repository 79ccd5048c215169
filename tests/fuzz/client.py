"""The sending session: whatever a server says, the same events or the same error, and nobody forgotten.

The first octet is how the server's octets are cut. The rest is what it says.
"""

from relay.smtp.client import (
    ClientSession,
    Closed,
    Event,
    Finished,
    Ready,
    RecipientResult,
    RemoteProtocolError,
    SendContent,
)
from tests.fuzz.target import cut, take_octet
from tests.kit.dialogue import make_envelope

RECIPIENTS = 3
_MESSAGES = 30  # in a session; what is too large for the server is over without a word to it

_START = b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
SEEDS = [
    b"\x00220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n550 no\r\n450 4.2.0 later\n354 go\r\n250 ok\r\n221 bye\r\n",
    b"\x01" + _START + b"250 ok\r\n" * 9 + b"421 bye\r\n",
    b"\x02220 mx\r\n500 what?\r\n250 mx\r\n250 ok\r\n",
    b"\x03220-mx\r\n220 mx\r\n250-mx\r\n250-SIZE 10\r\n250 LIMITS MAILMAX=1 RCPTMAX=2\r\n250 ok\r\n",
    b"\x07220 mx\r\n250-mx\r\n250-SMTPUTF8\r\n250-DSN\r\n250-8BITMIME\r\n250 REQUIRETLS\r\n250 ok\r\n",
    b"\x04" + _START + b"250-half\r\n503\r\n",
    b"\x05554 go away\r\n221 bye\r\n",
    b"\x00" + b"220-" + b"x" * 3000,
    b"\x03220 mx\r\n250-mx\r\n250 SIZE 1\r\n",
]


def _can_begin(session: ClientSession, event: Event) -> bool:
    return isinstance(event, Ready | Finished) and session.can_begin


def run(
    portions: list[bytes], *, final_newline: bool
) -> tuple[list[Event], str, tuple[RecipientResult, ...], bytes]:
    """Drive a session through these bytes and the end; it sends messages as long as it can.

    STARTTLS is left out: what comes behind its 220 is an error in any case, but whether the
    driver hears of the 220 before the error depends on when it came.
    """
    session = ClientSession(b"me.test")
    events: list[Event] = []
    wire, begun = b"", 0
    try:
        for portion in [*portions, None]:
            if portion is None:
                session.receive_eof()
            else:
                session.receive(portion)
            while (event := session.next_event()) is not None:
                events.append(event)
                if isinstance(event, Closed):
                    return events, "", session.abandon("over"), wire
                if isinstance(event, SendContent):
                    while session.takes_content:
                        wire += session.content(b".\r\nx", len(wire) % 3 == 0)
                elif begun < _MESSAGES and _can_begin(session, event):
                    begun += 1
                    session.begin(
                        make_envelope(*[b"b@y"] * RECIPIENTS), 5, final_newline=final_newline
                    )
                wire += session.data_to_send()
    except RemoteProtocolError as error:
        return events, str(error), session.abandon("over"), wire
    raise AssertionError("neither an end nor an error")


def check_results(events: list[Event], abandoned: tuple[RecipientResult, ...]) -> None:
    """Every transaction ended once, for everybody; nothing was made up that is final."""
    ends = [event.results for event in events if isinstance(event, Finished)]
    for results in [*ends, *([abandoned] if abandoned else [])]:
        assert len(results) == RECIPIENTS
        for result in results:
            assert result.temporary or not result.local or result.reply.code == 552
            assert not (result.accepted and (result.local or result.command not in (".", "BDAT")))
            assert result.temporary is (result.reply.severity == 4) or result.reply.code == 552
    assert sum(isinstance(event, Closed) for event in events) <= 1


def check(octets: bytes) -> None:
    """The same however it is cut; see ``check_results``."""
    how, stream = take_octet(octets)
    final_newline = bool(how & 1)
    whole = run([stream], final_newline=final_newline)
    assert run(cut(how >> 1, stream), final_newline=final_newline) == whole
    check_results(whole[0], whole[2])
