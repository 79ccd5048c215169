"""Traces on their way to a receiver that speaks OTLP over HTTP."""

import gzip
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from relay.config import Config, read
from relay.errors import ConfigError, StartError
from tests.workers.admin.happenings import accept, attempt, deliver
from workers.tracing.span import find_trace
from workers.tracing.tracer import make_tracer

pytest.importorskip("opentelemetry.proto", reason="opentelemetry-proto is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)


@dataclass
class Collector:
    """What came, and what is answered."""

    status: int = 200
    spans: list[Any] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    requests: int = 0
    heard: trio.Event = field(default_factory=trio.Event)
    url: str = ""

    def take(self, body: bytes) -> None:
        self.requests += 1
        self.heard.set()
        self.heard = trio.Event()
        if self.status != 200:
            return
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, and as many requests as it brings."""
        connection, body, encoding = h11.Connection(h11.SERVER), b"", b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                body, encoding = b"", dict(event.headers).get(b"content-encoding", b"")
                assert event.target == b"/v1/traces"
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.take(gzip.decompress(body) if encoding == b"gzip" else body)
                head = h11.Response(status_code=self.status, headers=[("content-length", "0")])
                await stream.send_all(connection.send(head) + connection.send(h11.EndOfMessage()))
                connection.start_next_cycle()
            else:
                return


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, collector.serve, [listener])
        collector.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/traces"
        yield collector
        nursery.cancel_scope.cancel()


def configure(base: Path, url: str, **more: Any) -> Config:
    return read({"admin": {"traces": url, **more}}, base=base, environment={})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.tracing.tracer.WAIT", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_message_is_a_trace_at_the_receiver(tmp_path: Path) -> None:
    taken = accept("bob@example.org")
    failed = attempt("bounced", taken, {"bob@example.org": "bounced"}, seconds=0.5)
    failed["recipients"][0] |= {"code": 550, "text": "nobody"}
    send, receive = trio.open_memory_channel[list[dict[str, Any]]](10)
    async with open_collector() as collector:
        tracer = make_tracer(configure(tmp_path, collector.url))
        assert tracer is not None
        with trio.fail_after(30):
            await send.send([taken, {"event": "suspended"}])
            await send.send([failed])
            send.close()
            await tracer.run(receive)

    spans = {span.name: span for span in collector.spans}
    assert collector.services == {"outgate"}
    assert spans.keys() == {"accept", "attempt", "bounced"}
    assert len({span.trace_id for span in collector.spans}) == 1
    assert spans["accept"].parent_span_id == b""
    assert spans["attempt"].parent_span_id == spans["accept"].span_id
    attributes = {one.key: one.value for one in spans["attempt"].attributes}
    assert attributes["outgate.source"].string_value == "a"
    assert attributes["outgate.tls.verified"].string_value == "dane-ee"
    assert attributes["outgate.reply.code"].int_value == 550
    assert (spans["attempt"].status.code, spans["attempt"].status.message) == (2, "550 nobody")
    assert spans["accept"].status.code == 1
    assert spans["attempt"].kind == 3  # a client's
    length = spans["attempt"].end_time_unix_nano - spans["attempt"].start_time_unix_nano
    assert length == 500_000_000


async def test_trouble_is_told_once_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send, receive = trio.open_memory_channel[list[dict[str, Any]]](10)
    async with open_collector() as collector, trio.open_nursery() as nursery:
        tracer = make_tracer(configure(tmp_path, collector.url))
        assert tracer is not None
        collector.status = 400
        nursery.start_soon(tracer.run, receive)
        for _ in range(3):
            with trio.fail_after(30):
                heard = collector.heard
                await send.send([accept()])
                await heard.wait()
        collector.status = 200
        taken = accept()
        with trio.fail_after(30):
            await send.send([deliver(taken)])
            send.close()
            while not collector.spans:  # noqa: ASYNC110
                await trio.sleep(0.01)

    value = find_trace(taken["id"])
    assert {int.from_bytes(span.trace_id, "big") for span in collector.spans} == {value}
    assert caplog.text.count("traces are lost") == 1
    assert caplog.text.count("taken again") == 1


async def test_a_receiver_that_is_silent_holds_up_nobodys_end(tmp_path: Path) -> None:
    send, receive = trio.open_memory_channel[list[dict[str, Any]]](10)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/traces"
    tracer = make_tracer(configure(tmp_path, url))
    assert tracer is not None
    with trio.fail_after(4):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tracer.run, receive)
            await send.send([accept()])
            stream = await listener.accept()
            nursery.cancel_scope.cancel()
    await stream.aclose()
    await listener.aclose()


def test_without_a_receiver_there_are_no_traces(tmp_path: Path) -> None:
    assert make_tracer(configure(tmp_path, "")) is None
    assert make_tracer(configure(tmp_path, "http://127.0.0.1:1/v1/traces", trace_share=0)) is None


def test_without_the_packages_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(StartError, match=r"pip install 'outgate\[otel\]'"):
        make_tracer(configure(tmp_path, "http://127.0.0.1:1/v1/traces"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"traces": "127.0.0.1:4318"}, "admin.traces"),
        ({"trace_share": 1.5}, "admin.trace_share"),
        ({"trace_share": -0.1}, "admin.trace_share"),
    ],
)
def test_settings_are_looked_at(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read({"admin": settings}, base=tmp_path, environment={})
