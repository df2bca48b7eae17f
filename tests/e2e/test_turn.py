from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from chroma_voice import AudioDelta, TextDelta
from tests.support.local_stack import LONG_SPEECH, QUESTION, VOICE, VOICE_TRANSCRIPT, LocalStack, reply, run

REPLY_S = 2.0


def question() -> tuple[bytes, int]:
    samples, sample_rate_hz = soundfile.read(QUESTION, dtype="int16")
    return samples.tobytes(), sample_rate_hz


def test_talk_command_turns_a_recorded_question_into_text_sound_and_picture(stack: LocalStack, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    sampling = ("--temperature", str(LONG_SPEECH.temperature), "--seed", str(LONG_SPEECH.seed))
    options = ("--voice", VOICE, "--max-seconds", str(REPLY_S), *sampling, "--state", stack.folder.path)
    output = run("talk", QUESTION, *options, "--out", out)
    with wave.open(str(out)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (24_000, int(REPLY_S * 24_000))
        assert np.abs(np.frombuffer(sound.readframes(48_000), dtype="<i2")).max() > 0
    assert out.with_suffix(".txt").read_text().strip()
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.format == "PNG"
    assert "random weights: replies are meaningless" in output
    assert "first sound after" in output


async def test_sound_streams_without_gaps_and_a_second_turn_follows_in_the_same_session(stack: LocalStack) -> None:
    data, sample_rate_hz = question()
    async with (
        stack.client() as client,
        client.conversation(
            voice=VOICE, max_reply_s=REPLY_S, sampling=LONG_SPEECH, input_rate_hz=sample_rate_hz, max_lead_s=0
        ) as talk,
    ):
        for turn in range(2):
            await talk.send_audio(data)
            await talk.commit()
            events, done = await reply(talk)
            assert (done.outcome, done.recorded, done.speech_end) == ("completed", True, "limit")
            sounds = [event for event in events if isinstance(event, AudioDelta)]
            starts = np.cumsum([0, *(len(sound.data) // 2 for sound in sounds)])
            assert [sound.first_sample for sound in sounds] == starts[:-1].tolist()
            assert starts[-1] == REPLY_S * 24_000
            assert len(sounds) > 1
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == done.text
            session = await client.get_session(talk.session.session_id)
            assert [entry.speaker for entry in session.entries] == ["user", "assistant"] * (turn + 1)


async def test_same_seed_gives_the_same_sound(stack: LocalStack) -> None:
    async def ask() -> NDArray[np.int16]:
        async with (
            stack.client() as client,
            client.conversation(voice=VOICE, max_reply_s=1.0, sampling=LONG_SPEECH, max_lead_s=0) as talk,
        ):
            await talk.send_text("How do I make a taco?")
            await talk.commit()
            events, _ = await reply(talk)
            return np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])

    first, second = await ask(), await ask()
    assert len(first) == len(second) == 12 * 1920
    # The codec may take the frames in other groups, which moves a sample across a rounding edge.
    assert np.abs(first.astype(int) - second).max() <= 1


async def test_forced_text_is_spoken(stack: LocalStack) -> None:
    async with (
        stack.client() as client,
        client.conversation(voice=VOICE, max_reply_s=1.0, sampling=LONG_SPEECH, max_lead_s=0) as talk,
    ):
        await talk.say("Good morning.")
        _, done = await reply(talk)
    assert (done.outcome, done.text) == ("completed", "Good morning.")


def test_voice_commands_show_the_enrolled_voice(stack: LocalStack) -> None:
    assert VOICE in run("voice", "list", "--state", stack.folder.path)
    assert VOICE_TRANSCRIPT in run("voice", "show", VOICE, "--state", stack.folder.path)


def test_unknown_voice_is_a_clear_error(stack: LocalStack, tmp_path: Path) -> None:
    options = ("--voice", "nobody", "--state", stack.folder.path, "--out", tmp_path / "reply.wav")
    output = run("talk", "--text", "Hello?", *options, expect=1)
    assert "NOT_FOUND" in output
    assert "nobody" in output


def test_taken_voice_id_is_a_clear_error(stack: LocalStack) -> None:
    options = ("--transcript", "x", "--consent", "x", "--state", stack.folder.path)
    assert "ALREADY_EXISTS" in run("voice", "add", VOICE, QUESTION, *options, expect=1)
