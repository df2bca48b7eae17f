"""ReasonerService over real gRPC, on the golden checkpoint: what it hears, thinks and refuses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from grpc import StatusCode, aio

from chroma.v1.generation_pb2 import END_REASON_GIVEN, END_REASON_LIMIT
from chroma.v1.reasoner_pb2 import (
    REPLY_SOURCE_GIVEN,
    ROLE_ASSISTANT,
    ROLE_USER,
    AudioClip,
    Commit,
    CountPromptRequest,
    ForgetRequest,
    Message,
    Part,
    ThinkRequest,
    TokenIds,
    UserAudio,
)
from reference.thinker import Reply, think
from services.common.errors import ResourceExhausted
from services.common.rpc.rpc_errors import domain_error
from services.reasoner.model.parts import AudioPart, Piece, TextPart, TokenPart, keys_of
from services.reasoner.model.prompt import ChatPrompt
from services.reasoner.model.prompt import Message as PastMessage
from tests.support.think_service import (
    AUDIO,
    IM_END,
    Service,
    assistant,
    commit,
    give,
    golden_with_tokenizer,
    hidden,
    opening,
    say,
    serving,
    sound,
    token_ids,
    tone,
    user,
)

SLOTS = 4
PLACES = 2 * SLOTS
"""Of turns and of transcripts."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_with_tokenizer(tmp_path_factory.mktemp("golden"))


@pytest.fixture
async def service(model: Path) -> AsyncIterator[Service]:
    async with serving(model, slots=SLOTS) as running:
        yield running


def in_process(service: Service, pieces: list[Piece], thoughts: int = 8) -> Reply:
    """The reply of `think`, which knows no service, to the same prompt ids."""
    ids: list[int] = []
    clips = [piece.pcm for piece in pieces if isinstance(piece, AudioPart)]
    for piece in pieces:
        ids += [AUDIO] * len(piece.keys) if isinstance(piece, AudioPart) else piece
    return think(service.thinker, ids, clips, thoughts)


async def assert_equal_in_process(service: Service, requests: list[ThinkRequest], pieces: list[Piece]) -> None:
    """The service's thoughts: in value those of `think`, in bits those of its own engine."""
    expected = in_process(service, pieces)
    made = len(service.runner.hidden)
    thoughts, done = await service.think(requests)
    assert token_ids(thoughts) == expected.token_ids
    assert torch.equal(hidden(thoughts), torch.stack(service.runner.hidden[made:]))
    torch.testing.assert_close(hidden(thoughts), expected.hidden, atol=1e-5, rtol=0)
    assert done.prompt_tokens == len(keys_of(pieces))


async def test_text_turn_equals_in_process_thinking(service: Service) -> None:
    prompt = ChatPrompt(service.template, "Be brief.", [])
    pieces = [*prompt.text("What time is it?"), *prompt.close()]
    requests = [opening(system_prompt="Be brief."), say("What time "), say("is it?"), commit()]
    await assert_equal_in_process(service, requests, pieces)


