"""A plain loop for one request at a time, like the reference: transformers' modules, and no cache between turns.

A turn encodes the voice recording and prefills the whole conversation and the whole voice prompt into new caches. Then
it makes frames one by one: a thinker step for every second frame, the backbone, and `generate()` of the depth decoder.
The reference also computes lm_head for the whole prompt, hidden states of all layers, and masks; this loop does not.
(docs/model.md, sections 2 to 4)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationMixin,
    LlamaConfig,
    LlamaModel,
    MimiConfig,
    MimiModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.harness.workload import Clock, Session
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES, Checkpoint
from services.runtime.checkpoint.config import ChromaConfig, StackConfig
from services.runtime.checkpoint.weights import Weights


@dataclass
class PlainTurn:
    """The result of one turn. Times are seconds from its beginning."""

    frames: list[tuple[int, ...]] = field(default_factory=list)
    frame_s: list[float] = field(default_factory=list)
    reply: list[int] = field(default_factory=list)
    smallest_margin: float = float("inf")
    """Smallest difference of the two largest logits of any choice; only computed with `margins`."""


class PlainLoop:
    """The whole model, for one request at a time."""

    def __init__(
        self, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32, clock: Clock = time.perf_counter
    ) -> None:
        self._clock = clock
        self.config = config = ChromaConfig.from_dict(checkpoint.config)
        text = config.thinker.text
        vocab = config.thinker.vocab_size
        self.thinker = Qwen2Model(Qwen2Config(vocab_size=vocab, **_stack_arguments(text)))
        self.lm_head = nn.Linear(text.width, vocab, bias=False)
        self.backbone = _rows_model(config.backbone)
        self.codebook0_head = nn.Linear(config.backbone.width, config.code_vocab_size, bias=False)
        self.audio_table = nn.Embedding(config.codebooks * config.code_vocab_size, config.audio_width)
        self.decoder = PlainDepthDecoder(config, self.audio_table)
        self.codec = _codec(checkpoint, config)
        weights = Weights(checkpoint, dtype)
        for module, name in (
            (self.thinker, "thinker.model"),
            (self.lm_head, "thinker.lm_head"),
            (self.backbone, "backbone.model"),
            (self.codebook0_head, "backbone.codebook0_head"),
            (self.audio_table, AUDIO_TABLE_NAMES[0].removesuffix(".weight")),
            (self.decoder.model, "decoder.model"),
            (self.decoder.projection, "decoder.projection"),
            (self.decoder.codebook_head, "decoder.codebook_head"),
        ):
            weights.below(name).fill(nn.Module.to(module, dtype).eval())

    @torch.inference_mode()
    def encode(self, pcm: Tensor) -> Tensor:
        """A voice recording [S] at 24 kHz -> codes int64 [T, K]."""
        codes: Any = self.codec.encode(pcm[None, None], num_quantizers=self.config.codebooks).audio_codes
        return codes[0].T

    @torch.inference_mode()
    def turn(self, session: Session, conversation: list[int], max_frames: int, *, margins: bool = False) -> PlainTurn:
        """One reply to `conversation`, greedy, until `max_frames` or the end of speech."""
        turn, started_s = PlainTurn(), self._clock()
        note = _note_margins(turn) if margins else None
        thinker_cache, backbone_cache = DynamicCache(), DynamicCache()
        rows = self._voice_rows(session)
        ids, eos = torch.tensor([conversation]), self.config.codebook_eos
        while len(turn.frames) < max_frames:
            text_lives = not turn.reply or turn.reply[-1] != self.config.tokens.im_end
            if text_lives and len(turn.frames) % 2 == 0:
                hidden = self.thinker(ids, past_key_values=thinker_cache, use_cache=True).last_hidden_state[:, -1:]
                logits = self.lm_head(hidden)
                ids = logits.argmax(-1)
                turn.reply.append(int(ids))
                if note:
                    note(logits[0])
                rows = torch.cat([rows, hidden, self.thinker.embed_tokens(ids)], dim=1)
            last = self.backbone(inputs_embeds=rows, past_key_values=backbone_cache, use_cache=True).last_hidden_state
            logits = self.codebook0_head(last[:, -1])[:, : self.config.codec.codebook_size]
            frame = self.decoder.frame(logits.argmax(-1, keepdim=True), last[:, -1], note)
            if note:
                note(logits)
            codes = tuple(frame[0].tolist())
            if all(code == eos for code in codes):
                break
            turn.frames.append(codes)
            turn.frame_s.append(self._clock() - started_s)
            if all(code == eos for code in codes[:-1]):
                break
            rows = self._audio_rows(frame[:, None])
        return turn

    def _voice_rows(self, session: Session) -> Tensor:
        """The embeddings of the voice prompt [1, P, D]."""
        tokens = self.config.tokens
        text = self.thinker.embed_tokens(torch.tensor([[tokens.text_start, *session.transcript, tokens.text_end]]))
        audio = self._audio_rows(self.encode(session.recording)[None])
        return torch.cat([text, audio, torch.zeros_like(text[:, :1])], dim=1)

    def _audio_rows(self, codes: Tensor) -> Tensor:
        """Codes [1, T, K] -> audio embeddings A [1, T, D]."""
        offsets = torch.arange(self.config.codebooks) * self.config.code_vocab_size
        return self.audio_table(codes + offsets).sum(dim=-2)


class PlainDepthDecoder(PreTrainedModel, GenerationMixin):
    """Codebooks 1 to 7 of one frame, by transformers' `generate()`."""

    config_class = LlamaConfig

    def __init__(self, config: ChromaConfig, audio_table: nn.Embedding) -> None:
        super().__init__(LlamaConfig(vocab_size=config.code_vocab_size, **_stack_arguments(config.decoder)))
        self.model = _rows_model(config.decoder)
        self.projection = nn.Linear(config.audio_width, config.decoder.width, bias=False)
        self.codebook_head = _Heads(config.codebooks - 1, config.decoder.width, config.code_vocab_size)
        self.codebooks = config.codebooks
        self.code_vocab = config.code_vocab_size
        self.codebook_size = config.codec.codebook_size
        self._audio_table = [audio_table]  # in a list, so that it is no parameter of this module: the backbone owns it

    def frame(self, code: Tensor, backbone_hidden: Tensor, note: Callable[[Tensor], None] | None) -> Tensor:
        """Codebook 0's code [1, 1] and the backbone's hidden state [1, D] -> codes [1, K]."""
        out: Any = self.generate(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids=code,
            backbone_hidden=backbone_hidden,
            max_new_tokens=self.codebooks - 1,
            min_new_tokens=self.codebooks - 1,
            do_sample=False,
            use_cache=True,
            suppress_tokens=list(range(self.codebook_size, self.code_vocab)),
            output_logits=note is not None,
            return_dict_in_generate=note is not None,
        )
        if note is None:
            return out
        for logits in out.logits:
            note(logits[:, : self.codebook_size])
        return out.sequences

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: DynamicCache | None = None,
        backbone_hidden: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """A code [1, 1] -> the logits of the next code. `backbone_hidden` comes only with the frame's first code."""
        assert past_key_values is not None, "generate() keeps a cache"
        codebook = 0 if backbone_hidden is not None else past_key_values.get_seq_length() - 1
        rows = self._audio_table[0](input_ids + codebook * self.code_vocab)
        if backbone_hidden is not None:
            rows = torch.cat([backbone_hidden[:, None], rows], dim=1)
        hidden = self.model(
            inputs_embeds=self.projection(rows),
            past_key_values=past_key_values,
            position_ids=torch.full((1, rows.shape[1]), codebook),
            use_cache=True,
        ).last_hidden_state
        logits = hidden[:, -1] @ self.codebook_head.weight[codebook]
        return CausalLMOutputWithPast(logits=logits[:, None], past_key_values=past_key_values)  # pyright: ignore

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Tensor,
        past_key_values: DynamicCache | None = None,
        backbone_hidden: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """The arguments of `forward` in `generate()`."""
        opening = past_key_values is None or past_key_values.get_seq_length() == 0
        return {
            "input_ids": input_ids[:, -1:],
            "past_key_values": past_key_values,
            "backbone_hidden": backbone_hidden if opening else None,
        }


