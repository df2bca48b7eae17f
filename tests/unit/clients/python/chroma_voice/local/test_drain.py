from __future__ import annotations

import threading
from collections.abc import Iterator
from wsgiref.simple_server import make_server

import pytest
from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app

from chroma_voice.local.drain import count_conversations, describe
from chroma_voice.local.ports import free_ports
from gateway.metrics import CONVERSATIONS


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Iterator[str]:
    with make_server("127.0.0.1", 0, make_wsgi_app(registry)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_conversations_of_a_gateway_are_counted(registry: CollectorRegistry, metrics: str) -> None:
    assert count_conversations(metrics) is None
    (family,) = CONVERSATIONS.collect()
    Gauge(family.name, family.documentation, registry=registry).set(3)
    assert count_conversations(metrics) == 3


def test_a_gateway_that_is_gone_says_nothing() -> None:
    [port] = free_ports(1)
    assert count_conversations(f"127.0.0.1:{port}") is None


def test_what_is_waited_for_is_said_with_its_limit() -> None:
    assert describe(1, 120.0) == "waiting for 1 running turn, at most 120 s (Ctrl-C stops at once)"
    assert describe(2, 7.5) == "waiting for 2 running turns, at most 7.5 s (Ctrl-C stops at once)"
