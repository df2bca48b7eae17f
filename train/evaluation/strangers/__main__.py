"""Measure how well a checkpoint clones strangers, through the real services.

    python -m train.evaluation.strangers --checkpoint build/nano/checkpoint
    python -m train.evaluation.strangers --page docs/nano.md             (a part of make eval-nano)

This needs what `python -m train.evaluation` needs.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import soxr
import torch
import typer
from rich.progress import Progress

from chroma_voice.client import Client
from chroma_voice.eval.judge import Judge
from chroma_voice.eval.recognition.transcription import Recording, load
from chroma_voice.eval.recognition.whisper import Whisper, whisper_base
from chroma_voice.eval.speakers.likeness import Encoder
from chroma_voice.eval.speakers.voice_print import SAMPLE_RATE_HZ as HEARD_RATE_HZ
from chroma_voice.eval.speakers.voice_print import load_voice_print
from chroma_voice.local.repository import ROOT as CHECKOUT
from chroma_voice.local.repository import SampleVoice
from services.codec.model.mimi import Mimi
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from train.corpus.clip_index import read_manifest
from train.corpus.domain import load_domain
from train.evaluation.ask import MAX_TRANSCRIPT_TOKENS, Spoken, each, speak
from train.evaluation.console import bars, console, progress_of, source
from train.evaluation.plan import spread_over
from train.evaluation.precisions import PRECISIONS
from train.evaluation.report import write_between
from train.evaluation.services import enrol_again, running
from train.evaluation.strangers.measure import Recordings, Vector, measure, write
from train.evaluation.strangers.report import MARKERS, report
from train.evaluation.strangers.speakers import StrangerReply, Strangers, replies_to, strangers_of
from train.optim.training_loop import ROOT


def main(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint's folder.")] = Path("models/chroma-nano"),
    root: Annotated[Path, typer.Option(help="Working folder, with the corpus in audio/.")] = ROOT,
    checkout: Annotated[Path, typer.Option(help="Checkout with the readings in samples/.")] = CHECKOUT,
    sentences: Annotated[int, typer.Option(help="Sentences to speak as each stranger; 0: all.")] = 24,
    at_once: Annotated[int, typer.Option(help="Conversations at the same time.")] = 4,
    threads: Annotated[int, typer.Option(help="Recordings to judge at the same time.")] = 2,
    page: Annotated[Path | None, typer.Option(help="Page to write the tables into, between its markers.")] = None,
) -> None:
    """Measure cloning: write strangers.json in --root, and tables on the console or into --page."""
    torch.set_num_threads(1)
    strangers = strangers_of(checkout, read_manifest(root / "audio" / "replies.jsonl"), root / "audio")
    texts = load_domain().replies
    jobs = replies_to(strangers, spread_over(texts, sentences or len(texts)))
    encoder = load_voice_print()
    with bars() as progress:
        spoken = asyncio.run(_speak(checkpoint, strangers, jobs, root / "strangers", at_once, progress))
        recordings = _recordings(strangers, encoder, Mimi.load(Checkpoint.open(checkpoint)), progress)
        judge = Judge(
            recogniser=Whisper(whisper_base(root / "whisper-base"), at_once=threads, max_tokens=MAX_TRANSCRIPT_TOKENS),
            encoder=encoder,
            prompts={
                prompt.voice_id: vector
                for speaker, prompts in strangers.items()
                for prompt, vector in zip(prompts, recordings[speaker].prompts, strict=True)
            },
            at_once=threads,
        )
        judged = judge.judge(
            [Recording(one.path, one.voice, job.text) for one, job in zip(spoken, jobs, strict=True)],
            [one.ended for one in spoken],
            progress_of(progress)("judging replies", len(spoken)),
        )
    figures = measure(strangers, recordings, judged)
    write(figures, root / "strangers.json")
    if page is None:
        console.print(report(figures), markup=False, soft_wrap=True)
    else:
        write_between(MARKERS, page, f"{source()}\n\n{report(figures)}")
        console.print(f"tables written into {page}", markup=False)


async def _speak(
    checkpoint: Path, strangers: Strangers, jobs: list[StrangerReply], folder: Path, at_once: int, bars: Progress
) -> list[Spoken]:
    prompts = [prompt for some in strangers.values() for prompt in some]

    async def said(number: int) -> Spoken:
        job = jobs[number]
        return await speak(
            client, job.text, job.prompt.voice_id, folder / f"{job.prompt.voice_id}" / f"{number:04d}.wav"
        )

    with (
        tempfile.TemporaryDirectory(prefix="chroma-nano-") as state,
        running(checkpoint, PRECISIONS["float32"], Path(state)) as gateway,
    ):
        async with Client(gateway) as client:
            await enrol_again(client, gateway, prompts)
            done = progress_of(bars)("speaking as strangers", len(jobs))
            return await each(range(len(jobs)), said, at_once=at_once, done=done)


def _recordings(strangers: Strangers, encoder: Encoder, codec: Mimi, bars: Progress) -> dict[str, Recordings]:
    """The embeddings of all prompts, before and after the codec."""
    done = progress_of(bars)("coding prompts", sum(map(len, strangers.values())))

    def coded(prompt: SampleVoice) -> Vector:
        sound = codec.decode(codec.encode(load(prompt.recording, SAMPLE_RATE_HZ)))
        done()
        return encoder(soxr.resample(sound, SAMPLE_RATE_HZ, HEARD_RATE_HZ))

    return {
        speaker: Recordings([encoder(load(prompt.recording)) for prompt in prompts], list(map(coded, prompts)))
        for speaker, prompts in strangers.items()
    }


if __name__ == "__main__":
    typer.run(main)
