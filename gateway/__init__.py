"""The gateway: it joins reasoner, speech generator and codec into conversations. Read `pipeline/turn.py` first."""

import services as services  # before anything imports grpc, which reads what is set there
