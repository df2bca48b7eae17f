"""The health check of a gRPC server."""

from __future__ import annotations

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_CHECK_TIMEOUT_S = 2.0


async def is_serving(address: str) -> bool:
    """Return whether the server at `address` answers SERVING for its empty service name. False when no server answers.

    Each check opens a new channel. A kept channel would wait longer and longer before it finds a server that has
    just started.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(  # pyright: ignore[reportAttributeAccessIssue]
                health_pb2.HealthCheckRequest(), timeout=_CHECK_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
