"""`chroma-voice eval`: how well a deployment speaks, in words and in voices."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from chroma_voice.cli.gateway_address import GatewayOptions, calls_gateway
from chroma_voice.errors import FailedPrecondition

NEEDS = ("faster_whisper", "jinja2", "jiwer", "matplotlib", "soxr", "torch", "transformers", "webrtcvad")
"""Packages of the extra `eval`, which other commands do without."""
ENCODER = "resemblyzer"
"""Its package has the weights of the speaker encoder. Its own needs are not needed here, so no extra installs it."""

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", help="Folder with questions and voices (docs/eval.md). Default: the samples."),
]
Out = Annotated[
    Path, typer.Option(file_okay=False, help="Folder for the results; each run makes a folder of its own in it.")
]
AtOnce = Annotated[
    int, typer.Option(min=1, help="Pairs that are asked at the same time. More than 1 makes waits longer.")
]
MaxReply = Annotated[
    float | None, typer.Option(min=0.1, help="Longest reply, in seconds. Default: the deployment's own limit.")
]
Seed = Annotated[int, typer.Option(help="The same seed draws the same codes again.")]
Limit = Annotated[int, typer.Option(min=0, help="Only so many pairs, evenly spread over all; 0: all.")]
Codec = Annotated[
    str,
    typer.Option(help="host:port or unix:/path of a codec service, for the codec alone. Default: the launcher's."),
]
WhisperModel = Annotated[
    Path | None,
    typer.Option(
        "--whisper", exists=True, file_okay=False, help="Folder of a faster-whisper model. Default: Whisper base."
    ),
]
Patience = Annotated[
    float, typer.Option(min=1.0, help="Seconds without any event after which a reply counts as failed.")
]


@calls_gateway
def evaluate(
    gateway: GatewayOptions,
    folder: Folder = None,
    out: Out = Path("eval-results"),
    at_once: AtOnce = 1,
    max_reply: MaxReply = None,
    seed: Seed = 1,
    limit: Limit = 0,
    codec: Codec = "",
    whisper: WhisperModel = None,
    patience: Patience = 30.0,
) -> None:
    """Ask a deployment pairs of a question and a voice, and measure how well it speaks.

    The reply's sound is compared with its text (word errors, by Whisper) and with the voice (similarity, by a speaker
    encoder). At the end there are tables, a JSON file, the sound, and a report for the browser.
    """
    check_installed()
    # Other commands start without these packages.
    from chroma_voice.cli.evaluation.evaluate_run import EvalOptions, start

    start(gateway, EvalOptions(folder, out, at_once, max_reply, seed, limit, codec, whisper, patience))


def check_installed() -> None:
    """Raise `FailedPrecondition` when a package that the evaluation needs is not installed."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise FailedPrecondition(
            f"the extra `eval` is not installed (no {missing[0]}): pip install 'chroma-voice[eval]', "
            "then pip install --no-deps Resemblyzer"
        )
    if importlib.util.find_spec(ENCODER) is None:
        raise FailedPrecondition("the speaker encoder is not installed: pip install --no-deps Resemblyzer")
