"""Tools: functions that the model may call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chroma.v1 import tools_pb2

_CHOICES: dict[str, tools_pb2.ToolChoice.ValueType] = {
    "auto": tools_pb2.TOOL_CHOICE_AUTO,
    "none": tools_pb2.TOOL_CHOICE_NONE,
    "required": tools_pb2.TOOL_CHOICE_REQUIRED,
}


@dataclass(frozen=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None

    def to_proto(self) -> tools_pb2.Tool:
        """Return the wire message."""
        parameters = "" if self.parameters is None else json.dumps(dict(self.parameters), ensure_ascii=False)
        return tools_pb2.Tool(name=self.name, description=self.description, parameters=parameters)


@dataclass(frozen=True)
class Tools:
    """The tools of a session. They replace the earlier ones; without any, the model calls nothing.

    `choice`: whether the model calls them. `name`, with "required": the tool that it must call; empty: any.
    `parallel`: whether a reply may hold several calls.
    """

    tools: Sequence[Tool] = ()
    choice: Literal["auto", "none", "required"] = "auto"
    name: str = ""
    parallel: bool = True

    def to_proto(self) -> tools_pb2.Tools:
        """Return the wire message."""
        return tools_pb2.Tools(
            tools=[tool.to_proto() for tool in self.tools],
            choice=_CHOICES[self.choice],
            choice_name=self.name,
            parallel_calls=self.parallel,
        )


@dataclass(frozen=True)
class ToolResult:
    """The result of a tool call, as text for the model."""

    call_id: str
    output: str
