"""Types of fields that several public requests share, with the bounds of each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import to_json

MAX_NAME_CHARS = 256
"""Most characters of a name that has no effect or is looked up: a model, a voice, an id of OpenAI's."""

MAX_EVENT_ID_CHARS = 512

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]

ItemId = Annotated[str, Field(min_length=1, max_length=64)]
"""Id of an item of a Realtime conversation."""

MaxTokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""Limit of a reply: its text's tokens and its frames of speech together."""

Milliseconds = Annotated[int, Field(ge=0, le=2**31 - 1)]

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""Pairs of a client's own, within OpenAI's bounds."""

MAX_OPAQUE_BYTES = 4_096


def _is_small(value: Any) -> Any:
    if len(to_json(value)) > MAX_OPAQUE_BYTES:
        raise ValueError(f"expected at most {MAX_OPAQUE_BYTES} bytes of JSON")
    return value


OpaqueObject = Annotated[dict[str, JsonValue], AfterValidator(_is_small)]
"""A JSON object that the gateway does not read, but keeps and sends back."""