@pytest.mark.parametrize("seed", range(3))
async def test_spoken_turn_equals_in_process_thinking_however_it_is_cut(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    clip = tone(4.3) + torch.randn(int(4.3 * 16_000), generator=torch.Generator().manual_seed(seed)) * 0.01
    sizes: list[int] = []
    while sum(sizes) < len(clip):
        sizes.append(min(rng.choice([1, 160, 1_920, 3_333, 40_000]), len(clip) - sum(sizes)))
    prompt = ChatPrompt(service.template, None, [])
    pieces = [*prompt.begin_audio(), AudioPart(clip), *prompt.end_audio(), *prompt.close()]
    await assert_equal_in_process(
        service, [opening(), *(sound(piece) for piece in clip.split(sizes)), commit()], pieces
    )


async def test_two_recordings_in_a_turn_are_heard_apart(service: Service) -> None:
    first, second = tone(1.2), tone(0.7, 440.0)
    prompt = ChatPrompt(service.template, None, [])
    pieces = [
        *prompt.begin_audio(),
        AudioPart(first),
        *prompt.end_audio(),
        *prompt.begin_audio(),
        AudioPart(second),
        *prompt.end_audio(),
    ]
    pieces += prompt.close()
    requests = [opening(), sound(first[:999]), sound(first[999:], end_of_part=True), sound(second), commit()]
    await assert_equal_in_process(service, requests, pieces)


async def test_the_last_message_of_a_turn_may_end_it(service: Service) -> None:
    clip = tone(1.2)
    for parted, joined in (
        ([sound(clip[:999]), sound(clip[999:]), commit()], [sound(clip[:999]), sound(clip[999:], ends_turn=True)]),
        ([sound(clip), say("Listen."), commit()], [sound(clip), say("Listen.", ends_turn=True)]),
    ):
        expected, _ = await service.think([opening(), *parted])
        thoughts, _ = await service.think([opening(), *joined])
        assert [(made.token_id, made.hidden.data) for made in thoughts] == [
            (made.token_id, made.hidden.data) for made in expected
        ]


async def test_history_of_text_audio_and_token_ids_is_taken_as_it_is(service: Service) -> None:
    question, reply = tone(1.5), (5, 6, 7, 8)
    history = [
        PastMessage("user", (TextPart("Listen:"), AudioPart(question))),
        PastMessage("assistant", (TokenPart(reply),)),
    ]
    prompt = ChatPrompt(service.template, None, history)
    pieces = [*prompt.text("And now?"), *prompt.close()]
    past = [user("Listen:", question), assistant([*reply, IM_END])]
    await assert_equal_in_process(service, [opening(history=past), say("And now?"), commit()], pieces)


async def test_text_of_the_thoughts_joins_to_the_text_of_the_reply(service: Service) -> None:
    thoughts, done = await service.think([opening(max_thoughts=6), sound(tone(1.0)), commit()])
    expected = service.template.tokenizer.decode([t for t in token_ids(thoughts) if t != IM_END])
    assert "".join(thought.text for thought in thoughts) == expected
    assert len(thoughts) == 6
    assert done.reason == END_REASON_LIMIT
    assert done.audio_s == 1.0


@pytest.mark.parametrize("with_turn", [True, False])
async def test_given_reply_is_thought_as_given(service: Service, with_turn: bool) -> None:
    text = "Good morning! How are you?"
    turn = [say("Hello"), commit()] if with_turn else [commit()]
    requests = [
        opening(reply_source=REPLY_SOURCE_GIVEN, max_thoughts=None),
        *turn,
        *(give(text[at : at + 4]) for at in range(0, len(text), 4)),
    ]
    thoughts, done = await service.think(requests)
    ids = service.template.tokenizer.encode(text)
    assert "".join(thought.text for thought in thoughts) == text
    assert token_ids(thoughts) == [*ids, IM_END]
    assert done.reason == END_REASON_GIVEN

    prompt = ChatPrompt(service.template, None, [])
    pieces = [*prompt.text("Hello"), *prompt.close()] if with_turn else prompt.close()
    for index in (0, len(ids) // 2, len(ids)):  # each state is that of a prompt that ends there
        alone = in_process(service, [*pieces, ids[:index]], thoughts=1)
        torch.testing.assert_close(hidden(thoughts)[index], alone.hidden[0], atol=1e-5, rtol=0)


async def test_turns_at_once_give_what_each_gives_alone(service: Service) -> None:
    clips = [tone(1.0 + 0.4 * n, 200.0 + 50 * n) for n in range(SLOTS)]
    alone = [await service.think([opening(), sound(clip), commit()]) for clip in clips]
    together = await asyncio.gather(*(service.think([opening(), sound(clip), commit()]) for clip in clips))
    for (left, _), (right, _) in zip(alone, together, strict=True):
        assert token_ids(left) == token_ids(right)
        torch.testing.assert_close(hidden(left), hidden(right), atol=1e-5, rtol=0)


async def test_next_turn_of_a_session_prefills_only_what_is_new(service: Service, model: Path) -> None:
    question = tone(1.5) * torch.linspace(1.0, 0.5, 24_000)
    pages = service.runner.kv.free_pages
    first, done = await service.think([opening(session_id="s"), sound(question), commit()])
    past = [user(question), assistant(token_ids(first))]
    next_turn = [opening(session_id="s", history=past), say("And now?"), commit()]
    second, again = await service.think(next_turn)
    assert (done.cached_tokens, again.cached_tokens) == (0, (done.prompt_tokens + len(first) - 1) // 16 * 16)
    assert service.runner.kv.free_pages + service.runner.prefixes.pages == pages

    async with serving(model) as cold:
        expected, whole = await cold.think(next_turn)
    assert whole.cached_tokens == 0
    assert token_ids(second) == token_ids(expected)
    torch.testing.assert_close(hidden(second), hidden(expected), atol=1e-5, rtol=0)


SECRET = "You tell no one that the code of the northern door is 7391 and that of the southern door is 2846."


async def test_another_tenants_guess_finds_nothing_and_the_own_tenant_finds_whole_pages(service: Service) -> None:
    async def cached(**fields: str) -> int:
        turn = [opening(audio=False, max_thoughts=8, system_prompt=SECRET, **fields), say("hello"), commit()]
        return (await service.think(turn))[1].cached_tokens

    assert await cached(session_id="s", cache_scope="one") == 0
    assert await cached(cache_scope="two") == 0
    assert await cached(session_id="t") == 0
    assert await cached() == 0
    again = await cached(cache_scope="one")
    assert again > 0
    assert again % 16 == 0


async def test_the_deployments_prompt_is_shared_by_all_tenants(service: Service) -> None:
    """The words of the template's default system prompt fill a page."""
    turns = [
        [opening(audio=False, session_id=tenant, cache_scope=tenant), say(f"I am {tenant}"), commit()]
        for tenant in ("one", "two")
    ]
    common = ChatPrompt(service.template, None, []).common_positions // 16 * 16
    counts = [(await service.think(turn))[1].cached_tokens for turn in turns]
    assert counts == [0, common]


@pytest.mark.parametrize("subject", [{"session_id": "s"}, {"cache_scope": "one"}])
async def test_a_forgotten_session_or_tenant_is_gone_from_the_replica(
    subject: dict[str, str], service: Service
) -> None:
    turn = [opening(audio=False, session_id="s", cache_scope="one", system_prompt=SECRET), say("hello"), commit()]
    await service.think(turn)
    assert service.runner.prefixes.pages > 0
    for _ in range(2):
        await service.stub.Forget(ForgetRequest(**subject))
        assert service.runner.prefixes.pages == 0
        assert not service.runner.kv.k.any()
    assert (await service.think(turn))[1].cached_tokens == 0
    assert service.runner.prefixes.pages == 0, "a late turn leaves nothing either"


async def test_forgetting_needs_a_session_or_a_tenant(service: Service) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await service.stub.Forget(ForgetRequest())
    assert refused.value.code() == StatusCode.INVALID_ARGUMENT


async def test_a_turn_that_is_not_to_be_kept_leaves_no_page(service: Service) -> None:
    await service.think([opening(session_id="s", cache_scope="one", keep=False), sound(tone(1.0)), commit()])
    assert service.runner.prefixes.pages == 0
    assert not service.runner.kv.k.any()


async def test_the_positions_of_a_prompt_are_counted_as_a_turn_takes_them(service: Service) -> None:
    async def count(prompt: str) -> int:
        return (await service.stub.CountPrompt(CountPromptRequest(system_prompt=prompt))).tokens

    async def taken(prompt: str) -> int:
        _, done = await service.think([opening(system_prompt=prompt, audio=False), say("Hello"), commit()])
        return done.prompt_tokens

    short, long = "Be brief.", "You are a guide of the museum. " * 5
    assert await count(long) - await count(short) == await taken(long) - await taken(short) > 20
    assert 0 < await count("") < await count(short) < await taken(short)
    assert (await service.stub.CountPrompt(CountPromptRequest())).tokens > 0
    assert service.runner.kv.free_slots == PLACES
    with pytest.raises(aio.AioRpcError, match="shorten the system prompt") as refused:
        await count("word " * 4_000)
    assert refused.value.code() == StatusCode.OUT_OF_RANGE


NAN = torch.tensor([0.0, float("nan")] * 500)


def _bad_turns() -> dict[str, tuple[list[ThinkRequest], str, str]]:
    invalid, out_of_range = "INVALID_ARGUMENT", "OUT_OF_RANGE"
    clip = sound(tone(0.5))
    given = opening(reply_source=REPLY_SOURCE_GIVEN)  # such a reply waits for its text, so the stream is still open

    def with_history(*history: Message) -> list[ThinkRequest]:
        return [opening(history=history), say("Hello"), commit()]

    return {
        "nothing": ([], invalid, "got the end of the stream"),
        "no open": ([say("Hello"), commit()], invalid, "expected `open` as the first message, got `text`"),
        "open twice": ([opening(), opening()], invalid, "expected `open` once"),
        "empty message": ([opening(), ThinkRequest()], invalid, "got an empty one"),
        "no commit": ([opening(), say("Hello")], invalid, "without a commit"),
        "commit twice": ([given, say("Hello"), commit(), commit()], invalid, "no commit after the commit"),
        "commit after the end": (
            [given, say("Hello", ends_turn=True), commit()],
            invalid,
            "no commit after the commit",
        ),
        "end in a commit": ([opening(), ThinkRequest(commit=Commit(), ends_turn=True)], invalid, "got it in `commit`"),
        "audio after commit": ([given, clip, commit(), clip], invalid, "no audio after the commit"),
        "audio without encoding": ([opening(audio=False), clip, commit()], invalid, "no `audio_encoding`"),
        "unknown encoding": ([ThinkRequest(open={"audio_encoding": 9}), commit()], invalid, "encoding"),  # pyright: ignore[reportArgumentType]
        "NaN": ([opening(), sound(NAN), commit()], invalid, "got nan at sample 1"),
        "ragged audio": ([opening(), ThinkRequest(audio=UserAudio(data=b"123")), commit()], invalid, "got 3"),
        "empty text": ([opening(), say(""), commit()], invalid, "turn is empty"),
        "too little audio": ([opening(), sound(tone(0.01)), commit()], invalid, "321 samples"),
        "silence": ([opening(), sound(torch.zeros(16_000)), commit()], invalid, "silent"),
        "audio too long": ([opening(), sound(tone(7.0)), commit()], out_of_range, "at most 6 s"),
        "audio too long in pieces": ([opening(), *[sound(tone(1.0))] * 7, commit()], out_of_range, "at most 6 s"),
        "text too long": ([opening(), say("word " * 400), commit()], out_of_range, "drop the oldest turns"),
        "text far too long": ([opening(), say("word " * 4_000), commit()], out_of_range, "characters"),
        "given text unasked": ([opening(), say("Hello"), give("Hi"), commit()], invalid, "given"),
        "given text before commit": (
            [given, give("Hi"), commit()],
            invalid,
            "must follow the commit",
        ),
        "max_thoughts 0": ([opening(max_thoughts=0), say("Hello"), commit()], invalid, "at least 1, got 0"),
        "role missing": (with_history(Message(parts=[Part(text="Hi")])), invalid, "history message 0: expected ROLE"),
        "role unknown": (with_history(Message(role=7, parts=[Part(text="Hi")])), invalid, "number 7"),  # pyright: ignore[reportArgumentType]
        "message without parts": (with_history(user()), invalid, "history message 0"),
        "empty part": (with_history(Message(role=ROLE_USER, parts=[Part()])), invalid, "history message 0"),
        "assistant audio": (
            with_history(Message(role=ROLE_ASSISTANT, parts=user(tone(0.5)).parts)),
            invalid,
            "history message 0 of the assistant has audio",
        ),
        "id out of vocabulary": (with_history(user("Hi"), assistant([640])), invalid, "history message 1: expected"),
        "history NaN": (with_history(user(NAN)), invalid, "got nan at sample 1"),
        "history silence": (with_history(user(torch.zeros(9_000))), invalid, "silent"),
        "history clip without encoding": (
            with_history(Message(role=ROLE_USER, parts=[Part(audio=AudioClip(data=b"12"))])),
            invalid,
            "encoding",
        ),
        "history clip too long": (with_history(user(tone(7.0))), out_of_range, "at most 6 s"),
        "history too long": (
            with_history(user("Hi"), Message(role=ROLE_ASSISTANT, parts=[Part(token_ids=TokenIds(ids=[5] * 600))])),
            out_of_range,
            "drop the oldest turns",
        ),
        "history audio too long together": (with_history(*[user(tone(5.0))] * 5), out_of_range, "drop the oldest"),
    }


@pytest.mark.parametrize("name", _bad_turns())
async def test_a_bad_turn_is_refused_and_the_next_one_served(service: Service, name: str) -> None:
    requests, status, complaint = _bad_turns()[name]
    good = [opening(max_thoughts=3), say("Hello"), commit()]
    expected, _ = await service.think(good)
    with pytest.raises(aio.AioRpcError) as caught:
        await service.think(requests)
    assert (caught.value.code().name, complaint in (caught.value.details() or "")) == (status, True), caught.value
    thoughts, _ = await service.think(good)
    assert token_ids(thoughts) == token_ids(expected)
    torch.testing.assert_close(hidden(thoughts), hidden(expected), atol=1e-5, rtol=0)
    assert service.runner.kv.free_slots == PLACES


@pytest.mark.parametrize("committed", [False, True])
async def test_a_caller_that_hangs_up_frees_slot_and_pages(service: Service, committed: bool) -> None:
    pages = service.runner.kv.free_pages
    call = service.stub.Think()
    await call.write(opening(max_thoughts=400))
    await call.read()
    assert service.runner.kv.free_slots == PLACES - 1
    await call.write(sound(tone(3.0)))
    if committed:
        await call.write(commit())
        await call.read()
    call.cancel()
    await service.until_idle(PLACES)
    assert service.runner.kv.free_pages == pages


async def test_a_full_reasoner_says_when_to_retry_and_serves_again(model: Path) -> None:
    async with serving(model, slots=1) as service:
        call = service.stub.Think()
        await call.write(opening())
        await call.read()
        with pytest.raises(aio.AioRpcError) as caught:
            await service.think([opening(), say("Hello"), commit()])
        error = domain_error(caught.value)
        assert isinstance(error, ResourceExhausted)
        assert error.retry_after_s > 0
        assert "retry-after-ms" in dict(caught.value.trailing_metadata() or ())
        call.cancel()
        await service.until_idle(1)
        thoughts, _ = await service.think([opening(), say("Hello"), commit()])
        assert thoughts[-1].last
