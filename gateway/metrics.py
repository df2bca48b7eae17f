"""Metrics of the gateway: its conversations, its upstream services and its store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.common.errors import ChromaError
from services.common.telemetry.metrics import LATENCY_BUCKETS_S, counter, gauge, histogram

UNDERRUN_BUCKETS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The first bound counts the replies without any underrun."""
GAP_BUCKETS_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
STORE_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)

PROCESSES = gauge("gateway_processes", "Processes of the gateway that run (CHROMA_GATEWAY_PROCESSES).")
REPLACED_PROCESSES = counter(
    "gateway_processes_replaced_total",
    "Processes of the gateway that were replaced, by `reason`: ended, or hung (its event loop stood still, so it was "
    "killed). Both stay 0 where the gateway is one process.",
    ["reason"],
)
for _reason in ("ended", "hung"):
    REPLACED_PROCESSES.labels(_reason)
CONVERSATIONS = gauge("conversations", "Conversations open now.")
WEBRTC_CALLS = gauge("webrtc_calls", "WebRTC calls open now, with those that connect.")
CALLS = counter(
    "calls_total",
    "Calls that ended, by `face` (webrtc, twilio) and `outcome`: hung_up (by the client), ended (by the gateway), "
    "unconnected (the client did not come in time), failed.",
    ["face", "outcome"],
)
TURNS = counter(
    "turns_total",
    "Turns that ended, by `outcome` (completed, interrupted, failed), gRPC `status` (OK unless failed; KEY_LIMIT for a "
    "refusal by a limit of the caller's own) and `reply` (generated, or given by the client as text).",
    ["outcome", "status", "reply"],
)
FAILED_STATUSES = (
    *("INTERNAL", "INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION"),
    *("RESOURCE_EXHAUSTED", "KEY_LIMIT", "DEADLINE_EXCEEDED", "UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED"),
)
"""The statuses of turns that failed."""
KEY_CONVERSATIONS = gauge(
    "key_conversations_highest",
    "Conversations of the key that has the most of them open at this gateway; of several processes the highest.",
    merge="max",
)
BARGE_INS = counter("barge_ins_total", "Replies interrupted by the user or the client.")
UNHEARD_SECONDS = counter("unheard_audio_seconds_total", "Seconds of speech made for interrupted replies and not sent.")
UNRECORDED = counter(
    "turns_unrecorded_total",
    "Turns of a session that ended well and that the store did not take. Turns without a session do not count.",
)
INPUT_SECONDS = counter("input_audio_seconds_total", "Seconds of user speech in ended turns.")
OUTPUT_SECONDS = counter("output_audio_seconds_total", "Seconds of reply speech sent in ended turns.")
FIRST_SOUND_SECONDS = histogram(
    "first_sound_seconds",
    "Seconds from the commit of a turn to its first sound on the way to the client.",
    ["reply"],
    buckets=LATENCY_BUCKETS_S,
)
STAGE_SECONDS = histogram(
    "stage_seconds",
    "The parts of the time to the first sound of a generated reply. `stage`: hearing (from the commit to the prompt "
    "prefilled), first_thought, first_frame, first_pcm (each from the one before), gateway (from the first PCM to the "
    "client's transport).",
    ["stage"],
    buckets=LATENCY_BUCKETS_S,
)
AUDIO_GAP_SECONDS = histogram(
    "audio_gap_seconds", "Seconds between the sending of two pieces of a reply's sound.", buckets=GAP_BUCKETS_S
)
UNDERRUNS = counter("underruns_total", "Times that a listener, playing from the first sound on, ran out of sound.")
TURN_UNDERRUN_SECONDS = histogram(
    "turn_underrun_seconds",
    "Seconds of silence that a reply's listener had to wait in its middle.",
    buckets=UNDERRUN_BUCKETS_S,
)
REPLICAS = gauge(
    "replicas", "Replicas that the gateway knows, by `state`: serving or away.", ["stage", "state"], merge="max"
)
SHARED_CHECKPOINTS = gauge(
    "shared_checkpoints",
    "Checkpoints that all services serve: 1 as a rule, 2 while weights are exchanged, 0 when no reply can be spoken "
    "although every service serves, NaN when no service says which checkpoint it runs.",
    merge="max",
)
EJECTED = gauge(
    "replicas_ejected",
    "Replicas that serve by their health check and get no calls, because they failed again and again.",
    ["stage"],
    merge="max",
)
EJECTIONS = counter("replica_ejections_total", "Times that a replica was ejected.", ["stage"])
FAILOVERS = counter(
    "spills_total",
    "Calls that a replica did not take, for the next one to try, by `reason`: full, gone, failed (INTERNAL before its "
    "first output) or checkpoint (another one).",
    ["stage", "reason"],
)
STORE_SECONDS = histogram(
    "store_seconds",
    "Seconds of one exchange with Redis. `operation`: read; write, which waits for the append-only file; or check, "
    "which asks once a second whether the store can be used.",
    ["operation"],
    buckets=STORE_BUCKETS_S,
)
ERASURES_PENDING = gauge(
    "erasures_pending",
    "Erasures, of all tenants and gateways, that a replica has not acknowledged; read every five seconds.",
    merge="max",
)
STORE_DURABLE = gauge(
    "store_durable",
    "1 when the store confirms that a write is on its disk; 0 when it does not: no append-only file, too old, or late; "
    "NaN before the first answer. At 0 no write is acknowledged, unless CHROMA_REQUIRE_DURABLE is off.",
    merge="min",
)
STORE_MEMORY_USED = gauge(
    "store_memory_used_bytes", "Bytes that the store's data takes; NaN before the first answer.", merge="max"
)
STORE_MEMORY_LIMIT = gauge(
    "store_memory_limit_bytes",
    "Bytes that the store's data may take (`maxmemory`), 0 for no limit; NaN before the first answer. At the limit the "
    "store refuses writes.",
    merge="max",
)
STORE_ERRORS = counter("store_errors_total", "Exchanges with Redis that failed.", ["operation"])

