"""What the speech model is taught: sentences in the reply voices, each after a voice prompt.

A prompt is another clip of the voice with its text, or a clip of a stranger whom the reply voice is nearest to. The
codes that the model reads back are spoilt at random, never those that it is to predict: it learns to go on after its
own mistakes, and after a prompt that came through another encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from services.runtime.checkpoint.config import ChromaConfig
from train.speech.batch import SpeechBatch
from train.speech.positions import Speech, SpeechRows, lay_out

Choice = TypeVar("Choice")

SORTED_BATCHES = 8
"""Speeches are drawn for this many batches at once and sorted by length, so that little is padding."""

MAX_JOINED = 6
"""Most clips of one prompt."""

SLIP_RATE = 0.06
"""Chance of each frame, in a speech that slips, to change the distance."""

FARTHEST_SLIP = 3
"""Most frames that a slip goes early or late."""


@dataclass(frozen=True)
class Recording:
    """One clip to learn from: token ids of its text, and its codes, int64 [T, K], in one or more variants.

    The first variant is what is taught; any may be a prompt. `weight` is how often it is taught; 0 for a prompt only.
    """

    token_ids: tuple[int, ...]
    variants: tuple[np.ndarray, ...]
    weight: float


@dataclass(frozen=True)
class Spoiling:
    """How the codes that are read back are spoilt, and prompts varied. Rates are shares, 0 to 1.

    Each speech draws its rate of random codes between 0 and `most_random_codes`, `badly_spoilt` of them between that
    and 1, so that the model knows its sentences without the frames before, too; `slipping` of them go on from frames a
    little earlier or later than they should. The prompt's rate is between 0 and `most_random_prompt_codes`.
    `cut_prompts` of the prompts lose the finer codebooks from some codebook on, `foreign_texts` have a text that is not
    theirs, `stranger_prompts` are a stranger's where there is one, `joined_prompts` are several clips in a row:
    people enrol with longer recordings than a clip. In `states_with_words` the noise in place of the thinker's states
    is mixed with embeddings of the text.
    """

    most_random_codes: float = 0.3
    badly_spoilt: float = 0.35
    slipping: float = 0.35
    most_random_prompt_codes: float = 0.7
    cut_prompts: float = 0.2
    foreign_texts: float = 0.1
    stranger_prompts: float = 0.35
    joined_prompts: float = 0.25
    states_with_words: float = 0.4
    most_prompt_frames: int = 190


class SpeechCorpus:
    """Speeches drawn at random from `replies`, the recordings of each reply voice.

    `strangers` are recordings of other voices, each voice's together, by the reply voice that is nearest to them;
    `text_table` is E. Raises `ValueError` when there is nothing to teach or no other clip to prompt with.
    """

    def __init__(
        self,
        config: ChromaConfig,
        text_table: torch.Tensor,
        replies: Mapping[str, Sequence[Recording]],
        strangers: Mapping[str, Sequence[Sequence[Recording]]],
        *,
        spoiling: Spoiling,
        seed: int,
    ) -> None:
        self._config = config
        self._text_table = text_table.double().numpy()
        self._replies = replies
        self._strangers = [(voice, clips) for voice, several in strangers.items() for clips in several]
        self._spoiling = spoiling
        self._dice = np.random.default_rng(seed)
        self._taught_until = {voice: np.cumsum([clip.weight for clip in clips]) for voice, clips in replies.items()}
        if not replies or any(len(clips) < 2 or not self._taught_until[voice][-1] for voice, clips in replies.items()):
            raise ValueError("speech corpus: expected two recordings of every voice, and one to teach")

    def batches(self, size: int) -> Iterator[SpeechBatch]:
        """Batches of `size` speeches of about the same length, without end."""
        while True:
            speeches = sorted((self.draw() for _ in range(size * SORTED_BATCHES)), key=lambda rows: rows.length)
            for start in self._dice.permutation(SORTED_BATCHES) * size:
                batch = speeches[start : start + size]
                yield SpeechBatch.of(batch, torch.cat([self._thinker_states(rows) for rows in batch]))

    def draw(self) -> SpeechRows:
        """One speech, its context spoilt.

        Strangers are heard equally often, not the voices that they are nearest to: so who lies between two voices gets
        the one that more of such speakers are nearest to.
        """
        if self._strangers and self._happens(self._spoiling.stranger_prompts):
            voice, prompts = self._one_of(self._strangers)
            target = self._replies[voice][self._taught(voice)]
        else:
            voice, own = self._one_of(list(self._replies.items()))
            index = self._taught(voice)
            target, prompts = own[index], [*own[:index], *own[index + 1 :]]
        prompt_ids, prompt_codes = self._prompt(prompts)
        kept = self._prompt_frames(len(prompt_codes))
        start = self._dice.integers(len(prompt_codes) - kept + 1)
        if self._happens(self._spoiling.foreign_texts):
            prompt_ids = self._foreign_text()
        speech = Speech(prompt_ids, prompt_codes[start : start + kept], target.token_ids, target.variants[0])
        return self._spoil(lay_out(self._config, speech), kept)

    def _taught(self, voice: str) -> int:
        """Which recording of the voice to teach, by their weights."""
        until = self._taught_until[voice]
        return int(np.searchsorted(until, self._dice.random() * until[-1], side="right"))

    def _one_of(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._dice.integers(len(choices)))]

    def _prompt(self, choices: Sequence[Recording]) -> tuple[list[int], np.ndarray]:
        """Text and codes of one of these recordings, or of several in a row."""
        joined = self._dice.integers(2, MAX_JOINED + 1) if self._happens(self._spoiling.joined_prompts) else 1
        clips = [self._one_of(choices) for _ in range(joined)]
        codes = [self._one_of(clip.variants) for clip in clips]
        return [token for clip in clips for token in clip.token_ids], np.concatenate(codes)

    def _prompt_frames(self, frames: int) -> int:
        """Most prompts are whole, as recordings for a voice are; some are cut, so that any length will do."""
        most = min(frames, self._spoiling.most_prompt_frames)
        return most if self._happens(0.6) else int(self._dice.integers(min(20, most), most + 1))

    def _foreign_text(self) -> list[int]:
        tokens = self._config.tokens
        first_special = min(tokens.text_start, tokens.text_end, tokens.im_end, tokens.audio)
        return self._dice.integers(first_special, size=self._dice.integers(2, 24)).tolist()

    def _spoil(self, rows: SpeechRows, prompt_frames: int) -> SpeechRows:
        spoiling, dice, codes = self._spoiling, self._dice, rows.frame_codes
        rates = np.empty((len(codes), self._config.codebooks))
        rates[:prompt_frames] = dice.uniform(0, spoiling.most_random_prompt_codes)
        if self._happens(spoiling.badly_spoilt):
            rates[prompt_frames:] = dice.uniform(spoiling.most_random_codes, 1)
        else:
            rates[prompt_frames:] = dice.uniform(0, spoiling.most_random_codes)
        if self._happens(spoiling.cut_prompts):
            rates[:prompt_frames, dice.integers(1, self._config.codebooks) :] = 1.0
        if self._happens(spoiling.slipping):
            codes = np.concatenate([codes[:prompt_frames], self._slip(codes[prompt_frames:])])
        noise = dice.integers(self._config.codec.codebook_size, size=rates.shape)
        return replace(rows, frame_codes=np.where(dice.random(rates.shape) < rates, noise, codes))

    def _slip(self, codes: np.ndarray) -> np.ndarray:
        """Frames [T, K] with a few skipped or said twice: each change keeps its distance for a while."""
        moves = self._dice.integers(-FARTHEST_SLIP, FARTHEST_SLIP + 1, len(codes))
        changes = self._dice.random(len(codes)) < SLIP_RATE
        since = np.maximum.accumulate(np.where(changes, np.arange(len(codes)), -1))
        distance = np.where(since >= 0, moves[since], 0)
        return codes[np.clip(np.arange(len(codes)) + distance, 0, len(codes) - 1)]

    def _thinker_states(self, rows: SpeechRows) -> torch.Tensor:
        """Noise [thoughts, D] of RMS 1, lopsided as hidden states are: the speech is to follow the tokens alone.

        In some speeches the embedding of the token, of the one before or of the one after shows through.
        """
        thoughts, width = len(rows.hidden_at), self._config.backbone.width
        gains, offset = np.exp(0.5 * self._dice.standard_normal(width)), self._dice.standard_normal(width)
        states = gains * self._dice.standard_normal((thoughts, width)) + self._dice.uniform(0, 1) * offset
        if self._happens(self._spoiling.states_with_words):
            tokens = rows.text_ids[-thoughts:]
            near = tokens[np.clip(np.arange(thoughts) + self._dice.integers(-1, 2), 0, thoughts - 1)]
            share = self._dice.uniform(0, 1)
            states = (1 - share) * _of_rms_1(states) + share * _of_rms_1(self._text_table[near])
        return torch.from_numpy(_of_rms_1(states).astype(np.float32))

    def _happens(self, share: float) -> bool:
        return bool(self._dice.random() < share)


def _of_rms_1(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).mean(1, keepdims=True))
