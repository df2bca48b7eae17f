"""The clips that the corpus needs: which voice says which text, and how fast.

A clip's voice, speed and file name depend only on its text and the seed. After a change of one sentence, only the clips
of this sentence are made again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from train.audio.sound import Voice
from train.corpus.clip_index import Role
from train.corpus.domain import Domain
from train.corpus.lead_ins import with_lead_ins
from train.corpus.paraphrases import OUTSIDE, REPEAT
from train.corpus.voices import AskingVoices, Speakers

_KOKORO_EACH, _FLITE_EACH, _ESPEAK_EACH = 4, 3, 4  # voices that say one training phrasing
_LED_KOKORO, _LED_FLITE, _LED_ESPEAK = 2, 1, 2  # voices that say it after a lead-in, each after a different one
_PARAPHRASES = {
    "question": 60,
    "outside": 2_000,
    "repeat": 200,
}  # for each intent, for all outside questions, for all requests to repeat
_PARAPHRASED_KOKORO, _PARAPHRASED_QUICK = (
    1,
    1,
)  # voices that say one paraphrase; the quick engines are flite and espeak-ng
_SPEAKER_PROMPTS, _SPEAKER_REPLIES = 5, 5  # sentences that each speaker to clone says, drawn for each speaker
_HELD_OUT_PROMPTS = 6  # every held-out voice says the last six prompts
_STRANGE_PROMPTS = 2  # of the trained voices, only the reply voices say the last two prompts
_HELD_OUT_EACH = 3  # held-out voices that say one held-out phrasing
_SEEN_SHARE = 0.2  # share of the training phrasings that one held-out voice says, too
_SLOWEST, _FASTEST = 0.85, 1.2
_ENDINGS = ".?"  # they make the voice fall or rise at the end


@dataclass(frozen=True)
class PlannedClip:
    """A clip to make. `text` goes into the manifest; the voice gets `spoken`, the same text with an end mark."""

    voice: Voice
    text: str
    spoken: str
    role: Role
    intent: str | None
    held_out: bool
    speed: float

    @property
    def file_name(self) -> str:
        """The name of the clip's file in the folder of its voice."""
        return f"{self.role}-{hashlib.sha256(self.text.encode()).hexdigest()[:12]}.wav"


@dataclass(frozen=True)
class Phrasing:
    """A sentence that a user may say."""

    text: str
    role: Role
    intent: str | None
    held_out: bool


def plan_replies(domain: Domain, voices: Sequence[Voice], held_out: Sequence[Voice] = ()) -> list[PlannedClip]:
    """Some prompts in the `held_out` voices, then every reply and every prompt in every reply voice."""
    strange = domain.prompts[-_HELD_OUT_PROMPTS:]
    planned = [_prompt(text, voice, held_out=True) for text in strange for voice in held_out]
    planned += (_reply(text, voice, domain) for text in domain.replies for voice in voices)
    planned += (_prompt(text, voice) for text in domain.prompts for voice in voices)
    return planned


def plan_speakers(domain: Domain, speakers: Speakers) -> list[PlannedClip]:
    """Some prompts and some replies of each speaker to clone, and the prompts of those that are kept for trials.

    Every speaker says its first clip before any speaker says its second one, so an unfinished corpus has all speakers.
    Each sentence has about the same number of speakers.
    """
    prompts = domain.prompts[:-_STRANGE_PROMPTS]
    kept = domain.prompts[-_HELD_OUT_PROMPTS:]
    planned = [_prompt(text, voice, held_out=True) for text in kept for voice in speakers.kept]
    of_speakers = [
        _alternating(
            [_prompt(text, voice) for text in _own_choice(prompts, _SPEAKER_PROMPTS, voice)],
            [_reply(text, voice, domain) for text in _own_choice(domain.replies, _SPEAKER_REPLIES, voice)],
        )
        for voice in speakers.trained
    ]
    planned += (clip for clips in zip_longest(*of_speakers) for clip in clips if clip is not None)
    return planned


