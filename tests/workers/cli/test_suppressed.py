"""``outgate suppressed`` as a person runs it, on a real store."""

import argparse
import json
from pathlib import Path

import pytest
import trio

from relay.config import load
from relay.store.link import Link
from relay.store.suppression import Suppression
from tests.kit.redis import Server
from workers.cli import suppressed


@pytest.fixture
def file(server: Server, tmp_path: Path) -> str:
    path = tmp_path / "outgate.toml"
    path.write_text(
        f'[store]\nurl = "{server.url}"\n[ingress]\nhostname = "gw.example"\n'
        "[delivery]\nsuppress_after = 1\n"
    )
    return str(path)


def put(file: str, *addresses: bytes) -> None:
    async def note() -> None:
        config = load(file)
        link = Link(config.store.url, timeout=5)
        await Suppression(link, config).note("y.test", unknown=addresses)
        await link.aclose()

    trio.run(note)


def call(file: str, *words: str, json: bool = False) -> int:
    parser = argparse.ArgumentParser()
    suppressed.add_arguments(parser)
    arguments = parser.parse_args(words)
    arguments.config, arguments.json = file, json
    return suppressed.run(arguments)


def test_list_for_programs(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(file, b"bob@y.test", b"ann@y.test")

    assert call(file, json=True) == 0

    listed = json.loads(capsys.readouterr().out)
    assert [one["address"] for one in listed] == ["ann@y.test", "bob@y.test"]
    assert all(one["until"] > 1_700_000_000 for one in listed)


def test_list_for_people(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(file, b"[red]bob@y.test")

    assert call(file) == 0
    assert "[red]bob@y.test" in capsys.readouterr().out


def test_empty_list_says_so(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file) == 0
    assert capsys.readouterr().out == "no recipient is suppressed\n"


def test_list_says_when_it_is_off(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(file)
    path.write_text(path.read_text().replace("suppress_after = 1", "suppress_after = 0"))

    assert call(file) == 0
    assert "delivery.suppress_after is 0" in capsys.readouterr().out


def test_lifting_is_recorded(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(file, b"bob@y.test")

    assert call(file, "--lift", "bob@Y.test", "--why", "he is back") == 0
    assert "bob@Y.test will be tried again" in capsys.readouterr().out
    assert call(file, json=True) == 0
    assert json.loads(capsys.readouterr().out) == []
    (line,) = Path(load(file).log.events).read_text().splitlines()
    event = json.loads(line)
    assert (event["event"], event["recipient"], event["why"]) == (
        "lifted",
        "bob@Y.test",
        "he is back",
    )
    assert event["who"]


def test_lifting_what_is_not_there_fails(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file, "--lift", "bob@y.test") == 1
    assert "nothing was held against bob@y.test" in capsys.readouterr().err
    assert not Path(load(file).log.events).read_bytes()
