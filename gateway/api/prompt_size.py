"""The check of instructions and tools that a request brings, with the name of the request's own field."""

from __future__ import annotations

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.api.errors import BadParameter
from gateway.conversation.backend import Backend
from gateway.pipeline.prompt_size import PromptTooLong


async def check_prompt_size(backend: Backend, config: SessionConfig, instructions: str, tools: str) -> None:
    """Raise BadParameter for too many characters, and when instructions and tools leave no room for a conversation.

    `instructions` and `tools` are the names of their fields; the first one is at fault unless it is not used.
    """
    max_chars = backend.settings.max_prompt_chars
    if (chars := len(config.system_prompt)) > max_chars:
        message = f"{instructions}: expected at most {max_chars} characters, got {chars}"
        raise BadParameter(instructions, message, "invalid_value")
    param = instructions if config.system_prompt else tools
    try:
        await backend.check_prompt(config, param)
    except PromptTooLong as error:
        raise BadParameter(param, error.message, "invalid_value") from None
