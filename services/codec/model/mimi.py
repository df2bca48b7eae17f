"""READ FIRST: Mimi, the codec, as exact streams in both directions (docs/model.md, section 6).

    codes [T, 8] --Quantizer--> 12.5 Hz --upsample--> 25 Hz --transformer--> --WaveformDecoder--> 24 kHz   decode.py
    24 kHz --WaveformEncoder--> 25 Hz --transformer--> --downsample--> 12.5 Hz --Quantizer--> codes       encode.py

Every layer is causal. A stream is fully described by the last inputs of each convolution and the last 250 keys and
values of each attention layer (streams.py); with these kept, any chunking gives what one pass over the whole gives.
Weights stay in fp32 whatever the rest of the system uses: bf16 changes codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from services.codec.model.decode import Decoder
from services.codec.model.encode import Encoder, EncodeStream
from services.codec.model.quantizer import Quantizer
from services.common.errors import CheckpointError
from services.common.wire.audio import CODEBOOK_SIZE, CODEBOOKS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig, CodecConfig
from services.runtime.checkpoint.mapped_memory import free_unused
from services.runtime.checkpoint.weights import Weights

WHOLE_STEP_FRAMES = 16


class Mimi:
    """Both directions, sharing one quantizer. Methods may be called from one thread at a time."""

    def __init__(self, decoder: Decoder, encoder: Encoder, device: torch.device) -> None:
        self.decoder = decoder
        self.encoder = encoder
        self.device = device

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Mimi:
        """Read `codec_model.*` and nothing else.

        Raises `CheckpointError` for a missing tensor, a wrong shape, or a Mimi of another geometry.
        """
        config = ChromaConfig.from_dict(checkpoint.config).codec
        _check_geometry(config)
        weights = Weights(checkpoint, torch.float32, device).below("codec_model")
        quantizer = Quantizer(weights.below("quantizer"), config)
        model = cls(Decoder(weights, quantizer, config), Encoder(weights, quantizer, config), torch.device(device))
        free_unused()
        return model

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """A whole recording: codes [T, K] -> PCM [T * 1920] float32. Raises `InvalidArgument` on bad codes."""
        checked = torch.from_numpy(self.decoder.check_codes(codes)).to(self.device)
        state = self.decoder.new_state(1, WHOLE_STEP_FRAMES)
        slots = torch.zeros(1, dtype=torch.int64, device=self.device)
        steps = [
            self.decoder.step(part[None], slots, state)[0] for part in checked.split(WHOLE_STEP_FRAMES) if len(part)
        ]
        return torch.cat(steps).cpu().numpy() if steps else np.empty(0, dtype=np.float32)

    def encode(self, pcm: np.ndarray) -> np.ndarray:
        """A whole recording: float PCM [S] at 24 kHz -> codes [ceil(S / 1920), K] uint16.

        Raises `InvalidArgument` when the samples are not finite mono float PCM.
        """
        stream = EncodeStream(self.encoder, WHOLE_STEP_FRAMES)
        stream.add(pcm)
        stream.ended = True
        steps = [np.empty((0, CODEBOOKS), dtype=np.uint16)]
        while stream.ready_samples:
            steps.append(stream.step())
        return np.concatenate(steps)


def _check_geometry(config: CodecConfig) -> None:
    """Raise `CheckpointError` unless the checkpoint's Mimi has the geometry that the services use: 24 kHz, 1920 samples
    a frame, 8 codebooks of at most 2048 codes, and the layers that this code has."""
    samples = 2
    for ratio in config.ratios:
        samples *= ratio
    expected: list[tuple[str, Any, Any]] = [
        ("sampling_rate", config.sample_rate_hz, SAMPLE_RATE_HZ),
        ("samples a frame", samples, FRAME_SAMPLES),
        ("frame_rate", config.frame_rate_hz, SAMPLE_RATE_HZ / FRAME_SAMPLES),
        ("audio_channels", config.raw.get("audio_channels", 1), 1),
        ("use_causal_conv", config.raw.get("use_causal_conv", True), True),
        ("use_conv_shortcut", config.conv_shortcut, False),
        ("pad_mode", config.raw.get("pad_mode", "constant"), "constant"),
        ("trim_right_ratio", config.raw.get("trim_right_ratio", 1.0), 1.0),
        ("attention_bias", config.attention_bias, False),
        ("hidden_act", config.raw.get("hidden_act", "gelu"), "gelu"),
        ("rope_type", (config.raw.get("rope_parameters") or {}).get("rope_type", "default"), "default"),
    ]
    for key, found, wanted in expected:
        if found != wanted:
            raise CheckpointError(f"config.json: codec_config: {key}: expected {wanted!r}, found {found!r}")
    if not 1 <= config.codebook_size <= CODEBOOK_SIZE:
        raise CheckpointError(
            f"config.json: codec_config: codebook_size: expected 1 to {CODEBOOK_SIZE}, found {config.codebook_size}"
        )
    if config.codebooks < CODEBOOKS or config.semantic_codebooks >= CODEBOOKS:
        raise CheckpointError(
            f"config.json: codec_config: expected at least {CODEBOOKS} quantizers, acoustic ones among the first "
            f"{CODEBOOKS}, found {config.codebooks} with {config.semantic_codebooks} semantic"
        )
