"""One turn through the engine: conversations, given replies, louder ends, limits, bad input."""

from __future__ import annotations

import asyncio

import pytest
import torch

from reference.thinker import think
from services.common.errors import ChromaError, InvalidArgument, OutOfRange
from services.reasoner.messages import Audio, Commit, Done, ForcedText, Text, Thought, TurnInput, TurnOpen
from services.reasoner.model.parts import AudioPart, Message, Piece, TextPart, TokenPart
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.rendered import encode_rendered
from tests.support.thinking import (
    Turn,
    assert_all_freed,
    assert_same_thoughts,
    feed_all,
    ids_of,
    new_runner,
    opened,
    running,
    take_turn,
    tone,
    turn,
)


async def test_louder_end_of_a_recording_redoes_rows_already_prefilled(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    generator = torch.Generator().manual_seed(7)
    quiet = torch.randn(70_000, generator=generator) * 1e-4
    quiet[:20_000] = 0
    clip = torch.cat([quiet, torch.randn(30_000, generator=generator) * 0.5])
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner) as engine:
        whole, first = await take_turn(engine, turn(template), [Audio(clip), Commit()])
        runner.reached.clear()
        async with opened(engine, turn(template)) as stream:
            await stream.feed(Audio(quiet))
            await asyncio.to_thread(runner.reached.wait)
            await feed_all(stream, [Audio(clip[70_000:]), Commit()])
            *pieces, second = [output async for output in stream]
    assert isinstance(second, Done)
    assert first.recomputed_chunks == 0
    assert second.recomputed_chunks == 2
    assert_same_thoughts(whole, [thought for thought in pieces if isinstance(thought, Thought)])


