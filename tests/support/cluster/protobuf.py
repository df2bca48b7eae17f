"""Objects that come as protobuf: those of `kubectl create`, and the Secrets in which helm keeps its releases.

The numbers of the fields are those of k8s.io/apimachinery and k8s.io/api/core/v1 (generated.proto). A field that is not
here is refused.
"""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.unknown_fields import UnknownFieldSet

_SCALARS = {"": FieldDescriptorProto.TYPE_STRING, "bytes": FieldDescriptorProto.TYPE_BYTES}
_SCALARS["integer"] = FieldDescriptorProto.TYPE_INT64
_REPEATED, _OPTIONAL = FieldDescriptorProto.LABEL_REPEATED, FieldDescriptorProto.LABEL_OPTIONAL
_MAGIC = b"k8s\0"
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Unknown": {"typeMeta": (1, "TypeMeta"), "raw": (2, "bytes"), "contentEncoding": (3, ""), "contentType": (4, "")},
    "TypeMeta": {"apiVersion": (1, ""), "kind": (2, "")},
    "Entry": {"key": (1, ""), "value": (2, "bytes")},
    "ObjectMeta": {
        "name": (1, ""),
        "generateName": (2, ""),
        "namespace": (3, ""),
        "selfLink": (4, ""),
        "uid": (5, ""),
        "resourceVersion": (6, ""),
        "generation": (7, "integer"),
        "creationTimestamp": (8, "bytes"),
        "labels": (11, "Entry*"),
        "annotations": (12, "Entry*"),
    },
    "Secret": {"metadata": (1, "ObjectMeta"), "data": (2, "Entry*"), "type": (3, "")},
    "Namespace": {"metadata": (1, "ObjectMeta"), "spec": (2, "bytes"), "status": (3, "bytes")},
}
"""Message -> field -> its number and type. Without a type it is a text."""


def _pool() -> descriptor_pool.DescriptorPool:
    file = FileDescriptorProto(name="kubernetes.proto", package="kubernetes", syntax="proto2")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            label = _REPEATED if kind.endswith("*") else _OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".kubernetes.{kind.rstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def read_protobuf(body: bytes) -> dict[str, Any]:
    """The object of a request, as it would be in JSON. Raises ValueError for other objects."""
    if not body.startswith(_MAGIC):
        raise ValueError("expected an object of Kubernetes in protobuf")
    outer = _parse("Unknown", body.removeprefix(_MAGIC))
    kind = outer.typeMeta.kind
    it = _parse(kind, outer.raw)
    found: dict[str, Any] = {"apiVersion": outer.typeMeta.apiVersion, "kind": kind}
    found["metadata"] = {"name": it.metadata.name}
    for field in ("labels", "annotations"):
        found["metadata"][field] = {entry.key: entry.value.decode() for entry in getattr(it.metadata, field)}
    if kind == "Secret":
        found["type"] = it.type
        found["data"] = {entry.key: base64.b64encode(entry.value).decode() for entry in it.data}
    return found


def _parse(kind: str, data: bytes) -> Any:
    if kind not in _MESSAGES:
        raise ValueError(f"no {kind} is read as protobuf")
    message: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"kubernetes.{kind}"))()
    message.ParseFromString(data)
    for part in (message, message.metadata) if "metadata" in _MESSAGES[kind] else (message,):
        unknown = [field.field_number for field in UnknownFieldSet(part)]
        if unknown:
            raise ValueError(f"{kind} has the unknown fields {unknown}")
    return message
