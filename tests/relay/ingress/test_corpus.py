"""Real mail, byte for byte: what is stored is what was sent, below our Received line.

By the corpus' own advice: a file whose lines end in LF is sent with CRLF, a file with CRLF as it
is; what has bare CR or LF, or NUL, has no neutral form and must be refused.
"""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from relay.store.queue import Store
from tests.kit.visit import (
    Client,
    make_config,
    make_desk,
    read_id,
    read_parts,
    split_trace,
    visit,
)

CORPUS = Path(__file__).parents[3].parent / "shared" / "corpus" / "eml"
_NOT_NEUTRAL = {"eol_cr", "eol_mixed", "bare_cr", "bare_lf", "nul"}

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside the project")


@dataclass(frozen=True)
class Sample:
    """A file of the corpus in the form in which it is sent."""

    name: str
    content: bytes
    good: bool


def read_samples() -> Iterator[Sample]:
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
            features = set(row["features"].split(","))
            content = (CORPUS / row["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"], row["file"]
            if "eol_lf" in features and not features & _NOT_NEUTRAL:
                content = content.replace(b"\n", b"\r\n")
            yield Sample(row["file"], content, not features & _NOT_NEUTRAL)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(read_samples())


async def send(client: Client, content: bytes, chunk: int) -> bytes:
    """Send by DATA, or by BDAT in chunks; return the reply to the message, or to its refusal."""
    await client.open_transaction()
    if not chunk:
        return await client.send_data(content)
    for start in range(0, max(1, len(content)), chunk):
        piece = content[start : start + chunk]
        last = b" LAST" if start + chunk >= len(content) else b""
        await client.send(b"BDAT %d%b\r\n%b" % (len(piece), last, piece))
        reply = await client.read_reply()
    return reply


@pytest.mark.parametrize("chunk", [0, 7_777, 1 << 20])
async def test_every_good_message_is_stored_as_it_was_sent(
    chunk: int, samples: list[Sample], tmp_path: Path, store: Store
) -> None:
    desk = make_desk(make_config(tmp_path), store)
    sent = 0
    with trio.fail_after(120):
        async with visit(desk) as client:
            for sample in samples:
                content = sample.content
                if not sample.good or (not chunk and content and not content.endswith(b"\r\n")):
                    continue  # without a line end at its end, DATA cannot carry it
                message_id = read_id(await send(client, content, chunk))
                stored = b"".join(await read_parts(store, message_id))
                kept = split_trace(stored)[1]
                assert hashlib.sha256(kept).digest() == hashlib.sha256(content).digest(), sample
                sent += 1

    assert sent > len(samples) / 2
    assert (await store.read_ledger())["ledger"]["accepted"] == sent


@pytest.mark.parametrize("chunk", [0, 7_777])
async def test_every_other_message_is_refused(
    chunk: int, samples: list[Sample], tmp_path: Path, store: Store
) -> None:
    desk = make_desk(make_config(tmp_path), store)
    bad = [sample for sample in samples if not sample.good]
    for sample in bad:
        async with visit(desk) as client:
            content = sample.content
            if not chunk and not content.endswith(b"\r\n"):
                content += b"\r\n"
            reply = await send(client, content, chunk)
            assert reply.startswith(b"550 5.6.0 Message contains a "), sample.name

    assert bad
    assert (await store.read_ledger())["ledger"]["accepted"] == 0


@pytest.mark.parametrize("chunk", [0, 7_777])
async def test_every_message_can_be_repaired(
    chunk: int, samples: list[Sample], tmp_path: Path, store: Store
) -> None:
    desk = make_desk(make_config(tmp_path, line_endings="repair"), store)
    async with visit(desk) as client:
        for sample in samples:
            if sample.good:
                continue
            content = sample.content
            if not chunk and not content.endswith(b"\r\n"):
                content += b"\r\n"
            message_id = read_id(await send(client, content, chunk))
            kept = split_trace(b"".join(await read_parts(store, message_id)))[1]
            assert b"\0" not in kept
            assert kept.count(b"\r\n") == kept.count(b"\r") == kept.count(b"\n")
            blank = bytes.maketrans(b"\r\n\0", b"   ")
            assert (
                kept.translate(blank).split()
                == content.replace(b"\0", b"").translate(blank).split()
            ), sample.name
