"""Reads the pairs of an evaluation from a folder, as docs/eval.md lays it out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.eval.pairs import Pair, PairSet, PairVoice, Question
from chroma_voice.local import repository

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
PAIRS, CONSENT, SEED_TTS = "pairs.jsonl", "consent.txt", "meta.lst"
QUESTIONS, VOICES = "questions", "voices"
_VOICE_ID = re.compile(r"[a-z0-9_-]{1,64}")
_FILE_NAME = re.compile(r"[\w-][\w.-]*")


def read_folder(folder: Path) -> PairSet:
    """Read `pairs.jsonl`, or else `meta.lst` of SEED-TTS-EVAL, or else pair all questions with all voices.

    Raises `FailedPrecondition` for a folder without pairs, `InvalidArgument` for a file that is not as expected.
    """
    if not folder.is_dir():
        raise FailedPrecondition(f"{folder} is no folder: expected one with {QUESTIONS}/ and {VOICES}/")
    consent = _text_of(folder / CONSENT) if (folder / CONSENT).is_file() else ""
    if (folder / SEED_TTS).is_file() and not (folder / PAIRS).is_file():
        return _seed_tts(folder, consent)
    voices = {voice.name: voice for voice in _voices(folder / VOICES, consent)}
    if (folder / PAIRS).is_file():
        return PairSet(folder.name, _pairs(folder / PAIRS, folder), voices)
    questions = _questions(folder / QUESTIONS)
    if not questions or not voices:
        missing = QUESTIONS if not questions else VOICES
        raise FailedPrecondition(f"{folder} has no pairs: expected files in {missing}/, or a file {PAIRS}")
    return PairSet(folder.name, [Pair(question, voice) for voice in voices for question in questions], voices)


def sample_pairs(root: Path | None = None) -> PairSet:
    """Return the pairs of `samples/pairs.jsonl`. Raises `FailedPrecondition` outside a checkout."""
    file = (root or repository.ROOT) / repository.SAMPLES / PAIRS
    if not file.is_file():
        raise FailedPrecondition(f"only a checkout has sample pairs: name a folder with {QUESTIONS}/ and {VOICES}/")
    voices = {
        voice.voice_id: PairVoice(voice.voice_id, (voice.recording,), voice.transcript, voice.consent)
        for voice in repository.sample_voices(root)
    }
    return PairSet("samples", _pairs(file, file.parent), voices)


def _voices(folder: Path, consent: str) -> Iterator[PairVoice]:
    """A voice for each audio file with a transcript beside it, and for each folder of audio files of one speaker."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        recordings = _audio_of(path) if path.is_dir() else [path] if path.suffix.lower() in SUFFIXES else []
        if not recordings:
            continue
        first = recordings[0]
        _check_audio(first)
        name = path.name if path.is_dir() else path.stem
        if not _VOICE_ID.fullmatch(name):
            raise InvalidArgument(f"{path}: expected a name of 1 to 64 of a-z, 0-9, '-' and '_', as of a voice")
        said = first.with_suffix(".txt")
        if not said.is_file():
            raise FailedPrecondition(f"{said} is missing: expected what {first.name} says, word for word")
        yield PairVoice(name, tuple(recordings), _text_of(said), consent)


def _questions(folder: Path) -> list[Question]:
    """A spoken question for each audio file, a typed one for each text file without an audio file of its name."""
    if not folder.is_dir():
        return []
    spoken = _audio_of(folder)
    stems = {path.stem for path in spoken}
    typed = [path for path in sorted(folder.glob("*.txt")) if path.stem not in stems]
    found = [Question(path.name, "spoken", recording=path) for path in spoken]
    return [*found, *(Question(path.name, "typed", _text_of(path)) for path in typed)]


def _pairs(file: Path, folder: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(_text_of(file).splitlines(), start=1):
        if line.strip():
            pairs.append(_pair(line, f"{file}, line {number}", folder))
    if not pairs:
        raise FailedPrecondition(f"{file} has no pairs")
    return pairs


def _pair(line: str, where: str, folder: Path) -> Pair:
    """The pair of a line such as {"voice": "amber", "question": "questions/a.wav"}; `text` or `say` instead of it."""
    try:
        told: Any = json.loads(line)
    except ValueError as error:
        raise InvalidArgument(f"{where}: expected JSON: {error}") from None
    kinds = {"question", "text", "say"}
    if not isinstance(told, Mapping) or not all(isinstance(value, str) and value.strip() for value in told.values()):
        raise InvalidArgument(f"{where}: expected an object of texts")
    if set(told) - kinds != {"voice"} or len(told) != 2:
        raise InvalidArgument(f"{where}: expected `voice`, and one of `question`, `text` and `say`")
    if not _VOICE_ID.fullmatch(told["voice"]):
        raise InvalidArgument(f"{where}: expected a voice of 1 to 64 of a-z, 0-9, '-' and '_', got {told['voice']!r}")
    if "question" in told:
        recording = folder / told["question"]
        _check_audio(recording)
        return Pair(Question(recording.name, "spoken", recording=recording), told["voice"])
    text = told.get("text") or told["say"]
    return Pair(Question(shortened(text), "typed" if "text" in told else "given", text), told["voice"])


def _seed_tts(folder: Path, consent: str) -> PairSet:
    """The pairs of a test set of SEED-TTS-EVAL: lines `name|prompt text|prompt file|text to speak`.

    `wavs/NAME.wav`, where it is there, is the speaker's own recording of that text: a second recording of the voice.
    The replies' files are called NAME.wav, as the scripts of that set expect.
    """
    pairs, voices = [], {}
    for number, line in enumerate(_text_of(folder / SEED_TTS).splitlines(), start=1):
        fields = line.strip().split("|")
        if fields == [""]:
            continue
        if len(fields) < 4:
            raise InvalidArgument(f"{folder / SEED_TTS}, line {number}: expected 4 fields with | between, got {line!r}")
        name, said, prompt, text = fields[:4]
        if not _FILE_NAME.fullmatch(name):
            raise InvalidArgument(f"{folder / SEED_TTS}, line {number}: expected a file's name, got {name!r}")
        recording = folder / prompt
        _check_audio(recording)
        voice = re.sub(r"[^a-z0-9_-]", "-", f"eval-{recording.stem.lower()}")[:64]
        own = folder / "wavs" / f"{name}.wav"
        before = voices[voice].recordings[1:] if voice in voices else ()
        others = (own,) if own.is_file() else ()
        voices[voice] = PairVoice(voice, (recording, *before, *others), said, consent)
        pairs.append(Pair(Question(name, "given", text), voice, sound_name=name))
    if not pairs:
        raise FailedPrecondition(f"{folder / SEED_TTS} has no pairs")
    return PairSet(folder.name, pairs, voices)


def shortened(text: str, most: int = 60) -> str:
    """Return `text` on one line, with at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _audio_of(folder: Path) -> Sequence[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for path in found:
        _check_audio(path)
    return found


def _check_audio(path: Path) -> None:
    if not path.is_file():
        raise InvalidArgument(f"{path}: expected an audio file, found none")
    try:
        frames = soundfile.info(path).frames
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or "unknown"
        raise InvalidArgument(f"{path}: expected an audio file ({', '.join(SUFFIXES)}): {reason}") from None
    if not frames:
        raise InvalidArgument(f"{path}: expected an audio file, got one without sound")


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{path}: expected text in UTF-8") from None
    if not text:
        raise InvalidArgument(f"{path}: expected text, got an empty file")
    return text
