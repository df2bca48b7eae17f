"""Sound to codes, as a stream: chunks of any size give the codes of the whole (docs/model.md, section 6)."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from services.codec.model.convolution import CausalConv, ConvState
from services.codec.model.quantizer import Quantizer
from services.codec.model.seanet import WaveformEncoder
from services.codec.model.streams import POSITIONS_PER_FRAME, StreamState
from services.codec.model.transformer import WindowedTransformer
from services.common.errors import InvalidArgument
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES
from services.runtime.checkpoint.config import CodecConfig
from services.runtime.checkpoint.weights import Weights


class Encoder:
    """The encoder. Weights are shared and read-only; the state of all streams is in a `StreamState`."""

    def __init__(self, weights: Weights, quantizer: Quantizer, config: CodecConfig) -> None:
        self._waveform = WaveformEncoder(weights.below("encoder"), config)
        self._transformer = WindowedTransformer(weights.below("encoder_transformer"), config)
        self._downsample = CausalConv(
            weights.below("downsample"),
            config.width,
            config.width,
            2 * POSITIONS_PER_FRAME,
            stride=POSITIONS_PER_FRAME,
            bias=False,
            replicate=True,
        )
        self._quantizer = quantizer
        self._state_width = self._waveform.state_width + self._downsample.state_width

    def new_state(self, slots: int, step_frames: int) -> StreamState:
        """State for `slots` streams, for steps of at most `step_frames` frames."""
        return StreamState.new(self._transformer, self._state_width, slots, step_frames)

    @torch.inference_mode()
    def step(self, pcm: torch.Tensor, slots: torch.Tensor, state: StreamState) -> torch.Tensor:
        """The next S samples of B streams: PCM [B, S] -> codes [B, ceil(S / 1920), K] int64.

        S is a multiple of 1920 except in the last step of the streams: there each convolution pads its own input up to
        its stride, since zeros behind the waveform would give another last frame. No step may follow it.
        """
        batch, samples = pcm.shape
        frames = -(-samples // FRAME_SAMPLES)
        assert slots.shape == (batch,), f"expected {batch} slots, found {slots.shape}"
        assert 0 < frames <= state.step_frames, f"{samples} samples in a step of at most {state.step_frames} frames"
        fresh = state.window.positions.index_select(0, slots) == 0
        conv = ConvState(state.conv_rows.index_select(0, slots), fresh)
        x = self._waveform(pcm, conv)  # [B, ceil(S / 960), width]
        x = self._transformer(x, slots, state.window)
        codes = self._quantizer.encode(self._downsample(x, conv))
        state.conv_rows.index_copy_(0, slots, conv.next_rows())
        assert codes.shape == (batch, frames, CODEBOOKS), f"{samples} samples gave codes {codes.shape}"
        return codes


class EncodeStream:
    """One recording being encoded: chunks of any size in, codes out a step at a time.

    The caller decides when a step runs: `add` only stores. Dropping the stream frees its memory.
    """

    def __init__(self, encoder: Encoder, step_frames: int) -> None:
        self._encoder = encoder
        self._state = encoder.new_state(1, step_frames)
        self._slots = torch.zeros(1, dtype=torch.int64, device=self._state.conv_rows.device)
        self._chunks: deque[np.ndarray] = deque()
        self._samples = 0
        self.ended = False
        """Whether all chunks are there. The caller sets it; a partial last frame is then encoded too."""

    @property
    def stored_samples(self) -> int:
        """Samples added and not yet encoded."""
        return self._samples

    @property
    def ready_samples(self) -> int:
        """Samples that a step would encode now: whole frames, or all once ended; 0 when it must wait."""
        most = self._state.step_frames * FRAME_SAMPLES
        whole = self._samples if self.ended else self._samples - self._samples % FRAME_SAMPLES
        return min(whole, most)

    def add(self, pcm: np.ndarray) -> None:
        """Store a chunk [S] of float PCM at 24 kHz. Raises `InvalidArgument` when it is not finite mono float PCM."""
        if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
            raise InvalidArgument(f"audio: expected float samples of shape [S], found {pcm.dtype} {list(pcm.shape)}")
        if not np.isfinite(pcm).all():
            raise InvalidArgument("audio: expected finite samples, found NaN or infinity")
        self._chunks.append(pcm.astype(np.float32, copy=False))
        self._samples += len(pcm)

    def step(self) -> np.ndarray:
        """Encode `ready_samples`: codes [T, K] uint16."""
        pcm = torch.from_numpy(self._take(self.ready_samples)).to(self._slots.device)
        return self._encoder.step(pcm[None], self._slots, self._state)[0].cpu().numpy().astype(np.uint16)

    def _take(self, samples: int) -> np.ndarray:
        taken = np.empty(samples, dtype=np.float32)
        filled = 0
        while filled < samples:
            chunk = self._chunks.popleft()
            part = chunk[: samples - filled]
            taken[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(chunk):
                self._chunks.appendleft(chunk[len(part) :])
        self._samples -= samples
        return taken
