"""Trial of the speech model without teacher forcing: `python -m train.speech.free_running`.

The command generates replies in every reply voice with the service's model, each after a reserved voice prompt. It
compares them with the recordings: whether they end by EOS, how long they are, and how many codes are equal. If there is
a codec, the option --out writes the replies as VOICE/NUMBER.wav, with their texts in VOICE/NUMBER.txt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import save_file

from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.shards import SINGLE_FILE
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.speech_gen.messages import EndReason, Frame, SpeechEnd, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.voice import enroll
from services.speech_gen.model.weights import load_generator
from services.speech_gen.request import Request
from train.corpus.vocabulary import nano_tokenizer, text_embedding
from train.optim.training_loop import ROOT, load_artefact
from train.pack.config import nano_config
from train.speech.examples import CodedRecording
from train.speech.recordings import load_recordings

SLOTS = 16
MAX_FRAMES = 150


@dataclass
class GeneratedReply:
    """A reply to generate, with its recording: `frames` and `end` are the result, `thoughts` the input not fed yet."""

    voice: str
    recording: CodedRecording
    thoughts: list[ThoughtInput]
    request: SpeechRequest
    frames: list[tuple[int, ...]] = field(default_factory=list)
    end: EndReason | None = None

    @property
    def recorded_frames(self) -> int:
        """The number of frames of the recording."""
        return len(self.recording.variants[0])

    def share_equal(self, codebook: int | None = None) -> float:
        """Share of the recording's codes that the reply has at the same position, in one codebook or in all."""
        generated, recorded = np.array(self.frames), self.recording.variants[0]
        length = min(len(generated), len(recorded))
        chosen = slice(None) if codebook is None else slice(codebook, codebook + 1)
        equal = (generated[:length, chosen] == recorded[:length, chosen]).sum() if length else 0
        return float(equal) / recorded[:, chosen].size


def scratch_checkpoint(root: Path, folder: Path) -> Checkpoint:
    """A checkpoint in `folder` from the artefacts under `root`: the speech model, and the codec if it exists."""
    tensors = {"thinker.model.embed_tokens.weight": text_embedding(), **load_artefact(root / "speech.safetensors")}
    if (root / "codec.safetensors").exists():
        tensors |= load_artefact(root / "codec.safetensors")
    save_file(tensors, folder / SINGLE_FILE)
    (folder / "config.json").write_text(json.dumps(nano_config()), encoding="utf-8")
    return Checkpoint.open(folder)


def plan_replies(
    generator: Generator,
    config: ChromaConfig,
    replies: Mapping[str, Sequence[CodedRecording]],
    prompts: Mapping[str, Sequence[CodedRecording]],
    sampling: SamplingParams,
) -> list[GeneratedReply]:
    """All `replies`, each after one of the `prompts` of its voice in turn, with noise in place of hidden states."""
    noise = torch.Generator().manual_seed(sampling.seed)
    planned = []
    for voice, recordings in replies.items():
        enrolled = [enroll(generator.backbone, config.tokens, p.variants[-1], p.token_ids) for p in prompts[voice]]
        for index, recording in enumerate(recordings):
            request = SpeechRequest(enrolled[index % len(enrolled)], sampling, MAX_FRAMES)
            hidden = torch.randn(len(recording.token_ids) + 1, generator.backbone.width, generator=noise)
            thoughts = [ThoughtInput(token, row) for token, row in zip(recording.token_ids, hidden, strict=False)]
            thoughts.append(ThoughtInput(config.tokens.im_end, hidden[-1], last=True))
            planned.append(GeneratedReply(voice, recording, thoughts, request))
    return planned


