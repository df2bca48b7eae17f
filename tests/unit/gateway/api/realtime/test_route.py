"""The close frame of a Realtime connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.realtime.route import close_reason


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=300))
def test_a_close_reason_is_the_beginning_of_the_text_and_fits_into_its_frame(text: str) -> None:
    reason = close_reason(text)
    assert text.startswith(reason)
    assert len(reason.encode()) <= 123
    assert reason == text or len(reason.encode()) > 119
