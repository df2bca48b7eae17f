"""`chroma-voice serve` and `chroma-voice checkpoint`: the server processes and the checkpoint tool, by name."""

from __future__ import annotations

import importlib.util
import os
import sys
from enum import StrEnum

import typer

from chroma_voice.errors import FailedPrecondition
from chroma_voice.local.checkpoint import TOOL
from chroma_voice.local.stack import MODULES

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class ServiceName(StrEnum):
    """The server processes."""

    REASONER = "reasoner"
    SPEECH_GEN = "speech-gen"
    CODEC = "codec"
    GATEWAY = "gateway"


def serve(name: ServiceName) -> None:
    """Run one server process in the foreground. Its settings come from CHROMA_* environment variables."""
    _become(MODULES[name.value.replace("-", "_")], [])


def checkpoint(context: typer.Context) -> None:
    """Inspect a checkpoint, or write one with random weights (inspect PATH, new PRESET DIR)."""
    _become(TOOL, context.args or ["--help"])


def _become(module: str, arguments: list[str]) -> None:
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise FailedPrecondition(
            f"{module} is not installed here: `pip install '.[local]'` in the repository of chroma-voice"
        )
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
