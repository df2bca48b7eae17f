"""The model services, and what they share.

Several services share the cores of a machine. Between two operations, a thread of PyTorch's OpenMP library (libgomp)
waits in a loop that takes its core for milliseconds, while another service needs it. Three services that began
together quantised their weights a hundred times as slowly as they could. So a thread waits about 20 microseconds and
then sleeps. libgomp reads this when PyTorch loads it: every module of a service comes after this one.

gRPC reads what it does in the same way when it is imported, in the gateway too.
"""

import os

GRPC_EXPERIMENTS = "-event_engine_client,-event_engine_listener"
"""gRPC's own thread reads each connection, instead of a pool of threads that hand each message on: messages of a turn
come sooner, and cost less. A version of gRPC that knows no other way ignores it."""

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)
