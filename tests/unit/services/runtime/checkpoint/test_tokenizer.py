"""Text becomes ids and ids become text. A user's text never becomes a control token."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from transformers import AutoTokenizer

from checkpoints.presets import special_tokens
from checkpoints.tokenizer_files import vocabulary_for, write_tokenizer_files
from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import TextStream, Tokenizer
from tests.support.rendered import encode_rendered

SPECIALS = special_tokens("tiny")
MIXED = "Hello, how are you today? Grüße, 日本語, 😀\n\n  12 tacos, it's fine."


def write_files(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_tokenizer_files(folder, vocabulary_for(SPECIALS, qwen_file=None), SPECIALS, mel_bins=128)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_checkpoint(Checkpoint(folder, {}, {}, {}))


def test_english_round_trips_in_fewer_tokens_than_bytes(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello, what would you like to know about the water?")
    assert tokenizer.decode(ids) == "Hello, what would you like to know about the water?"
    assert len(ids) < 25


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cn"])))
def test_any_text_round_trips_in_composed_form(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_other_threads_run_while_a_long_text_is_tokenised(tokenizer: Tokenizer) -> None:
    ticks: list[None] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.001):
            ticks.append(None)

    ticking = threading.Thread(target=tick)
    ticking.start()
    before = len(ticks)
    tokenizer.encode("some words and 12 numbers " * 40_000)
    meanwhile = len(ticks) - before
    ended.set()
    ticking.join()
    assert meanwhile > 3, "a thread that waits a millisecond at a time could run only before and after"


def test_control_tokens_in_user_text_are_plain_text(tokenizer: Tokenizer) -> None:
    text = "a<|im_end|>b<|AUDIO|>"
    ids = tokenizer.encode(text)
    assert not set(ids) & set(SPECIALS.values())
    assert tokenizer.decode(ids) == text


def test_added_tokens_that_are_not_special_are_plain_text_too(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["special"] = False
    tokenizer = Tokenizer(json.dumps(content))
    assert not set(tokenizer.encode("a<|im_end|>b")) & set(SPECIALS.values())


def test_rendered_prompt_equals_what_transformers_makes_of_it(folder: Path, tokenizer: Tokenizer) -> None:
    reference = AutoTokenizer.from_pretrained(folder)
    messages = [
        {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": MIXED}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And now?"},
    ]
    rendered = Environment().from_string(tokenizer.chat_template).render(messages=messages, add_generation_prompt=True)
    assert rendered == reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert encode_rendered(tokenizer, rendered) == reference(rendered)["input_ids"]
    assert tokenizer.encode(MIXED) == reference(MIXED)["input_ids"]
    assert rendered == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|>{MIXED}<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_given_system_message_replaces_the_default(tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "Be brief."}]
    rendered = Environment().from_string(tokenizer.chat_template).render(messages=messages)
    assert rendered == "<|im_start|>system\nBe brief.<|im_end|>\n"


@pytest.mark.parametrize("split", [list, lambda text: [text[:1], text[1:]]])
def test_streamed_pieces_are_whole_characters_and_join_to_the_whole(
    tokenizer: Tokenizer, split: Callable[[str], list[str]]
) -> None:
    ids = [token_id for piece in split(MIXED) for token_id in tokenizer.encode(piece)]
    stream = TextStream(tokenizer)
    pieces = [stream.push(token_id) for token_id in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids) == MIXED
    assert not any("\ufffd" in piece for piece in pieces)


def test_stream_cut_inside_a_character_ends_like_decode(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 😀")[:-1]
    stream = TextStream(tokenizer)
    assert "".join(map(stream.push, ids)) == "ok "
    assert "ok " + stream.finish() == tokenizer.decode(ids) == "ok \ufffd"


def test_control_tokens_and_unknown_ids_have_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([*tokenizer.encode("hi"), SPECIALS["<|im_end|>"], 639]) == "hi"


def test_vocab_and_merges_alone_are_enough(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(i): {"content": text, "special": True} for text, i in SPECIALS.items()},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    without_json = Tokenizer.from_checkpoint(Checkpoint(tmp_path, {}, {}, {}))
    assert without_json.encode(MIXED) == tokenizer.encode(MIXED)
    assert without_json.special_ids["<|im_end|>"] == 608
    with pytest.raises(CheckpointError, match="no chat template"):
        without_json.chat_template  # noqa: B018


def with_templates(folder: Path, **templates: object) -> Path:
    """The tokenizer files of `folder` with other chat templates: jinja, config or processor, by name."""
    write_files(folder)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    if "config" in templates:
        config["chat_template"] = templates["config"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if "processor" in templates:
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": templates["processor"]}))
    if "jinja" in templates:
        (folder / "chat_template.jinja").write_text(str(templates["jinja"]))
    return folder


NAMED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "named"}]


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        ({"config": "of the config", "processor": "of the processor"}, "of the config"),
        ({"jinja": "of the file", "config": "of the config", "processor": "of the processor"}, "of the file"),
        ({"config": NAMED}, "named"),
    ],
)
def test_chat_template_is_the_one_that_transformers_takes(
    templates: dict[str, object], expected: str, tmp_path: Path
) -> None:
    folder = with_templates(tmp_path, **templates)
    assert Tokenizer.from_checkpoint(Checkpoint(folder, {}, {}, {})).chat_template == expected
    assert AutoTokenizer.from_pretrained(folder).get_chat_template() == expected


def test_template_of_the_processor_serves_where_there_is_no_other(tmp_path: Path) -> None:
    folder = with_templates(tmp_path, processor="of the processor")
    assert Tokenizer.from_checkpoint(Checkpoint(folder, {}, {}, {})).chat_template == "of the processor"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (NAMED[:1], r"no template named `default`, only \['tool_use'\]"),
        ([1], "neither text nor a list"),
        (3, "neither"),
    ],
)
def test_named_templates_without_a_default_are_refused(template: object, message: str, tmp_path: Path) -> None:
    folder = with_templates(tmp_path, config=template)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_checkpoint(Checkpoint(folder, {}, {}, {}))


def test_spelling_of_a_control_token_is_split_from_template_text(tokenizer: Tokenizer) -> None:
    parts = list(tokenizer.split_special("<|im_start|>user\nHi<|im_end|>"))
    assert parts == ["", SPECIALS["<|im_start|>"], "user\nHi", SPECIALS["<|im_end|>"], ""]


def test_missing_and_unusable_tokenizers_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected tokenizer\.json"):
        Tokenizer.from_checkpoint(Checkpoint(tmp_path, {}, {}, {}))
    with pytest.raises(CheckpointError, match=r"not a tokenizer\.json that can be read"):
        Tokenizer("{}")
    no_bytes = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"\u2581a": 0}, "merges": []}}
    with pytest.raises(CheckpointError, match="expected a byte-level vocabulary"):
        Tokenizer(json.dumps(no_bytes))
