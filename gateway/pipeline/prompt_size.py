"""Whether instructions and tools leave room for a conversation, counted in tokens by the reasoner when they are set."""

from __future__ import annotations

from typing import Any

from grpc import aio

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import CountPromptRequest, CountPromptResponse
from gateway.pipeline.calls import upstream_error
from gateway.pipeline.upstreams import Upstream
from services.common.errors import ChromaError, InvalidArgument, OutOfRange
from services.common.rpc.context import outgoing_metadata

_SHARE = 0.75
"""The share of the reasoner's positions that instructions and tools may take. The rest is for turns and replies."""


class PromptTooLong(InvalidArgument):
    """Instructions and tools take more positions than the model has for them."""


def max_prompt_tokens(reasoner: Upstream) -> int:
    """The most tokens of instructions and tools. 0: no replica has told how many positions it has."""
    return int(_SHARE * reasoner.positions())


async def check_prompt_size(reasoner: Upstream, config: SessionConfig) -> None:
    """Check that the system prompt and the tools of `config` leave room for turns. Raises PromptTooLong.

    Text has at most one token for each byte of UTF-8. So short ones are not counted. Where the reasoner cannot count,
    because it is away or an earlier version, nothing is raised here, and the first turn fails.
    """
    limit = max_prompt_tokens(reasoner)
    size = len(config.system_prompt.encode()) + 2 * config.tools.ByteSize()
    if not limit or 2 * size <= limit:
        return
    request = CountPromptRequest(system_prompt=config.system_prompt or None, tools=config.tools)

    async def count(stub: Any) -> CountPromptResponse:
        try:
            return await stub.CountPrompt(request, timeout=reasoner.read_timeout_s, metadata=outgoing_metadata())
        except aio.AioRpcError as error:
            raise upstream_error(reasoner.name, error) from None

    what = "instructions and tools" if config.tools.tools else "instructions"
    expected = f"expected {what} of at most {limit} tokens, which leaves the model room for a conversation"
    try:
        tokens = (await reasoner.call_with_failover("", count)).tokens
    except OutOfRange:
        raise PromptTooLong(f"{expected}, got far more") from None
    except ChromaError:
        return
    if tokens > limit:
        raise PromptTooLong(f"{expected}, got {tokens}")
