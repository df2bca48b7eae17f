"""Which settings of a session are valid."""

from __future__ import annotations

import pytest

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import Sampling
from gateway.conversation.options import check_change, check_new
from services.common.errors import InvalidArgument

_BAD = [
    SessionConfig(voice_id="NO CAPITALS"),
    SessionConfig(max_reply_s=0),
    SessionConfig(system_prompt="01234567890"),
    SessionConfig(max_reply_s=float("inf")),
    SessionConfig(sampling=Sampling(temperature=0)),
    SessionConfig(sampling=Sampling(temperature=float("nan"))),
    SessionConfig(sampling=Sampling(top_k=0)),
    SessionConfig(sampling=Sampling(top_p=0)),
    SessionConfig(sampling=Sampling(top_p=1.5)),
]


@pytest.mark.parametrize("config", _BAD, ids=str)
def test_values_out_of_range_are_refused(config: SessionConfig) -> None:
    with pytest.raises(InvalidArgument):
        check_change(config, max_prompt_chars=10)


def test_a_change_may_leave_every_field_unset_and_a_new_session_needs_a_voice() -> None:
    check_change(SessionConfig(system_prompt="0123456789"), max_prompt_chars=10)
    with pytest.raises(InvalidArgument, match="voice_id"):
        check_new(SessionConfig(), max_prompt_chars=10)
    whole = SessionConfig(voice_id="ada", max_reply_s=5, sampling=Sampling(temperature=0.7, top_k=40, top_p=1))
    check_new(whole, max_prompt_chars=10)
