"""The audio tower: 2 s of mel frames in, 50 embeddings of the thinker's width out (docs/model.md, section 7).

A chunk is independent of every other: its convolutions see zeros at both ends, its positions start at 0 and its
attention stays inside. So chunks of any clips batch together, and a chunk is encoded as soon as it is complete.
Parameter names equal the checkpoint's under `thinker.audio_tower.`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from services.common.errors import CheckpointError
from services.common.wire.audio import tokens_of_mel_frames
from services.runtime.checkpoint.config import AudioTowerConfig


class _Attention(nn.Module):
    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width, bias=False)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [C, heads, T, D / heads]
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.fc2 = nn.Linear(config.ffn_width, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class AudioTower(nn.Module):
    """Mel chunks to input embeddings of the thinker. Weights are shared and read-only; calls share no state."""

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__()
        if config.n_window % 2:  # else the last pooled pair of a chunk would reach into the next chunk
            raise CheckpointError(f"audio_config.n_window: expected an even number, found {config.n_window}")
        self.chunk_frames = 2 * config.n_window  # mel frames of a full chunk: 200, 2 s
        self.mel_bins = config.mel_bins
        self.width = config.width
        self.output_width = config.output_width
        self.conv1 = nn.Conv1d(config.mel_bins, config.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, kernel_size=3, stride=2, padding=1)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.ln_post = nn.LayerNorm(config.width)
        self.proj = nn.Linear(config.width, config.output_width)

    @torch.inference_mode()
    def forward(self, chunks: list[torch.Tensor]) -> list[torch.Tensor]:
        """Encode chunks in one batch.

        Args:
            chunks: scaled mel features, each [T, mel_bins] with 3 <= T <= chunk_frames (fewer frames make none).

        Returns:
            for each chunk, [tokens_of_mel_frames(T), output_width] in the tower's dtype.
        """
        lengths = [chunk.shape[0] for chunk in chunks]
        assert all(3 <= n <= self.chunk_frames for n in lengths), f"chunk frames: {lengths}"
        dtype, device = self.conv1.weight.dtype, self.conv1.weight.device
        mel = nn.utils.rnn.pad_sequence([c.to(device, dtype) for c in chunks], batch_first=True)
        even = min(lengths) == max(lengths)
        embeddings = self.encode_padded(mel, None if even else torch.tensor(lengths, device=device))
        return [embeddings[i, : tokens_of_mel_frames(n)] for i, n in enumerate(lengths)]

    def encode_padded(self, mel: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Chunks filled up to one length: mel [C, T, bins] -> [C, T // 4, output_width] in the tower's dtype.

        `frames` int64 [C] counts the frames of each chunk, 3 to T; None: T each. Of a chunk's output, the first
        `tokens_of_mel_frames(frames)` embeddings are valid.
        """
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        if frames is not None:  # a shorter chunk's second convolution sees zeros past its end, as it does alone
            x = x * _inside(frames, x.shape[-1])[:, None, :]
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # [C, T / 2, width]
        x = x + _sinusoids(x.shape[1], self.width, x.device).to(x.dtype)
        mask = None if frames is None else _inside((frames - 1) // 2 + 1, x.shape[1])[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        pairs = x.shape[1] // 2
        pooled = (x[:, 0 : 2 * pairs : 2] + x[:, 1 : 2 * pairs : 2]) / 2
        return self.proj(self.ln_post(pooled))


def _inside(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """Boolean [C, width], true before each chunk's end."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


def _sinusoids(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Whisper's positions [length, width], fp32: sines in the first half, cosines in the second."""
    step = math.log(10_000) / (width // 2 - 1)
    inverse = torch.exp(-step * torch.arange(width // 2, device=device).float())
    angles = torch.arange(length, device=device)[:, None] * inverse[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
