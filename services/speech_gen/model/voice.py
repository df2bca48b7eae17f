"""Voice prompts: the embeddings that make the backbone speak with a certain voice.

(docs/model.md, section 2: `E(text_start) | E(prompt text) | E(text_end) | A(prompt audio frames) | one all-zero row`)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.common.errors import InvalidArgument, NotFound, OutOfRange
from services.common.wire.voice_fingerprint import voice_fingerprint
from services.runtime.checkpoint.config import TokenIds
from services.runtime.checkpoint.dtypes import from_raw
from services.runtime.kvcache.forgotten import Forgotten
from services.speech_gen.model.backbone import Backbone


@dataclass(frozen=True)
class VoicePrompt:
    """An enrolled voice: `rows` [P, D] in the compute dtype, the last one all zero. `fingerprint` names codes,
    transcript and checkpoint."""

    fingerprint: str
    rows: Tensor

    @torch.inference_mode()
    def erase(self) -> None:
        """Overwrite the rows with zeros. Nothing may use the voice after it."""
        self.rows.zero_()


def enroll(
    backbone: Backbone,
    tokens: TokenIds,
    codes: np.ndarray,
    token_ids: Sequence[int],
    checkpoint_fingerprint: str = "",
    *,
    embedding: np.ndarray | None = None,
) -> VoicePrompt:
    """Prompt rows from the codec's codes, integers [T, K], and the bare transcript's token ids.

    The fingerprint of the backbone's checkpoint may be left out where prompts of one checkpoint only are compared.
    `embedding` is what the same checkpoint made of codes and transcript before: the rows, [P, D], as `to_raw` gives
    them. It is used in place of the computation when its dtype is the backbone's, and ignored otherwise.

    Raises `InvalidArgument` when a code or a token id does not exist or there is no frame, `OutOfRange` when the prompt
    leaves no position for speech.
    """
    vocab = backbone.text_table.shape[0]
    if codes.ndim != 2 or codes.shape[0] < 1 or codes.shape[1] != backbone.codebooks:
        raise InvalidArgument(f"voice codes: expected [T >= 1, {backbone.codebooks}], got {list(codes.shape)}")
    if codes.min() < 0 or codes.max() >= backbone.codebook_size:
        raise InvalidArgument(
            f"voice codes: expected 0 to {backbone.codebook_size - 1}, got {codes.min()} to {codes.max()}"
        )
    bad = next((token_id for token_id in token_ids if not 0 <= token_id < vocab), None)
    if bad is not None:
        raise InvalidArgument(f"voice transcript: expected token ids 0 to {vocab - 1}, got {bad}")
    rows_needed = len(token_ids) + codes.shape[0] + 3
    if rows_needed + 2 > backbone.stack.config.max_positions:
        raise OutOfRange(
            f"voice prompt: {rows_needed} rows leave no room for speech in {backbone.stack.config.max_positions} "
            "positions; use a shorter recording"
        )
    device = backbone.stack.device
    fingerprint = voice_fingerprint(codes, token_ids, checkpoint_fingerprint)
    if embedding is not None and (embedding.dtype == np.uint16) == (backbone.stack.dtype == torch.bfloat16):
        rows = from_raw(embedding, backbone.stack.dtype)
        if not rows.isfinite().all():
            raise InvalidArgument("voice embedding: the rows have NaN or infinite values")
        return VoicePrompt(fingerprint, rows.to(device))
    ids = torch.tensor([tokens.text_start, *token_ids, tokens.text_end])
    frames = torch.from_numpy(codes.astype(np.int64)).to(device)
    text, audio = backbone.text_rows(ids), backbone.audio_rows(frames)
    rows = torch.cat([text, audio, text.new_zeros(1, backbone.width)])
    return VoicePrompt(fingerprint, rows)


class VoiceCache:
    """Enrolled voices by fingerprint, at most `capacity` of at most `max_bytes` together. Used by one thread.

    The least recently used voice leaves first. A forgotten voice is not kept for ten minutes. `size_bytes` counts the
    rows; it may be read from any thread.
    """

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self.size_bytes = 0
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._voices: OrderedDict[str, VoicePrompt] = OrderedDict()
        self._forgotten = Forgotten()

    def __len__(self) -> int:
        return len(self._voices)

    def put(self, voice: VoicePrompt) -> None:
        """Keep `voice`, as the most recently used one. A voice that is larger than the cache is not kept."""
        if voice.fingerprint in self._voices:
            self.size_bytes -= self._voices.pop(voice.fingerprint).rows.nbytes
        if voice.rows.nbytes > self._max_bytes or voice.fingerprint in self._forgotten:
            return
        self._voices[voice.fingerprint] = voice
        self.size_bytes += voice.rows.nbytes
        while len(self._voices) > self._capacity or self.size_bytes > self._max_bytes:
            _, evicted = self._voices.popitem(last=False)
            self.size_bytes -= evicted.rows.nbytes

    def is_forgotten(self, fingerprint: str) -> bool:
        """Whether nothing of this voice may be kept."""
        return fingerprint in self._forgotten

    def forget(self, fingerprint: str) -> VoicePrompt | None:
        """Remove a voice, and keep it no more for ten minutes. Returns it; None when it was not kept."""
        self._forgotten.add(fingerprint)
        voice = self._voices.pop(fingerprint, None)
        if voice is not None:
            self.size_bytes -= voice.rows.nbytes
        return voice

    def get(self, name: str) -> VoicePrompt:
        """The voice with this fingerprint. Raises `NotFound`: the caller then sends its codes and transcript."""
        if name not in self._voices:
            raise NotFound(f"voice prompt {name[:64]} is not cached here: send its codes and transcript")
        self._voices.move_to_end(name)
        return self._voices[name]
