"""Instructions and tools that leave no room for a conversation are refused when they are set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import CountPromptRequest, CountPromptResponse
from chroma.v1.tools_pb2 import Tool, Tools
from gateway.pipeline.prompt_size import PromptTooLong, check_prompt_size, max_prompt_tokens
from gateway.pipeline.upstreams import Upstream
from services.common.errors import ChromaError, OutOfRange, Unavailable


class _Reasoner:
    """A reasoner whose tokens are words."""

    name = "reasoner"
    read_timeout_s = 60.0

    def __init__(self, positions: int, error: ChromaError | None = None) -> None:
        self._positions = positions
        self._error = error
        self.counted = 0

    def positions(self) -> int:
        return self._positions

    async def call_with_failover(self, key: str, attempt: Callable[[Any], Awaitable[Any]]) -> Any:
        return await attempt(self)

    async def CountPrompt(self, request: CountPromptRequest, **_: Any) -> CountPromptResponse:  # noqa: N802
        self.counted += 1
        if self._error is not None:
            raise self._error
        return CountPromptResponse(tokens=len(request.system_prompt.split()) + 5 * len(request.tools.tools))


async def _check(reasoner: _Reasoner, config: SessionConfig) -> None:
    await check_prompt_size(cast(Upstream, reasoner), config)


async def test_a_prompt_may_take_three_quarters_of_the_positions() -> None:
    reasoner = _Reasoner(100)
    assert max_prompt_tokens(cast(Upstream, reasoner)) == 75
    await _check(reasoner, SessionConfig(system_prompt="word " * 75))
    with pytest.raises(PromptTooLong, match=r"expected instructions of at most 75 tokens, .*, got 76$"):
        await _check(reasoner, SessionConfig(system_prompt="word " * 76))


async def test_tools_count_too() -> None:
    tools = Tools(tools=[Tool(name=f"look_{number}", description="at it") for number in range(16)])
    with pytest.raises(PromptTooLong, match=r"instructions and tools of at most 75 tokens, .*, got 80$"):
        await _check(_Reasoner(100), SessionConfig(tools=tools))


async def test_a_short_prompt_is_not_counted() -> None:
    reasoner = _Reasoner(8_000)
    await _check(reasoner, SessionConfig(system_prompt="x" * 3_000))
    await _check(reasoner, SessionConfig(voice_id="ada"))
    assert reasoner.counted == 0


async def test_more_text_than_the_reasoner_counts_is_too_long() -> None:
    with pytest.raises(PromptTooLong, match=r"got far more$"):
        await _check(_Reasoner(100, OutOfRange("the conversation has ...")), SessionConfig(system_prompt="x" * 900))


@pytest.mark.parametrize("reasoner", [_Reasoner(0), _Reasoner(100, Unavailable("gone"))], ids=["silent", "away"])
async def test_where_the_reasoner_cannot_count_the_turn_tells(reasoner: _Reasoner) -> None:
    await _check(reasoner, SessionConfig(system_prompt="word " * 1_000))
