"""Metrics that every process has: what it is, whether it serves, and the calls it answers.

`service` is one of gateway, reasoner, speech_gen, codec.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from cryptography import x509

from services.common.telemetry.metrics import LATENCY_BUCKETS_S, counter, gauge, histogram

BUILD_INFO = gauge(
    "build_info", "1, with the version of the code as a label.", ["service", "version", "python"], merge="max"
)
CHECKPOINT_INFO = gauge(
    "checkpoint_info",
    "1, with the fingerprint of the checkpoint that is served, its compute dtype, its device, and the format and the "
    "fingerprint of its weights as labels.",
    ["service", "fingerprint", "dtype", "device", "weights", "weights_fingerprint"],
    merge="max",
)
SERVING = gauge(
    "serving",
    "1 while health checks get SERVING; 0 while the process starts, stalls or drains.",
    ["service"],
    merge="min",
)
TASKS = gauge(
    "tasks", "asyncio tasks of the process. An idle process has as many as when it had just started.", ["service"]
)
CERTIFICATE_EXPIRY = gauge(
    "certificate_expiry_timestamp_seconds",
    "Unix time at which the first certificate in the file ends. 0: the file cannot be read. `file` is the setting that "
    "names the file, such as tls_cert.",
    ["service", "file"],
    merge="min",
)
RPCS = counter(
    "rpcs_total",
    "gRPC calls that have ended, by status. `method` is such as CodecService/Decode.",
    ["method", "status"],
)
RPC_SECONDS = histogram(
    "rpc_seconds",
    "Seconds a call with one answer took. For streams see the turns and the engines.",
    ["method"],
    buckets=LATENCY_BUCKETS_S,
)
RPCS_RUNNING = gauge("rpcs_running", "gRPC calls being answered now.", ["method"])

REFUSED = counter(
    "admission_refused_total", "Streams or conversations refused for lack of `reason`.", ["service", "reason"]
)


def watch_tasks(service: str) -> None:
    """Show the tasks of the running event loop from now on."""
    loop = asyncio.get_running_loop()
    TASKS.labels(service).set_function(lambda: len(asyncio.all_tasks(loop)))


def watch_certificates(service: str, files: Mapping[str, Path]) -> None:
    """Show when each certificate ends, from now on. The files are read at each scrape, as they may be renewed."""
    for name, path in files.items():
        CERTIFICATE_EXPIRY.labels(service, name).set_function(partial(_expiry_s, path))


def _expiry_s(path: Path) -> float:
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return 0.0
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)


def announce_build(service: str) -> None:
    """Show what this process is."""
    BUILD_INFO.labels(service, version("chroma-voice"), python_version()).set(1)


def announce_checkpoint(
    service: str, *, fingerprint: str, dtype: str, device: str, weights: str, weights_fingerprint: str
) -> None:
    """Show what this process serves."""
    CHECKPOINT_INFO.labels(service, fingerprint, dtype, device, weights, weights_fingerprint).set(1)
