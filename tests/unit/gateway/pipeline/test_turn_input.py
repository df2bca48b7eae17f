"""What goes into a turn, what the Think call gets of it, and what makes the turn fail."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioEncoding, AudioFormat
from chroma.v1.reasoner_pb2 import ThinkRequest
from gateway.pipeline.turn_input import ForcedReply, NoInput, TurnInput, UserInput
from services.common.errors import InvalidArgument, OutOfRange

FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
LOUD = np.full(1_600, 0.5, dtype=np.float32)
SILENCE = np.zeros(1_600, dtype=np.float32)


def _user_input(*, max_audio_s: float = 10, max_chars: int = 100) -> UserInput:
    return UserInput(FORMAT, max_audio_s=max_audio_s, max_chars=max_chars)


async def _requests(source: TurnInput) -> list[ThinkRequest]:
    return [request async for request in source.requests()]


def _kinds(requests: list[ThinkRequest]) -> list[str]:
    return ["end_of_part" if request.audio.end_of_part else str(request.WhichOneof("request")) for request in requests]


async def test_parts_come_in_order_and_two_recordings_in_a_row_are_parted() -> None:
    source = _user_input()
    source.add_text("look:")
    source.add_samples(LOUD)
    source.end_audio()
    source.add_samples(LOUD)
    source.commit()
    requests = await _requests(source)
    assert _kinds(requests) == ["text", "audio", "end_of_part", "audio", "commit"]
    assert _kinds(await _requests(source)) == _kinds(requests), "the requests can be made again from the beginning"


async def test_requests_follow_the_input_as_it_comes() -> None:
    source = _user_input()
    requests = source.requests()
    first = asyncio.ensure_future(anext(requests))
    await asyncio.sleep(0)
    for _ in range(4):
        source.add_samples(LOUD)
    await asyncio.sleep(0)
    assert not first.done(), "0.4 s wait for more speech"
    source.add_samples(LOUD)
    assert len((await first).audio.data) == 16_000
    source.add_samples(LOUD)
    source.commit()
    assert len((await anext(requests)).audio.data) == 3_200, "the rest waits no longer than the commit"
    assert (await anext(requests)).HasField("commit")
    await requests.aclose()


def test_no_samples_after_the_last_word_make_no_empty_recording() -> None:
    source = _user_input()
    source.add_samples(LOUD)
    source.end_audio()
    source.add_samples(LOUD[:0])  # what turn detection has left when it has found the end already
    source.commit()
    assert [len(part) for part in source.parts] == [3_200]


async def test_the_last_message_of_a_turn_ends_it_where_the_replica_takes_that() -> None:
    for add in (lambda source: source.add_samples(LOUD), lambda source: source.add_text("hello")):
        source = _user_input()
        source.add_text("listen:")
        add(source)
        source.commit()
        requests = [request async for request in source.requests(lambda: True)]
        assert [request.ends_turn for request in requests] == [False, True]
        assert not any(request.HasField("commit") for request in requests)


async def test_a_commit_that_comes_after_the_last_message_is_one_of_its_own() -> None:
    source = _user_input()
    source.add_text("hello")
    requests = source.requests(lambda: True)
    assert not (await anext(requests)).ends_turn
    source.commit()
    assert [request.WhichOneof("request") async for request in requests] == ["commit"]


async def test_a_turn_that_fails_at_its_commit_is_never_ended() -> None:
    source = _user_input()
    source.add_samples(SILENCE)
    source.commit()
    requests, sent = source.requests(lambda: True), list[ThinkRequest]()
    with pytest.raises(InvalidArgument, match="silence"):
        sent.extend([request async for request in requests])
    assert not any(request.ends_turn for request in sent)


async def test_dropped_audio_leaves_nothing_behind() -> None:
    source = _user_input()
    source.add_samples(SILENCE)
    source.drop_audio()
    source.add_text("typed instead")
    source.commit()
    assert source.audio_s == 0
    assert _kinds(await _requests(source)) == ["text", "commit"], "the dropped silence does not make the turn silent"


async def test_an_empty_turn_fails() -> None:
    source = _user_input()
    source.commit()
    with pytest.raises(InvalidArgument, match="empty turn"):
        await _requests(source)


async def test_a_silent_turn_fails() -> None:
    source = _user_input()
    source.add_samples(SILENCE)
    source.commit()
    with pytest.raises(InvalidArgument, match="silence"):
        await _requests(source)


async def test_one_loud_second_after_a_silent_one_makes_no_silent_turn() -> None:
    source = _user_input()
    source.add_samples(np.zeros(16_000, np.float32))
    source.end_audio()
    source.add_samples(np.full(16_000, 0.01, np.float32))
    source.commit()
    assert _kinds(await _requests(source))[-1] == "commit"


@pytest.mark.parametrize(("encoding", "kind"), [(AUDIO_ENCODING_PCM_S16LE, "<i2"), (AUDIO_ENCODING_PCM_F32LE, "<f4")])
async def test_audio_at_the_reasoners_rate_is_kept_as_it_came(encoding: AudioEncoding.ValueType, kind: str) -> None:
    data = (np.linspace(-1, 1, 1_601) * (32_767 if kind == "<i2" else 1)).astype(kind).tobytes()
    source = UserInput(AudioFormat(encoding=encoding, sample_rate_hz=16_000), max_audio_s=5, max_chars=10)
    source.add_audio(data)
    source.add_audio(b"")
    source.commit()
    assert bytes(source.parts[0]) == data  # pyright: ignore[reportArgumentType]
    assert source.audio_s == pytest.approx(1_601 / 16_000)


async def test_a_float_that_is_no_number_fails_the_turn_at_any_rate() -> None:
    for rate_hz in (16_000, 24_000):
        source = UserInput(
            AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=rate_hz), max_audio_s=5, max_chars=10
        )
        source.add_audio(np.array([0.5, np.nan], "<f4").tobytes())
        with pytest.raises(InvalidArgument, match="finite"):
            source.check()


async def test_silence_beside_a_text_does_not_fail_the_turn() -> None:
    source = _user_input()
    source.add_samples(SILENCE)
    source.add_text("hello")
    source.commit()
    assert _kinds(await _requests(source))[-1] == "commit"


async def test_too_much_speech_fails() -> None:
    source = _user_input(max_audio_s=0.15)
    source.add_samples(LOUD)
    source.add_samples(LOUD)
    with pytest.raises(OutOfRange, match=r"0\.15 s of speech"):
        await _requests(source)


async def test_too_much_text_fails() -> None:
    source = _user_input(max_chars=5)
    source.add_text("123456")
    with pytest.raises(OutOfRange):
        await _requests(source)


async def test_a_broken_sample_fails_and_the_first_error_stays() -> None:
    source = _user_input()
    source.add_audio(b"\0")
    source.fail(OutOfRange("later"))
    with pytest.raises(InvalidArgument):
        await _requests(source)


async def test_a_forced_reply_is_committed_at_once_and_complete_with_its_last_piece() -> None:
    source = ForcedReply(max_chars=100)
    assert source.committed.is_set()
    source.add_text("Good ", end=False)
    assert not source.complete.is_set()
    source.add_text("morning", end=True)
    assert source.complete.is_set()
    requests = await _requests(source)
    assert _kinds(requests) == ["commit", "given_text", "given_text"]
    assert "".join(request.given_text for request in requests) == "Good morning"


@pytest.mark.parametrize(("text", "error"), [("", InvalidArgument), ("123456", OutOfRange)])
async def test_a_forced_reply_of_no_or_too_much_text_fails(text: str, error: type[Exception]) -> None:
    source = ForcedReply(max_chars=5)
    source.add_text(text, end=True)
    with pytest.raises(error):
        await _requests(source)


async def test_no_input_is_a_commit_at_once() -> None:
    source = NoInput()
    assert source.committed.is_set()
    assert source.complete.is_set()
    assert _kinds(await _requests(source)) == ["commit"]


async def test_the_audio_under_way_moves_to_another_input_and_back() -> None:
    source = _user_input()
    source.add_text("hello")
    source.add_samples(LOUD)
    rest = source.split()
    assert (source.parts, source.audio_s, source.is_audio_open) == (["hello"], 0, False)
    assert rest.is_audio_open
    rest.add_samples(LOUD)
    source.add_text("more")
    source.join(rest)
    source.add_samples(LOUD)
    source.commit()
    assert _kinds(await _requests(source)) == ["text", "text", "audio", "commit"]
    whole = _user_input()
    for _ in range(3):
        whole.add_samples(LOUD)
    whole.commit()
    assert source.parts[-1] == whole.parts[0], "the resampler went on"
    assert source.audio_s == pytest.approx(whole.audio_s)


async def test_the_error_of_the_audio_under_way_goes_with_it() -> None:
    source = _user_input(max_audio_s=0.15)
    source.add_text("hello")
    source.add_samples(LOUD)
    source.add_samples(LOUD)
    rest = source.split()
    source.commit()
    assert _kinds(await _requests(source)) == ["text", "commit"]
    with pytest.raises(OutOfRange):
        rest.check()
