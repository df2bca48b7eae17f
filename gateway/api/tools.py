"""Tools as clients of OpenAI's APIs describe them, and what they become for the conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chroma.v1.tools_pb2 import TOOL_CHOICE_AUTO, TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, Tool, ToolChoice, Tools
from gateway.api.errors import BadParameter
from gateway.conversation.backend import Backend
from gateway.conversation.options import check_tools
from services.common.errors import InvalidArgument

_MODES: dict[str, ToolChoice.ValueType] = {
    "auto": TOOL_CHOICE_AUTO,
    "none": TOOL_CHOICE_NONE,
    "required": TOOL_CHOICE_REQUIRED,
}


class Function(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="ignore")
    name: str
    description: str | None = None
    parameters: dict[str, JsonValue] | None = Field(default=None, description="JSON Schema of the arguments.")

    def to_message(self) -> Tool:
        """Return the tool for the conversation."""
        parameters = "" if self.parameters is None else json.dumps(self.parameters, ensure_ascii=False)
        return Tool(name=self.name, description=self.description, parameters=parameters)


def tools_message(
    functions: Sequence[Function], choice: object, parallel: bool | None, *, max_chars: int, prefix: str = ""
) -> Tools:
    """Return the tools of a session or a reply. `choice` is a `tool_choice` of the client; None: the model decides.

    Raises BadParameter, whose `param` begins with `prefix`, for bad tools and for a choice that they do not allow.
    """
    tools = Tools(tools=[function.to_message() for function in functions], parallel_calls=parallel)
    try:
        check_tools(tools, max_chars=max_chars)
        _choose(tools, choice)
    except InvalidArgument as error:
        raise BadParameter(f"{prefix}tools", f"{prefix}{error.message}", "invalid_value") from None
    except ValueError as error:
        raise BadParameter(f"{prefix}tool_choice", f"{prefix}tool_choice: {error}", "invalid_value") from None
    return tools


def tools_of_request(functions: Sequence[Function], choice: object, parallel: bool | None, backend: Backend) -> Tools:
    """Return the tools of one request. Raises BadParameter where the model knows none, unless it is to call none."""
    tools = tools_message(functions, choice, parallel, max_chars=backend.settings.max_prompt_chars)
    if functions and tools.choice != TOOL_CHOICE_NONE and not backend.renders_tools:
        raise BadParameter("tools", "tools: the chat template of this model knows no tools", "unsupported_value")
    return tools


def _choose(tools: Tools, choice: object) -> None:
    """Put a `tool_choice` into `tools`. Raises ValueError when it cannot be followed."""
    fields = cast(dict[str, Any], choice) if isinstance(choice, dict) else {}
    if fields.get("type") == "allowed_tools":
        allowed = fields.get("allowed_tools", fields)
        allowed = cast(dict[str, Any], allowed) if isinstance(allowed, dict) else {}
        mode, listed = allowed.get("mode", "auto"), allowed.get("tools")
        names = {_name_in(tool) for tool in listed if isinstance(tool, dict)} if isinstance(listed, list) else set()
        kept = [tool for tool in tools.tools if tool.name in names]
        if not kept:
            raise ValueError("expected allowed tools that are among `tools`")
        del tools.tools[:]
        tools.tools.extend(kept)
    elif fields.get("type") == "function":
        mode, tools.choice_name = "required", _name_in(fields)
        if tools.choice_name not in {tool.name for tool in tools.tools}:
            raise ValueError(f"expected the name of a tool in `tools`, got {tools.choice_name[:80]!r}")
    else:
        mode = "auto" if choice is None else choice
    if not isinstance(mode, str) or mode not in _MODES:
        raise ValueError("expected `none`, `auto`, `required`, a function or allowed tools")
    if mode == "required" and not tools.tools:
        raise ValueError("expected `tools` beside a call that must be made, got none")
    tools.choice = _MODES[mode]


def _name_in(fields: dict[str, Any]) -> str:
    """The name of a function that a choice names, in the form of chat or of Realtime."""
    function = fields.get("function")
    name = function.get("name") if isinstance(function, dict) else fields.get("name")
    return name if isinstance(name, str) else ""
