from __future__ import annotations

import pytest

from train.corpus.clip_index import Clip
from train.corpus.voices import REPLY_VOICES
from train.pack.recode_corpus import refuse_unfinished


def prompts(voice: str, *texts: str) -> list[Clip]:
    return [Clip(f"replies/{voice}/{text}.wav", voice, text, "prompt", None, 1.0, False) for text in texts]


def test_an_unfinished_corpus_is_refused_with_the_names_of_the_voices_that_cannot_be_enrolled() -> None:
    finished = [clip for voice in REPLY_VOICES for clip in prompts(voice, "one", "two", "three")]
    of_another = prompts("kokoro_mixture_000", "only of a speaker to clone")
    refuse_unfinished([*finished, *of_another])

    unfinished = [*prompts("amber", "one", "two", "three"), *prompts("basil", "one", "two"), *prompts("coral", "one")]
    with pytest.raises(ValueError, match="got none of coral, dale: finish the corpus"):
        refuse_unfinished(unfinished)
