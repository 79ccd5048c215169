"""Handing spans to an OTLP/HTTP receiver, through OpenTelemetry's own exporter.

Its packages are an extra, and imported only by who is configured to need them. Everything here may block.
"""

import logging
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from relay import __version__
from relay.errors import StartError
from workers.tracing.span import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_PATIENCE = 5.0  # s for a request and what is tried again of it


class Exporter:
    """One receiver."""

    def __init__(self, endpoint: str) -> None:
        """Raises StartError when the packages are not there."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            raise StartError(
                f"admin.traces is set, and {error.name} is not installed: "
                "pip install 'outgate[otel]', or leave admin.traces empty"
            ) from error
        # It would say the same as we do, at each try.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE)
        self._resource = Resource.create(
            {
                "service.name": "outgate",
                "service.version": __version__,
                "host.name": platform.node(),
            }
        )

    def export(self, spans: Sequence[Span]) -> bool:
        """Send spans; False when the receiver did not take them. Blocks for some seconds at most."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        made = [self._make(span) for span in spans]
        return self._exporter.export(made) is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Cut short what waits to be tried again."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _make(self, span: Span) -> "ReadableSpan":
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        flags = TraceFlags(TraceFlags.SAMPLED)
        parent = None
        if span.parent:
            parent = SpanContext(span.trace, span.parent, is_remote=False, trace_flags=flags)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(span.trace, span.id, is_remote=False, trace_flags=flags),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
            start_time=span.start,
            end_time=span.end,
        )
