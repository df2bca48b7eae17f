from __future__ import annotations

from chroma_voice.bench.targets.grpc_target import GrpcConnection, GrpcTarget
from chroma_voice.bench.targets.realtime_target import RealtimeConnection, RealtimeTarget
from chroma_voice.bench.targets.target import Connection, Target


def test_both_protocols_have_all_that_the_load_generator_needs() -> None:
    targets: list[type[Target]] = [GrpcTarget, RealtimeTarget]
    connections: list[type[Connection]] = [GrpcConnection, RealtimeConnection]
    for some, needed in ((targets, Target), (connections, Connection)):
        for one in some:
            assert {name for name in vars(needed) if not name.startswith("_")} <= set(dir(one))
