"""Tokenizer, chat template and settings of the feature extractor for a checkpoint that is made here.

The vocabulary is Qwen's when the checkpoint has the ids of the published model and the optional package `dashscope`,
which contains it, is installed. Otherwise it is 256 bytes and some hundred pairs, merged from common English.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tokenizers import Tokenizer as TokenizersTokenizer
from tokenizers import models, pre_tokenizers, trainers

from services.runtime.checkpoint.tokenizer import byte_characters

QWEN_RANKS = 151_643
SMALL_VOCABULARY = 600
"""Ids below the control tokens of the small presets: 256 bytes, then merged pairs."""

WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer splits text into words. It merges bytes inside a word only."""

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'audio' -%}
                {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' -}}
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

_ENGLISH = """\
 the and you that was for are with his they have this from one had word but not what all were when your can said there
 use each which she how their will other about out many then them these some her would make like him into time has look
 two more write see number way could people than first water been call who oil its now find long down day did get come
 made may part over new sound take only little work know place year live back give most very after thing our just name
 good sentence man think say great where help through much before line right too mean old any same tell boy follow came
 want show also around form three small set put end does another well large must big even such because turn here why ask
 went men read need land different home move try kind hand picture again change off play spell air away animal house
 point page letter mother answer found study still learn should world
 Hello, how are you today? I am fine, thank you. What would you like to know? Tell me a story about the sea and the sky.
 I think that is a good question. Let me see what I can find for you. Yes, of course. No, I do not think so. It is time
 to go home now. We can make tacos with beans, rice, cheese and a little water. First, you need to cut the vegetables.
 Then put them in the pan. The weather will be nice tomorrow, with some sun in the morning and rain in the evening.
"""


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` in the order of ids, spelt in `byte_characters`, and `merges` in the order of ranks, from `origin`."""

    tokens: list[str]
    merges: list[tuple[str, str]]
    origin: str

    def words(self) -> list[int]:
        """Ids of the tokens that are a common English word with the space before it."""
        space = byte_characters()[0x20]
        common = set(_ENGLISH.split())
        return [i for i, token in enumerate(self.tokens) if token[0] == space and token[1:] in common]


def vocabulary_for(special_ids: Mapping[str, int], qwen_file: Path | None) -> Vocabulary:
    """The vocabulary of `qwen_file`, if it is given and no special id lies inside it. Otherwise the small one."""
    if qwen_file is not None and min(special_ids.values()) >= QWEN_RANKS:
        return _qwen_vocabulary(qwen_file)
    return _small_vocabulary()


def find_qwen_file() -> Path | None:
    """The file of ranks in the optional package `dashscope`, which is not imported. None when it is not installed."""
    try:
        path = Path(str(metadata.distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")))
    except metadata.PackageNotFoundError:
        return None
    return path if path.exists() else None


def write_tokenizer_files(folder: Path, vocabulary: Vocabulary, special_ids: Mapping[str, int], mel_bins: int) -> None:
    """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and preprocessor_config.json."""
    _write_json(folder / "tokenizer.json", _tokenizer_json(vocabulary, special_ids))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 32768,
        },
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    _write_json(
        folder / "preprocessor_config.json",
        {
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": mel_bins,
            "sampling_rate": 16_000,
            "hop_length": 160,
            "n_fft": 400,
            "chunk_length": 300,
            "n_samples": 4_800_000,
            "nb_max_frames": 30_000,
            "padding_side": "right",
            "padding_value": 0.0,
            "dither": 0.0,
            "return_attention_mask": True,
        },
    )


def _tokenizer_json(vocabulary: Vocabulary, special_ids: Mapping[str, int]) -> dict[str, object]:
    """The control tokens are in the model's vocabulary too, so their ids may be anywhere above those of the words."""
    ids = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    specials = sorted(special_ids.items(), key=lambda item: item[1])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token_id, "content": text, **flags} for text, token_id in specials],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORD_PATTERN}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {**ids, **dict(specials)},
            "merges": [list(pair) for pair in vocabulary.merges],
        },
    }


def _small_vocabulary() -> Vocabulary:
    trainer = trainers.BpeTrainer(
        vocab_size=SMALL_VOCABULARY, min_frequency=1, show_progress=False, initial_alphabet=list(byte_characters())
    )
    tokenizer = TokenizersTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([_ENGLISH], trainer)
    merges = [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]
    tokens = [*byte_characters(), *dict.fromkeys(left + right for left, right in merges)]
    return Vocabulary(tokens, merges, "256 bytes and pairs merged from common English")


def _qwen_vocabulary(path: Path) -> Vocabulary:
    ranks: dict[bytes, int] = {}
    for line in path.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    in_order = sorted(ranks, key=ranks.__getitem__)
    characters = byte_characters()

    def spell(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    pairs = [_last_merge(token, ranks) for token in in_order if len(token) > 1]
    return Vocabulary(
        [spell(token) for token in in_order],
        [(spell(left), spell(right)) for left, right in pairs],
        f"Qwen's vocabulary of {len(ranks):,} tokens, from the package dashscope",
    )


def _last_merge(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts whose merge makes `token`: the parts that are left after all merges of lower rank."""
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        candidates = [ranks.get(parts[i] + parts[i + 1], limit) for i in range(len(parts) - 1)]
        best = min(candidates)
        if best == limit:
            raise ValueError(f"token {token!r} of rank {limit} is not made by merges of lower rank")
        where = candidates.index(best)
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts[0], parts[1]


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
