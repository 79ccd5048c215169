"""A receiving host is cut off in the middle of DATA, and between the dot and its answer.

It comes back as it was, or with all its connections gone.
"""

import smtplib
import time
from pathlib import Path

import pytest

from tests.kit.estate import DOMAINS, INGRESS, PORT, Estate, open_estate

pytestmark = pytest.mark.heavy

AWAY = 4.0  # s
LARGE = 4 << 20  # octets: many round trips, half a second each
DELAY = 0.25  # s


def post(estate: Estate, mark: str, size: int) -> None:
    """Send one message, and have it accepted."""
    content = f"X-Mark: {mark}\r\nSubject: large\r\n\r\n" + ("x" * 70 + "\r\n") * (size // 72)
    with estate["sender"].inside():
        with smtplib.SMTP(INGRESS["in1"], PORT, "client.test", timeout=30) as session:
            session.sendmail("sender@acme.example", f"r@{DOMAINS[0]}", content)


def cut_for_a_while(estate: Estate, *, restarted: bool) -> None:
    """Cut the receiving hosts off; ``restarted``: they know of no connection any more, after that."""
    estate["mx"].cut("mail")
    time.sleep(AWAY)
    if restarted:
        for room in estate.mailrooms:
            room.hang_up()
    estate["mx"].mend("mail")


@pytest.mark.parametrize("restarted", [False, True])
def test_in_the_middle_of_data(tmp_path: Path, restarted: bool) -> None:
    with open_estate(tmp_path) as estate:
        with estate.send(threads=1) as loads:
            estate.wait_for_traffic(loads)
        estate.wait(lambda: estate.read_ledger().is_closed, "the queue is not empty")
        estate["mx"].slow("mail", delay=DELAY, loss=0)
        (room, *_), lines = estate.mailrooms, estate.mailrooms[0].lines
        post(estate, "large", LARGE)
        estate.wait(lambda: room.lines > lines + 500, "it is not sent")
        cut_for_a_while(estate, restarted=restarted)
        assert ("large", DOMAINS[0]) not in estate.arrived, "it was too late to be cut off"
        estate.wait(lambda: estate.arrived["large", DOMAINS[0]], "it does not arrive", seconds=60)
        kept = estate.finish(loads, others=["large"])
        assert estate.arrived["large", DOMAINS[0]] == 1
        deferred = estate.read_events("deferred")
    assert len(deferred) == int(restarted), deferred
    assert kept.twice == kept.unknown == 0, "before the dot there is no doubt"


@pytest.mark.parametrize("restarted", [False, True])
def test_between_the_dot_and_its_answer(tmp_path: Path, restarted: bool) -> None:
    with open_estate(tmp_path) as estate:
        with estate.send() as loads:
            estate.wait_for_traffic(loads)
            for worker in ("w1", "w2", "w3"):
                estate.hold(worker)
            doubtful = sum(room.kept.total() for room in estate.mailrooms)
            cut_for_a_while(estate, restarted=restarted)
            estate.release()
            estate.wait_for_traffic(loads)
        kept = estate.finish(loads)
    print(f"{doubtful} dots without an answer; {kept}")  # noqa: T201
    if restarted:
        assert kept.unknown >= doubtful, "whoever gets no answer may know that nobody knows"
    else:
        assert kept.twice == kept.unknown == 0
