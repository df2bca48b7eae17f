"""Who says what in the corpus, and how fast.

A clip's voice, speed and file name follow from its text and the seed alone, so a changed sentence costs only its own
clips.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from train.audio.sound import Voice
from train.corpus.clip_index import Role
from train.corpus.domain import Domain
from train.corpus.paraphrases import OUTSIDE, REPEAT
from train.corpus.preambles import with_lead_ins
from train.corpus.voices import Asking

_KOKORO_EACH, _FLITE_EACH, _ESPEAK_EACH = 4, 3, 4  # voices that say one training phrasing
_LED_KOKORO, _LED_FLITE, _LED_ESPEAK = 2, 1, 2  # voices that say it behind a lead-in, each behind another
_PARAPHRASES = {"question": 60, "outside": 2_000, "repeat": 200}  # of each intent, of all outside, of repetitions
_PARAPHRASED_KOKORO, _PARAPHRASED_QUICK = 1, 1  # voices that say one; the quick engines are flite and espeak-ng
_ASKING_PROMPTS = 10  # prompts that a trained asking voice says, other ones each
_ENROLLING_PROMPTS = 5  # prompts that a voice says which only enrols
_HELD_OUT_PROMPTS = 6  # the last of the prompts, which every held-out voice says
_STRANGE_PROMPTS = 2  # the very last, which no trained voice says but those that reply
_HELD_OUT_EACH = 3  # held-out voices that say one held-out phrasing
_SEEN_SHARE = 0.2  # of the training phrasings, said by one held-out voice
_SLOWEST, _FASTEST = 0.85, 1.2
_ENDINGS = ".?"  # most phrasings have none: a falling or a rising voice


@dataclass(frozen=True)
class Line:
    """A clip to be made: `spoken` is the text as the voice is given it."""

    voice: Voice
    text: str
    spoken: str
    role: Role
    intent: str | None
    held_out: bool
    speed: float

    @property
    def file_name(self) -> str:
        """The clip's file within its voice's folder."""
        return f"{self.role}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.wav"


@dataclass(frozen=True)
class Phrasing:
    """Something a user may say."""

    text: str
    role: Role
    intent: str | None
    held_out: bool


def plan_replies(domain: Domain, voices: Sequence[Voice], asking: Asking | None = None) -> list[Line]:
    """Every reply and prompt in every reply voice, sentence by sentence; then some prompts in the voices that ask or
    enrol, as whoever enrols may sound like anybody; those of voices that are never trained on come last.
    """
    answers = {intent.answer: intent.name for intent in domain.intents}
    lines = [
        Line(voice, text, text, "reply", answers.get(text), held_out=False, speed=1.0)
        for text in domain.replies
        for voice in voices
    ]
    lines += (_prompt(text, voice) for text in domain.prompts for voice in voices)
    if asking is not None:
        others = domain.prompts[:-_STRANGE_PROMPTS]
        for speakers, count in ((asking.trained, _ASKING_PROMPTS), (asking.enrolling, _ENROLLING_PROMPTS)):
            for voice in speakers:
                draw = random.Random(f"prompts/{voice.name}")
                lines += (_prompt(text, voice) for text in draw.sample(others, min(count, len(others))))
        strange = domain.prompts[-_HELD_OUT_PROMPTS:]
        lines += (_prompt(text, voice, held_out=True) for text in strange for voice in asking.held_out)
    return lines


def _prompt(text: str, voice: Voice, *, held_out: bool = False) -> Line:
    return Line(voice, text, text, "prompt", None, held_out, speed=1.0)


def phrasings(domain: Domain) -> Iterator[Phrasing]:
    """Everything a user may say here."""
    for intent in domain.intents:
        for texts, held_out in ((intent.questions, False), (intent.held_out, True)):
            yield from (Phrasing(text, "question", intent.name, held_out) for text in texts)
    outside: tuple[tuple[Role, Iterable[str], bool], ...] = (
        ("outside", domain.outside, False),
        ("outside", domain.outside_held_out, True),
        ("repeat", domain.repeat, False),
        ("repeat", domain.repeat_held_out, True),
    )
    for role, texts, held_out in outside:
        yield from (Phrasing(text, role, None, held_out) for text in texts)


def paraphrases(domain: Domain, seed: int) -> Iterator[Phrasing]:
    """As many of the domain's paraphrases as are spoken: the same number for each intent."""
    for subject in domain.paraphrases.by_subject:
        role: Role = "outside" if subject == OUTSIDE else "repeat" if subject == REPEAT else "question"
        draw = random.Random(f"{seed}/paraphrases/{subject}")
        for text in domain.paraphrases.some(subject, _PARAPHRASES[role], draw):
            yield Phrasing(text, role, subject if role == "question" else None, held_out=False)


