"""Text to token ids and back, for the byte-level BPE vocabularies of Qwen.

What a user says is data: `encode` never produces a control token, whatever the text spells. Only `encode_prompt`, for
text rendered from the chat template, turns `<|im_start|>` and its kin into their ids. (docs/model.md, section 7)
"""

from __future__ import annotations

import codecs
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as TokenizersTokenizer

from services.common.errors import CheckpointError
from services.runtime.checkpoint.checkpoint import Checkpoint


@lru_cache(maxsize=1)
def byte_characters() -> tuple[str, ...]:
    """The printable character that stands for each byte in a byte-level vocabulary, indexed by the byte.

    Bytes that print as themselves in Latin-1 keep their character; the others take those from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(substitutes)) for byte in range(256))


class Tokenizer:
    """The tokenizer of one checkpoint. Read-only after loading, so any thread may use it.

    `vocabulary` maps every ordinary token, as bytes, to its id; `special_ids` every added token's text to its id.
    """

    def __init__(self, tokenizer_json: str, *, chat_template: str | None = None, source: str = "tokenizer") -> None:
        """`tokenizer_json` is the content of a tokenizer.json. Raises `CheckpointError` unless it is byte-level."""
        try:
            content: dict[str, Any] = json.loads(tokenizer_json)
            added: list[dict[str, Any]] = content["added_tokens"]
            for token in added:
                token["special"] = True  # so that encode_special_tokens below holds for all of them
            self._tokenizer = TokenizersTokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises plain Exception for any content it cannot use
            raise CheckpointError(f"{source}: not a tokenizer.json that can be read: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self._source = source
        self._chat_template = chat_template
        self.special_ids = {str(token["content"]): int(token["id"]) for token in added}
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
        """The tokenizer beside the weights: tokenizer.json, or vocab.json and merges.txt by way of transformers."""
        path = checkpoint.path
        template = _read_chat_template(path)
        if (path / "tokenizer.json").exists():
            text = (path / "tokenizer.json").read_text(encoding="utf-8")
            return cls(text, chat_template=template, source=str(path / "tokenizer.json"))
        if (path / "vocab.json").exists() and (path / "merges.txt").exists():
            from transformers import AutoTokenizer

            slow = AutoTokenizer.from_pretrained(path, use_fast=True)
            return cls(slow.backend_tokenizer.to_str(), chat_template=template, source=str(path / "vocab.json"))
        raise CheckpointError(f"{path}: expected tokenizer.json, or vocab.json and merges.txt, found neither")

    @property
    def chat_template(self) -> str:
        """The Jinja text that lays out a conversation. Raises `CheckpointError` when the checkpoint has none."""
        if self._chat_template is None:
            raise CheckpointError(
                f"{self._source}: no chat template beside it (chat_template.jinja, chat_template.json or "
                "tokenizer_config.json)"
            )
        return self._chat_template

    def special_id(self, text: str) -> int:
        """Id of the control token spelt `text`. Raises `CheckpointError` when the vocabulary has none."""
        if text not in self.special_ids:
            raise CheckpointError(f"{self._source}: the control token {text} is missing")
        return self.special_ids[text]

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text: nothing added before or after, control tokens spelt out like any word."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of trusted, rendered text, where a control token's text becomes its id."""
        ids: list[int] = []
        start = 0
        for match in self._specials.finditer(text):
            ids += self.encode(text[start : match.start()])
            ids.append(self.special_ids[match.group()])
            start = match.end()
        return ids + self.encode(text[start:])

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes one token stands for; none for control tokens and for ids without a token."""
        return self._bytes_of_id.get(token_id, b"")

    def decode(self, ids: list[int]) -> str:
        """Text of `ids` without control tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")


class TextStream:
    """Text of one stream of tokens, as it grows: the pieces put together equal `Tokenizer.decode` of all ids.

    A character is given out when its last byte has come, so no piece ends inside one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def is_inside_character(self) -> bool:
        """Whether a character has begun and waits for its other bytes."""
        return bool(self._decoder.getstate()[0])

    def push(self, token_id: int) -> str:
        """The characters that `token_id` completes, often none in scripts of several bytes a character."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What an unfinished last character leaves: U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)


def _read_chat_template(path: Path) -> str | None:
    if (path / "chat_template.jinja").exists():
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (path / name).exists():
            template = json.loads((path / name).read_text(encoding="utf-8")).get("chat_template")
            if isinstance(template, str):
                return template
    return None
