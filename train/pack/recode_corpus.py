"""Write the codes of the corpus with an unpacked checkpoint's own codec, to train only its speech model further.

Run `python -m train.pack.unpack`, `python -m train.pack.recode_corpus`, then `python -m train.speech.train --resume`.
This replaces the stage `codes`. The checkpoint's encoder codes the recordings, as it codes the recordings of people who
enrol. The checkpoint's speech model says the replies, and their codes are taken from it. Thus the speech stays the
same, and the model learns only which voice follows which prompt, above all the prompt of a stranger.

The command writes `codes.safetensors`: int16 [T, 8]. A clip's path names the codes as the model speaks them,
`PATH@heard` the codes of the recording, and `PATH@afar` those of the recording across a room, through another
microphone.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from safetensors.numpy import save_file

from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.messages import EndReason
from services.speech_gen.model.weights import load_generator
from train.audio.augment import ENROLLING, Augmenter
from train.codec.codes import read_pcm
from train.corpus.clip_index import Clip, read_manifest
from train.corpus.vocabulary import nano_tokenizer
from train.corpus.voices import REPLY_VOICES
from train.optim.training_loop import ROOT
from train.pack.assemble import TEMPERATURE, TOP_K
from train.speech.examples import Recording
from train.speech.free_running import SLOTS, Rehearsed, plan, rehearse, scratch_checkpoint
from train.speech.recordings import RESERVED_PROMPTS


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    seed: Annotated[int, typer.Option(help="Seed of the codes that are drawn.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Code the replies' corpus anew from codec.safetensors and speech.safetensors."""
    torch.set_num_threads(threads)
    console = Console(width=120)
    clips = read_manifest(root / "audio" / "replies.jsonl")
    with TemporaryDirectory() as folder:
        checkpoint = scratch_checkpoint(root, Path(folder))
        mimi = Mimi.load(checkpoint)
        sounds = {clip.path: read_pcm(root / "audio", clip).astype(np.float32) / 32_768 for clip in clips}
        dice = np.random.default_rng(seed)
        travel = Augmenter(
            dice, lambda: sounds[clips[dice.integers(len(clips))].path], ENROLLING, sample_rate_hz=SAMPLE_RATE_HZ
        )
        heard, afar = {}, {}
        for path, sound in track(sounds.items(), "hear", console=console):
            heard[path], afar[path] = mimi.encode(sound), mimi.encode(travel(sound))
        config = ChromaConfig.from_dict(checkpoint.config)
        replies, prompts = _what_to_say(clips, heard)
        generator = load_generator(checkpoint, slots=SLOTS)
        sampling = SamplingParams(temperature=TEMPERATURE, top_k=TOP_K, seed=seed)
        company = plan(generator, config, replies, prompts, sampling)
        by_length = sorted(company, key=lambda one: one.recorded_frames)
        for start in track(range(0, len(by_length), SLOTS), "speak", console=console):
            rehearse(generator, by_length[start : start + SLOTS])
    codes = _coded(clips, heard, company)
    codes |= {f"{path}@afar": frames.astype(np.int16) for path, frames in afar.items() if path in codes}
    unfinished = root / "codes.unfinished"
    save_file(codes, unfinished)
    unfinished.replace(root / "codes.safetensors")
    ended = sum(one.end is EndReason.EOS for one in company)
    console.print(f"{len(clips)} recordings heard; {ended} of {len(company)} sentences said to the end")


def _what_to_say(
    clips: list[Clip], heard: dict[str, np.ndarray]
) -> tuple[dict[str, list[Recording]], dict[str, list[Recording]]]:
    """Every sentence of every reply voice, and the reserved prompts that each voice speaks after."""
    tokenizer = nano_tokenizer()
    sentences = list(dict.fromkeys(clip.text for clip in clips if clip.role == "prompt"))
    replies, prompts = defaultdict[str, list[Recording]](list), defaultdict[str, list[Recording]](list)
    for clip in clips:
        if clip.voice in REPLY_VOICES:
            recording = Recording(tuple(tokenizer.encode(clip.text)), (heard[clip.path].astype(np.int64),), 1.0)
            replies[clip.voice].append(recording)
            if clip.text in sentences[-RESERVED_PROMPTS:]:
                prompts[clip.voice].append(recording)
    return dict(replies), dict(prompts)


def _coded(clips: list[Clip], heard: dict[str, np.ndarray], company: list[Rehearsed]) -> dict[str, np.ndarray]:
    """All codes by the names under which `load_recordings` looks for them; a sentence that did not end is left out."""
    said = {(one.voice, one.recording.token_ids): one for one in company}
    tokenizer = nano_tokenizer()
    codes: dict[str, np.ndarray] = {}
    for clip in clips:
        if clip.voice not in REPLY_VOICES:
            codes[clip.path] = heard[clip.path].astype(np.int16)
            continue
        one = said[clip.voice, tuple(tokenizer.encode(clip.text))]
        if one.end is EndReason.EOS:
            codes[clip.path] = np.array(one.frames, dtype=np.int16)
            codes[f"{clip.path}@heard"] = heard[clip.path].astype(np.int16)
    return codes


if __name__ == "__main__":
    typer.run(main)