def plan_questions(domain: Domain, asking: Asking, seed: int) -> list[Line]:
    """Each training phrasing in a few voices of each engine, alone and behind lead-ins; paraphrases in a voice or two;
    held-out phrasings, and some others, in held-out voices.

    Kokoro's clips come after those of the faster engines. Beyond that the order is random, so what is there at any time
    is a fair sample of either, held-out clips included.
    """
    lines = []
    for phrasing in phrasings(domain):
        draw = random.Random(f"{seed}/{phrasing.text}")
        held_out = list(asking.held_out)
        draw.shuffle(held_out)
        if phrasing.held_out:
            speakers = held_out[:_HELD_OUT_EACH]
        else:
            speakers = [
                *_some(asking.kokoro.trained, _KOKORO_EACH, draw),
                *_some(asking.flite.trained, _FLITE_EACH, draw),
                *_some(asking.espeak.trained, _ESPEAK_EACH, draw),
                *(held_out[:1] if draw.random() < _SEEN_SHARE else ()),
            ]
        lines += (_question(phrasing, voice, asking, seed) for voice in speakers)
        lines += (_question(led, voice, asking, seed) for led, voice in _led(phrasing, domain, asking, seed))
    for phrasing in paraphrases(domain, seed):
        draw = random.Random(f"{seed}/{phrasing.text}")
        speakers = [
            *_some([*asking.kokoro.trained, *asking.between], _PARAPHRASED_KOKORO, draw),
            *_some([*asking.flite.trained, *asking.espeak.trained], _PARAPHRASED_QUICK, draw),
        ]
        lines += (_question(phrasing, voice, asking, seed) for voice in speakers)
    lines = list({(line.voice.name, line.file_name): line for line in lines}.values())
    random.Random(seed).shuffle(lines)
    kokoro = {*asking.kokoro.trained, *asking.kokoro.held_out, *asking.between}
    return sorted(lines, key=lambda line: line.voice in kokoro)


def _led(phrasing: Phrasing, domain: Domain, asking: Asking, seed: int) -> Iterator[tuple[Phrasing, Voice]]:
    """The phrasing behind lead-ins, and who says it; nothing for one that is held out or asks for a repetition."""
    if phrasing.held_out or phrasing.role == "repeat":
        return
    draw = random.Random(f"{seed}/lead-ins/{phrasing.text}")
    variants = list(with_lead_ins(phrasing.text, domain))
    draw.shuffle(variants)
    speakers = (
        *_some(asking.kokoro.trained, _LED_KOKORO, draw),
        *_some(asking.flite.trained, _LED_FLITE, draw),
        *_some(asking.espeak.trained, _LED_ESPEAK, draw),
    )
    for text, voice in zip(variants, speakers, strict=False):
        yield replace(phrasing, text=text), voice


def _some(voices: Sequence[Voice], count: int, draw: random.Random) -> list[Voice]:
    """`count` of the voices. A larger count keeps those of a smaller one."""
    shuffled = list(voices)
    draw.shuffle(shuffled)
    return shuffled[:count]


def _question(phrasing: Phrasing, voice: Voice, asking: Asking, seed: int) -> Line:
    draw = random.Random(f"{seed}/{voice.name}/{phrasing.text}")
    return Line(
        voice,
        phrasing.text,
        phrasing.text.rstrip(_ENDINGS) + draw.choice(_ENDINGS),
        phrasing.role,
        phrasing.intent,
        held_out=phrasing.held_out or voice in asking.held_out,
        speed=draw.uniform(_SLOWEST, _FASTEST),
    )
