from __future__ import annotations

from datetime import UTC, datetime

from chroma.v1 import dialogue_pb2
from chroma_voice import Entry, Sampling, Session, SessionSettings


def test_sampling_leaves_out_what_is_none_and_sends_zero() -> None:
    sent = Sampling(top_k=5, seed=0).to_proto()
    assert (sent.greedy, sent.top_k, sent.seed) == (False, 5, 0)
    assert [sent.HasField(name) for name in ("top_k", "seed", "temperature", "top_p")] == [True, True, False, False]


def test_settings_send_an_empty_system_prompt_and_leave_out_an_unset_one() -> None:
    assert SessionSettings(system_prompt="").to_proto().HasField("system_prompt")
    unset = SessionSettings("ann").to_proto()
    assert unset.voice_id == "ann"
    assert not any(unset.HasField(name) for name in ("system_prompt", "sampling", "max_reply_s"))


def test_a_session_has_its_entries_in_order_and_its_times_in_utc() -> None:
    sent = dialogue_pb2.Session(
        session_id="s",
        config=dialogue_pb2.SessionConfig(voice_id="ann"),
        entries=[
            dialogue_pb2.Entry(speaker=dialogue_pb2.SPEAKER_USER, turn_id="t", audio_s=1.5),
            dialogue_pb2.Entry(
                speaker=dialogue_pb2.SPEAKER_ASSISTANT, turn_id="t", text="A long answer.", heard_text="A long"
            ),
        ],
        dropped_turns=2,
    )
    sent.create_time.FromSeconds(0)
    sent.expire_time.FromSeconds(3600)
    assert Session.from_proto(sent) == Session(
        session_id="s",
        voice="ann",
        system_prompt=None,
        entries=(Entry("user", "t", "", "", 1.5), Entry("assistant", "t", "A long answer.", "A long", 0.0)),
        dropped_turns=2,
        created=datetime(1970, 1, 1, tzinfo=UTC),
        expires=datetime(1970, 1, 1, 1, tzinfo=UTC),
    )