class _Heads(nn.Module):
    def __init__(self, heads: int, width: int, vocab: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, width, vocab))


def _rows_model(config: StackConfig) -> LlamaModel:
    """A Llama without an embedding table: its inputs are embeddings."""
    model = LlamaModel(LlamaConfig(vocab_size=1, bos_token_id=None, eos_token_id=None, **_stack_arguments(config)))
    model.embed_tokens = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return model


def _stack_arguments(config: StackConfig) -> dict[str, Any]:
    assert config.rope.kind == "default", "the plain loop supports the presets only"
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_width,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope.theta},
    }


_NESTED = re.compile(r"^(?:(encoder|decoder)\.\1_seanet|(?:encoder|decoder)\.(\w+_transformer|upsample|downsample))")


def _codec(checkpoint: Checkpoint, config: ChromaConfig) -> MimiModel:
    """The codec with the checkpoint's weights. transformers 5.23 nests modules that checkpoints keep side by side."""
    codec = MimiModel(MimiConfig(**config.codec.raw)).eval()
    weights = Weights(checkpoint, torch.float32).below("codec_model")
    stored = {
        name: weights.read(_NESTED.sub(lambda match: match[match.lastindex or 0], name), *expected.shape)
        for name, expected in codec.state_dict().items()
    }
    codec.load_state_dict(stored)
    return codec


def _note_margins(turn: PlainTurn) -> Callable[[Tensor], None]:
    def note(logits: Tensor) -> None:
        best, second = logits.float().topk(2).values[0].tolist()
        turn.smallest_margin = min(turn.smallest_margin, best - second)

    return note
