"""A process says which checkpoint it runs, and refuses callers of another one."""

from __future__ import annotations

import pytest
from grpc import aio

from chroma.v1.checkpoint_pb2 import CheckpointCard, GetCheckpointRequest
from chroma.v1.checkpoint_pb2_grpc import CheckpointServiceStub
from services.common.errors import FailedPrecondition
from services.common.rpc.checkpoint import check_checkpoint, serve_checkpoint
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings


async def test_a_server_says_which_checkpoint_it_runs_and_how_many_turns_it_serves() -> None:
    server = Server(ServiceSettings())
    serve_checkpoint(
        server.grpc, "0123456789abcdef", 16, renders_tools=True, card=CheckpointCard(summary="Small."), positions=512
    )
    port = await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await CheckpointServiceStub(channel).GetCheckpoint(GetCheckpointRequest())
    assert (answer.checkpoint_fingerprint, answer.slots) == ("0123456789abcdef", 16)
    assert answer.renders_tools
    assert answer.positions == 512
    assert (answer.weights, answer.weights_fingerprint) == ("as-stored", "0123456789abcdef")
    assert answer.card.summary == "Small."
    await server.grpc.stop(0)


@pytest.mark.parametrize("wanted", ["", "one"])
def test_the_own_checkpoint_and_none_in_particular_are_accepted(wanted: str) -> None:
    check_checkpoint(wanted, "one")


def test_another_checkpoint_is_refused_with_both_names() -> None:
    with pytest.raises(FailedPrecondition, match="expected checkpoint other, this replica runs one"):
        check_checkpoint("other", "one")