HTTP_CONNECTIONS = gauge("http_connections", "Open connections of the HTTP server.")
HTTP_REFUSED = counter(
    "http_refused_total",
    "Requests and connections that the HTTP server refused, by `reason`: foreign_host, foreign_origin, page_token, "
    "connections (as many as it may have), connections_of_peer, bodies (as many bytes as it may hold).",
    ["reason"],
)
HTTP_CUT_OFF = counter(
    "http_cut_off_total",
    "Connections that the HTTP server closed because a client was too slow, by what came or went too slowly, `part`: "
    "head and body of a request, response, or the answer to a ping of a WebSocket.",
    ["part"],
)

for _gauge in (STORE_DURABLE, STORE_MEMORY_USED, STORE_MEMORY_LIMIT):
    _gauge.set(math.nan)
for _operation in ("read", "write", "check"):
    STORE_ERRORS.labels(_operation)
AUTH_FAILURES = counter(
    "auth_failures_total",
    "Requests that were refused because of their credentials, by `reason`: missing, unknown (key or client secret), "
    "expired, invalid (token), scope (the key may not do this).",
    ["reason"],
)
KEY_RELOADS = counter(
    "key_reloads_total",
    "New versions of the file of API keys, by `outcome`: loaded, or refused (it is broken, and the old keys stay).",
    ["outcome"],
)
PROVIDER_FETCHES = counter(
    "identity_provider_fetches_total",
    "Fetches of the identity provider's public keys, by `outcome`: loaded, or failed (the old keys stay).",
    ["outcome"],
)

for _reason in ("missing", "unknown", "expired", "invalid", "scope"):
    AUTH_FAILURES.labels(_reason)
for _reload in ("loaded", "refused"):
    KEY_RELOADS.labels(_reload)
for _fetch in ("loaded", "failed"):
    PROVIDER_FETCHES.labels(_fetch)
for _reply in ("generated", "given"):
    FIRST_SOUND_SECONDS.labels(_reply)
    for _outcome in ("completed", "interrupted"):
        TURNS.labels(_outcome, "OK", _reply)
    for _status in FAILED_STATUSES:  # a rate sees the first failure after a start only if there was a zero before it
        TURNS.labels("failed", _status, _reply)
for _stage in ("hearing", "first_thought", "first_frame", "first_pcm", "gateway"):
    STAGE_SECONDS.labels(_stage)
for _upstream in ("reasoner", "speech_gen", "codec"):
    EJECTIONS.labels(_upstream)
    for _reason in ("full", "gone", "failed", "checkpoint"):
        FAILOVERS.labels(_upstream, _reason)
for _reason in ("foreign_host", "foreign_origin", "page_token", "connections", "connections_of_peer", "bodies"):
    HTTP_REFUSED.labels(_reason)
for _part in ("head", "body", "response", "ping"):
    HTTP_CUT_OFF.labels(_part)
for _face in ("webrtc", "twilio"):
    for _end in ("hung_up", "ended", "unconnected", "failed"):
        CALLS.labels(_face, _end)
for _operation in ("read", "write"):
    STORE_SECONDS.labels(_operation)
    STORE_ERRORS.labels(_operation)


def show_replicas(
    upstream: str, known: Callable[[], int], serving: Callable[[], int], ejected: Callable[[], int]
) -> None:
    """Make the gauge show the replicas of an upstream service from now on."""
    REPLICAS.labels(upstream, "serving").set_function(serving)
    REPLICAS.labels(upstream, "away").set_function(lambda: known() - serving())
    EJECTED.labels(upstream).set_function(ejected)


def show_shared_checkpoints(shared: Callable[[], set[str] | None]) -> None:
    """Make the gauge show how many checkpoints are served by all services from now on."""

    def count() -> float:
        checkpoints = shared()
        return math.nan if checkpoints is None else len(checkpoints)

    SHARED_CHECKPOINTS.set_function(count)


def show_usage(highest: Callable[[], float]) -> None:
    """Make the gauge show the conversations of the key with the most of them from now on."""
    KEY_CONVERSATIONS.set_function(highest)


@contextmanager
def store_exchange(operation: str) -> Iterator[None]:
    """Time an exchange with the store; a domain error that leaves the body counts as its failure."""
    started_s = time.monotonic()
    try:
        yield
    except ChromaError:
        STORE_ERRORS.labels(operation).inc()
        raise
    finally:
        STORE_SECONDS.labels(operation).observe(time.monotonic() - started_s)