def _own_choice(texts: Sequence[str], count: int, voice: Voice) -> list[str]:
    """`count` texts for a voice. A changed text changes no other choice of a voice, but at most one."""
    return sorted(texts, key=lambda text: hashlib.sha256(f"{voice.name}/{text}".encode()).digest())[:count]


def _alternating(first: Sequence[PlannedClip], second: Sequence[PlannedClip]) -> list[PlannedClip]:
    return [clip for pair in zip_longest(first, second) for clip in pair if clip is not None]


def _reply(text: str, voice: Voice, domain: Domain) -> PlannedClip:
    intent = next((intent.name for intent in domain.intents if intent.answer == text), None)
    return PlannedClip(voice, text, text, "reply", intent, held_out=False, speed=1.0)


def _prompt(text: str, voice: Voice, *, held_out: bool = False) -> PlannedClip:
    return PlannedClip(voice, text, text, "prompt", None, held_out, speed=1.0)


def phrasings(domain: Domain) -> Iterator[Phrasing]:
    """All phrasings of the domain, trained on or held out, without paraphrases."""
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
    """The paraphrases that voices say: the same number for each intent."""
    for subject in domain.paraphrases.by_subject:
        role: Role = "outside" if subject == OUTSIDE else "repeat" if subject == REPEAT else "question"
        draw = random.Random(f"{seed}/paraphrases/{subject}")
        for text in domain.paraphrases.some(subject, _PARAPHRASES[role], draw):
            yield Phrasing(text, role, subject if role == "question" else None, held_out=False)


def plan_questions(domain: Domain, asking: AskingVoices, seed: int) -> list[PlannedClip]:
    """The clips of everything that users may say.

    A few voices of each engine say each training phrasing, alone and after lead-ins. Two voices say each paraphrase.
    Held-out voices say the held-out phrasings and some of the training phrasings.

    Kokoro's clips come after those of the faster engines. Otherwise the order is random, so an unfinished corpus is a
    random sample, with held-out clips in it.
    """
    planned = []
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
        planned += (_question(phrasing, voice, asking, seed) for voice in speakers)
        planned += (_question(led, voice, asking, seed) for led, voice in _led(phrasing, domain, asking, seed))
    for phrasing in paraphrases(domain, seed):
        draw = random.Random(f"{seed}/{phrasing.text}")
        speakers = [
            *_some([*asking.kokoro.trained, *asking.mixtures], _PARAPHRASED_KOKORO, draw),
            *_some([*asking.flite.trained, *asking.espeak.trained], _PARAPHRASED_QUICK, draw),
        ]
        planned += (_question(phrasing, voice, asking, seed) for voice in speakers)
    planned = list({(clip.voice.name, clip.file_name): clip for clip in planned}.values())
    random.Random(seed).shuffle(planned)
    kokoro = {*asking.kokoro.trained, *asking.kokoro.held_out, *asking.mixtures}
    return sorted(planned, key=lambda clip: clip.voice in kokoro)


def _led(phrasing: Phrasing, domain: Domain, asking: AskingVoices, seed: int) -> Iterator[tuple[Phrasing, Voice]]:
    """The phrasing after lead-ins, each with its voice; nothing for a held-out phrasing or a request to repeat."""
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
    """`count` of the voices, drawn at random. With the same seed, a larger count only adds voices."""
    shuffled = list(voices)
    draw.shuffle(shuffled)
    return shuffled[:count]


def _question(phrasing: Phrasing, voice: Voice, asking: AskingVoices, seed: int) -> PlannedClip:
    draw = random.Random(f"{seed}/{voice.name}/{phrasing.text}")
    return PlannedClip(
        voice,
        phrasing.text,
        phrasing.text.rstrip(_ENDINGS) + draw.choice(_ENDINGS),
        phrasing.role,
        phrasing.intent,
        held_out=phrasing.held_out or voice in asking.held_out,
        speed=draw.uniform(_SLOWEST, _FASTEST),
    )
