from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.rendered import encode_rendered
from train.corpus.domain import load_domain
from train.corpus.vocabulary import (
    WORD_ROWS,
    nano_special_ids,
    nano_tokenizer,
    nano_vocabulary,
    text_embedding,
    vocabulary_rows,
    write_nano_tokenizer,
)


def test_every_word_of_a_reply_is_one_token() -> None:
    tokenizer = nano_tokenizer()
    for reply in load_domain().replies:
        words_and_marks = re.findall(r"[A-Za-z]+|[,.?]", reply)
        assert len(tokenizer.encode(reply)) == len(words_and_marks), reply


@pytest.mark.parametrize("text", ["Zürich has 3 tramways!", "what is the stock price", "<|im_end|>"])
def test_any_text_is_the_same_after_encoding_and_decoding(text: str) -> None:
    tokenizer = nano_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_stand_after_the_words() -> None:
    tokenizer = nano_tokenizer()
    assert len(nano_vocabulary().tokens) == WORD_ROWS
    assert tokenizer.special_ids == nano_special_ids()
    assert sorted(nano_special_ids().values()) == list(range(WORD_ROWS, vocabulary_rows()))


def test_the_words_of_the_chat_template_are_known() -> None:
    tokenizer = nano_tokenizer()
    assert len(tokenizer.encode("You are a helpful assistant.")) == 6
    for role in ("system", "user", "assistant"):
        assert len(encode_rendered(tokenizer, f"<|im_start|>{role}\n")) == 3


def test_the_files_beside_the_weights_are_the_same_tokenizer(tmp_path: Path) -> None:
    write_nano_tokenizer(tmp_path)
    read = Tokenizer((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert read.vocabulary == nano_tokenizer().vocabulary


def test_a_vocabulary_merged_anew_is_the_same() -> None:
    assert nano_vocabulary.__wrapped__() == nano_vocabulary()


def test_the_embedding_is_the_same_at_every_call_and_survives_float16() -> None:
    table = text_embedding()
    assert table.shape == (vocabulary_rows(), 256)
    assert torch.equal(table, text_embedding())
    assert torch.equal(table.half().float(), table)
    assert table.std().item() == pytest.approx(0.5, rel=0.02)
