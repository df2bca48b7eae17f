"""The audio tower for training: chunks of many clips in one batch, with gradients (docs/model.md, section 7).

Its mathematics, parameters and names are those of `services.reasoner.model.audio_tower.AudioTower`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.audio_tower import AudioTower
from services.runtime.checkpoint.config import AudioTowerConfig

_CONV_GAIN = 3.0


class TrainableAudioTower(AudioTower):
    """Encodes mel chunks [C, T, bins] to embeddings for the thinker [N, D], one chunk after the other.

    The checkpoint layout also has `audio_bos_eos_token`. No code reads it; it stays at zero.
    """

    _positions: Tensor

    def __init__(self, config: AudioTowerConfig) -> None:
        super().__init__(config)
        self._heads = config.heads
        self.audio_bos_eos_token = nn.Embedding(2, config.output_width)
        self.audio_bos_eos_token.weight.requires_grad_(False).zero_()
        self.register_buffer("_positions", _sinusoids(config.n_window, config.width), persistent=False)
        self._initialise()

    def encode(self, mel: Tensor, frames: Tensor) -> Tensor:
        """The embeddings of every chunk, in order.

        Args:
            mel: scaled features [C, T, bins], zeros after a chunk's end; T at most `chunk_frames`.
            frames: int64 [C], the number of mel frames of each chunk, 3 or more.

        Returns:
            [N, output_width]; N is the sum of `tokens_of_mel_frames` over the chunks.
        """
        short = frames <= mel.shape[1] // 2  # most clips end in a short chunk, which takes half the work
        if not short.any() or short.all():
            return self._encode(mel[:, : int(frames.max())], frames)
        of_short = short.repeat_interleave(embeddings_per_chunk(frames))  # [N]
        order = torch.cat([of_short.nonzero(), (~of_short).nonzero()]).flatten()
        parts = [self._encode(mel[kind, : int(frames[kind].max())], frames[kind]) for kind in (short, ~short)]
        return torch.cat(parts)[order.argsort()]

    def _encode(self, mel: Tensor, frames: Tensor) -> Tensor:
        x = F.gelu(self.conv1(mel.transpose(1, 2)))
        x = x * _inside(frames, x.shape[-1])[:, None, :].to(
            x.dtype
        )  # the next convolution must see zeros after the end
        x = F.gelu(self.conv2(x)).transpose(1, 2)  # [C, T / 2, width]
        x = x + self._positions[: x.shape[1]].to(x.dtype)
        seen = _inside((frames - 1) // 2 + 1, x.shape[1])
        bias = torch.zeros(seen.shape, dtype=x.dtype, device=x.device).masked_fill(~seen, -1e4)[:, None, None, :]
        for layer in self.layers:
            part = layer.get_submodule
            x = x + _attend(part("self_attn"), part("self_attn_layer_norm")(x), bias, self._heads)
            x = x + part("fc2")(F.gelu(part("fc1")(part("final_layer_norm")(x))))
        pairs = x.shape[1] // 2
        pooled = (x[:, 0 : 2 * pairs : 2] + x[:, 1 : 2 * pairs : 2]) / 2
        kept = _inside(embeddings_per_chunk(frames), pairs)
        return self.proj(self.ln_post(pooled[kept]))

    def _initialise(self) -> None:
        """Draw weights that preserve the RMS of the activations, smaller in the outputs of the residual branches.

        The convolutions' weights are larger: the features of speech vary little beside the position embeddings.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and parameter.requires_grad:
                writes_back = name.endswith(("out_proj.weight", "fc2.weight"))
                gain = _CONV_GAIN if parameter.dim() == 3 else (2 * len(self.layers)) ** -0.5 if writes_back else 1.0
                nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


def embeddings_per_chunk(frames: Tensor) -> Tensor:
    """`tokens_of_mel_frames` of each chunk: int64 [C]."""
    return (((frames - 1) // 2 + 1) - 2) // 2 + 1


def chunks_of(mel: Tensor, chunk_frames: int) -> list[Tensor]:
    """The tower's chunks of one clip [T, bins], without a last chunk that is too short for an embedding."""
    return [chunk for chunk in mel.split(chunk_frames) if tokens_of_mel_frames(chunk.shape[0])]


def _attend(attention: nn.Module, x: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Self-attention within each chunk. In bfloat16 on a CPU it takes a third of the fused kernel's time."""
    q, k, v = (
        attention.get_submodule(name)(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for name in ("q_proj", "k_proj", "v_proj")
    )
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias  # [C, heads, T, T]
    mixed = scores.softmax(dim=-1).to(v.dtype) @ v
    return attention.get_submodule("out_proj")(mixed.transpose(1, 2).flatten(2))


def _inside(lengths: Tensor, width: int) -> Tensor:
    """Boolean [C, width], True up to each chunk's length."""
    return torch.arange(width, device=lengths.device)[None, :] < lengths[:, None]


def _sinusoids(length: int, width: int) -> Tensor:
    """Whisper's position embeddings [length, width]: sines in the first half, cosines in the second."""
    step = math.log(10_000) / (width // 2 - 1)
    inverse = torch.exp(-step * torch.arange(width // 2).float())
    angles = torch.arange(length)[:, None] * inverse[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
