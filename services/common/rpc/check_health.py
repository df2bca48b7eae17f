"""The health check for container engines: `python -m services.common.rpc.check_health`.

It reads the same environment as the process on this machine, and exits 0 when that answers SERVING, else 1.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.settings import ServiceSettings, is_unix, read_settings, split_address

TIMEOUT_S = 4.0


def is_serving(settings: ServiceSettings) -> bool:
    """Whether the process with these settings answers SERVING within `TIMEOUT_S` seconds."""
    listen = settings.health_listen or settings.listen
    address = listen if is_unix(listen) else f"127.0.0.1:{split_address(listen)[1]}"
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


if __name__ == "__main__":
    sys.exit(0 if is_serving(read_settings(ServiceSettings)) else 1)
