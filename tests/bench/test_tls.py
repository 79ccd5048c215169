"""The TLS part: its generator and its sink count what there is, and outgate goes through it."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.bench.progress import Progress
from tests.bench.system import BenchFailed
from tests.bench.tls.certificates import Certificates, make_certificates
from tests.bench.tls.counts import Counts
from tests.bench.tls.ends import Sink, open_source
from tests.bench.tls.figures import Tls, plan
from tests.bench.tls.measure import Case, Run, measure
from tests.bench.tls.source import SIZE
from tests.bench.tls.system import SYSTEMS

_CASE = Case("ECDSA", each=10, count=400)
_RUN = Run(
    system="outgate", case=_CASE, seconds=1.0, accept_seconds=1.0, cpu={"ingress": 0.3},
    harness={"source": 0.1, "sink": 0.1}, others=0.0,
    sent=Counts(sessions=40, handshakes=40, messages=400),
    arrived=Counts(sessions=24, handshakes=24, messages=400),
)  # fmt: skip
_POSTFIX = replace(_RUN, system="postfix", seconds=3.0)


def test_what_holds_is_kept() -> None:
    promises = list(Tls([_POSTFIX, _RUN]).promises())

    assert [promise.kept for promise in promises] == [True, True]
    assert "3.00 x postfix" in promises[0].what
    assert list(Tls([_POSTFIX, _RUN]).describe())
    assert '"handshakes": 24' in json.dumps(Tls([_RUN]).as_json())


@pytest.mark.parametrize(
    ("runs", "kept"),
    [
        ([replace(_POSTFIX, seconds=1.4), _RUN], [False, True]),
        # The fastest Postfix counts, and the median of rounds.
        ([_POSTFIX, replace(_RUN, system="postfix-tuned", seconds=1.2), _RUN], [False, True]),
        ([_POSTFIX, _RUN, replace(_RUN, seconds=3.0), replace(_RUN, seconds=3.0)], [False, True]),
        # A handshake more than full sessions and those that may be open; one again in a session.
        ([_RUN, replace(_RUN, arrived=Counts(25, 25, messages=400))], [False]),
        ([_RUN, replace(_RUN, arrived=Counts(23, 24, messages=400))], [False]),
        ([_RUN, replace(_RUN, sent=Counts(40, 41, messages=400))], [False]),
        # Nothing is promised of what Postfix does.
        ([replace(_POSTFIX, arrived=Counts(400, 400, messages=400))], []),
        ([], []),
    ],
)
def test_what_does_not_hold_is_missed(runs: list[Run], kept: list[bool]) -> None:
    assert [promise.kept for promise in Tls(runs).promises()] == kept


def test_the_plan_leaves_out_what_cannot_be_run() -> None:
    names = [name for name, _, _ in plan(rounds=2, quick=False, postfix=False)]

    assert set(names) == {"generator", "outgate"}
    assert len(plan(rounds=2, quick=False, postfix=True)) > len(names)
    assert len(plan(rounds=1, quick=True, postfix=True)) < 10


@contextmanager
def _open_client(sink: Sink, certificates: Certificates) -> Iterator[ssl.SSLSocket]:
    """A client by hand, in TLS, which has said nothing there yet."""
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    with socket.create_connection(("localhost", sink.port)) as clear:
        clear.settimeout(10)
        assert clear.recv(1000).startswith(b"220 ")
        clear.sendall(b"EHLO me.test\r\n")
        assert b"250 STARTTLS" in clear.recv(1000)
        clear.sendall(b"MAIL FROM:<a@x.test>\r\n")
        assert clear.recv(1000).startswith(b"530 ")
        clear.sendall(b"STARTTLS\r\n")
        assert clear.recv(1000).startswith(b"220 ")
        with context.wrap_socket(clear, server_hostname="localhost") as client:
            yield client


def _wait(sink: Sink, enough: Callable[[Counts], bool]) -> Counts:
    deadline = time.monotonic() + 10
    while not enough(sink.read()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return sink.read()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_the_sink_counts_messages_however_they_are_cut(size: int) -> None:
    # The second begins with a dot, the third is empty; commands go ahead of replies.
    contents = [b"one\r\ntwo\r\n.\r\n", b"..\r\n.x\r\n.\r\n", b".\r\n"]
    said = b"EHLO me.test\r\n" + b"".join(
        b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n" + content for content in contents
    )
    with make_certificates("ECDSA") as made, Sink(made) as sink:
        with _open_client(sink, made) as client:
            for start in range(0, len(said), size):
                client.sendall(said[start : start + size])
            client.sendall(b"QUIT\r\n")
            heard = b""
            while octets := client.recv(1000):
                heard += octets
        found = _wait(sink, lambda counts: not counts.open)

    assert heard.count(b"354 ") == 3
    assert heard.endswith(b"221 2.0.0 bye\r\n")
    assert found == Counts(1, 1, 0, messages=3, octets=18, most_octets=10, open=0, most_open=1)


@pytest.mark.slow
def test_generator_and_sink_agree() -> None:
    run = measure("generator", Case("RSA", each=4, count=210), Progress(1))

    # To warm up, 20 sessions of 4; then 52 of 4 and one of 2.
    # The sink may not have seen yet that the last sessions have ended.
    assert run.sent == run.arrived._replace(open=0)
    assert run.sent[:4] == (73, 73, 0, 290)
    assert run.sent.most_octets == SIZE
    assert run.sent.most_open == 20


@pytest.mark.slow
def test_a_generator_that_is_refused_says_so() -> None:
    with make_certificates("ECDSA") as made, make_certificates("ECDSA") as others:
        with Sink(made) as sink, open_source(sink.port, others) as source:
            source.begin(1, 1)
            with pytest.raises(BenchFailed, match="CERTIFICATE_VERIFY_FAILED"):
                while not source.read().messages:
                    time.sleep(0.01)


@pytest.mark.slow
def test_outgate_verifies_the_sink() -> None:
    with make_certificates("ECDSA") as made, make_certificates("ECDSA") as others:
        mistaken = replace(made, ca_file=others.ca_file)
        with Sink(made) as sink, SYSTEMS["outgate"](sink.port, mistaken) as system:
            with open_source(system.port, made) as source:
                source.begin(20, 1)
                found = _wait(sink, lambda counts: counts.sessions > 0 and not counts.open)
                assert source.read().messages > 0
    assert found.sessions > 0
    assert found.messages == 0


@pytest.mark.slow
def test_outgate_goes_through_it() -> None:
    run = measure("outgate", _CASE, Progress(1))

    assert run.is_thrifty
    assert run.sent.handshakes == 20 + 40
    assert run.sent.messages == run.arrived.messages == 200 + 400
    assert run.cpu.keys() >= {"ingress", "worker"}
