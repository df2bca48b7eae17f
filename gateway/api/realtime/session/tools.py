"""The tools of a Realtime session: what a client sends, what is in use, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from chroma.v1.tools_pb2 import TOOL_CHOICE_NONE, TOOL_CHOICE_REQUIRED, Tools
from gateway.api.realtime.session.update import SessionIn
from gateway.api.tools import Function, tools_message


@dataclass(frozen=True)
class SessionTools:
    """The tools in use. `choice` is a `tool_choice` as the client sent it."""

    functions: tuple[Function, ...] = ()
    choice: str | dict[str, JsonValue] = "auto"
    parallel: bool | None = None

    @classmethod
    def of(cls, tools: Tools) -> SessionTools:
        """Return the tools of a stored session."""
        functions = tuple(
            Function(
                name=tool.name,
                description=tool.description if tool.HasField("description") else None,
                parameters=json.loads(tool.parameters) if tool.parameters else None,
            )
            for tool in tools.tools
        )
        choice: str | dict[str, JsonValue] = "none" if tools.choice == TOOL_CHOICE_NONE else "auto"
        if tools.choice == TOOL_CHOICE_REQUIRED:
            choice = {"type": "function", "name": tools.choice_name} if tools.choice_name else "required"
        return cls(functions, choice, tools.parallel_calls if tools.HasField("parallel_calls") else None)

    def updated(self, update: SessionIn) -> SessionTools:
        """Return these tools with the fields that are set in `update`. A choice that new tools cannot fulfil ends."""
        new = self
        if update.tools is not None:
            functions = tuple(tool.function for tool in update.tools if tool.is_function)
            names = {function.name for function in functions}
            named = self.choice.get("name") if isinstance(self.choice, dict) else None
            holds = bool(functions) and (named is None or named in names)
            new = replace(new, functions=functions, choice=new.choice if holds else "auto")
        if update.tool_choice is not None:
            new = replace(new, choice=update.tool_choice)
        if update.parallel_tool_calls is not None:
            new = replace(new, parallel=update.parallel_tool_calls)
        return new

    def message(self, *, max_chars: int, where: str) -> Tools:
        """Return the tools for the conversation. `where` is the field that they are in. Raises BadParameter."""
        return tools_message(self.functions, self.choice, self.parallel, max_chars=max_chars, prefix=f"{where}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the `session` object."""
        tools = [{"type": "function", **function.model_dump(exclude_none=True)} for function in self.functions]
        parallel = {} if self.parallel is None else {"parallel_tool_calls": self.parallel}
        return {"tools": tools, "tool_choice": self.choice, **parallel}


def unused_tools(update: SessionIn, *, can_use_tools: bool) -> list[str]:
    """Return the names of the fields about tools that have no effect: all where the model knows no tools, and tools
    that are no functions."""
    if can_use_tools:
        others = (index for index, tool in enumerate(update.tools or ()) if not tool.is_function)
        return [f"session.tools.{index}" for index in others]
    names = ["session.tools"] if update.tools else []
    return [*names, "session.tool_choice"] if update.tool_choice not in (None, "auto", "none") else names
