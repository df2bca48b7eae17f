"""The checkpoint that a model process runs: shown to callers, and compared with the one that a caller names."""

from __future__ import annotations

from typing import Any

from grpc import aio

from chroma.v1 import checkpoint_pb2, checkpoint_pb2_grpc
from services.common.errors import FailedPrecondition


class CheckpointServicer(checkpoint_pb2_grpc.CheckpointServiceServicer):
    """CheckpointService as `checkpoint.proto` specifies it."""

    def __init__(
        self,
        fingerprint: str,
        slots: int,
        *,
        weights: str = "as-stored",
        weights_fingerprint: str = "",
        renders_tools: bool = False,
        card: checkpoint_pb2.CheckpointCard | None = None,
        positions: int = 0,
    ) -> None:
        self._answer = checkpoint_pb2.GetCheckpointResponse(
            checkpoint_fingerprint=fingerprint,
            slots=slots,
            renders_tools=renders_tools,
            card=card,
            positions=positions,
            weights=weights,
            weights_fingerprint=weights_fingerprint or fingerprint,
        )

    async def GetCheckpoint(  # noqa: N802
        self, request: checkpoint_pb2.GetCheckpointRequest, context: Any
    ) -> checkpoint_pb2.GetCheckpointResponse:
        """What this process's checkpoint is, and how many streams of a turn it serves at once."""
        return self._answer


def serve_checkpoint(
    server: aio.Server,
    fingerprint: str,
    slots: int,
    *,
    weights: str = "as-stored",
    weights_fingerprint: str = "",
    renders_tools: bool = False,
    card: checkpoint_pb2.CheckpointCard | None = None,
    positions: int = 0,
) -> None:
    """Add CheckpointService to a server that has not started."""
    servicer = CheckpointServicer(
        fingerprint,
        slots,
        weights=weights,
        weights_fingerprint=weights_fingerprint,
        renders_tools=renders_tools,
        card=card,
        positions=positions,
    )
    checkpoint_pb2_grpc.add_CheckpointServiceServicer_to_server(servicer, server)


def check_checkpoint(wanted: str, fingerprint: str) -> None:
    """Raises FailedPrecondition when a caller wants another checkpoint than this process runs. Empty: any will do."""
    if wanted not in ("", fingerprint):
        raise FailedPrecondition(f"expected checkpoint {wanted[:64]}, this replica runs {fingerprint}")
