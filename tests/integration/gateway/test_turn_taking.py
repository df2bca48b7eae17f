"""Conversations over gRPC with turn detection, transcripts, or replies in text only."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import soundfile
from grpc import aio

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from services.common.wire.pcm import Samples, encode_pcm
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support import room_sounds
from tests.support.fake_script import FIRST_ID, REPLY
from tests.support.gateway_client import Client, Talk, new_voice, s16
from tests.support.paths import SAMPLES


def utterance() -> Samples:
    """A sentence and a second of silence at 16 kHz."""
    sound, rate_hz = soundfile.read(SAMPLES / "utterance_librivox_3s.flac", dtype="float32")
    assert rate_hz == 16_000
    return np.concatenate([np.asarray(sound, dtype=np.float32), np.zeros(rate_hz, np.float32)])


async def send_audio(talk: Talk, sound: Samples) -> None:
    """Send audio in pieces of 100 ms, as a microphone does."""
    for start in range(0, len(sound), 1_600):
        await talk.send(audio=s16(sound[start : start + 1_600]))


def kinds(answers: list[pb.ConverseResponse]) -> list[str]:
    """The kinds of the responses, without text and audio."""
    found = [str(answer.WhichOneof("response")) for answer in answers]
    return [kind for kind in found if kind not in ("text", "audio")]


async def test_each_utterance_of_a_stream_is_a_turn(client: Client, fakes: Fakes) -> None:
    async with client.converse(turn_detection=pb.TurnDetection()) as talk:
        for _ in range(2):
            await send_audio(talk, utterance())
            answers = await talk.until("turn_done")
            assert kinds(answers) == ["speech_started", "speech_stopped", "turn_started", "turn_done"]
            ids = {getattr(answer, str(answer.WhichOneof("response"))).turn_id for answer in answers}
            assert len(ids) == 1
            assert answers[-1].turn_done.input_audio_s == pytest.approx(3.3, abs=0.4)
    assert len(fakes.reasoner.script.opened[-1].history) == 2


async def test_speech_interrupts_the_reply_unless_the_option_is_off(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 4
    async with client.converse(turn_detection=pb.TurnDetection()) as talk:
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        for _ in range(4):
            await talk.until("audio")
        await send_audio(talk, utterance()[:24_000])
        answers = await talk.until("speech_started")
        (done,) = (answer.turn_done for answer in answers if answer.HasField("turn_done"))
        assert done.outcome == pb.TURN_OUTCOME_INTERRUPTED
        await talk.send(cancel=pb.CancelTurn(turn_id=done.turn_id, played_ms=80))
        fakes.codec.script.hold_at = None
        await send_audio(talk, utterance()[24_000:])
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED
        past = fakes.reasoner.script.opened[-1].history[-1]
        assert list(past.parts[0].token_ids.ids) == [FIRST_ID]
        await talk.send(turn_detection=pb.TurnDetection(interrupt_response=False))
        fakes.codec.script.hold_at, fakes.codec.script.go = 1, type(fakes.codec.script.go)()
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        await send_audio(talk, utterance()[:24_000])
        assert "turn_done" not in kinds(await talk.until("speech_started"))
        fakes.codec.script.go.set()
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_detected_turn_may_be_committed_by_the_client(client: Client) -> None:
    async with client.converse(turn_detection=pb.TurnDetection(create_response=False)) as talk:
        await send_audio(talk, utterance())
        assert kinds(await talk.until("speech_stopped")) == ["speech_started", "speech_stopped"]
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_detection_may_be_switched_off_and_on(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(turn_detection=pb.TurnDetection(silence_duration_ms=300))
        await send_audio(talk, utterance())
        assert kinds(await talk.until("turn_done"))[0] == "speech_started"
        await talk.send(turn_detection=pb.TurnDetection(off=True))
        await send_audio(talk, utterance())
        await talk.send(commit=pb.CommitTurn())
        answers = await talk.until("turn_done")
        assert kinds(answers) == ["turn_started", "turn_done"]
        assert answers[-1].turn_done.input_audio_s == pytest.approx(len(utterance()) / 16_000)


async def test_turn_detection_out_of_range_is_refused(client: Client) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        async with client.converse(turn_detection=pb.TurnDetection(threshold=2)):
            pass
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_text_only_conversations_are_not_spoken(client: Client, fakes: Fakes) -> None:
    before = len(fakes.speech_gen.script.opened)
    async with client.converse(text_only=True) as talk:
        done = await talk.ask("question")
        await talk.ask("next")
    assert (done.text, done.heard_text, done.output_audio_s) == ("".join(REPLY), "".join(REPLY), 0)
    assert len(fakes.speech_gen.script.opened) == before
    assert len(fakes.reasoner.script.opened[-1].history[1].parts[0].token_ids.ids) == len(REPLY)


async def test_the_users_transcript_comes_after_the_reply(start_gateway: StartGateway, fakes: Fakes) -> None:
    async with start_gateway(transcribe=True) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse(transcribe=True) as talk:
            await talk.send(audio=s16(utterance()))
            await talk.send(commit=pb.CommitTurn())
            answers = await talk.until("user_transcript")
            await talk.finish()
    assert kinds(answers) == ["turn_started", "turn_done", "user_transcript"]
    transcript = answers[-1].user_transcript
    assert transcript.turn_id == answers[0].turn_started.turn_id
    assert transcript.text == "".join(REPLY)
    asked = fakes.reasoner.script.opened[-1]
    assert asked.session_id == ""
    assert "speech" in asked.system_prompt
    assert not asked.history


async def test_transcripts_are_refused_where_they_are_off(client: Client) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        async with client.converse(transcribe=True):
            pass
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("encoding", [AUDIO_ENCODING_PCM_S16LE, AUDIO_ENCODING_PCM_F32LE])
@pytest.mark.parametrize("detection", [None, pb.TurnDetection()])
async def test_audio_that_is_cut_within_samples_is_heard_whole(
    client: Client, encoding: AudioEncoding.ValueType, detection: pb.TurnDetection | None
) -> None:
    sound = utterance()
    data = encode_pcm(sound, encoding)
    audio_format = AudioFormat(encoding=encoding, sample_rate_hz=16_000)
    async with client.converse(input_format=audio_format, turn_detection=detection) as talk:
        for start in range(0, len(data), 1_601):
            await talk.send(audio=data[start : start + 1_601])
        if detection is None:
            await talk.send(commit=pb.CommitTurn())
        done = await talk.done()
        assert done.outcome == pb.TURN_OUTCOME_COMPLETED
        if detection is None:
            assert done.input_audio_s == pytest.approx(len(sound) / 16_000)


async def test_a_microphone_that_is_muted_in_mid_speech_ends_the_turn(start_gateway: StartGateway) -> None:
    async with start_gateway(turn_gap_s=0.2) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse(turn_detection=pb.TurnDetection(silence_duration_ms=100)) as talk:
            await send_audio(talk, utterance()[:24_000])
            answers = await talk.until("turn_done")
            assert kinds(answers) == ["speech_started", "speech_stopped", "turn_started", "turn_done"]
            assert answers[-1].turn_done.outcome == pb.TURN_OUTCOME_COMPLETED


async def test_short_sounds_do_not_stop_a_reply(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_at = 4
    sounds = [sound for kind in room_sounds.SHORT.values() for sound in kind()]
    async with client.converse(turn_detection=pb.TurnDetection()) as talk:
        await talk.send(text="question")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        await send_audio(
            talk, room_sounds.in_noise([room_sounds.at_level(sound, -20) for sound in sounds], -60, gap_ms=400)
        )
        fakes.codec.script.go.set()
        answers = await talk.until("turn_done")
        assert kinds(answers) == ["turn_done"]
        assert answers[-1].turn_done.outcome == pb.TURN_OUTCOME_COMPLETED
