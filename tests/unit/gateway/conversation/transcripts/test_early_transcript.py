"""The words of speech that goes on: what two passes agree on, and what the whole transcript adds."""

from __future__ import annotations

from gateway.conversation.transcripts.early_transcript import EarlyTranscript


def test_whole_words_that_two_passes_agree_on_are_sent_once() -> None:
    early = EarlyTranscript()
    assert early.take("how do I mac", 2.0) == ""
    assert early.take("how do I make a", 4.0) == "how do I"
    assert early.take("how do I make a taco", 6.0) == " make"
    assert early.take("how do I bake", 8.0) == "", "what was sent stays"
    assert early.sent == "how do I make"


def test_the_whole_transcript_adds_the_rest_unless_it_corrects_what_was_sent() -> None:
    early = EarlyTranscript(sent="how do I")
    assert early.rest("how do I make a taco") == " make a taco"
    assert early.rest("how do") == ""
    assert early.rest("who do I make") == ""


def test_speech_is_written_down_again_when_it_has_grown_by_a_quarter_and_two_seconds() -> None:
    early = EarlyTranscript()
    assert [early.is_due(audio_s) for audio_s in (1.9, 2.0)] == [False, True]
    early.take("", 20.0)
    assert [early.is_due(audio_s) for audio_s in (24.9, 25.0)] == [False, True]
