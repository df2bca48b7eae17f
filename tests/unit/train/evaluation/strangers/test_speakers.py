"""Strangers are the held-out voices and a reader of LibriVox, with all of their recordings."""

import json
from pathlib import Path

import pytest

from chroma_voice.local.repository import ROOT
from train.corpus.clip_index import Clip, Role
from train.evaluation.strangers.speakers import engine_of, replies_to, strangers_of


def clip(voice: str, role: Role, text: str, *, held_out: bool = True) -> Clip:
    return Clip(f"replies/{voice}/{text}.wav", voice, text, role, None, 1.0, held_out)


CLIPS = [
    clip("amber", "prompt", "One.", held_out=False),
    clip("kokoro_af_sky", "prompt", "One."),
    clip("flite_kal16", "prompt", "One."),
    clip("kokoro_af_sky", "prompt", "Two."),
    clip("kokoro_af_sky", "reply", "Three."),
]


def test_strangers_have_all_held_out_prompts_and_the_reader_those_of_the_samples() -> None:
    strangers = strangers_of(ROOT, CLIPS, Path("audio"))
    assert {speaker: [prompt.voice_id for prompt in prompts] for speaker, prompts in strangers.items()} == {
        "kokoro_af_sky": ["kokoro_af_sky-1", "kokoro_af_sky-2"],
        "flite_kal16": ["flite_kal16-1"],
        "librivox": ["librivox-1", "librivox-2", "librivox-3"],
    }
    second = strangers["kokoro_af_sky"][1]
    assert (second.recording, second.transcript) == (Path("audio/replies/kokoro_af_sky/Two..wav"), "Two.")
    assert all(prompt.recording.is_file() for prompt in strangers["librivox"])


def test_a_reading_without_a_description_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "audio.json").write_text(json.dumps({}))
    with pytest.raises(KeyError, match="librivox"):
        strangers_of(tmp_path, CLIPS, Path("audio"))


def test_every_sentence_is_spoken_as_every_speaker_after_the_prompts_by_turns() -> None:
    jobs = replies_to(strangers_of(ROOT, CLIPS, Path("audio")), ["a", "b", "c", "d"])
    said = [(job.prompt.voice_id, job.text) for job in jobs]
    assert said[:4] == [(f"kokoro_af_sky-{number}", text) for number, text in ((1, "a"), (2, "b"), (1, "c"), (2, "d"))]
    assert len(said) == 12
    assert said[-1] == ("librivox-1", "d")


@pytest.mark.parametrize(
    ("speaker", "engine"),
    [("kokoro_af_sky", "Kokoro"), ("espeak_en_f2_55", "espeak-ng"), ("flite_kal16", "flite"), ("librivox", "a person")],
)
def test_the_engine_of_a_speaker_is_in_its_name(speaker: str, engine: str) -> None:
    assert engine_of(speaker) == engine
