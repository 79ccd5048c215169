"""The rules as data: what is written, and that it stays about wordings."""

import re
import tomllib
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import Blame
from workers.replies.label import Action, Label, choose_action, find_blame
from workers.replies.rule import Written, load_book, read_book
from workers.replies.wording import Wording
from workers.site import load_providers

BOOK = load_book()
each_rule = pytest.mark.parametrize("rule", BOOK.rule, ids=[rule.name for rule in BOOK.rule])
_MAX_LITERAL = 60  # characters: a wording, not a sentence
# What is no plain character of a pattern, or ends a run of such.
_SPECIAL = re.compile(r"\\[a-zA-Z]|\[[^\]]*\]|\{[^}]*\}|[.()|?*+^$]")


def list_patterns(rule: Written) -> tuple[str, ...]:
    return rule.text + rule.also


@each_rule
def test_a_rule_says_where_it_is_known_from(rule: Written) -> None:
    assert len(rule.source) > 8


@each_rule
def test_a_rule_has_a_condition(rule: Written) -> None:
    assert rule.text or rule.status or rule.codes


@each_rule
def test_patterns_are_wordings_and_no_sentences(rule: Written) -> None:
    for pattern in list_patterns(rule):
        longest = max(map(len, _SPECIAL.split(pattern)))
        assert longest <= _MAX_LITERAL, pattern


@each_rule
def test_patterns_name_nobody_s_host_address_or_id(rule: Written) -> None:
    for pattern in list_patterns(rule):
        assert not re.search(
            r"example\.|[0-9]{7}|[0-9a-f]{12}|[0-9]{1,3}\\?\.[0-9]{2,3}\\?\.[0-9]", pattern
        ), pattern


@each_rule
def test_repetition_has_an_end(rule: Written) -> None:
    """What may repeat for ever makes automata larger than a reply is worth."""
    for pattern in list_patterns(rule):
        assert not re.search(r"[.\]\\w][*+]|\{[0-9]+,\}", pattern), pattern


@each_rule
def test_status_has_no_class(rule: Written) -> None:
    for status in rule.status:
        assert re.fullmatch(r"[0-9]{1,3}\.([0-9]{1,3}|\*)", status), status


def test_sites_that_we_know_have_their_family() -> None:
    known = set(BOOK.families) | {name for names in BOOK.families.values() for name in names}
    assert {site.name for site in load_providers()} <= known


def test_no_name_belongs_to_two_families() -> None:
    names = [*BOOK.families, *(name for names in BOOK.families.values() for name in names)]
    assert len(names) == len(set(names))


def test_provider_rules_come_before_those_that_hold_for_all() -> None:
    """But for services without a name in ``families``, which stand among them."""
    text = resources.files("workers.replies").joinpath("rules.toml").read_text("utf-8")
    general = text.index("# -- Our address, by a list that has a name")
    assert "\nprovider = " not in text[general:]


def test_every_label_has_a_rule_and_a_blame() -> None:
    used = {rule.label for rule in BOOK.rule}
    assert used | {Label.UNKNOWN} == set(Label)
    assert all(isinstance(find_blame(label), Blame) for label in Label)


@given(st.sampled_from(Label), st.sampled_from(Blame), st.booleans())
def test_only_what_is_for_good_bounces_and_no_limit_does(
    label: Label, blame: Blame, permanent: bool
) -> None:
    action = choose_action(label, blame, permanent=permanent)

    assert action is not Action.BOUNCE or (permanent and label is not Label.RATE_LIMITED)


GOOD = {"name": "a", "label": "content_spam", "text": ["spam"], "source": "RFC 5321"}


def write(*rules: dict[str, object], families: str = "one = []") -> str:
    lines = ["[families]", families]
    for rule in rules:
        lines.append("[[rule]]")
        lines += [f"{name} = {value!r}" for name, value in rule.items()]
    return "\n".join(lines)


def test_a_rule_is_read() -> None:
    (rule,) = read_book(write(GOOD | {"rest": "4h", "provider": "one"})).rule

    assert (rule.rest_seconds, rule.whose) == (4 * 3600, Blame.MESSAGE)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([GOOD, GOOD], "two rules"),
        ([GOOD | {"provider": "two"}], "no family"),
        ([GOOD | {"source": ""}], "no source"),
        ([GOOD | {"label": "spam"}], "Invalid enum value"),
        ([GOOD | {"action": "pray"}], "Invalid enum value"),
        ([GOOD | {"rest": "soon"}], "duration"),
        ([GOOD | {"patterns": ["x"]}], "unknown field"),
        ([{"name": "a", "label": "unknown", "source": "x", "also": ["y"]}], "also without text"),
    ],
)
def test_a_rule_that_is_wrong_is_refused(rules: list[dict[str, object]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_book(write(*rules))


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1"):
        read_book("[[rule]")


def test_toml_is_in_the_package() -> None:
    assert tomllib.loads(
        resources.files("workers.replies").joinpath("rules.toml").read_text("utf-8")
    )


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("user .{0,30}unknown", "the user bob is unknown", True),
        ("user .{0,30}unknown", "the user " + 31 * "x" + "unknown", False),
        ("user .{0,30}unknown", "unknown user", False),
        # Not the first place, but a later one.
        ("user .{0,10}unknown", "user? no, a long way off: user is unknown", True),
        ("a.{0,10}b.{0,10}c", "a b c", True),
        ("a.{0,10}b.{0,10}c", "a c b", False),
        # Not cut: brackets, and choices outside of them.
        ("(a.{0,10}b)c", "a bc", True),
        (r"a.{0,10}b|c", "c", True),
        (r"\(a.{0,10}b", "(a b", True),
        (r"\bip\b.{0,10}\bban", "the IP: BANNED", True),
        (r"ip.{0,10}\bban", "ip: urban", False),
    ],
)
def test_wordings_are_found_part_after_part(pattern: str, text: str, found: bool) -> None:
    assert Wording(pattern).is_in(text.encode()) == found
