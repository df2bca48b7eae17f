"""The input embeddings of a prompt: what stands, what the tower must encode, what the KV cache has."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import InvalidArgument, OutOfRange
from services.reasoner.model.mel import MAX_CLIP_SAMPLES, MelFilters
from services.reasoner.model.parts import AudioPart, keys_of
from services.reasoner.model.prompt_embeddings import (
    AddCachedClip,
    AddSamples,
    AddTokens,
    BeginClip,
    EndClip,
    PromptEdit,
    PromptEmbeddings,
    edits_of,
)
from tests.support.thinking import tone

MEL = MelFilters(128)
TABLE = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))


def new_prompt(*edits: PromptEdit, cached: int = 0) -> PromptEmbeddings:
    prompt = PromptEmbeddings(TABLE, MEL, 200, cached=cached)
    for edit in edits:
        prompt.apply(edit)
    return prompt


def encode(prompt: PromptEmbeddings) -> None:
    """Store embeddings that say which chunk they are of."""
    for number, chunk in enumerate(prompt.dirty_chunks()):
        prompt.store(chunk, torch.full((chunk.clip.chunks[chunk.index].length, 4), float(number)))


def test_tokens_are_final_at_once_and_come_from_the_table() -> None:
    prompt = new_prompt(AddTokens([3, 1]), AddTokens([]), AddTokens([4]))
    assert (prompt.length, prompt.final, prompt.keys) == (3, 3, [3, 1, 4])
    assert torch.equal(prompt.embeddings(1, 5), TABLE[[1, 4]])


def test_positions_after_a_chunk_that_is_not_encoded_are_not_final() -> None:
    clip = tone(3.0)
    prompt = new_prompt(*edits_of([[1, 2], AudioPart(clip), [3]]))
    assert (prompt.length, prompt.final) == (2 + 75 + 1, 2)
    encode(prompt)
    assert prompt.final == 78
    assert prompt.embeddings(50, 4)[:, 0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert prompt.keys == keys_of([[1, 2], AudioPart(clip), [3]])


def test_louder_part_takes_final_positions_back() -> None:
    quiet, loud = torch.zeros(40_000), tone(2.0)
    quiet[32_000:] = 1e-4 * tone(0.5)
    prompt = new_prompt(AddTokens([1]), BeginClip(), AddSamples(quiet))
    encode(prompt)
    assert prompt.final == 51
    prompt.apply(AddSamples(loud))
    assert prompt.final == 1
    encode(prompt)
    assert (prompt.final, prompt.recomputed_chunks) == (101, 1)


def test_cached_recording_is_not_encoded_and_one_cached_in_part_only_from_there() -> None:
    clip = AudioPart(tone(5.0))
    parts = [[1, 2], clip, [3]]
    whole, part = 2 + 125, 2 + 60
    assert list(edits_of(parts, whole)) == [AddTokens([1, 2]), AddCachedClip(clip.keys), AddTokens([3])]
    prompt = new_prompt(*edits_of(parts, whole), cached=whole)
    assert (prompt.final, prompt.dirty_chunks()) == (128, [])
    prompt = new_prompt(*edits_of(parts, part), cached=part)
    assert (prompt.final, [chunk.index for chunk in prompt.dirty_chunks()]) == (part, [1, 2])


def test_edits_of_a_recording_are_bounded() -> None:
    edits = list(edits_of([AudioPart(tone(5.0))]))
    assert [edit.pcm.shape[0] for edit in edits if isinstance(edit, AddSamples)] == [32_000, 32_000, 16_000]


@pytest.mark.parametrize(
    ("edits", "error", "message"),
    [
        ([AddTokens([50])], InvalidArgument, "token id 50 is outside the vocabulary of 50"),
        ([BeginClip(), AddSamples(torch.tensor([torch.nan]))], InvalidArgument, "NaN"),
        ([BeginClip(), AddSamples(torch.zeros(MAX_CLIP_SAMPLES + 1))], OutOfRange, "a recording may have"),
        ([BeginClip(), AddSamples(torch.ones(320)), EndClip()], InvalidArgument, "needs 321 samples"),
        ([BeginClip(), AddSamples(torch.zeros(9_000)), EndClip()], InvalidArgument, "is silent"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused(edits: list[PromptEdit], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        new_prompt(*edits)
