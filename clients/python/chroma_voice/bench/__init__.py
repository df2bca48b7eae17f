"""An open-loop load generator for spoken conversations, which measures what a listener hears. Needs the extra `bench`.

`load` says who calls when and asks what. `targets` are the servers, by gRPC and by the Realtime API. `caller.py` is one
conversation, and `listening` is what its listener hears. `run.py` runs the callers in worker processes. `report` counts
and shows. The command is `chroma-voice bench`; docs/bench.md says what each figure means.
"""
