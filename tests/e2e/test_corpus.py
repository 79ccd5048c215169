"""Real mail the whole way: in through a session, the store, a pool of three sources, out.

What arrives is what was sent, by hash, below our Received line. Messages whose last line has no
end come and go by BDAT; what has no neutral form on the wire is refused at the door (which is
tests/relay/ingress/test_corpus.py).
"""

import csv
import hashlib
from pathlib import Path

import pytest
import trio

from tests.kit.peer import OFFERS, open_host
from tests.kit.redis import Server
from tests.kit.visit import make_desk, read_id, split_trace, visit
from tests.kit.works import SOURCES, open_works

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "eml"
_NOT_NEUTRAL = {"eol_cr", "eol_mixed", "bare_cr", "bare_lf", "nul"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside the project"),
]


def read_samples() -> dict[str, bytes]:
    """Return the usable messages, with the line ends of SMTP."""
    samples = {}
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
            features = set(row["features"].split(","))
            content = (CORPUS / row["file"]).read_bytes()
            if content and not features & _NOT_NEUTRAL:
                lf = "eol_lf" in features
                samples[row["file"]] = content.replace(b"\n", b"\r\n") if lf else content
    return samples


@pytest.mark.parametrize(
    "offers", [(*OFFERS, "CHUNKING"), ("CHUNKING",)], ids=["pipelined", "plain"]
)
async def test_what_goes_out_is_what_came_in(
    server: Server, tmp_path: Path, offers: tuple[str, ...]
) -> None:
    samples = read_samples()
    assert len(samples) > 150
    async with open_host(offers=offers) as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "addresses": SOURCES}
        async with open_works(server, tmp_path, **settings) as works:
            desk = make_desk(works.config, works.store)
            ids = {}
            with trio.fail_after(120):
                async with visit(desk, address="127.0.0.1") as client:
                    for number, (name, content) in enumerate(samples.items()):
                        recipient = b"r%d@y.test" % number
                        await client.open_transaction(recipient=recipient)
                        if content.endswith(b"\r\n"):
                            reply = await client.send_data(content)
                        else:
                            reply = await client.send_chunks(content, size=1 << 20)
                        ids[recipient] = name, read_id(reply)
            await works.wait_for(delivered=len(samples), queued=0, seconds=60)
            works.check()
        assert {message.client for message in host.messages} == set(SOURCES.values())

    assert len(host.messages) == len(samples)
    for message in host.messages:
        name, message_id = ids.pop(message.recipients[0])
        trace, rest = split_trace(message.content)
        assert message_id.encode() in trace
        assert hashlib.sha256(rest).digest() == hashlib.sha256(samples[name]).digest(), name
    assert not ids
