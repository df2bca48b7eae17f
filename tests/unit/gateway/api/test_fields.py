"""The bounds of fields that several public requests share."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.api.fields import MAX_NAME_CHARS, MAX_OPAQUE_BYTES, ItemId, MaxTokens, Metadata, Name, OpaqueObject


@pytest.mark.parametrize(
    ("kind", "largest", "beyond"),
    [
        (Name, "n" * MAX_NAME_CHARS, "n" * (MAX_NAME_CHARS + 1)),
        (ItemId, "i" * 64, "i" * 65),
        (ItemId, "i", ""),
        (MaxTokens, 2**31 - 1, 2**31),
        (MaxTokens, 1, 0),
        (Metadata, {str(n): "v" for n in range(16)}, {str(n): "v" for n in range(17)}),
        (Metadata, {"k" * 64: "v" * 512}, {"k" * 65: "v"}),
        (Metadata, {"k": "v"}, {"k": "v" * 513}),
        (OpaqueObject, {"k": "v" * (MAX_OPAQUE_BYTES - 8)}, {"k": "v" * (MAX_OPAQUE_BYTES - 7)}),
    ],
)
def test_a_bound_itself_is_allowed_and_nothing_beyond(kind: Any, largest: Any, beyond: Any) -> None:
    field = TypeAdapter[Any](kind)
    assert field.validate_python(largest) == largest
    with pytest.raises(ValidationError):
        field.validate_python(beyond)
