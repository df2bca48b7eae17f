"""The plain thinking loop: one reply at a time, without an engine (docs/model.md, sections 3 and 7).

Conformance, tests and benchmarks compare the services with it. Serving code never imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument
from services.common.settings import PREFILL_POSITIONS
from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.mel import valid_frames
from services.reasoner.model.parts import AudioPart, Piece
from services.reasoner.model.prompt_embeddings import edits_of
from services.reasoner.model.thinker import Thinker
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE


@dataclass(frozen=True)
class Reply:
    """The thoughts of one reply: `token_ids[i]` was chosen from `hidden[i]`, [D]."""

    token_ids: list[int]
    hidden: torch.Tensor
    audio_embeddings: torch.Tensor
    """The tower's output for all clips, [n, D]."""


@torch.inference_mode()
def think(thinker: Thinker, input_ids: Sequence[int], clips: Sequence[torch.Tensor], max_thoughts: int) -> Reply:
    """One reply to a prompt given as ids, with AUDIO placeholders where the clips (16 kHz, float32 [S]) stand.

    Raises InvalidArgument when placeholders and clips do not match.
    """
    prompt = thinker.new_prompt()
    for edit in edits_of(pieces_of(input_ids, clips, thinker.tokens.audio)):
        prompt.apply(edit)
    for chunk in prompt.dirty_chunks():
        prompt.store(chunk, thinker.tower([chunk.clip.features(chunk.index)])[0])

    positions = prompt.length + max_thoughts
    page_size = PAGE_SIZE
    kv = PagedKV(
        thinker.config,
        slots=1,
        pages=-(-positions // page_size),
        page_size=page_size,
        dtype=thinker.stack.dtype,
        device=thinker.stack.device,
        max_positions=positions,
    )
    slot = kv.open()
    hidden = embed(thinker, [])
    while kv.lengths[slot] < prompt.length:
        embeddings = prompt.embeddings(int(kv.lengths[slot]), PREFILL_POSITIONS)
        hidden = thinker.forward(embeddings, kv.plan([slot], [len(embeddings)]))[-1:]

    token_ids = thinker.choose(hidden)
    states = [hidden]
    while token_ids[-1] != thinker.tokens.im_end and len(token_ids) < max_thoughts:
        hidden = thinker.forward(embed(thinker, token_ids[-1:]), kv.plan([slot], [1]))
        token_ids += thinker.choose(hidden)
        states.append(hidden)

    audio = [chunk.embeddings for clip in prompt.clips for chunk in clip.chunks if chunk.embeddings is not None]
    return Reply(token_ids, torch.cat(states), torch.cat(audio) if audio else embed(thinker, []))


@torch.inference_mode()
def embed(thinker: Thinker, ids: Sequence[int]) -> torch.Tensor:
    """The input embeddings of token ids: [R, D]."""
    return thinker.embedding[torch.tensor(ids, dtype=torch.long)].to(thinker.stack.device)


def pieces_of(input_ids: Sequence[int], clips: Sequence[torch.Tensor], audio_id: int) -> list[Piece]:
    """A prompt with its AUDIO placeholders replaced by the clips, in order."""
    pieces: list[Piece] = []
    ids: list[int] = []
    clips_left = list(clips)
    place = 0
    while place < len(input_ids):
        if input_ids[place] != audio_id:
            ids.append(int(input_ids[place]))
            place += 1
            continue
        if not clips_left:
            raise InvalidArgument(f"the prompt has placeholders for more than {len(clips)} clips")
        clip = clips_left.pop(0)
        expected = tokens_of_mel_frames(valid_frames(clip.shape[0]))
        run = place
        while run < len(input_ids) and input_ids[run] == audio_id:
            run += 1
        if run - place != expected:
            raise InvalidArgument(
                f"a clip of {clip.shape[0]} samples takes {expected} placeholders, found {run - place}"
            )
        pieces += [ids, AudioPart(clip)]
        ids = []
        place = run
    if clips_left:
        raise InvalidArgument(f"{len(clips)} clips, but the prompt has placeholders for {len(clips) - len(clips_left)}")
    return [*pieces, ids]
