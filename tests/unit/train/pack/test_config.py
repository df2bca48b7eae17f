from __future__ import annotations

import math

from checkpoints.presets import preset_config
from checkpoints.tensor_names import expected_tensors
from train.corpus.vocabulary import EMBEDDING_WIDTH, nano_special_ids, vocabulary_rows
from train.pack.config import nano, nano_config

_TABLE = "backbone.audio_embedding.embed_audio_tokens.weight"
_TIED_TABLE = "decoder.audio_embedding.embed_audio_tokens.weight"


def test_weights_fit_in_the_size_that_may_be_committed() -> None:
    shapes = expected_tensors(nano())
    del shapes[_TIED_TABLE]
    size_bytes = 2 * sum(math.prod(shape) for shape in shapes.values())
    assert 20e6 < size_bytes <= 31.6e6


def test_codebooks_of_512_codes_decide_heads_and_table() -> None:
    config = nano()
    assert (config.codec.codebook_size, config.code_vocab_size) == (512, 515)
    assert expected_tensors(config)[_TABLE] == (8 * 515, 256)


def test_vocabulary_is_the_domain_s() -> None:
    config = nano()
    assert (config.thinker.vocab_size, config.thinker.text.width) == (vocabulary_rows(), EMBEDDING_WIDTH)
    assert config.tokens.text_start == nano_special_ids()["<|text_start|>"]


def test_the_layout_is_the_published_one() -> None:
    def keys(section: object) -> object:
        return {key: keys(value) for key, value in section.items()} if isinstance(section, dict) else None

    assert keys(nano_config()) == keys(preset_config("full"))
