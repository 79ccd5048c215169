"""Real mail with signatures that were found good by others, and its keys, served by a name server."""

import csv
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.config.schema import Dns
from relay.config.units import Seconds
from relay.dkim.fields import cut_message
from relay.dkim.key import Keys
from relay.dkim.verify import Verdict, Verifier
from relay.net.resolver import Resolver
from tests.kit.nameserver import open_nameserver
from tests.relay.dkim.made import write_txt

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "eml"
_NOT_NEUTRAL = {"eol_cr", "eol_mixed", "bare_cr", "bare_lf", "nul"}

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside the project")


def read_rows(name: str) -> Iterator[dict[str, str]]:
    with (CORPUS / name).open(encoding="utf-8", newline="") as table:
        yield from csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_messages(feature: str) -> dict[str, bytes]:
    messages = {}
    for row in read_rows("INDEX.tsv"):
        features = set(row["features"].split(","))
        if feature in features and not features & _NOT_NEUTRAL:
            content = (CORPUS / row["file"]).read_bytes()
            lines = content.replace(b"\n", b"\r\n") if "eol_lf" in features else content
            messages[row["file"]] = lines
    return messages


@pytest.fixture
async def keys() -> AsyncIterator[Keys]:
    zone = {
        row["name"].lower(): {"TXT": [write_txt(row["txt"].encode())]}
        for row in read_rows("DKIM_KEYS.tsv")
    }
    async with open_nameserver(zone) as server:
        yield Keys(Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(5))))


async def verify(message: bytes, keys: Keys, *, cut: int = 1 << 20, only: str = "") -> Verdict:
    head, body = cut_message(message)
    verifier = Verifier(head, lambda domain: only in ("", domain))
    for start in range(0, len(body), cut):
        verifier.feed(body[start : start + cut])
    return await verifier.conclude(keys)


async def test_good_signatures_verify(keys: Keys) -> None:
    messages = read_messages("dkim_sig_ok")

    for name, message in messages.items():
        for cut in (1, 7, 1 << 20):
            verdict = await verify(message, keys, cut=cut)
            assert verdict.domain, (name, verdict.reason)
    assert len(messages) > 5


async def test_a_signature_over_the_beginning_of_the_body_does_not(keys: Keys) -> None:
    message = read_messages("dkim_sig_ok")["chasquid__09-limited_body.eml"]

    verdict = await verify(message, keys, only="example.com")
    assert not verdict.domain
    assert "it covers 17 of " in verdict.reason


async def test_with_another_word_they_do_not(keys: Keys) -> None:
    for name, message in read_messages("dkim_sig_ok").items():
        for old, new in ((b"\r\nFrom: ", b"\r\nFrom: x"), (b"\r\n\r\n", b"\r\n\r\nx")):
            assert message.count(old) >= 1, name
            verdict = await verify(message.replace(old, new, 1), keys)
            assert not verdict.domain, name
            assert not verdict.temporary


async def test_all_others_have_a_verdict(keys: Keys) -> None:
    good = read_messages("dkim_sig_ok")
    others = {name: text for name, text in read_messages("dkim").items() if name not in good}

    for name, message in others.items():
        verdict = await verify(message, keys)
        assert not verdict.domain, name
        assert verdict.reason, name
    assert others
