"""Whatever the rules and the message: what is decided is what the plain reading of them says."""

import fnmatch
import re
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.policy import Decision
from relay.scan.inquiry import Scan, ScanFailed
from tests.kit.rules import Engine, Letter, make_mixed, make_policy, read_config

_DOMAINS = ("a.example", "b.a.example", "c.b.a.example", "d.test")
_SENDERS = tuple(f"{local}@{domain}" for local in "xy" for domain in _DOMAINS[:2])
_PATTERNS = (*_DOMAINS, "*.a.example", "*.example", "*")
_NAMES = ("a.exe", "b.txt", "c.tar.gz")
_GLOBS = ("*.exe", "b.*", "?.t*", "*.js")
_TYPES = ("image/png", "text/plain", "application/pdf")


def _some(values: tuple[Any, ...]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), unique=True, min_size=1, max_size=2)


_scanned = st.fixed_dictionaries(
    {"scanner": st.sampled_from(("virus", "spam"))},
).flatmap(
    lambda one: st.just(
        one | ({"results": ["infected"]} if one["scanner"] == "virus" else {"score": 5.0})
    )
)
_header = st.fixed_dictionaries(
    {"name": st.sampled_from(("Subject", "X-A", "X-B"))}, optional={"pattern": st.sampled_from(("h", "lo$", "^z"))}
)  # fmt: skip
_rule = st.builds(
    lambda keys, scanned: keys | scanned,
    st.fixed_dictionaries(
        {"action": st.sampled_from(("accept", "hold", "reject"))},
        optional={
            "tenants": _some(("acme", "other")),
            "senders": _some((*_SENDERS, "*@a.example")),
            "recipient_domains": _some(_PATTERNS),
            "larger_than": st.sampled_from((0, 10_000, 20_000)),
            "recipients_over": st.integers(0, 3),
            "header": st.lists(_header, min_size=1, max_size=2),
            "attachment_names": _some(_GLOBS),
            "attachment_types": _some((*_TYPES, "image/*")),
        },
    ),
    st.one_of(st.just({}), _scanned),
)
_parts = st.lists(
    st.tuples(st.sampled_from(_TYPES), st.sampled_from(_NAMES)), min_size=1, max_size=3
)
_letter = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(("acme", "other")),
        "sender": st.sampled_from((*_SENDERS, "")),
        "domains": st.lists(st.sampled_from(_DOMAINS), min_size=1, max_size=4),
        "size": st.sampled_from((5_000, 15_000, 25_000)),
        "fields": st.dictionaries(st.sampled_from(("X-A", "X-B")), st.sampled_from(("hello", "z"))),
        "parts": _parts,
        "virus": st.sampled_from((Scan("infected"), Scan("clean"), ScanFailed("x"))),
        "spam": st.sampled_from((Scan("reject", 7.0), Scan("no action", 1.0), ScanFailed("x"))),
    }
)


def _domain_fits(domain: str, pattern: str) -> bool:
    return pattern in (domain, "*") or (pattern[0] == "*" and domain.endswith(pattern[1:]))


def _holds(rule: dict[str, Any], letter: dict[str, Any]) -> bool:
    """Everything but the scanner."""
    sender = letter["sender"]
    fields = {"Subject": "hello", **letter["fields"]}
    types = {kind for kind, _ in letter["parts"]} | {"multipart/mixed"}
    tests = {
        "tenants": lambda wanted: letter["tenant"] in wanted,
        "senders": lambda wanted: any(fnmatch.fnmatchcase(sender, one) for one in wanted),
        "recipient_domains": lambda wanted: any(
            _domain_fits(domain, one) for domain in letter["domains"] for one in wanted
        ),
        "larger_than": lambda wanted: letter["size"] > wanted,
        "recipients_over": lambda wanted: len(letter["domains"]) > wanted,
        "header": lambda wanted: all(
            one["name"] in fields
            and re.search(one.get("pattern", ""), f" {fields[one['name']]}".lstrip())
            for one in wanted
        ),
        "attachment_names": lambda wanted: any(
            fnmatch.fnmatchcase(name, one) for _, name in letter["parts"] for one in wanted
        ),
        "attachment_types": lambda wanted: any(
            fnmatch.fnmatchcase(kind, one) for kind in types for one in wanted
        ),
    }
    return all(test(rule[key]) for key, test in tests.items() if key in rule)


def _decide_plainly(rules: list[dict[str, Any]], letter: dict[str, Any]) -> tuple[str, str]:
    for number, rule in enumerate(rules):
        if not _holds(rule, letter):
            continue
        if "scanner" in rule:
            scan = letter[rule["scanner"]]
            if isinstance(scan, ScanFailed):
                if rule["scanner"] == "virus":
                    return f"rule{number}", "defer"
                continue
            if scan.result not in rule.get("results", ()) and (scan.score or 0) < rule.get(
                "score", 99
            ):
                continue
        return f"rule{number}", rule["action"]
    return "", "accept"


def _decide(rules: list[dict[str, Any]], letter: dict[str, Any]) -> Decision:
    head, body = make_mixed(*letter["parts"])
    head += "".join(f"{name}: {value}\r\n" for name, value in letter["fields"].items()).encode()
    made = Letter(
        head,
        body,
        tenant=letter["tenant"],
        sender=letter["sender"].encode(),
        recipients=[f"r@{domain}".encode() for domain in letter["domains"]],
        size=letter["size"],
    )
    engines = {name: Engine(letter[name]) for name in ("virus", "spam")}
    policy = make_policy(read_config(*rules), **engines)
    decision = trio.run(policy.decide, made.facts)
    assert made.reads <= 1
    assert all(len(engine.asked) <= 1 for engine in engines.values())
    return decision


@settings(max_examples=300, deadline=None)
@given(st.lists(_rule, max_size=6), _letter)
def test_decision_is_what_the_plain_reading_says(
    rules: list[dict[str, Any]], letter: dict[str, Any]
) -> None:
    decision = _decide(rules, letter)

    name = decision.rule.name if decision.rule is not None else ""
    assert (name, decision.action) == _decide_plainly(rules, letter)
