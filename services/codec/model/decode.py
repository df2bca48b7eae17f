"""Codes to sound, many streams at once: exact, causal, 1920 samples a frame (docs/model.md, section 6)."""

from __future__ import annotations

import numpy as np
import torch

from services.codec.model.convolution import ConvState, UpsamplingConv
from services.codec.model.quantizer import Quantizer
from services.codec.model.seanet import WaveformDecoder
from services.codec.model.streams import POSITIONS_PER_FRAME, StreamState
from services.codec.model.transformer import WindowedTransformer
from services.common.errors import InvalidArgument
from services.common.wire.audio import CODEBOOKS, FRAME_SAMPLES
from services.runtime.checkpoint.config import CodecConfig
from services.runtime.checkpoint.weights import Weights


class Decoder:
    """The decoder. Weights are shared and read-only; the state of all streams is in a `StreamState`."""

    def __init__(self, weights: Weights, quantizer: Quantizer, config: CodecConfig) -> None:
        self.codebook_size = config.codebook_size
        self._quantizer = quantizer
        self._upsample = UpsamplingConv(
            weights.below("upsample"),
            config.width,
            config.width,
            stride=POSITIONS_PER_FRAME,
            groups=config.upsample_groups,
            bias=False,
        )
        self._transformer = WindowedTransformer(weights.below("decoder_transformer"), config)
        self._waveform = WaveformDecoder(weights.below("decoder"), config)
        self._state_width = self._upsample.state_width + self._waveform.state_width

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """Frames as `step` takes them: any integer array [T, K] -> int64 [T, K].

        Raises `InvalidArgument` for another shape or dtype, or a code outside the codebooks.
        """
        if codes.ndim != 2 or codes.shape[1] != CODEBOOKS or not np.issubdtype(codes.dtype, np.integer):
            raise InvalidArgument(
                f"frames: expected integers of shape [T, {CODEBOOKS}], found {codes.dtype} {list(codes.shape)}"
            )
        outside = (codes < 0) | (codes >= self.codebook_size)
        if outside.any():
            frame, codebook = (int(index) for index in np.argwhere(outside)[0])
            raise InvalidArgument(
                f"frames: expected codes in 0..{self.codebook_size - 1}, found {int(codes[frame, codebook])} "
                f"in frame {frame}, codebook {codebook}"
            )
        return codes.astype(np.int64)

    def new_state(self, slots: int, step_frames: int) -> StreamState:
        """State for `slots` streams, for steps of at most `step_frames` frames."""
        return StreamState.new(self._transformer, self._state_width, slots, step_frames)

    @torch.inference_mode()
    def step(self, codes: torch.Tensor, slots: torch.Tensor, state: StreamState) -> torch.Tensor:
        """The next T frames of B streams: codes [B, T, K] int64 -> PCM [B, T * 1920].

        `slots` ([B] int64) says which streams, each at most once; the others are left as they are. Shapes depend on
        B and T alone and nothing is read back from the device, so a step can be captured once for each (B, T).
        """
        batch, frames, codebooks = codes.shape
        assert codebooks == CODEBOOKS, f"expected codes [B, T, {CODEBOOKS}], found {codes.shape}"
        assert slots.shape == (batch,), f"expected {batch} slots, found {slots.shape}"
        assert frames <= state.step_frames, f"{frames} frames in a step of at most {state.step_frames}"
        fresh = state.window.positions.index_select(0, slots) == 0
        conv = ConvState(state.conv_rows.index_select(0, slots), fresh)
        x = self._upsample(self._quantizer.decode(codes), conv)  # [B, 2T, width]
        x = self._transformer(x, slots, state.window)
        pcm = self._waveform(x, conv)
        state.conv_rows.index_copy_(0, slots, conv.next_rows())
        assert pcm.shape == (batch, frames * FRAME_SAMPLES), f"{frames} frames gave PCM {pcm.shape}"
        return pcm
