from __future__ import annotations

import numpy as np

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from gateway.pipeline.turn_input import UserInput

FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)


def test_no_samples_after_the_last_word_make_no_empty_recording() -> None:
    source = UserInput(FORMAT, max_audio_s=10, max_chars=100)
    source.take(np.ones(1_600, dtype=np.float32))
    source.end_audio()
    source.take(np.zeros(0, dtype=np.float32))  # what turn detection has left when it has found the end already
    source.commit()
    assert [len(part) for part in source.parts] == [3_200]
