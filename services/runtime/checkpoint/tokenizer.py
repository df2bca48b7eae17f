"""The tokenizer of a checkpoint: text to token ids and back, with Qwen's byte-level BPE (docs/model.md, section 7).

Text of a user is data: `encode` never returns a control token, even when the text spells one. Only `split_special`
turns the spelling of a control token, such as `<|im_start|>`, into its id. It is for text of the chat template.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as TokenizersTokenizer

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.folder import has_file, read_json, read_text


@lru_cache(maxsize=1)
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in a byte-level vocabulary, indexed by the byte.

    A byte that is printable in Latin-1 keeps its character. The other bytes take the characters from U+0100, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(substitutes)) for byte in range(256))


class Tokenizer:
    """The tokenizer of one checkpoint. It does not change after loading, so any thread may use it.

    `vocabulary` maps each ordinary token, as bytes, to its id. `special_ids` maps the text of each added token to its
    id.
    """

    def __init__(self, tokenizer_json: str, *, chat_template: str | None = None, source: str = "tokenizer") -> None:
        """Read the content of a tokenizer.json. Raises `CheckpointError` unless its vocabulary is byte-level."""
        try:
            content: dict[str, Any] = json.loads(tokenizer_json)
            added: list[dict[str, Any]] = content["added_tokens"]
            for token in added:
                token["special"] = True  # so that encode_special_tokens below applies to all of them
            self._tokenizer = TokenizersTokenizer.from_str(json.dumps(content))
            self.special_ids = {str(token["content"]): int(token["id"]) for token in added}
        except Exception as error:  # the library raises plain Exception for any content it cannot use
            raise CheckpointError(f"{source}: not a tokenizer.json that can be read: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self._source = source
        self._chat_template = chat_template
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        try:
            self.vocabulary = {
                bytes(byte_of[character] for character in token): int(token_id)
                for token, token_id in self._tokenizer.get_vocab(with_added_tokens=False).items()
                if token not in self.special_ids
            }
        except KeyError as error:
            raise CheckpointError(f"{source}: expected a byte-level vocabulary, found the character {error}") from error
        self._bytes_of_id = {token_id: token for token, token_id in self.vocabulary.items()}
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> Tokenizer:
        """Read tokenizer.json beside the weights, or let transformers read vocab.json and merges.txt."""
        path = checkpoint.path
        template = _read_chat_template(path)
        if has_file(path, "tokenizer.json"):
            text = read_text(path, "tokenizer.json")
            return cls(text, chat_template=template, source=str(path / "tokenizer.json"))
        if has_file(path, "vocab.json") and has_file(path, "merges.txt"):
            from transformers import AutoTokenizer

            try:
                slow = AutoTokenizer.from_pretrained(path, use_fast=True)
            except Exception as error:  # the library raises anything for files that it cannot use
                raise CheckpointError(f"{path}: vocab.json and merges.txt cannot be read: {error}") from error
            return cls(slow.backend_tokenizer.to_str(), chat_template=template, source=str(path / "vocab.json"))
        raise CheckpointError(f"{path}: expected tokenizer.json, or vocab.json and merges.txt, found neither")

    @property
    def chat_template(self) -> str:
        """The Jinja text that lays out a conversation. Raises `CheckpointError` when the checkpoint has none."""
        if self._chat_template is None:
            raise CheckpointError(
                f"{self._source}: no chat template beside it (chat_template.jinja, tokenizer_config.json or "
                "chat_template.json)"
            )
        return self._chat_template

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without added tokens. The spelling of a control token is tokenised like other text.

        Other threads run meanwhile: unlike `encode`, the library's calls for batches release the interpreter's lock.
        """
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def split_special(self, text: str) -> Iterator[str | int]:
        """Split text of the chat template into runs of plain text and, between them, the ids of its control tokens."""
        start = 0
        for match in self._specials.finditer(text):
            yield text[start : match.start()]
            yield self.special_ids[match.group()]
            start = match.end()
        yield text[start:]

    def token_bytes(self, token_id: int) -> bytes:
        """The UTF-8 bytes of one token. Empty for a control token and for an id without a token."""
        return self._bytes_of_id.get(token_id, b"")

    def decode(self, ids: list[int]) -> str:
        """The text of `ids` without control tokens. Bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")


class TextStream:
    """Decodes one stream of tokens, piece by piece. The joined pieces equal `Tokenizer.decode` of all ids.

    A character is returned with its last byte, so no piece ends inside a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def is_inside_character(self) -> bool:
        """Whether some bytes of a character have come, but not all."""
        return bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        """The characters that `token_id` completes. Often there are none, where a character has several bytes."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """U+FFFD when the last character is incomplete, else an empty text."""
        return self._decoder.decode(b"", final=True)


def _read_chat_template(path: Path) -> str | None:
    """The template that transformers uses for this tokenizer, or else the processor's (chat_template.json).

    chat_template.jinja comes before tokenizer_config.json. Of several named templates, it is the one named `default`.
    """
    if has_file(path, "chat_template.jinja"):
        return read_text(path, "chat_template.jinja")
    for name in ("tokenizer_config.json", "chat_template.json"):
        if has_file(path, name):
            template = read_json(path, name).get("chat_template")
            if template is not None:
                return _default_template(template, path / name)
    return None


def _default_template(template: Any, source: Path) -> str:
    if isinstance(template, str):
        return template
    try:
        named = template if isinstance(template, dict) else {entry["name"]: entry["template"] for entry in template}
        default = named.get("default")
    except (TypeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{source}: chat_template is neither text nor a list of named templates") from error
    if not isinstance(default, str):
        raise CheckpointError(
            f"{source}: chat_template has no template named `default`, only {sorted(map(str, named))[:20]}"
        )
    return default
