"""Instructions that are too long are named by the field of the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.tools_pb2 import Tool, Tools
from gateway.api.errors import BadParameter
from gateway.api.prompt_size import check_prompt_size
from gateway.conversation.backend import Backend
from gateway.pipeline.prompt_size import PromptTooLong


async def test_too_many_characters_are_refused(backend: Backend) -> None:
    limited = replace(backend, settings=backend.settings.model_copy(update={"max_prompt_chars": 10}))
    with pytest.raises(BadParameter, match="messages: expected at most 10 characters, got 11") as raised:
        await check_prompt_size(limited, SessionConfig(system_prompt="x" * 11), "messages", "tools")
    assert (raised.value.param, raised.value.code) == ("messages", "invalid_value")


@pytest.mark.parametrize(
    ("config", "param"),
    [
        (SessionConfig(system_prompt="x", tools=Tools(tools=[Tool(name="look")])), "session.instructions"),
        (SessionConfig(tools=Tools(tools=[Tool(name="look")])), "session.tools"),
    ],
    ids=["instructions", "tools alone"],
)
async def test_too_many_tokens_name_the_instructions_or_the_tools(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, config: SessionConfig, param: str
) -> None:
    async def too_long(*_: Any) -> None:
        raise PromptTooLong("expected less")

    monkeypatch.setattr("gateway.conversation.backend.check_prompt_size", too_long)
    with pytest.raises(BadParameter, match=f"^{param}: expected less$") as raised:
        await check_prompt_size(backend, config, "session.instructions", "session.tools")
    assert raised.value.param == param
