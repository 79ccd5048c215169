"""Events in a line: what is there for people, and no event that breaks it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.views.brief import brief

END: dict[str, Any] = {
    "event": "deferred", "source": "a", "host": "mx.y.test", "tls": "TLSv1.3 X", "wait": 300,
    "tls_verified": "pkix",
    "recipients": [
        {"address": "b@y.test", "code": 450, "text": "later"},
        {"address": "c@y.test", "code": 450, "text": "later"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"event": "accepted", "sender": "a@x", "recipients": list("bcdef"), "size": 1234,
             "client": "192.0.2.1", "tls": ""},
            "<a@x> -> <b> <c> <d> and 2 more 1,234 octets from 192.0.2.1 in clear",
        ),
        (END, "<b@y.test> <c@y.test> via a to mx.y.test (TLSv1.3) 450 later (again in 5 min)"),
        (
            END | {"tls_verified": ""},
            "<b@y.test> <c@y.test> via a to mx.y.test (TLSv1.3 not verified) 450 later (again in 5 min)",
        ),
        (
            END | {"event": "bounced", "host": "", "recipients": [{"address": "b", "code": 0, "text": "too late"}]},
            "<b> too late (again in 5 min)",
        ),
        (
            {"event": "refused", "sender": "a@x", "client": "192.0.2.1", "reason": "nobody knows you"},
            "<a@x> from 192.0.2.1: nobody knows you",
        ),
        (
            {"event": "suspended", "time": 1.5, "site": "big", "who": "ann", "why": "ticket", "until": None},
            "site=big who=ann ticket",
        ),
        ({"event": "missed", "count": 1200}, "1,200 events are missing here: they came faster than they were read"),
        ({"event": "missed", "count": None}, "events may be missing here: nothing was heard for a while"),
        ({"event": "dropped", "count": 3}, "3 events are missing here: there were more than could be told"),
        ({"event": "accepted", "new": [1, 2]}, "new=1,2"),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_a_line_says(event: dict[str, Any], said: str) -> None:
    assert brief(event) == said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.sampled_from(["accepted", "delivered", "refused", "missed", "slowed"]),
    st.dictionaries(
        st.sampled_from(["recipients", "sender", "size", "host", "tls", "count", "wait", "text", "x"]),
        JSON,
    ),
)  # fmt: skip
def test_no_event_breaks_it(name: str, rest: dict[str, Any]) -> None:
    assert isinstance(brief({"event": name, **rest}), str)
