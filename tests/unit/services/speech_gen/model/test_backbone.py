"""The backbone's embeddings: text by id, frames as the sum over their codebooks, and only codes that can be decoded."""

from __future__ import annotations

import torch

from services.speech_gen.model.generator import Generator


def test_a_text_row_is_the_row_of_its_token_id(generator: Generator) -> None:
    backbone = generator.backbone
    rows = backbone.text_rows(torch.tensor([5, 0, 5]))
    assert torch.equal(rows, backbone.text_table[[5, 0, 5]])


def test_an_audio_row_is_the_sum_of_one_embedding_of_each_codebook(generator: Generator) -> None:
    backbone = generator.backbone
    code_vocab = backbone.audio_table.shape[0] // backbone.codebooks
    codes = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 9, 9, 9, 9, 9, 9]])
    expected = torch.stack(
        [sum((backbone.audio_table[k * code_vocab + code] for k, code in enumerate(row)), torch.zeros(backbone.width))
         for row in codes.tolist()]
    )  # fmt: skip
    torch.testing.assert_close(backbone.audio_rows(codes), expected)


def test_equal_codes_of_two_codebooks_have_different_embeddings(generator: Generator) -> None:
    first, second = torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)
    first[0, 0], second[0, 1] = 3, 3
    assert not torch.equal(generator.backbone.audio_rows(first), generator.backbone.audio_rows(second))


def test_logits_are_float32_and_cover_only_codes_that_the_codec_decodes(generator: Generator) -> None:
    backbone = generator.backbone
    logits = backbone.codebook0_logits(torch.zeros(2, backbone.width, dtype=backbone.stack.dtype))
    assert logits.dtype == torch.float32
    assert logits.shape == (2, backbone.codebook_size)
    assert backbone.codebook_size <= backbone.audio_table.shape[0] // backbone.codebooks
