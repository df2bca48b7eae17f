"""The vocabulary of chroma-nano: byte pairs merged on the domain's text, and a frozen random vector for each token.

The speech model and the reasoner are trained separately and share this embedding table, so neither may change it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as TokenizersTokenizer

from checkpoints.tokenizer_files import CHAT_TEMPLATE, WORD_PATTERN, Vocabulary, write_tokenizer_files
from services.runtime.checkpoint.tokenizer import Tokenizer, byte_characters
from train.corpus.domain import Domain, load_domain

WORD_ROWS = 1_300
"""Number of ids below the control tokens: 256 bytes, then merged pairs. Every word of a reply is then one token."""

EMBEDDING_WIDTH = 256
MEL_BINS = 128

_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<|text_start|>",
    "<|text_end|>",
)
_REPLY_WEIGHT = 1_000
_QUESTION_WEIGHT = 10
_TEMPLATE_TEXT = "You are a helpful assistant.\nsystem\nuser\nassistant\n"
_EMBEDDING_SEED = 6
_EMBEDDING_DEVIATION = 0.5


def nano_special_ids() -> dict[str, int]:
    """The id of every control token. These ids follow those of the words."""
    return {text: WORD_ROWS + index for index, text in enumerate(_SPECIALS)}


def vocabulary_rows() -> int:
    """V, the rows of the embedding table and of the thinker's head."""
    return WORD_ROWS + len(_SPECIALS)


@cache
def nano_vocabulary() -> Vocabulary:
    """The merged pairs. Words of replies weigh most, then words of questions; rare other words are several tokens."""
    merger = TokenizersTokenizer(models.BPE())
    merger.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=WORD_ROWS, min_frequency=1, initial_alphabet=list(byte_characters()), show_progress=False
    )
    merger.train_from_iterator(_weighted_text(load_domain()), trainer)
    content = json.loads(merger.to_str())["model"]
    ids: dict[str, int] = content["vocab"]
    merges = [(left, right) for left, right in content["merges"]]
    return Vocabulary(
        sorted(ids, key=ids.__getitem__),
        merges,
        "256 bytes and pairs merged from the words of domain.toml",
    )


@cache
def nano_tokenizer() -> Tokenizer:
    """The tokenizer of a checkpoint with this vocabulary, with its chat template."""
    with tempfile.TemporaryDirectory() as folder:
        write_nano_tokenizer(Path(folder))
        text = (Path(folder) / "tokenizer.json").read_text(encoding="utf-8")
    return Tokenizer(text, chat_template=CHAT_TEMPLATE, source="the vocabulary of chroma-nano")


def write_nano_tokenizer(folder: Path) -> None:
    """Write the files of the tokenizer and the feature extractor into a checkpoint's folder."""
    write_tokenizer_files(folder, nano_vocabulary(), nano_special_ids(), MEL_BINS)


def text_embedding() -> torch.Tensor:
    """`thinker.model.embed_tokens.weight`: float32 [V, 256], always the same; float16 holds its values exactly."""
    dice = torch.Generator().manual_seed(_EMBEDDING_SEED)
    table = torch.randn(vocabulary_rows(), EMBEDDING_WIDTH, generator=dice) * _EMBEDDING_DEVIATION
    return table.half().float()  # [V, 256]


def _weighted_text(domain: Domain) -> Iterator[str]:
    for _ in range(_REPLY_WEIGHT):
        yield from domain.replies
        yield _TEMPLATE_TEXT
    for _ in range(_QUESTION_WEIGHT):
        for intent in domain.intents:
            yield from intent.questions
        yield from domain.repeat
    yield from domain.prompts
    yield from domain.outside
