"""Spans reach a collector: a gRPC server that keeps what it is sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest

from services.common.errors import FailedPrecondition
from services.common.rpc import context
from services.common.telemetry import tracing
from services.common.telemetry.otlp import start_export
from services.common.telemetry.tracing import SpanKind, mark, trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Collector(grpc.GenericRpcHandler):
    """Keeps the bodies of Export calls."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        def export(body: bytes, _: grpc.ServicerContext) -> bytes:
            self.bodies.append(body)
            return b""

        return grpc.unary_unary_rpc_method_handler(export) if handler_call_details.method == EXPORT else None


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    kept = Collector()
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[kept])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield kept, f"http://127.0.0.1:{port}"
        server.stop(0).wait()


def test_a_span_reaches_the_collector_with_its_trace_parent_marks_and_status(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    monkeypatch.setattr(tracing, "_exports", [])
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=codec-1")
    kept, endpoint = collector
    close = start_export(endpoint, "codec")
    token = context.traceparent.set(PARENT)
    with suppress(KeyError), trace("Decode", SpanKind.SERVER, frames=3):
        mark("first_answer")
        raise KeyError
    context.traceparent.reset(token)
    close()
    (body,) = kept.bodies
    (resource,) = messages.ExportTraceServiceRequest.FromString(body).resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (told["service.name"], told["k8s.pod.name"]) == ("codec", "codec-1")
    assert told["service.instance.id"]
    (sent,) = resource.scope_spans[0].spans
    assert sent.kind == sent.SPAN_KIND_SERVER
    assert (sent.name, sent.trace_id.hex(), sent.parent_span_id.hex()) == ("Decode", PARENT[3:35], PARENT[36:52])
    assert [event.name for event in sent.events] == ["first_answer"]
    assert {one.key: one.value.int_value for one in sent.attributes}["chroma.frames"] == 3
    assert sent.status.message == "INTERNAL"
    assert sent.end_time_unix_nano >= sent.start_time_unix_nano


def test_an_endpoint_without_the_extra_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(FailedPrecondition, match=r"pip install '\.\[tracing\]'"):
        start_export("http://127.0.0.1:4317", "codec")
