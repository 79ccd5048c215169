"""Spans of a message, made of its events."""

from typing import Any

import pytest

from relay.model import make_message_id
from tests.workers.admin.happenings import NOON, accept, attempt, deliver
from workers.admin.entry import read_value
from workers.tracing.span import find_trace, is_sampled, make_spans

SECOND = 1_000_000_000
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_trace_is_the_messages_id() -> None:
    identity = make_message_id(3)
    value = find_trace(identity)

    shown = "".join(_ALPHABET[value >> shift & 31] for shift in range(115, -1, -5))
    assert shown == identity
    assert 0 < value < 1 << 128


def test_message_is_one_trace() -> None:
    taken = accept("bob@example.org", "eve@other.test", client="192.0.2.1", tls="TLSv1.3")
    # The 250 goes out half a second after the message has begun to come.
    taken["time"] += 0.5
    later = attempt(
        "deferred", taken, {"bob@example.org": "deferred"}, after=10, seconds=2.5,
    )  # fmt: skip
    later["recipients"][0] |= {"code": 451, "text": "Not now, bob@example.org", "label": "greylist"}
    end = deliver(taken, after=60) | {"attempt": 2, "seconds": 1}

    (root,) = make_spans(taken)
    (first,) = make_spans(later)
    second, ended = make_spans(end)

    assert {span.trace for span in (root, first, second, ended)} == {read_value(taken["id"])}
    assert root.parent == 0
    assert {span.parent for span in (first, second, ended)} == {root.id}
    assert len({span.id for span in (root, first, second, ended)}) == 4
    assert [span.name for span in (root, first, second, ended)] == [
        "accept", "attempt", "attempt", "delivered",
    ]  # fmt: skip
    assert root.end - root.start == pytest.approx(0.5 * SECOND, abs=SECOND / 100)
    assert first.end == pytest.approx((NOON + 10.5) * SECOND, abs=SECOND / 100)
    assert first.end - first.start == 2.5 * SECOND
    assert first.attributes["outgate.reply"] == "Not now, (address)"
    assert first.attributes["outgate.reply.code"] == 451
    assert first.attributes["server.address"] == "mx.example.org"
    assert first.error == "451 Not now, (address)"
    assert second.attributes["outgate.attempt"] == 2
    assert (second.error, ended.error) == ("", "")
    assert ended.end - ended.start == pytest.approx(60.5 * SECOND, abs=SECOND / 100)


def test_nobodys_address_is_told() -> None:
    taken = accept("bob@example.org")
    bounced = attempt("bounced", taken, {"bob@example.org": "bounced"})
    bounced["recipients"][0]["text"] = "no bob@example.org here"

    assert "bob@" not in repr([*make_spans(taken), *make_spans(bounced)])
    assert "ann@" not in repr(make_spans(taken))


@pytest.mark.parametrize("host", ["", "mx.example.org"])
def test_what_ends_without_a_try_was_no_attempt(host: str) -> None:
    taken = accept("bob@example.org")
    # An operator's end; or its time is over, and the event repeats which host it met last.
    ended = attempt("bounced", taken, {"bob@example.org": "bounced"}, source="", host=host, site="")

    (span,) = make_spans(ended)

    assert (span.name, span.error != "") == ("bounced", True)


def test_the_same_is_told_the_same() -> None:
    taken = accept()

    assert make_spans(taken) == make_spans(taken)


def test_notice_begins_when_it_is_made() -> None:
    notice = accept(notice="failed", about="X")
    notice["time"] += 3600

    (span,) = make_spans(notice)

    assert span.start == span.end
    assert span.attributes["outgate.notice"] == "failed"


def test_a_share_is_traced_as_a_whole() -> None:
    messages = [accept() for _ in range(2000)]
    traced = [event for event in messages if make_spans(event, 0.25)]

    assert 350 < len(traced) < 650
    assert all(len(make_spans(deliver(event), 0.25)) == 2 for event in traced)
    assert not make_spans(accept(), 0.0)
    assert all(is_sampled(find_trace(event["id"]), 1.0) for event in messages)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "suspended"},
        {"event": "accepted"},
        accept() | {"id": "nonsense"},
        accept() | {"time": "x"},
        deliver(accept()) | {"recipients": []},
        deliver(accept()) | {"recipients": [{}]},
        deliver(accept()) | {"attempt": None},
    ],
)
def test_what_makes_no_sense_is_left_out(event: dict[str, Any]) -> None:
    assert make_spans(event) == []
