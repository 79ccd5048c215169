"""Whose a message was, and which way it went, from its story."""

import pytest

from relay.feedback import Origin, find_origin

ACCEPTED = {"event": "accepted", "tenant": "acme", "recipients": ["Bob@y.test", "joe@z.test"]}


def end(name: str, source: str, site: str, **people: str) -> dict[str, object]:
    recipients = [{"address": f"{who}@{site}", "outcome": what} for who, what in people.items()]
    domain = {"source": source, "site": f"s-{site}", "domain": site}
    return {"event": name, **domain, "recipients": recipients}


STORY = [
    ACCEPTED,
    end("deferred", "c", "y.test", Bob="deferred"),
    end("delivered", "a", "y.test", Bob="delivered"),
    end("delivered", "b", "z.test", joe="delivered"),
]
TO_BOB = Origin("acme", "a", "s-y.test", "y.test", "Bob@y.test")
NOBODY = Origin("acme", "", "", "", "")


@pytest.mark.parametrize(
    ("names", "source", "origin"),
    [
        (["bob@Y.test"], "", TO_BOB),
        (["who@y.test", "BOB@y.test"], "b", TO_BOB),
        (["who@y.test"], "", NOBODY),
        ([], "b", Origin("acme", "b", "s-z.test", "z.test", "")),
        ([], "c", NOBODY),
    ],
)
def test_of_several(names: list[str], source: str, origin: Origin) -> None:
    assert find_origin(STORY, names, source) == origin


def test_the_only_way_it_went_needs_no_recipient() -> None:
    assert find_origin(STORY[:3]) == Origin("acme", "a", "s-y.test", "y.test", "")


def test_a_part_of_its_recipients_had_it_before_the_others() -> None:
    story = [
        {**ACCEPTED, "recipients": ["bob@y.test", "eve@y.test"]},
        end("deferred", "a", "y.test", bob="delivered", eve="deferred"),
        end("delivered", "b", "y.test", eve="delivered"),
    ]

    assert find_origin(story, ["bob@y.test"]) == Origin(
        "acme", "a", "s-y.test", "y.test", "bob@y.test"
    )
    eve = find_origin(story, ["eve@y.test"])
    assert eve is not None
    assert eve.source == "b"


def test_who_never_had_it() -> None:
    assert find_origin(STORY[:2], ["bob@y.test"]) == Origin("acme", recipient="Bob@y.test")


@pytest.mark.parametrize("story", [[], STORY[1:]])
def test_what_was_not_accepted_here(story: list[dict[str, object]]) -> None:
    assert find_origin(story, ["bob@y.test"]) is None
