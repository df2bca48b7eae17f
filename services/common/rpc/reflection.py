"""gRPC reflection in both of its versions: v1, and v1alpha for older tools.

The messages of the two versions are equal on the wire; only the name of their package differs. grpcio-reflection has
v1alpha alone, so v1 is answered by the same servicer under its own name.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA = reflection.SERVICE_NAME
V1 = "grpc.reflection.v1.ServerReflection"


def serve_reflection(server: aio.Server, names: Sequence[str]) -> None:
    """Make `server` describe the services of these full names, and reflection itself, to each caller."""
    _add_v1_descriptor()
    every_name = (*names, V1ALPHA, V1)
    reflection.enable_server_reflection(every_name, server)
    servicer = reflection.aio.ReflectionServicer(every_name)  # pyright: ignore[reportAttributeAccessIssue]
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method}),))


def _add_v1_descriptor() -> None:
    """Describe v1 in the pool of descriptors: the file of v1alpha with the other package name."""
    v1alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(v1alpha)
    text = text_format.MessageToString(v1alpha).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
