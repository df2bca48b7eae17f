"""Hypothesis strategies for protobuf messages: any field set or not, with values at and beyond every border."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), -float("inf"), float("nan")])
_SAMPLES = st.lists(_FLOATS, max_size=40).map(lambda values: b"".join(struct.pack("<f", value) for value in values))
_TEXT = st.text(max_size=8) | st.sampled_from(["<|im_end|>", "<|AUDIO|>", "\0", "x" * 3000, "\ue0000\ue001", "Hello."])


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=33) | _SAMPLES if field.type == FieldDescriptor.TYPE_BYTES else _TEXT
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return _FLOATS
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None, "an enum field has a type"
            return st.sampled_from([value.number for value in field.enum_type.values] + [99, -1])
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_INT64:
            return st.integers(-2, 9) | st.sampled_from([2**31 - 1, -(2**31)])
        case FieldDescriptor.CPPTYPE_UINT32:
            return st.integers(0, 9) | st.sampled_from([600, 608, 2047, 2048, 2**31, 2**32 - 1])
        case FieldDescriptor.CPPTYPE_UINT64:
            return st.integers(0, 9) | st.sampled_from([2**63, 2**64 - 1])
        case kind:
            raise AssertionError(f"no strategy for fields of type {kind}")


def messages_of(descriptor: Descriptor, given: Mapping[str, st.SearchStrategy[Any]] | None = None) -> Any:
    """Messages of a type. `given`: strategies for fields by their full name, used beside the random ones."""
    return st.deferred(lambda: _messages(descriptor, given or {}))


def _messages(descriptor: Descriptor, given: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Message]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        one = messages_of(field.message_type, given) if field.message_type else _scalars(field)
        if field.is_repeated:
            one = st.lists(one, max_size=4)
        fields[field.name] = given[field.full_name] | one if field.full_name in given else one
    alternatives = {field.name for oneof in descriptor.oneofs if len(oneof.fields) > 1 for field in oneof.fields}
    kind: Any = GetMessageClass(descriptor)
    plain = st.fixed_dictionaries({}, optional={name: of for name, of in fields.items() if name not in alternatives})
    if not alternatives:
        return plain.map(lambda chosen: kind(**chosen))
    chosen = st.one_of(
        st.just({}), *(fields[name].map(lambda value, name=name: {name: value}) for name in sorted(alternatives))
    )
    return st.tuples(plain, chosen).map(lambda both: kind(**both[0], **both[1]))
