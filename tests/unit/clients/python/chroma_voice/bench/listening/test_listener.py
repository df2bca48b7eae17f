from __future__ import annotations

import numpy as np
import pytest

from chroma_voice.bench.listening.listener import SILENCE, Listener, audible_part, first_audible
from tests.support.scripted_target import tone


def listener() -> Listener:
    return Listener(24_000)


def test_the_first_sound_is_the_first_sample_above_silence() -> None:
    heard = listener()
    heard.receive(tone(0.0, silent_s=0.5), 1.0)
    assert (heard.first_piece_s, heard.first_sound_s) == (1.0, None)
    heard.receive(tone(0.5, silent_s=0.25), 1.1)
    assert heard.first_sound_s == pytest.approx(1.75)
    assert heard.sound_s == pytest.approx(1.25)


def test_noise_up_to_50_dbfs_is_silence() -> None:
    quiet, loud = np.array([SILENCE, -SILENCE], dtype=np.int16), np.array([0, -SILENCE - 1], dtype=np.int16)
    assert (first_audible(quiet), first_audible(loud)) == (None, 1)
    assert first_audible(np.array([-32768], dtype=np.int16)) == 0
    padded = np.concatenate((quiet, loud, loud, quiet))
    assert audible_part(padded).tolist() == [-SILENCE - 1, 0, -SILENCE - 1]
    assert not len(audible_part(quiet))


def test_a_stopped_player_plays_nothing_more() -> None:
    heard = listener()
    heard.receive(tone(1.0), 1.0)
    heard.stop(1.5)
    heard.stop(1.8)
    heard.receive(tone(1.0), 1.9)
    assert (heard.silent_s, heard.sound_s) == (1.5, 1.0)
    over = listener()
    over.receive(tone(1.0), 1.0)
    over.stop(5.0)
    assert over.silent_s == pytest.approx(2.0)
    assert over.has_heard_all(2.0)


def test_jitter_and_real_time_factor_follow_the_arrivals() -> None:
    heard = listener()
    assert (heard.jitter_s, heard.real_time_factor) == (None, None)
    for at_s in (1.0, 1.2, 1.2, 1.7):
        heard.receive(tone(0.2), at_s)
    assert heard.jitter_s == pytest.approx((0.0 + 0.2 + 0.3) / 3)
    assert heard.real_time_factor == pytest.approx(0.7 / 0.6)


def test_an_odd_byte_is_left_out() -> None:
    heard = listener()
    heard.receive(tone(0.1) + b"x", 1.0)
    heard.receive(b"", 1.1)
    assert heard.sound_s == pytest.approx(0.1)
