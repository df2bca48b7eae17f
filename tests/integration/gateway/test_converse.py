"""Whole turns through the gateway."""

from __future__ import annotations

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import FIRST_ID, REPLY
from tests.support.gateway_client import Client, s16, speech


async def test_a_spoken_turn_comes_back_as_text_and_sound_in_order(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(audio=s16(speech(1.0)))
        await talk.send(commit=pb.CommitTurn())
        answers = await talk.until("turn_done")
        await talk.finish()
    assert answers[0].WhichOneof("response") == "turn_started"
    turn_id = answers[0].turn_started.turn_id
    texts = [answer.text for answer in answers if answer.HasField("text")]
    sounds = [answer.audio for answer in answers if answer.HasField("audio")]
    done = answers[-1].turn_done
    assert [text.text for text in texts] == list(REPLY)
    assert [text.audio_offset_ms for text in texts] == [0, 160, 320, 480, 640]
    assert [sound.pcm.first_sample for sound in sounds] == [1920 * frame for frame in range(12)]
    assert all(len(sound.pcm.data) == 2 * 1920 for sound in sounds)
    assert {text.turn_id for text in texts} | {sound.turn_id for sound in sounds} | {done.turn_id} == {turn_id}
    assert done.outcome == pb.TURN_OUTCOME_COMPLETED
    assert done.recorded
    assert (done.text, done.heard_text) == ("".join(REPLY), "".join(REPLY))
    assert (done.input_audio_s, done.output_audio_s) == (1.0, 12 * 0.08)
    assert (done.input_tokens, done.cached_tokens, done.output_tokens) == (30, 10, len(REPLY) + 1)
    timings = done.timings
    assert timings.heard_s == 0.01
    assert 0 < timings.first_thought_s <= timings.first_frame_s <= timings.first_audio_s <= timings.last_audio_s


async def test_a_turn_whose_speech_ends_before_its_text_tells_how_long_the_prompt_took(
    client: Client, fakes: Fakes
) -> None:
    fakes.reasoner.script.hold_at = 4
    fakes.speech_gen.script.ends_at = 4
    async with client.converse() as talk:
        await talk.send(audio=s16(speech(1.0)))
        await talk.send(commit=pb.CommitTurn())
        done = await talk.done()
    assert (done.outcome, done.recorded) == (pb.TURN_OUTCOME_COMPLETED, True)
    assert (done.text, done.heard_text) == ("Hello, dear world", "Hello, ")
    assert done.timings.heard_s == 0.01
    assert (done.input_tokens, done.cached_tokens, done.output_tokens) == (30, 10, 4)


async def test_an_interrupted_turn_tells_how_long_the_prompt_took(client: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.hold_at = 4
    async with client.converse() as talk:
        await talk.send(text="How?")
        await talk.send(commit=pb.CommitTurn())
        await talk.until("audio")
        await talk.send(cancel=pb.CancelTurn())
        done = await talk.done()
    assert done.outcome == pb.TURN_OUTCOME_INTERRUPTED
    assert (done.timings.heard_s, done.input_tokens, done.cached_tokens) == (0.01, 30, 10)


async def test_thinking_starts_while_the_user_still_speaks(client: Client, fakes: Fakes) -> None:
    samples = speech(0.5)
    script = fakes.reasoner.script
    async with client.converse() as talk:
        await talk.send(audio=s16(samples))
        while not script.heard:
            script.news.clear()
            await script.news.wait()
        assert b"".join(part for part in script.heard if isinstance(part, bytes)) == s16(samples)
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_history_goes_with_the_next_turn_as_it_was_heard_and_said(client: Client, fakes: Fakes) -> None:
    samples = speech(0.5)
    async with client.converse() as talk:
        await talk.send(audio=s16(samples))
        await talk.send(text="and this")
        await talk.send(commit=pb.CommitTurn())
        await talk.done()
        await talk.ask("next")
    user, reply = fakes.reasoner.script.opened[-1].history
    assert [part.WhichOneof("part") for part in user.parts] == ["audio", "text"]
    assert user.parts[0].audio.data == s16(samples)
    assert list(reply.parts[0].token_ids.ids) == [FIRST_ID + index for index in range(len(REPLY))]
