"""Training examples of the speech model: sentences of many speakers, each after a prompt by the same speaker.

The prompt is other sentences of the speaker with their texts, so only the voice of the prompt tells how the reply
sounds. The recordings of a speaker to clone are only prompts; what the speaker says are conversions
(`train.speech.conversions`). Some codes of the context are random, never those of the targets. So the model learns to
continue after its own mistakes, and after a prompt from another encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from services.runtime.checkpoint.config import ChromaConfig
from train.speech.batch import SpeechBatch
from train.speech.positions import Speech, SpeechRows, lay_out

Option = TypeVar("Option")

Convert = Callable[[str, tuple[int, ...]], np.ndarray]
"""Gives the codes int64 [T, K] of a sentence, told by its token ids, in the voice of a speaker."""

SORTED_BATCHES = 8
"""Speeches of this many batches are drawn at once and sorted by length, so batches need little padding."""

MAX_JOINED = 6
"""Most clips in one prompt."""

SHIFT_CHANGE_RATE = 0.06
"""Probability of each frame of a time-shifted speech that the shift changes there."""

MAX_SHIFT_FRAMES = 3
"""Largest shift, earlier or later, in frames."""

MIN_PROMPT_FRAMES = 25
"""Shortest prompt: 2 s. Only a clip that is shorter is a shorter prompt."""


@dataclass(frozen=True)
class CodedRecording:
    """A clip with its codes: token ids of its text, and codes int64 [T, K] in one or more variants.

    The first variant is the target of training; a prompt may be any of them. `weight` is the relative frequency of the
    clip as a target; a clip with weight 0 is only a prompt.
    """

    token_ids: tuple[int, ...]
    variants: tuple[np.ndarray, ...]
    weight: float


@dataclass(frozen=True)
class Example:
    """A speech with a corrupted context, and whose voice it has."""

    voice: str
    rows: SpeechRows


@dataclass(frozen=True)
class Corruption:
    """How context codes are corrupted and prompts varied. Rates are shares, 0 to 1.

    The rate of random codes of a speech is drawn from 0 to `max_random_codes`. In the share `heavily_corrupted` of the
    speeches it is drawn from there to 1, so that the model also knows its sentences without the earlier frames. In the
    share `time_shifted`, the context is a little earlier or later than it should be. The prompt's rate is drawn from 0
    to `max_random_prompt_codes`.

    The share `cut_prompts` of the prompts lose the finer codebooks, from a random codebook on. `foreign_texts` have
    another text than their own. `joined_prompts` are several clips in a row, because users enrol with recordings longer
    than a clip. In the share `states_with_text`, the noise in place of the thinker's hidden states is mixed with
    embeddings of the text.
    """

    max_random_codes: float = 0.3
    heavily_corrupted: float = 0.35
    time_shifted: float = 0.35
    max_random_prompt_codes: float = 0.3
    cut_prompts: float = 0.1
    foreign_texts: float = 0.1
    joined_prompts: float = 0.35
    states_with_text: float = 0.4
    max_prompt_frames: int = 190


class SpeechCorpus:
    """Draws random speeches of `replies` and `speakers`: the recordings of each reply voice and of each other speaker.

    The share `cloned` of the speeches is by the other speakers, if there are any; they say the sentences of the reply
    voices, by `convert`. Reply voices are drawn equally often, and of the other speakers those with more recordings
    more often, by the square root. `text_table` is E. Raises `ValueError` when a voice has no second clip for a prompt,
    or a reply voice no target.
    """

    def __init__(
        self,
        config: ChromaConfig,
        text_table: torch.Tensor,
        replies: Mapping[str, Sequence[CodedRecording]],
        speakers: Mapping[str, Sequence[CodedRecording]],
        *,
        convert: Convert,
        cloned: float,
        corruption: Corruption,
        seed: int,
    ) -> None:
        self._config = config
        self._text_table = text_table.double().numpy()
        self._replies, self._speakers = list(replies.items()), list(speakers.items())
        self._convert = convert
        self._cloned = cloned if speakers else 0.0
        roots = np.sqrt([len(clips) for clips in speakers.values()])
        self._speaker_shares = roots / roots.sum() if speakers else roots
        self._corruption = corruption
        self._dice = np.random.default_rng(seed)
        self._cumulative_weights = {voice: np.cumsum([clip.weight for clip in clips]) for voice, clips in self._replies}
        short = any(len(clips) < 2 for _, clips in [*self._replies, *self._speakers])
        if not replies or short or not all(until[-1] for until in self._cumulative_weights.values()):
            raise ValueError("speech corpus: expected two recordings of every voice, and one to teach of a reply voice")

    def batches(self, size: int) -> Iterator[SpeechBatch]:
        """Endless batches of `size` speeches of about the same length."""
        while True:
            speeches = sorted((self.draw() for _ in range(size * SORTED_BATCHES)), key=lambda one: one.rows.length)
            for start in self._dice.permutation(SORTED_BATCHES) * size:
                batch = speeches[start : start + size]
                rows = [one.rows for one in batch]
                states = torch.cat([self._thinker_states(some) for some in rows])
                yield SpeechBatch.of(rows, states, [one.voice for one in batch])

    def draw(self) -> Example:
        """One random speech."""
        reply_voice, replies = self._choice(self._replies)
        index = self._draw_target(reply_voice)
        target = replies[index]
        if self._happens(self._cloned):
            voice, own = self._speakers[int(self._dice.choice(len(self._speakers), p=self._speaker_shares))]
            codes = self._convert(voice, target.token_ids)
            others = [clip for clip in own if clip.token_ids != target.token_ids]
        else:
            voice, codes = reply_voice, target.variants[0]
            others = [*replies[:index], *replies[index + 1 :]]
        prompt_ids, prompt_codes = self._prompt(others)
        kept = self._prompt_frames(len(prompt_codes))
        start = self._dice.integers(len(prompt_codes) - kept + 1)
        if self._happens(self._corruption.foreign_texts):
            prompt_ids = self._foreign_text()
        speech = Speech(prompt_ids, prompt_codes[start : start + kept], target.token_ids, codes)
        return Example(voice, self._corrupt(lay_out(self._config, speech), kept))

    def _draw_target(self, voice: str) -> int:
        """The index of a random recording of the voice, drawn by the weights."""
        until = self._cumulative_weights[voice]
        return int(np.searchsorted(until, self._dice.random() * until[-1], side="right"))

    def _choice(self, choices: Sequence[Option]) -> Option:
        return choices[int(self._dice.integers(len(choices)))]

    def _prompt(self, choices: Sequence[CodedRecording]) -> tuple[list[int], np.ndarray]:
        """The text and the codes of a prompt: one of these recordings, or several in a row."""
        joined = self._dice.integers(2, MAX_JOINED + 1) if self._happens(self._corruption.joined_prompts) else 1
        clips = [self._choice(choices) for _ in range(joined)]
        codes = [self._choice(clip.variants) for clip in clips]
        return [token for clip in clips for token in clip.token_ids], np.concatenate(codes)

    def _prompt_frames(self, frames: int) -> int:
        """Length of the prompt. 60 % of the prompts are whole; the others are cut, so that any length works."""
        most = min(frames, self._corruption.max_prompt_frames)
        least = min(MIN_PROMPT_FRAMES, most)
        return most if self._happens(0.6) else int(self._dice.integers(least, most + 1))

    def _foreign_text(self) -> list[int]:
        tokens = self._config.tokens
        first_special = min(tokens.text_start, tokens.text_end, tokens.im_end, tokens.audio)
        return self._dice.integers(first_special, size=self._dice.integers(2, 24)).tolist()

    def _corrupt(self, rows: SpeechRows, prompt_frames: int) -> SpeechRows:
        corruption, dice, codes = self._corruption, self._dice, rows.frame_codes
        rates = np.empty((len(codes), self._config.codebooks))
        rates[:prompt_frames] = dice.uniform(0, corruption.max_random_prompt_codes)
        if self._happens(corruption.heavily_corrupted):
            rates[prompt_frames:] = dice.uniform(corruption.max_random_codes, 1)
        else:
            rates[prompt_frames:] = dice.uniform(0, corruption.max_random_codes)
        if self._happens(corruption.cut_prompts):
            rates[:prompt_frames, dice.integers(1, self._config.codebooks) :] = 1.0
        if self._happens(corruption.time_shifted):
            codes = np.concatenate([codes[:prompt_frames], self._shift_frames(codes[prompt_frames:])])
        noise = dice.integers(self._config.codec.codebook_size, size=rates.shape)
        return replace(rows, frame_codes=np.where(dice.random(rates.shape) < rates, noise, codes))

    def _shift_frames(self, codes: np.ndarray) -> np.ndarray:
        """Frames [T, K], each replaced by one a few frames earlier or later. The shift changes now and then."""
        moves = self._dice.integers(-MAX_SHIFT_FRAMES, MAX_SHIFT_FRAMES + 1, len(codes))
        changes = self._dice.random(len(codes)) < SHIFT_CHANGE_RATE
        since = np.maximum.accumulate(np.where(changes, np.arange(len(codes)), -1))
        distance = np.where(since >= 0, moves[since], 0)
        return codes[np.clip(np.arange(len(codes)) + distance, 0, len(codes) - 1)]

    def _thinker_states(self, rows: SpeechRows) -> torch.Tensor:
        """Noise [thoughts, D] of RMS 1, with an offset and unequal variances like those of hidden states.

        The speech must depend on the tokens alone. In some speeches the noise is mixed with the embedding of the token
        or of one of its neighbours.
        """
        thoughts, width = len(rows.hidden_at), self._config.backbone.width
        gains, offset = np.exp(0.5 * self._dice.standard_normal(width)), self._dice.standard_normal(width)
        states = gains * self._dice.standard_normal((thoughts, width)) + self._dice.uniform(0, 1) * offset
        if self._happens(self._corruption.states_with_text):
            tokens = rows.text_ids[-thoughts:]
            near = tokens[np.clip(np.arange(thoughts) + self._dice.integers(-1, 2), 0, thoughts - 1)]
            share = self._dice.uniform(0, 1)
            states = (1 - share) * _of_rms_1(states) + share * _of_rms_1(self._text_table[near])
        return torch.from_numpy(_of_rms_1(states).astype(np.float32))

    def _happens(self, share: float) -> bool:
        return bool(self._dice.random() < share)


def _of_rms_1(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).mean(1, keepdims=True))
