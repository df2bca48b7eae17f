"""Write the codes of the corpus with an unpacked checkpoint's own codec, to train only its speech model further.

Run `python -m train.pack.unpack`, `python -m train.pack.recode_corpus`, then `python -m train.speech.train --resume`.
This replaces the stage `codes`. The checkpoint's encoder codes the recordings, like the recordings of users who enrol.
The checkpoint's speech model says the replies of the reply voices and so gives their codes. Thus these stay the same,
and the model learns only which voice follows which prompt.

The command writes `codes.safetensors`, int16 [T, 8]. For a clip of a reply voice it holds the codes from the speech
model under the clip's path, and under `PATH@heard` the codes of the recording. For a clip of a speaker to clone it
holds the codes of the recording under the path. `PATH@afar` are the codes of the recording after an augmentation
(another room and microphone).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
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
from train.audio.augment import ENROLMENT, Augmenter
from train.codec.codes import read_pcm
from train.corpus.clip_index import Clip, read_speech
from train.corpus.vocabulary import nano_tokenizer
from train.corpus.voices import REPLY_VOICES
from train.optim.training_loop import ROOT
from train.pack.assemble import TEMPERATURE, TOP_K
from train.speech.examples import CodedRecording
from train.speech.free_running import SLOTS, GeneratedReply, generate, plan_replies, scratch_checkpoint
from train.speech.recordings import reserved_prompts


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    seed: Annotated[int, typer.Option(help="Seed of the codes that are drawn.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Write the codes of the replies' corpus again, with codec.safetensors and speech.safetensors."""
    torch.set_num_threads(threads)
    console = Console(width=120)
    clips = read_speech(root / "audio")
    refuse_unfinished(clips)
    with TemporaryDirectory() as folder:
        checkpoint = scratch_checkpoint(root, Path(folder))
        mimi = Mimi.load(checkpoint)
        sounds = {clip.path: read_pcm(root / "audio", clip).astype(np.float32) / 32_768 for clip in clips}
        dice = np.random.default_rng(seed)
        augment = Augmenter(
            dice, lambda: sounds[clips[dice.integers(len(clips))].path], ENROLMENT, sample_rate_hz=SAMPLE_RATE_HZ
        )
        recorded, afar = {}, {}
        for path, sound in track(sounds.items(), "encode", console=console):
            recorded[path], afar[path] = mimi.encode(sound), mimi.encode(augment(sound))
        config = ChromaConfig.from_dict(checkpoint.config)
        replies, prompts = _replies_and_prompts(clips, recorded)
        generator = load_generator(checkpoint, slots=SLOTS)
        sampling = SamplingParams(temperature=TEMPERATURE, top_k=TOP_K, seed=seed)
        generated = plan_replies(generator, config, replies, prompts, sampling)
        by_length = sorted(generated, key=lambda one: one.recorded_frames)
        for start in track(range(0, len(by_length), SLOTS), "speak", console=console):
            generate(generator, by_length[start : start + SLOTS])
    codes = _all_codes(clips, recorded, generated)
    codes |= {f"{path}@afar": frames.astype(np.int16) for path, frames in afar.items() if path in codes}
    unfinished = root / "codes.unfinished"
    save_file(codes, unfinished)
    unfinished.replace(root / "codes.safetensors")
    ended = sum(one.end is EndReason.EOS for one in generated)
    console.print(f"{len(clips)} recordings coded; {ended} of {len(generated)} generated sentences ended by EOS")


def refuse_unfinished(clips: Sequence[Clip]) -> None:
    """Raise `ValueError` with the names of the reply voices that say no reserved prompt: they cannot be enrolled."""
    reserved = reserved_prompts(clips)
    ready = {clip.voice for clip in clips if clip.role == "prompt" and clip.text in reserved}
    if lacking := [voice for voice in REPLY_VOICES if voice not in ready]:
        raise ValueError(
            f"expected a reserved prompt of every reply voice, got none of {', '.join(lacking)}: "
            "finish the corpus with python -m train.corpus.synthesis --part replies"
        )


def _replies_and_prompts(
    clips: list[Clip], recorded: dict[str, np.ndarray]
) -> tuple[dict[str, list[CodedRecording]], dict[str, list[CodedRecording]]]:
    """The recordings of all sentences and of the reserved prompts, by reply voice. `recorded` has their codes."""
    tokenizer = nano_tokenizer()
    reserved = reserved_prompts(clips)
    replies, prompts = defaultdict[str, list[CodedRecording]](list), defaultdict[str, list[CodedRecording]](list)
    for clip in clips:
        if clip.voice in REPLY_VOICES:
            recording = CodedRecording(tuple(tokenizer.encode(clip.text)), (recorded[clip.path].astype(np.int64),), 1.0)
            replies[clip.voice].append(recording)
            if clip.role == "prompt" and clip.text in reserved:
                prompts[clip.voice].append(recording)
    return dict(replies), dict(prompts)


def _all_codes(
    clips: list[Clip], recorded: dict[str, np.ndarray], generated: list[GeneratedReply]
) -> dict[str, np.ndarray]:
    """All codes under the names that `load_recordings` reads, without the generated sentences that did not end."""
    generated_by_text = {(one.voice, one.recording.token_ids): one for one in generated}
    tokenizer = nano_tokenizer()
    codes: dict[str, np.ndarray] = {}
    for clip in clips:
        if clip.voice not in REPLY_VOICES:
            codes[clip.path] = recorded[clip.path].astype(np.int16)
            continue
        one = generated_by_text[clip.voice, tuple(tokenizer.encode(clip.text))]
        if one.end is EndReason.EOS:
            codes[clip.path] = np.array(one.frames, dtype=np.int16)
            codes[f"{clip.path}@heard"] = recorded[clip.path].astype(np.int16)
    return codes


if __name__ == "__main__":
    typer.run(main)
