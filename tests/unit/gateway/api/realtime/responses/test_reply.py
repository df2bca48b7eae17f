"""The events of one reply, in their order."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from gateway.api.realtime.events.wire import EventFactory
from gateway.api.realtime.items.items import Items
from gateway.api.realtime.responses.reply import Reply, usage
from gateway.api.realtime.session.session import RealtimeSession
from gateway.conversation.output.events import Outcome, TurnDone
from gateway.pipeline.deltas import AudioDelta, TextDelta, TextPiece
from services.common.errors import Unavailable

_SESSION = RealtimeSession("s", "m", "ada")
_TEXT = TextDelta("turn-1", "Hi", 160)
_AUDIO = AudioDelta("turn-1", 0, 2, bytes(4))


def _reply(session: RealtimeSession = _SESSION, *, beta: bool = False) -> tuple[Reply, Items]:
    items = Items(max_items=100, max_chars=100)
    return Reply("turn-1", session, {"k": "v"}, items, EventFactory(beta=beta)), items


def _types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_text_of_several_pieces_is_one_event_and_each_piece_keeps_its_time() -> None:
    reply, items = _reply()
    reply.created()
    *_, delta = reply.text(TextDelta.of("turn-1", [TextPiece("Fold", 160), TextPiece(" it.", 480)]))
    assert (delta["delta"], delta["start_time"]) == ("Fold it.", 0.16)
    assert delta["parts"] == [{"text": "Fold", "start_time": 0.16}, {"text": " it.", "start_time": 0.48}]
    reply.audio(_AUDIO)
    assert items.get(delta["item_id"], "read").spoken == [(160, "Fold"), (480, " it.")], (
        "a truncation cuts between them"
    )


def test_a_spoken_reply_is_one_item_with_one_audio_part() -> None:
    reply, items = _reply()
    created = reply.created()
    assert (_types(created), created[0]["response"]["metadata"]) == (["response.created"], {"k": "v"})
    text = reply.text(_TEXT)
    assert _types(text) == [
        "response.output_item.added",
        "conversation.item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
    ]
    assert text[-1]["start_time"] == 0.16
    audio = reply.audio(_AUDIO)
    assert _types(audio) == ["response.output_audio.delta"]
    assert base64.b64decode(audio[0]["delta"]) == _AUDIO.data
    done = reply.done(TurnDone("turn-1", Outcome.COMPLETED, output_tokens=1))
    assert _types(done) == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    response = done[-1]["response"]
    assert (response["status"], response["status_details"]) == ("completed", None)
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hi"}]
    assert [item.spoken for item in items.of_turn("turn-1", "assistant")] == [[(160, "Hi")]]


def test_a_written_reply_has_text_events_alone() -> None:
    reply, _ = _reply(replace(_SESSION, text_only=True))
    assert _types(reply.text(_TEXT))[-1] == "response.output_text.delta"
    done = reply.done(TurnDone("turn-1", Outcome.COMPLETED))
    assert _types(done)[0] == "response.output_text.done"
    assert done[-1]["response"]["output"][0]["content"] == [{"type": "output_text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("event", "status", "reason"),
    [
        (TurnDone("turn-1", Outcome.INTERRUPTED, interrupted_by="speech"), "cancelled", "turn_detected"),
        (TurnDone("turn-1", Outcome.INTERRUPTED, interrupted_by="client"), "cancelled", "client_cancelled"),
        (TurnDone("turn-1", Outcome.COMPLETED, is_cut=True), "incomplete", "max_output_tokens"),
    ],
    ids=["speech", "client", "limit"],
)
def test_a_reply_that_ends_early_is_incomplete_and_says_why(event: TurnDone, status: str, reason: str) -> None:
    reply, items = _reply()
    reply.text(_TEXT)
    response = reply.done(event)[-1]["response"]
    assert (response["status"], response["status_details"]["reason"]) == (status, reason)
    assert items.of_turn("turn-1", "assistant")[0].status == "incomplete"


def test_a_turn_that_fails_before_its_reply_has_no_item() -> None:
    reply, items = _reply()
    events = reply.done(TurnDone("turn-1", Outcome.FAILED, error=Unavailable("codec went away")))
    assert _types(events) == ["response.done"]
    response = events[0]["response"]
    assert (response["status"], response["output"], items.last_id) == ("failed", [], None)
    assert response["status_details"]["error"]["message"] == "codec went away"


def test_sentences_that_the_checkpoint_cannot_say_are_named() -> None:
    reply, _ = _reply()
    ends = [TurnDone("turn-1", Outcome.COMPLETED, out_of_domain=named) for named in ((), ("Good day.",))]
    first, second = (reply.done(end)[-1]["response"] for end in ends)
    assert "out_of_domain" not in first
    assert second["out_of_domain"] == ["Good day."]


def test_the_beta_has_its_names() -> None:
    reply, _ = _reply(beta=True)
    assert reply.created()[0]["response"]["modalities"] == ["audio", "text"]
    assert _types(reply.text(_TEXT))[-1] == "response.audio_transcript.delta"
    response = reply.done(TurnDone("turn-1", Outcome.COMPLETED))[-1]["response"]
    assert response["output"][0]["content"] == [{"type": "audio", "transcript": "Hi"}]


def test_usage_counts_one_token_for_each_frame_of_speech() -> None:
    tokens = usage(TurnDone("turn-1", Outcome.COMPLETED, input_tokens=30, output_tokens=5, output_audio_s=0.8))
    assert tokens["output_token_details"] == {"text_tokens": 5, "audio_tokens": 10}
    assert (tokens["output_tokens"], tokens["total_tokens"]) == (15, 45)
    assert tokens["input_token_details"]["text_tokens"] == 30
