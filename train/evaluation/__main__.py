"""Evaluate a checkpoint through the real services: what it understands, and how well it speaks.

    python -m train.evaluation --checkpoint build/nano/checkpoint
    python -m train.evaluation --page docs/nano.md --picture docs/nano-spectrograms.png     (make eval-nano)

This needs the extra `eval`, Resemblyzer (installed with --no-deps), and the corpus of `python -m
train.corpus.synthesis`.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from chroma_voice.client import Client
from chroma_voice.eval.judge import Judge
from chroma_voice.eval.recognition.transcription import load
from chroma_voice.eval.recognition.whisper import Whisper, whisper_base
from chroma_voice.eval.speakers.likeness import Encoder
from chroma_voice.eval.speakers.voice_print import load_voice_print
from chroma_voice.local.repository import ROOT as CHECKOUT
from chroma_voice.local.repository import SampleVoice, sample_voices
from train.corpus.clip_index import read_manifest
from train.corpus.domain import load_domain
from train.evaluation.ask import MAX_TRANSCRIPT_TOKENS
from train.evaluation.collect import Collected, collect
from train.evaluation.console import bars, console, progress_of, source
from train.evaluation.picture import Pair, draw
from train.evaluation.plan import Plan, Sizes, make_plan
from train.evaluation.precisions import PRECISIONS, Precision, without_degraded
from train.evaluation.report import MARKERS, report, write_between
from train.evaluation.results import Results
from train.evaluation.scoring import Originals, score
from train.evaluation.services import enrol_again, running
from train.optim.training_loop import ROOT


def main(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint's folder.")] = Path("models/chroma-nano"),
    root: Annotated[Path, typer.Option(help="Working folder, with the corpus in audio/.")] = ROOT,
    checkout: Annotated[
        Path, typer.Option(help="Checkout with the sample prompts and question in samples/.")
    ] = CHECKOUT,
    replies_per_voice: Annotated[int, typer.Option(help="Sentences to speak in each voice; 0: all.")] = 48,
    questions_per_group: Annotated[int, typer.Option(help="Questions of each group; 0: all.")] = 200,
    conversations: Annotated[int, typer.Option(help="Conversations of three turns.")] = 40,
    spoken_answers: Annotated[int, typer.Option(help="Questions to answer with speech, in all voices together.")] = 24,
    at_once: Annotated[int, typer.Option(help="Conversations at the same time.")] = 4,
    mishaps: Annotated[int, typer.Option(help="Questions to ask with each degradation of the recording.")] = 208,
    seed: Annotated[int, typer.Option(help="Draws the conversations.")] = 0,
    precision: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(PRECISIONS)}: the first has the full report, all have one table. Default: all."),
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Page to write the tables into, between its markers.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of spectrograms to write.")] = None,
) -> None:
    """Evaluate a checkpoint: write evaluation-PRECISION.json in --root, and tables on the console or into --page."""
    unknown = set(precision or ()) - set(PRECISIONS)
    if unknown:
        raise typer.BadParameter(f"expected {', '.join(PRECISIONS)}, got {', '.join(sorted(unknown))}")
    wanted = [PRECISIONS[name] for name in dict.fromkeys(precision or PRECISIONS)]
    voices = sample_voices(checkout)
    if not voices:
        raise typer.BadParameter(f"expected the prompts of voices in {checkout}/samples/voices, found none")
    torch.set_num_threads(1)
    audio = root / "audio"
    of_replies = read_manifest(audio / "replies.jsonl")
    encoder = load_voice_print()
    plan = make_plan(
        load_domain(),
        read_manifest(audio / "questions.jsonl"),
        audio,
        checkout / "samples" / "question_make_taco.wav",
        voices=[voice.voice_id for voice in voices],
        sizes=Sizes(replies_per_voice, questions_per_group, conversations, spoken_answers, degraded=mishaps),
        seed=seed,
    )
    originals = {(clip.voice, clip.text): audio / clip.path for clip in of_replies if clip.role == "reply"}
    checkpoint_bytes = sum(file.stat().st_size for file in checkpoint.iterdir() if file.is_file())
    of_precisions: dict[str, Results] = {}
    first: Collected | None = None
    with bars() as live:
        judge = _judge(voices, encoder, root)
        for one in wanted:
            folder = root / "evaluation" / one.name
            part = plan if first is None else without_degraded(plan)
            collected = asyncio.run(_ask_all(checkpoint, one, voices, part, folder, at_once, progress_of(live)))
            first = first or collected
            of_precisions[one.name] = score(
                collected,
                judge,
                originals,
                checkpoint_bytes=checkpoint_bytes,
                progress=progress_of(live),
            )
            of_precisions[one.name].write(root / f"evaluation-{one.name}.json")
    assert first is not None, "there is at least one precision"
    results = of_precisions[wanted[0].name]
    several = of_precisions if len(of_precisions) > 1 else None
    if picture is not None:
        _draw(first, originals, picture)
    if page is None:
        console.print(report(results, of_precisions=several), markup=False, soft_wrap=True)
    else:
        shown = os.path.relpath(picture, page.parent) if picture else ""
        write_between(MARKERS, page, f"{source()}\n\n{report(results, shown, several)}")
        console.print(f"tables written into {page}", markup=False)


async def _ask_all(
    checkpoint: Path,
    precision: Precision,
    voices: Sequence[SampleVoice],
    plan: Plan,
    folder: Path,
    at_once: int,
    progress: Callable[[str, int], Callable[[], None]],
) -> Collected:
    with (
        tempfile.TemporaryDirectory(prefix="chroma-nano-") as state,
        running(checkpoint, precision, Path(state)) as gateway,
    ):
        async with Client(gateway) as client:
            await enrol_again(client, gateway, voices)
            return await collect(client, plan, folder, at_once=at_once, progress=progress)


def _judge(voices: Sequence[SampleVoice], encoder: Encoder, root: Path) -> Judge:
    at_once = os.cpu_count() or 1
    return Judge(
        recogniser=Whisper(whisper_base(root / "whisper-base"), at_once=at_once, max_tokens=MAX_TRANSCRIPT_TOKENS),
        encoder=encoder,
        prompts={voice.voice_id: encoder(load(voice.recording)) for voice in voices},
        at_once=at_once,
    )


def _draw(collected: Collected, originals: Originals, picture: Path) -> None:
    """Draw the taco answer, or else the first spoken sentence, in every voice."""
    known = [one for one in collected.replies if (one.voice, one.text) in originals]
    texts = [one.text for one in known]
    sentence = collected.taco.text if collected.taco.text in texts else texts[0]
    pairs = [Pair(one.voice, originals[one.voice, one.text], one.path) for one in known if one.text == sentence]
    draw(pairs, sentence, picture)


if __name__ == "__main__":
    typer.run(main)
