"""The thinker. Read this first: one reply, from a prompt to its thoughts (docs/model.md, sections 3 and 7).

    prompt   ids | AUDIO x n | ids            prompt.py lays it out, hearing.py fills the AUDIO rows
    prefill  rows [R, D] -> hidden [R, D]     in pieces of any size, while the user still speaks
    thought  (t0 = argmax lm_head(h0), h0)    h0: the last prompt row's hidden state after the final norm
    step     E(t0) -> h1, t1, ...             until im_end, whose thought is the last

Greedy, and nothing of the audio feeds back: the text may run ahead of the speech. `think` is that loop for one reply;
services/reasoner/runner.py runs the same parts for many at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument
from services.reasoner.model.audio_tower import AudioTower, audio_rows
from services.reasoner.model.mel import MelFilters, valid_frames
from services.reasoner.model.prompt import AudioPart, Piece
from services.reasoner.model.prompt_rows import PromptRows, StaleChunk
from services.runtime.checkpoint.config import StackConfig, TokenIds
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.linear import Linear
from services.runtime.layers.transformer import Memory, Stack

PREFILL_ROWS = 256
"""Rows of a prompt that one step prefills; longer prompts take several, so that thinkers are not held up."""


@dataclass(frozen=True)
class Thinker:
    """The reasoner's weights, shared and read-only. Load with `weights.load_thinker`.

    `embedding` is [vocab, D]; `head` maps D to vocab and is not tied to it.
    """

    stack: Stack
    embedding: torch.Tensor
    head: Linear
    tower: AudioTower
    mel: MelFilters
    tokens: TokenIds

    @property
    def config(self) -> StackConfig:
        """Dimensions of the text stack."""
        return self.stack.config

    def new_prompt(self) -> PromptRows:
        """An empty prompt."""
        return PromptRows(self.embedding, self.mel, self.tower.chunk_frames)

    def hear(self, chunks: Sequence[StaleChunk]) -> list[torch.Tensor]:
        """The tower's rows [n, D] of each chunk, in one batch."""
        return self.tower([chunk.clip.features(chunk.index) for chunk in chunks])

    @torch.inference_mode()
    def forward(self, rows: torch.Tensor, memory: Memory) -> torch.Tensor:
        """rows [R, D] -> hidden [R, D] after the final norm; their keys and values are kept where `memory` says."""
        return self.stack(rows, memory)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """E(ids): [R, D]."""
        return self.embedding[torch.tensor(ids, dtype=torch.long, device=self.embedding.device)]

    @torch.inference_mode()
    def choose(self, hidden: torch.Tensor) -> list[int]:
        """Greedy tokens of hidden [R, D]."""
        return self.head(hidden).argmax(dim=-1).tolist()


@dataclass(frozen=True)
class Reply:
    """The thoughts of one reply: `token_ids[i]` was chosen from `hidden[i]`, [D]."""

    token_ids: list[int]
    hidden: torch.Tensor
    audio_rows: torch.Tensor
    """The tower's rows of all clips, [n, D]."""


@torch.inference_mode()
def think(thinker: Thinker, input_ids: Sequence[int], clips: Sequence[torch.Tensor], max_thoughts: int) -> Reply:
    """One reply to a prompt given as ids, with AUDIO placeholders where the clips (16 kHz, float32 [S]) stand.

    Raises InvalidArgument when placeholders and clips do not match.
    """
    prompt = thinker.new_prompt()
    for piece in pieces_of(input_ids, clips, thinker.tokens.audio):
        add_piece(prompt, piece)
    for chunk in prompt.stale_chunks():
        prompt.keep(chunk, thinker.hear([chunk])[0])

    positions = prompt.total + max_thoughts
    page_size = 16
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
    hidden = thinker.embed([])
    while kv.lengths[slot] < prompt.total:
        rows = prompt.rows(int(kv.lengths[slot]), PREFILL_ROWS)
        hidden = thinker.forward(rows, kv.plan([slot], [len(rows)]))[-1:]

    token_ids = thinker.choose(hidden)
    states = [hidden]
    while token_ids[-1] != thinker.tokens.im_end and len(token_ids) < max_thoughts:
        hidden = thinker.forward(thinker.embed(token_ids[-1:]), kv.plan([slot], [1]))
        token_ids += thinker.choose(hidden)
        states.append(hidden)

    heard = [chunk.rows for clip in prompt.clips for chunk in clip.chunks if chunk.rows is not None]
    return Reply(token_ids, torch.cat(states), torch.cat(heard) if heard else thinker.embed([]))


def add_piece(prompt: PromptRows, piece: Piece) -> None:
    """Add ids, or a whole clip. Raises InvalidArgument for what cannot be a prompt."""
    if isinstance(piece, AudioPart):
        prompt.begin_clip()
        prompt.hear(piece.pcm)
        prompt.end_clip()
    else:
        prompt.add_ids(piece)


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
        expected = audio_rows(valid_frames(clip.shape[0]))
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
