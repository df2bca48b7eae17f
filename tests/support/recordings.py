"""Recordings in the formats that phones, browsers and programs write."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import soundfile

from services.common.wire.pcm import Samples


def voice_like(seconds: float, rate_hz: int, channels: int = 1) -> Samples:
    """A sweep from 200 to 1,000 Hz [S], or [S, channels]: each of its parts is unlike every other."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    sweep = 0.3 * np.sin(2 * np.pi * (200 * t + 400 / seconds * t * t))
    return np.ascontiguousarray(np.stack([sweep] * channels, axis=1).squeeze(), dtype=np.float32)


def by_ffmpeg(
    samples: Samples, rate_hz: int, container: str, codec: str, options: dict[str, str] | None = None
) -> bytes:
    """A file of mono samples, written by FFmpeg."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate_hz)
        stream.codec_context.layout = "mono"
        resampler = av.AudioResampler(stream.codec_context.format, "mono", rate_hz)
        for begin in range(0, len(samples), rate_hz):
            second = samples[begin : begin + rate_hz].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(second, format="flt", layout="mono")
            frame.sample_rate, frame.pts = rate_hz, begin
            for resampled in resampler.resample(frame):
                for packet in stream.encode(resampled):
                    output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def by_libsndfile(samples: Samples, rate_hz: int, container: str, subtype: str, **options: Any) -> bytes:
    """A file of samples, written by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=container, subtype=subtype, **options)
    return file.getvalue()