async def test_conversation_equals_one_prefill_of_the_whole(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    question, more = tone(2.5), tone(1.0, 400.0)
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        first, _ = await take_turn(engine, turn(template), [Audio(question), Commit()])
        reply = tuple(thought.token_id for thought in first)
        history = [Message("user", (AudioPart(question),)), Message("assistant", (TokenPart(reply),))]
        second, done = await take_turn(
            engine, turn(template, history), [Text("And "), Text("now?"), Audio(more), Commit()]
        )

    prompt = ChatPrompt(template, None, history)
    pieces = [*prompt.opening(), *prompt.text("And now?"), *prompt.begin_audio(), AudioPart(more)]
    pieces += [*prompt.end_audio(), *prompt.close()]
    ids = ids_of(pieces)
    whole = think(golden_thinker, ids, [question, more], 8)
    assert [thought.token_id for thought in second] == whole.token_ids
    torch.testing.assert_close(torch.stack([t.hidden for t in second]), whole.hidden, atol=1e-4, rtol=0)
    assert done.usage.prompt_tokens == len(ids)
    assert done.audio_s == 1.0


@pytest.mark.parametrize("samples", [32_000, 32_001, 32_320, 32_321])
async def test_last_chunk_too_short_for_a_row_is_left_out(
    samples: int, golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    clip = tone(3.0)[:samples]
    prompt = ChatPrompt(template, None, [])
    pieces = [*prompt.begin_audio(), AudioPart(clip), *prompt.end_audio(), *prompt.text("What?"), *prompt.close()]
    async with running(new_runner(golden_thinker, tokenizer, max_prefill=256)) as engine:
        thoughts, _ = await take_turn(engine, turn(template), [Audio(clip), Text("What?"), Commit()])
    whole = think(golden_thinker, ids_of(pieces), [clip], 8)
    assert ids_of(pieces).count(600) == (50 if samples < 32_321 else 51)
    assert [thought.token_id for thought in thoughts] == whole.token_ids


async def test_given_reply_of_the_generated_text_gives_the_same_thoughts(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    text = "Good morning! How are you today?"
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        inputs = [Text("What?"), Commit(), *(ForcedText(piece) for piece in pieces)]
        given, done = await take_turn(engine, turn(template, forced=True, max_thoughts=None), inputs)
    assert [thought.token_id for thought in given] == [*tokenizer.encode(text), 608]
    assert "".join(thought.text for thought in given) == text
    assert done.reason == "forced"
    prompt = ChatPrompt(template, None, [])
    ids = ids_of([*prompt.text("What?"), *prompt.close()])
    for count in (0, 3):  # the hidden state of a given thought is the one that would have chosen it
        expected = think(golden_thinker, ids + [t.token_id for t in given[:count]], [], 1)
        torch.testing.assert_close(given[count].hidden, expected.hidden[0], atol=1e-4, rtol=0)


async def test_generated_reply_given_back_as_ids_keeps_its_hidden_states(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    class Replay(Tokenizer):
        """Reads a decimal number as the token of that id."""

        def __init__(self) -> None:
            self.token_bytes = tokenizer.token_bytes

        def encode(self, text: str) -> list[int]:
            return [int(word) for word in text.split()]

    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        generated, _ = await take_turn(engine, turn(template), [Audio(tone(1.0)), Commit()])
    text = " ".join(str(thought.token_id) for thought in generated)
    async with running(new_runner(golden_thinker, Replay())) as engine:
        inputs = [Audio(tone(1.0)), Commit(), ForcedText(text)]
        given, _ = await take_turn(engine, turn(template, forced=True, max_thoughts=8), inputs)
    assert_same_thoughts(generated, given)


async def test_greeting_needs_no_turn_of_the_user(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        thoughts, done = await take_turn(
            engine, turn(template, forced=True, max_thoughts=None), [Commit(), ForcedText("Hi.")]
        )
    assert "".join(thought.text for thought in thoughts) == "Hi."
    assert done.usage.prompt_tokens == len(ids_of(ChatPrompt(template, None, []).close()))


async def test_reply_ends_at_the_last_position(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    prompt = ChatPrompt(template, None, [])
    rows = len(ids_of([*prompt.text("What?"), *prompt.close()]))
    async with running(new_runner(golden_thinker, tokenizer, max_positions=rows + 3)) as engine:
        thoughts, done = await take_turn(engine, turn(template, max_thoughts=None), [Text("What?"), Commit()])
    assert done.reason == "positions"
    assert len(thoughts) == 4
    assert thoughts[-1].last


class Bare:
    """A prompt that is a few ids before the first recording, and nothing else: the commit adds no row."""

    common_positions = 0

    def __init__(self, ids: list[int]) -> None:
        self._ids: list[Piece] = [ids]

    def opening(self) -> list[Piece]:
        ids, self._ids = self._ids, []
        return ids

    def text(self, text: str, /) -> list[Piece]:
        return []

    def begin_audio(self) -> list[Piece]:
        return []

    def end_audio(self) -> list[Piece]:
        return []

    def close(self) -> list[Piece]:
        return []


@pytest.mark.parametrize("keep_prefix", [False, True])
async def test_a_commit_that_adds_no_row_is_answered_from_the_last_row_there_is(
    keep_prefix: bool, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    ids, clip = [5, 6, 7, 8], tone(2.0)
    runner = new_runner(golden_thinker, tokenizer)
    whole = think(golden_thinker, [*ids, *[600] * 50], [clip], 4)
    async with running(runner) as engine:
        for _ in range(2):
            bare = Turn(TurnOpen(max_thoughts=4, keep_prefix=keep_prefix), Bare(ids))
            async with opened(engine, bare) as stream:
                await stream.feed(Audio(clip, end_of_part=True))
                slot = stream.state.slot
                while runner.kv.lengths[slot] < 54:  # noqa: ASYNC110  # the engine's thread sets no event of ours
                    await asyncio.sleep(0.001)
                await stream.feed(Commit())
                stream.finish()
                outputs = [output async for output in stream]
            assert [output.token_id for output in outputs if isinstance(output, Thought)] == whole.token_ids
    runner.prefixes.evict(runner.kv.pages)
    assert_all_freed(runner)


async def test_a_prompt_without_any_row_is_refused(golden_thinker: Thinker, tokenizer: Tokenizer) -> None:
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        with pytest.raises(InvalidArgument, match="renders nothing for this turn"):
            await take_turn(engine, Turn(TurnOpen(max_thoughts=4), Bare([])), [Text("What?"), Commit()])


BAD_TURNS: list[tuple[list[TurnInput], type[ChromaError], str]] = [
    ([Text(""), Commit()], InvalidArgument, "the turn is empty"),
    ([Audio(torch.zeros(0)), Commit()], InvalidArgument, "needs 321 samples at 16000 Hz or more, found 0"),
    ([Audio(torch.zeros(16_000)), Commit()], InvalidArgument, "is silent"),
    ([Audio(torch.full((320,), 0.1)), Commit()], InvalidArgument, "found 320"),
    ([Audio(torch.tensor([0.0, torch.nan])), Commit()], InvalidArgument, "NaN or infinity"),
    ([Audio(torch.tensor([torch.inf])), Commit()], InvalidArgument, "NaN or infinity"),
    ([Text("What?"), Commit(), Commit()], InvalidArgument, "no commit after the commit"),
    ([Text("What?"), Commit(), Text("you")], InvalidArgument, "no text after the commit"),
    ([Text("What?"), Commit(), ForcedText("you")], InvalidArgument, "given text must follow"),
    ([Text("What?")], InvalidArgument, "ended without a commit"),
    ([Text("Hello " * 1_000), Commit()], OutOfRange, "the reasoner has 512: drop the oldest turns"),
    (
        [Text("Hello " * 700), Text("Hello " * 700)],
        OutOfRange,
        "8400 characters of text or more, expected",
    ),
    ([Audio(torch.rand(600_000)), Commit()], OutOfRange, "the reasoner has 512"),
]


@pytest.mark.parametrize(
    "history", [(), (Message("user", (TextPart("What?"),)), Message("assistant", (TextPart("A"),)))]
)
async def test_commit_without_a_turn_of_the_user_is_answered_from_the_history(
    history: tuple[Message, ...], golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    rendered = "<|im_start|>system\nBe brief.<|im_end|>\n"
    if history:
        rendered += "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    prompt = encode_rendered(tokenizer, rendered + "<|im_start|>assistant\n")
    expected = think(golden_thinker, prompt, [], 4)
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        thoughts, done = await take_turn(
            engine, turn(template, history, system_prompt="Be brief.", max_thoughts=4), [Commit()]
        )
    assert [thought.token_id for thought in thoughts] == expected.token_ids
    assert done.usage.prompt_tokens == len(prompt)


@pytest.mark.parametrize(("inputs", "error", "message"), BAD_TURNS)
async def test_bad_input_ends_its_turn_with_a_clear_error(
    inputs: list[TurnInput],
    error: type[ChromaError],
    message: str,
    golden_thinker: Thinker,
    tokenizer: Tokenizer,
    template: ChatTemplate,
) -> None:
    runner = new_runner(golden_thinker, tokenizer)
    async with running(runner) as engine, opened(engine, turn(template, max_thoughts=None)) as bystander:
        await bystander.feed(Text("What?"))
        with pytest.raises(error, match=message):
            await take_turn(engine, turn(template, max_thoughts=None), inputs)
        await feed_all(bystander, [Commit()])
        assert [output async for output in bystander]
    assert_all_freed(runner)


@pytest.mark.parametrize("max_thoughts", [0, -1])
async def test_limit_no_reply_can_keep_is_refused(
    max_thoughts: int, golden_thinker: Thinker, tokenizer: Tokenizer
) -> None:
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        with pytest.raises(InvalidArgument, match="max_thoughts: expected 1 or more"):
            async with engine.open(TurnOpen(max_thoughts=max_thoughts)):
                pass


async def test_unknown_token_in_the_history_ends_the_turn(
    golden_thinker: Thinker, tokenizer: Tokenizer, template: ChatTemplate
) -> None:
    history = [Message("user", (TextPart("Hi"),)), Message("assistant", (TokenPart((640,)),))]
    async with running(new_runner(golden_thinker, tokenizer)) as engine:
        with pytest.raises(InvalidArgument, match="token id 640 is outside the vocabulary of 640"):
            await take_turn(engine, turn(template, history), [Text("What?"), Commit()])
