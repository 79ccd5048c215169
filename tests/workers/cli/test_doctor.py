"""``outgate doctor``: the whole command, with and without the parts that it looks at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Desk, make_desk
from tests.kit.nameserver import Nameserver, open_nameserver
from tests.kit.redis import Server
from tests.workers.doctor.place import GOOD
from workers.doctor.examination import NAMES, expand

ZONE: dict[str, Any] = GOOD | {
    "12.0.0.127.in-addr.arpa": {"PTR": ["gate.example.net."]},
    "11.0.0.127.in-addr.arpa": {"PTR": ["gate.example.net."]},
    "gate.example.net": {"A": ["127.0.0.11", "127.0.0.12"]},
    "globex.example": {"TXT": ['"v=spf1 ip4:127.0.0.8/29 -all"']},
    "acme.example": {"TXT": ['"v=spf1 include:globex.example -all"']},
    ".": {"SOA": ["a.root.test. h.root.test. 1 7200 900 1209600 300"]},
}
SOURCES = {"a": "127.0.0.11", "b": "127.0.0.12"}


@asynccontextmanager
async def open_desk(
    base: Path, server: Server, zone: dict[str, Any], *, url: str = ""
) -> AsyncIterator[tuple[Desk, Nameserver]]:
    async with open_nameserver(zone, authentic=True) as names:
        tables = (
            f'[dns]\nnameservers = ["{names.endpoint}"]\ntimeout = "1s"\n'
            '[checks]\ndnsbl = ["bl.test"]\n'
        )
        desk = make_desk(base, server, sources=SOURCES, tables=tables)
        if url:
            file = Path(desk.file)
            file.write_text(file.read_text().replace(server.url, url))
        yield desk, names


def levels(said: Any) -> dict[tuple[str, str], str]:
    """Return what was found of sources, by source and check: the worst."""
    ranks = ["ok", "skipped", "notice", "warning", "error"]
    found: dict[tuple[str, str], str] = {}
    for one in said["findings"]:
        key = (one["source"], one["check"])
        found[key] = max(one["level"], found.get(key, "ok"), key=ranks.index)
    return found


async def test_sources_as_they_should_be(server: Server, tmp_path: Path) -> None:
    async with open_desk(tmp_path, server, ZONE) as (desk, _):
        said = await desk.ask("doctor", "--only", "source,resolver,clock")

        assert (said["ok"], said["worst"]) == (True, "ok")
        expected = {(name, check) for name in SOURCES for check in expand(["source"])}
        assert set(levels(said)) == expected | {("", "resolver"), ("", "clock")}
        assert said["counts"]["ok"] == len(said["findings"])
        # Two tenants' domains, two sources.
        assert sum(one["check"] == "spf" for one in said["findings"]) == 4


async def test_all_of_it_at_once(server: Server, tmp_path: Path) -> None:
    zone = ZONE | {"12.0.0.127.bl.test": {"A": ["127.0.0.2"], "TXT": ['"Spam"']}}
    async with open_desk(tmp_path, server, zone) as (desk, _):
        done = await desk.call("doctor", "--json")

        assert (done.status, done.said["worst"]) == (1, "error")
        found = levels(done.said)
        assert found["b", "dnsbl"] == "error"
        assert found["a", "dnsbl"] == "ok"
        assert found["", "store"] == "warning"  # no maxmemory
        assert found["", "certificate"] == "warning"  # none

        shown = await desk.call("doctor")
        assert shown.status == 1
        assert "listed on bl.test (127.0.0.2): Spam" in " ".join(shown.out.split())
        assert "1 error, 2 warnings" in shown.out
        assert "ask bl.test to take it off" in " ".join(shown.out.split())


async def test_one_source_and_one_check(server: Server, tmp_path: Path) -> None:
    async with open_desk(tmp_path, server, ZONE) as (desk, names):
        said = await desk.ask("doctor", "--source", "b", "--only", "ptr, dnsbl")

        assert set(levels(said)) == {("b", "ptr"), ("b", "dnsbl")}
        assert not any("127.0.0.11" in name or name.startswith("11.") for name, _ in names.queries)


async def test_a_warning_is_no_success(server: Server, tmp_path: Path) -> None:
    zone = ZONE | {"11.0.0.127.in-addr.arpa": {"PTR": ["a.out.test."]}}
    async with open_desk(tmp_path, server, zone) as (desk, _):
        done = await desk.call("doctor", "--only", "ehlo", "--json")

        assert (done.status, levels(done.said)["a", "ehlo"]) == (1, "warning")


async def test_it_works_without_a_store(server: Server, tmp_path: Path) -> None:
    async with open_desk(tmp_path, server, ZONE, url="redis://127.0.0.1:9/0") as (desk, _):
        done = await desk.call("doctor", "--json")

    assert done.status == 1
    found = levels(done.said)
    assert found["", "store"] == "error"
    assert found["a", "ptr"] == found["a", "spf"] == "ok"


async def test_it_works_without_an_embedded_store(server: Server, tmp_path: Path) -> None:
    async with open_desk(tmp_path, server, ZONE, url="") as (desk, _):
        file = Path(desk.file)
        file.write_text(file.read_text().replace(f'[store]\nurl = "{server.url}"\n', ""))
        done = await desk.call("doctor", "--json")

    assert done.status == 1
    (store,) = (one for one in done.said["findings"] if one["check"] == "store")
    assert (store["level"], "outgate up" in store["text"]) == ("error", True)
    assert levels(done.said)["b", "ptr"] == "ok"


async def test_it_works_without_a_dns(server: Server, tmp_path: Path) -> None:
    tables = '[dns]\nnameservers = ["127.0.0.1:9"]\ntimeout = "500ms"\n'
    desk = make_desk(tmp_path, server, sources=SOURCES, tables=tables)
    done = await desk.call("doctor", "--json")

    found = levels(done.said)
    assert found["", "resolver"] == "error"
    assert found["a", "bind"] == "ok"
    assert {found["a", check] for check in ("ptr", "ehlo", "spf")} == {"skipped"}


@pytest.mark.parametrize(
    ("words", "text"),
    [(("--source", "zzz"), "no such source; there is a, b"), (("--only", "ptr,x"), "no check 'x'")],
)
async def test_what_there_is_not(
    server: Server, tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    desk = make_desk(tmp_path, server, sources=SOURCES)
    if words[0] == "--only":
        with pytest.raises(SystemExit) as caught:
            await desk.call("doctor", *words)
        assert caught.value.code == 2
        return
    done = await desk.call("doctor", *words)
    assert (done.status, text in done.err) == (2, True)


def test_names_of_parts_and_checks() -> None:
    assert expand([]) == {
        *("store", "clock", "resolver", "certificate", "networks"),
        *("bind", "ptr", "ehlo", "dnsbl", "spf"),
    }
    assert expand(["source", "clock"]) == {"bind", "ptr", "ehlo", "dnsbl", "spf", "clock"}
    assert set(NAMES) == expand([]) | {"source"}