def generate(generator: Generator, replies: Sequence[GeneratedReply]) -> None:
    """Generate all `replies` to their ends in one batch, at most as many as the generator has slots."""
    active: dict[int, tuple[Request, GeneratedReply]] = {}
    for one in replies:
        slot = generator.open(one.request.sampling)
        generator.prefill([slot], [one.request.voice.rows[:-1]])
        active[slot] = (Request(one.request, slot, generator), one)
    while active:
        fed: dict[int, ThoughtInput] = {}
        for slot, (request, one) in active.items():
            thought = request.next_thought(one.thoughts[0] if one.thoughts else None)
            if thought is not None:
                fed[slot] = one.thoughts.pop(0)
        alone = [slot for slot in active if slot not in fed]
        codes = generator.frame(alone, list(fed), list(fed.values()))
        for slot, frame in zip([*alone, *fed], codes, strict=True):
            request, one = active[slot]
            for output in request.receive(frame):
                if isinstance(output, SpeechEnd):
                    one.end = output.reason
                    generator.close(slot)
                    del active[slot]
                elif isinstance(output, Frame) and output.voiced:
                    one.frames.append(output.codes)


def summary_table(generated: Sequence[GeneratedReply]) -> Table:
    """A table with a row for each voice."""
    table = Table("voice", "replies", "ended", "frames off", "codes of codebook 0 as recorded", "all codes")
    for voice in dict.fromkeys(one.voice for one in generated):
        own = [one for one in generated if one.voice == voice]
        ended = sum(one.end is EndReason.EOS for one in own)
        off = float(np.mean([abs(len(one.frames) - one.recorded_frames) for one in own]))
        equal_0, equal = (float(np.mean([one.share_equal(codebook) for one in own])) for codebook in (0, None))
        table.add_row(voice, str(len(own)), f"{ended / len(own):.1%}", f"{off:.2f}", f"{equal_0:.1%}", f"{equal:.1%}")
    return table


def write_sounds(mimi: Mimi, generated: Sequence[GeneratedReply], tokenizer: Tokenizer, folder: Path) -> None:
    """Write the replies as sound and as text."""
    for index, one in enumerate(track(generated, "decode")):
        if one.frames:
            (folder / one.voice).mkdir(parents=True, exist_ok=True)
            file = folder / one.voice / f"{index:03d}.wav"
            soundfile.write(file, mimi.decode(np.array(one.frames)), SAMPLE_RATE_HZ)
            file.with_suffix(".txt").write_text(tokenizer.decode(list(one.recording.token_ids)), encoding="utf-8")


def main(
    root: Annotated[Path, typer.Option(help="Working folder.")] = ROOT,
    per_voice: Annotated[int, typer.Option(help="At most this many replies of each voice, evenly spread.")] = 24,
    temperature: Annotated[float, typer.Option(help="Temperature of sampling; 0: take the likeliest code.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Codes to draw from.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for the sounds; unset: none are made.")] = None,
) -> None:
    """Generate replies and compare them with the recordings."""
    torch.set_num_threads(threads)
    console, tokenizer = Console(width=120), nano_tokenizer()
    recordings = load_recordings(root, tokenizer)
    greedy = temperature == 0
    sampling = SamplingParams(greedy=greedy, temperature=1.0 if greedy else temperature, top_k=top_k, seed=seed)
    replies = {
        voice: [clip for clip in clips if clip.weight == 1.0] for voice, clips in sorted(recordings.replies.items())
    }
    replies = {voice: clips[:: max(1, len(clips) // per_voice)][:per_voice] for voice, clips in replies.items()}
    with TemporaryDirectory() as folder:
        checkpoint = scratch_checkpoint(root, Path(folder))
        generator = load_generator(checkpoint, slots=SLOTS)
        generated = plan_replies(
            generator, ChromaConfig.from_dict(checkpoint.config), replies, recordings.reserved, sampling
        )
        generated.sort(key=lambda one: one.recorded_frames)
        for start in track(range(0, len(generated), SLOTS), "speak", console=console):
            generate(generator, generated[start : start + SLOTS])
        console.print(summary_table(sorted(generated, key=lambda one: one.voice)))
        if out is not None:
            write_sounds(Mimi.load(checkpoint), generated, tokenizer, out)


if __name__ == "__main__":
    typer.run(main)
