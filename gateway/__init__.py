"""The gateway: it joins reasoner, speech generator and codec into conversations. Read `pipeline/turn.py` first."""
