"""Whatever bytes arrive, whole or in pieces: the same events, or the same protocol error."""

from hypothesis import given
from hypothesis import strategies as st

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
from tests.kit.dialogue import make_envelope

RECIPIENTS = 3


def run(
    portions: list[bytes], *, final_newline: bool
) -> tuple[list[Event], str, tuple[RecipientResult, ...], bytes]:
    """Drive a session through these bytes and the end; it sends messages as long as it can.

    STARTTLS is left out: what comes behind its 220 is an error in any case, but whether the
    driver hears of the 220 before the error depends on when it came.
    """
    session = ClientSession(b"me.test")
    events: list[Event] = []
    wire = b""
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
                elif isinstance(event, Ready | Finished) and session.can_begin:
                    session.begin(
                        make_envelope(*[b"b@y"] * RECIPIENTS), 5, final_newline=final_newline
                    )
                wire += session.data_to_send()
    except RemoteProtocolError as error:
        return events, str(error), session.abandon("over"), wire
    raise AssertionError("neither an end nor an error")


REPLIES = st.sampled_from(
    [
        b"220 mx\r\n",
        b"250 ok\r\n",
        b"250 ok\r\n",
        b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 LIMITS MAILMAX=4\r\n",
        b"250-mx\r\n250-CHUNKING\r\n250 SIZE 10\r\n",
        b"354 go\r\n",
        b"354 go\r\n",
        b"450 4.2.0 later\n",
        b"550 5.1.1 no\r\n",
        b"421 bye\r\n",
        b"250-half\r\n",
        b"503\r\n",
    ]
)
# A start that leads somewhere, then good, bad and senseless replies.
START = st.sampled_from(
    [b"", b"220 mx\r\n250 mx\r\n", b"220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"]
)
REST = st.lists(st.one_of(REPLIES, REPLIES, REPLIES, st.binary(max_size=8)), max_size=25)


@given(START, REST, st.booleans(), st.lists(st.integers(1, 40), max_size=10))
def test_the_same_events_or_the_same_error(
    start: bytes, rest: list[bytes], final_newline: bool, cuts: list[int]
) -> None:
    data = start + b"".join(rest)
    portions, left = [], data
    for cut in cuts:
        portions.append(left[:cut])
        left = left[cut:]

    whole = run([data], final_newline=final_newline)

    assert run([*portions, left], final_newline=final_newline) == whole
    one_by_one = [data[place : place + 1] for place in range(len(data))]
    assert run(one_by_one, final_newline=final_newline) == whole
    check_results(whole[0], whole[2])


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
