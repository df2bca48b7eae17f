"""What `say` does beside other input, and what a lost call leaves, as dialogue.proto states it."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from chroma.v1 import dialogue_pb2 as pb
from tests.integration.gateway.conftest import Fakes
from tests.support.gateway_client import Client

COMMIT = pb.CommitTurn()


async def test_input_that_is_not_committed_stays_beside_a_given_reply(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(text="question")
        await talk.send(say=pb.Say(text="hello ", end=True))
        said = await talk.done()
        await talk.send(commit=COMMIT)
        answered = await talk.done()
    assert (said.outcome, said.text) == (pb.TURN_OUTCOME_COMPLETED, "hello")
    assert answered.outcome == pb.TURN_OUTCOME_COMPLETED
    assert answered.turn_id != said.turn_id


async def test_text_between_the_pieces_of_a_given_reply_begins_the_next_turn(client: Client, fakes: Fakes) -> None:
    async with client.converse() as talk:
        await talk.send(say=pb.Say(text="one "))
        await talk.send(text="question")
        await talk.send(say=pb.Say(text="two ", end=True))
        said = await talk.done()
        await talk.send(commit=COMMIT)
        answered = await talk.done()
    assert (said.outcome, said.text) == (pb.TURN_OUTCOME_COMPLETED, "one two")
    assert answered.outcome == pb.TURN_OUTCOME_COMPLETED
    assert [piece for piece in fakes.reasoner.script.heard if isinstance(piece, str)] == ["question"]


async def test_a_commit_ends_a_given_reply_whose_further_pieces_are_ignored(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(text="question")
        await talk.send(say=pb.Say(text="one ", verbatim=True))
        await talk.until("audio")
        await talk.send(commit=COMMIT)
        await talk.send(say=pb.Say(text="two ", end=True))
        done = [await talk.done(), await talk.done()]
    by_outcome = {turn.outcome: turn for turn in done}
    assert by_outcome.keys() == {pb.TURN_OUTCOME_INTERRUPTED, pb.TURN_OUTCOME_COMPLETED}
    assert "two" not in by_outcome[pb.TURN_OUTCOME_INTERRUPTED].text


async def test_the_first_piece_of_a_given_reply_interrupts_the_running_one(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.hold_next_call(1)
    async with client.converse() as talk:
        await talk.send(text="question")
        await talk.send(commit=COMMIT)
        await talk.until("audio")
        await talk.send(say=pb.Say(text="hello "))
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_INTERRUPTED
        await talk.send(say=pb.Say(end=True))
        assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_text_is_made_speakable_unless_it_is_to_be_spoken_as_it_is_written(client: Client) -> None:
    async with client.converse() as talk:
        await talk.send(say=pb.Say(text="**7** times 8 ", end=True))
        assert (await talk.done()).text == "seven times eight"
        await talk.send(say=pb.Say(text="**7** times 8", verbatim=True, end=True))
        assert (await talk.done()).text == "**7** times 8"
        await talk.send(say=pb.Say(text="7 mal 8.", language="de-DE", end=True))
        assert (await talk.done()).text == "sieben mal acht."


@pytest.mark.parametrize("verbatim", [False, True])
@pytest.mark.parametrize("pieces", [[" "], ["...", "!"], ["😀"], ["**", "**"]])
async def test_a_text_without_a_letter_or_a_digit_is_refused(client: Client, pieces: list[str], verbatim: bool) -> None:
    async with client.converse() as talk:
        for piece in pieces:
            await talk.send(say=pb.Say(text=piece, verbatim=verbatim))
        await talk.send(say=pb.Say(end=True))
        done = await talk.done()
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED
    assert (done.outcome, done.error.code) == (pb.TURN_OUTCOME_FAILED, StatusCode.INVALID_ARGUMENT.value[0])


async def test_a_lost_call_leaves_the_turns_that_ended_and_nothing_of_the_running_one(
    client: Client, fakes: Fakes
) -> None:
    async with client.converse() as talk:
        ended = await talk.ask("question")
        fakes.codec.script.hold_at = 1
        await talk.send(text="another question")
        await talk.send(commit=COMMIT)
        await talk.until("audio")
        talk.call.cancel()
        session_id = talk.session.session_id
    async with client.converse(session_id=session_id) as again:
        assert {entry.turn_id for entry in again.session.entries} == {ended.turn_id}
