"""SPF of tenants' domains, for the sources that their mail may leave from."""

from pathlib import Path
from typing import Any

import pytest

from relay.config.schema import Source
from tests.kit.nameserver import SERVFAIL
from tests.workers.doctor.place import ANY, GOOD, SIX, A, levels, make_config, open_resolver
from workers.doctor.coverage import check_coverage, list_domains

B = Source(name="b", address="127.0.0.12", ehlo="b.out.test")


def test_whose_mail_may_leave_from_a_source(tmp_path: Path) -> None:
    config = make_config(
        tmp_path,
        sources=[A, B, SIX],
        pool={"default": {"a": 1, "b": 0}, "bulk": {"b": 1}, "other": {"six": 1}},
        tenant=[
            {"name": "acme", "domains": ["acme.example", "acme.test"]},
            {"name": "globex", "domains": ["globex.example"], "pool": "other"},
        ],
        rule=[
            {"name": "news", "pool": "bulk", "tenants": ["globex"], "senders": ["n@globex.example"]}
        ],
    )

    assert list_domains(config, A) == ["acme.example", "acme.test"]
    assert list_domains(config, B) == ["globex.example"]  # a weight of 0 sends nothing
    assert list_domains(config, SIX) == ["globex.example"]


@pytest.mark.parametrize(
    ("records", "level", "text", "advice"),
    [
        (['"v=spf1 ip4:127.0.0.11 -all"'], "ok", "pass: ip4:127.0.0.11", ""),
        (['"v=spf1 -all"'], "error", "fail: -all", "put ip4:127.0.0.11"),
        (['"v=spf1 ~all"'], "error", "softfail: ~all", "put ip4:127.0.0.11"),
        (['"hello"'], "error", "none: ", "publish a TXT record"),
        (['"v=spf1 ip4:x"'], "error", "permerror: ", "mend the record"),
        (['"v=spf1 ptr -all"'], "notice", "unknown: ", ""),
    ],
)
async def test_what_is_found(
    tmp_path: Path, records: list[str], level: str, text: str, advice: str
) -> None:
    async with open_resolver({"acme.example": {"TXT": records}}) as resolver:
        (found,) = await check_coverage(make_config(tmp_path), A, resolver)

    assert (found.check, found.level, found.source) == ("spf", level, "a")
    assert found.subject == "acme.example from a (127.0.0.11)"
    assert found.text.startswith(text)
    assert found.advice.startswith(advice)
    assert bool(found.advice) == bool(advice)


async def test_a_dns_that_is_down_is_held_against_nobody(tmp_path: Path) -> None:
    async with open_resolver({"acme.example": SERVFAIL}) as resolver:
        found = await check_coverage(make_config(tmp_path), A, resolver)

    assert levels(found) == [("spf", "skipped")]


async def test_of_an_address_that_nobody_knows_nothing_can_be_said(tmp_path: Path) -> None:
    config = make_config(tmp_path, sources=[ANY])
    zone: dict[str, Any] = GOOD
    async with open_resolver(zone) as resolver:
        assert levels(await check_coverage(config, ANY, resolver)) == [("spf", "skipped")]
