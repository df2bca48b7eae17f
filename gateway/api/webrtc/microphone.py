"""The sound that a WebRTC client sends, as 16-bit PCM at 24 kHz in pieces of a steady length."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from gateway.audio.resample import Resampler
from services.common.errors import ResourceExhausted
from services.common.wire.audio import SAMPLE_RATE_HZ
from services.common.wire.pcm import Samples, encode_pcm

_OPUS_RATE_HZ = 48_000
_PIECE_S = 0.06
"""Sound that goes to turn detection at once: fewer pieces cost less, and longer ones delay the end of a turn."""
_MAX_GAP_S = 1.0
"""Lost sound that is made up for by silence. A client that was away for longer just goes on."""
_SPEED, _AHEAD_S = 1.25, 5.0
"""A client may send sound this much faster than time goes, and this much more, as after a break of its network."""


async def pieces_of(track: MediaStreamTrack) -> AsyncIterator[bytes]:
    """Yield the sound of a track until it ends. Lost packets become silence.

    Raises ResourceExhausted for a client that sends much more sound than time goes by.
    """
    resampler = Resampler(_OPUS_RATE_HZ, SAMPLE_RATE_HZ)
    piece, piece_bytes = bytearray(), 2 * int(_PIECE_S * SAMPLE_RATE_HZ)
    next_pts, sound_s, started_s = None, 0.0, time.monotonic()
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, AudioFrame), "the track is one of sound"
        samples = _mono(frame)
        pts = frame.pts if frame.pts is not None else next_pts or 0
        lost = 0 if next_pts is None else pts - next_pts
        if 0 < lost <= _MAX_GAP_S * _OPUS_RATE_HZ:
            samples = np.concatenate([np.zeros(lost, dtype=np.float32), samples])
        next_pts = pts + frame.samples
        sound_s += len(samples) / _OPUS_RATE_HZ
        if sound_s > _SPEED * (time.monotonic() - started_s) + _AHEAD_S:
            raise ResourceExhausted("the client sends more sound than time goes by", retry_after_s=1.0)
        piece += encode_pcm(resampler.push(samples), AUDIO_ENCODING_PCM_S16LE)
        while len(piece) >= piece_bytes:
            yield bytes(piece[:piece_bytes])
            del piece[:piece_bytes]


def _mono(frame: AudioFrame) -> Samples:
    """The mean of the channels of a frame of 16-bit samples, interleaved as Opus is decoded."""
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return samples.mean(axis=1, dtype=np.float32) / np.float32(32_768)
