"""The tokens of a turn."""

from __future__ import annotations

from gateway.api.tokens import Tokens
from gateway.conversation.output.events import Outcome, TurnDone


def test_speech_counts_a_token_for_each_40_ms_in_and_each_80_ms_out() -> None:
    turn = TurnDone(
        "t",
        Outcome.COMPLETED,
        input_audio_s=1.0,
        output_audio_s=0.8,
        input_tokens=30,
        output_tokens=5,
        cached_tokens=16,
    )
    tokens = Tokens.of(turn)
    assert (tokens.input_text, tokens.input_audio, tokens.input, tokens.cached) == (5, 25, 30, 16)
    assert (tokens.output_text, tokens.output_audio, tokens.output) == (5, 10, 15)


def test_a_turn_that_failed_before_its_prompt_has_no_tokens() -> None:
    assert Tokens.of(TurnDone("t", Outcome.FAILED, input_audio_s=1.0)).input == 0
