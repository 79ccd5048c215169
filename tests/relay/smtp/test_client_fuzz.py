"""Whatever bytes arrive, whole or in pieces: the same events, or the same protocol error."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.client import check_results, run

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
