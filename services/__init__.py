"""The model services, and what they share.

Several services share the cores of a machine. Between two operations, a thread of PyTorch's OpenMP library (libgomp)
waits in a loop that takes its core for milliseconds, while another service needs it. Three services that began
together quantised their weights a hundred times as slowly as they could. So a thread waits about 20 microseconds and
then sleeps. libgomp reads this when PyTorch loads it: every module of a service comes after this one.
"""

import os

if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"
