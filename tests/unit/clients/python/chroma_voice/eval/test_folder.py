"""Folders of pairs are read, and what is wrong with one is said in a line that names the file."""

import json
from pathlib import Path

import pytest

from chroma_voice.errors import FailedPrecondition, InvalidArgument
from chroma_voice.eval.folder import read_folder, sample_pairs, shortened
from tests.support.eval_results import write_folder, write_sound
from tests.support.paths import ROOT


def test_every_question_is_asked_in_every_voice(tmp_path: Path) -> None:
    found = read_folder(write_folder(tmp_path / "mine"))
    assert found.name == "mine"
    assert [(pair.question.name, pair.question.kind, pair.voice) for pair in found.pairs] == [
        ("taco.wav", "spoken", "ann"),
        ("weather.txt", "typed", "ann"),
        ("taco.wav", "spoken", "ben"),
        ("weather.txt", "typed", "ben"),
    ]
    ann = found.voices["ann"]
    assert (ann.transcript, ann.consent) == ("Fold a tortilla.", "Made for tests.")


def test_a_folder_in_voices_is_one_speaker_with_several_recordings(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in ("1.wav", "2.wav"):
        write_sound(tmp_path / "voices" / "cat" / name)
    (tmp_path / "voices" / "cat" / "1.txt").write_text("One.")
    cat = read_folder(tmp_path).voices["cat"]
    assert ([path.name for path in cat.recordings], cat.transcript) == (["1.wav", "2.wav"], "One.")


def test_a_file_of_pairs_says_which(tmp_path: Path) -> None:
    write_folder(tmp_path)
    lines = [{"voice": "ann", "question": "questions/taco.wav"}, {"voice": "amber", "say": "Hello."}]
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(map(json.dumps, [*lines, {"voice": "ben", "text": "What?"}])) + "\n\n"
    )
    found = read_folder(tmp_path).pairs
    assert [(pair.voice, pair.question.kind, pair.question.text) for pair in found] == [
        ("ann", "spoken", ""),
        ("amber", "given", "Hello."),
        ("ben", "typed", "What?"),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "expected JSON"),
        ("[]", "an object of texts"),
        ('{"voice": "ann", "text": ""}', "an object of texts"),
        ('{"voice": "ann", "text": 3}', "an object of texts"),
        ('{"voice": "ann"}', "one of `question`, `text` and `say`"),
        ('{"voice": "ann", "text": "a", "say": "b"}', "one of `question`, `text` and `say`"),
        ('{"text": "a", "say": "b"}', "expected `voice`"),
        ('{"voice": "An n", "text": "a"}', "got 'An n'"),
        ('{"voice": "ann", "question": "none.wav"}', "none.wav: expected an audio file, found none"),
        ('{"voice": "ann", "question": "pairs.jsonl"}', "expected an audio file (.wav"),
    ],
)
def test_a_wrong_line_is_told(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(f'{{"voice": "ann", "text": "fine"}}\n{line}\n')
    with pytest.raises(InvalidArgument) as failure:
        read_folder(tmp_path)
    assert told in failure.value.message
    assert "line 2" in failure.value.message or "audio file" in told


def test_a_test_set_of_seed_tts_eval_is_read(tmp_path: Path) -> None:
    write_sound(tmp_path / "prompt-wavs" / "Common_1.wav")
    write_sound(tmp_path / "wavs" / "u1.wav")
    (tmp_path / "meta.lst").write_text("u1|Said before.|prompt-wavs/Common_1.wav|To say.\n\n")
    found = read_folder(tmp_path)
    [pair] = found.pairs
    assert (pair.question.name, pair.question.kind, pair.question.text) == ("u1", "given", "To say.")
    assert pair.sound_name == "u1"
    voice = found.voices[pair.voice]
    assert (voice.name, voice.transcript) == ("eval-common_1", "Said before.")
    assert [path.name for path in voice.recordings] == ["Common_1.wav", "u1.wav"]
    (tmp_path / "meta.lst").write_text("u1|Said before.\n")
    with pytest.raises(InvalidArgument, match="expected 4 fields"):
        read_folder(tmp_path)
    (tmp_path / "meta.lst").write_text("../u1|Said before.|prompt-wavs/Common_1.wav|To say.\n")
    with pytest.raises(InvalidArgument, match="expected a file's name"):
        read_folder(tmp_path)
    (tmp_path / "meta.lst").write_text("\n\n")
    with pytest.raises(InvalidArgument, match="empty file"):
        read_folder(tmp_path)


def test_a_folder_without_pairs_is_told(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(FailedPrecondition, match="expected files in questions/"):
        read_folder(tmp_path)
    write_sound(tmp_path / "questions" / "a.wav")
    with pytest.raises(FailedPrecondition, match="expected files in voices/"):
        read_folder(tmp_path)


def test_what_is_wrong_with_a_voice_is_told(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_sound(tmp_path / "voices" / "cat.wav")
    with pytest.raises(FailedPrecondition, match=r"cat.txt is missing"):
        read_folder(tmp_path)
    (tmp_path / "voices" / "cat.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="UTF-8"):
        read_folder(tmp_path)
    (tmp_path / "voices" / "cat.wav").rename(tmp_path / "voices" / "The Cat.wav")
    with pytest.raises(InvalidArgument, match="a name of 1 to 64"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"RIFF but no sound"])
def test_a_file_that_is_no_audio_is_told(tmp_path: Path, content: bytes) -> None:
    write_folder(tmp_path)
    (tmp_path / "questions" / "broken.wav").write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"broken.wav: expected an audio file"):
        read_folder(tmp_path)


def test_the_samples_are_pairs_and_only_a_checkout_has_them(tmp_path: Path) -> None:
    found = sample_pairs(ROOT)
    assert {pair.voice for pair in found.pairs} == set(found.voices)
    assert {pair.question.kind for pair in found.pairs} == {"spoken", "typed", "given"}
    assert all(voice.consent and voice.transcript for voice in found.voices.values())
    with pytest.raises(FailedPrecondition, match="only a checkout has sample pairs"):
        sample_pairs(tmp_path)


def test_a_long_text_is_shortened_to_one_line() -> None:
    assert shortened("a  b\nc") == "a b c"
    assert shortened("x" * 80, 10) == "x" * 9 + "…"
