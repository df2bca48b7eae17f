"""Spans to an OpenTelemetry collector by OTLP over gRPC. Needs the extra `tracing`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from uuid import uuid4

from services.common.errors import FailedPrecondition
from services.common.telemetry import tracing
from services.common.telemetry.tracing import Span, export_to

_SECOND_NS = 1_000_000_000


def start_export(endpoint: str, service: str) -> Callable[[], None]:
    """Export every sampled span of this process to `endpoint`. Returns a function that flushes and ends the export.

    A thread of its own sends the spans in batches; when the collector is too slow, spans are dropped. A process is
    named by a `service.instance.id` of its own and by what OTEL_RESOURCE_ATTRIBUTES says (on Kubernetes its pod).
    `endpoint` is `http://host:4317`, or `https://` for TLS. Raises FailedPrecondition when the extra is missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
    except ImportError as error:
        raise FailedPrecondition(
            f"CHROMA_OTLP_ENDPOINT is set, and {error.name} is missing: pip install '.[tracing]' in the repository"
        ) from None
    processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))
    resource = Resource.create(
        {
            "service.namespace": "chroma-voice",
            "service.name": service,
            "service.version": version("chroma-voice"),
            "service.instance.id": str(uuid4()),
        }
    )
    kinds = {ours: SpanKind[ours.name] for ours in tracing.SpanKind}
    scope = InstrumentationScope("chroma-voice")

    def context_of(span: Span, span_id: str) -> SpanContext:
        return SpanContext(
            int(span.trace_id, 16),
            int(span_id, 16),
            is_remote=span_id != span.span_id,
            trace_flags=TraceFlags(span.flags),
        )

    def export(span: Span) -> None:
        start_ns = int(span.start_s * _SECOND_NS)
        failed = span.status not in ("OK", "CANCELLED")
        record = span.record()
        attributes = {f"chroma.{name}": record[name] for name in ("turn", "status", *span.fields)}
        processor.on_end(
            ReadableSpan(
                span.name,
                context_of(span, span.span_id),
                parent=context_of(span, span.parent_id) if span.parent_id else None,
                resource=resource,
                attributes=attributes,  # pyright: ignore[reportArgumentType]  # strings and numbers
                events=[Event(what, timestamp=start_ns + int(at_s * _SECOND_NS)) for what, at_s in span.marks.items()],
                kind=kinds[span.kind],
                status=Status(StatusCode.ERROR, span.status) if failed else Status(StatusCode.UNSET),
                start_time=start_ns,
                end_time=start_ns + int(span.seconds * _SECOND_NS),
                instrumentation_scope=scope,
            )
        )

    export_to(export)
    return processor.shutdown
