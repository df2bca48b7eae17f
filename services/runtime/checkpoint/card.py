"""The card of a checkpoint: what it says of itself, for people. The file `card.json` of its folder, if there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.errors import CheckpointError
from services.runtime.checkpoint.folder import has_file, read_json

CARD_FILE = "card.json"

Sentence = Annotated[str, Field(max_length=500)]
Phrase = Annotated[str, Field(min_length=1, max_length=200)]


class Card(BaseModel):
    """What a checkpoint says of itself. Every field may be missing; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    summary: Sentence = ""
    """What the checkpoint is, in one or two sentences."""
    topics: list[Phrase] = Field(default=[], max_length=50)
    """What it knows, a few words each."""
    examples: list[Phrase] = Field(default=[], max_length=50)
    """Questions that it answers well."""
    voices: Sentence = ""
    """What its voices can and cannot do. Empty: it clones any voice."""
    preview: Sentence = ""
    """A sentence that it speaks well, for the preview of a voice."""
    sentences: list[Annotated[str, Field(min_length=1, max_length=1_000)]] = Field(default=[], max_length=20_000)
    """The sentences that it can say. With these or `words` it has a closed domain; without both it says any text."""
    words: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default=[], max_length=100_000)
    """The words that it can say, in any order."""


def read_card(folder: Path) -> Card | None:
    """The card in a checkpoint's folder. None: there is none. Raises `CheckpointError` for one that is malformed."""
    if not has_file(folder, CARD_FILE):
        return None
    content = read_json(folder, CARD_FILE)
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{folder / CARD_FILE}: {field}: {first['msg']}") from error
