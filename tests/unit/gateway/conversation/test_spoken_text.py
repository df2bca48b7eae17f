from __future__ import annotations

import pytest

from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, END_REASON_POSITIONS, EndReason
from gateway.conversation.output.events import Outcome, TurnDone
from gateway.conversation.spoken_text import is_cut


@pytest.mark.parametrize(
    ("reason", "heard", "cut"),
    [
        (END_REASON_LIMIT, "one", True),
        (END_REASON_POSITIONS, "", True),
        (END_REASON_LIMIT, "one two", False),
        (END_REASON_EOS, "one", False),
    ],
)
def test_a_limit_cuts_a_reply_of_which_less_was_spoken_than_its_text(
    reason: EndReason.ValueType, heard: str, cut: bool
) -> None:
    done = TurnDone("turn-1", Outcome.COMPLETED, text="one two", heard_text=heard, speech_end=reason)
    assert is_cut(done) is cut
