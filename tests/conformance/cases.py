"""The checks of each golden case. (docs/model.md, section 10)

Tokens, codes and frames must match exactly. Floats must agree to TOLERANCE, relative to the largest golden value where
that is above 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.speech import Recording, speak
from reference.thinker import Reply, think
from services.common.sampling import SamplingParams
from services.common.wire.audio import CODEBOOK_SIZE
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import enroll
from tests.conformance.models import Models
from tests.support.golden_files import load_golden

TOLERANCE = 1e-4

Golden = dict[str, Tensor]
Report = dict[str, Any]


class _Findings:
    """The comparisons of one case: whether exact ones hold, and the largest difference of the others."""

    def __init__(self, case: str) -> None:
        self.exact: dict[str, bool] = {}
        self.max_abs_diff: dict[str, float] = {}
        self._off: list[str] = []
        self._case = case

    def same(self, name: str, found: Tensor, expected: Tensor) -> None:
        """Compare integers, which must be equal in shape and value."""
        equal = found.shape == expected.shape and bool((found == expected).all())
        self.exact[name] = self.exact.get(name, True) and equal
        if not equal:
            self._off.append(name)

    def close(self, name: str, found: Tensor, expected: Tensor) -> None:
        """Compare floats, which must agree to the tolerance."""
        if found.shape != expected.shape:
            self._off.append(f"{name}: shape {list(found.shape)}, expected {list(expected.shape)}")
            self.max_abs_diff[name] = float("inf")
            return
        diff = float((found.double() - expected.double()).abs().max()) if found.numel() else 0.0
        self.max_abs_diff[name] = max(self.max_abs_diff.get(name, 0.0), diff)
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        if not diff <= TOLERANCE * scale:
            self._off.append(name)

    def report(self) -> Report:
        """The case's line."""
        return {
            "case": self._case,
            "pass": not self._off,
            "exact": self.exact,
            "max_abs_diff": self.max_abs_diff,
            **({"off": self._off} if self._off else {}),
        }


def check_codec_case(folder: Path, name: str, models: Models) -> Report:
    """Check Mimi alone: whole encode and whole decode."""
    golden = load_golden(folder, name)
    findings = _Findings(name)
    codes = models.mimi.encode(golden["enc_audio"].numpy())
    findings.same("codes", torch.from_numpy(codes.astype("int64")).T, golden["enc_codes"])
    pcm = models.mimi.decode(golden["codes"][0].T.numpy())
    findings.close("pcm", torch.from_numpy(pcm), golden["pcm"])
    return findings.report()


def check_turn_case(folder: Path, name: str, models: Models) -> Report:
    """Check a whole turn. A row of a padded batch must give what it gives alone, which a file of its own says."""
    golden = load_golden(folder, name)
    case = json.loads((folder / f"{name}.json").read_text())
    findings = _Findings(name)
    batch = golden["in.thinker_input_ids"].shape[0]
    heard: list[Tensor] = []
    clips = [golden[f"in.audio16k.{n}"] for n in range(sum(name.startswith("in.audio16k.") for name in golden))]
    for row in range(batch):
        ids = golden["in.thinker_input_ids"][row][golden["in.thinker_attention_mask"][row].bool()].tolist()
        own = [clips.pop(0) for _ in range(_audio_runs(ids, models.config.tokens.audio))]
        reply = _check_reply(findings, golden, row, think(models.thinker, ids, own, _thoughts(golden)), models)
        heard.append(reply.audio_embeddings)
        if batch == 1:
            _check_speech_alone(findings, golden, reply, case["max_new_tokens"], models)
    if "out.audio_tower_features" in golden:
        findings.close("audio_tower_features", torch.cat(heard), golden["out.audio_tower_features"])
    if batch > 1:
        alone = load_golden(folder, name.split("_")[0] + "_rows_alone")
        for row in range(batch):
            _check_row_alone(findings, golden, alone, row, case["max_new_tokens"], models)
    return findings.report()


def _thoughts(golden: Golden) -> int:
    return golden["out.thinker_token_ids"].shape[1]


def _audio_runs(ids: list[int], audio: int) -> int:
    """The number of recordings for which a prompt has places."""
    return sum(token == audio and (place == 0 or ids[place - 1] != audio) for place, token in enumerate(ids))


def _check_reply(findings: _Findings, golden: Golden, row: int, reply: Reply, models: Models) -> Reply:
    """Check tokens and hidden states, up to and including im_end."""
    expected = golden["out.thinker_token_ids"][row]
    ends = (expected == models.config.tokens.im_end).nonzero().flatten()
    length = int(ends[0]) + 1 if len(ends) else len(expected)
    findings.same("thinker_token_ids", torch.tensor(reply.token_ids), expected[:length])
    findings.close("thinker_last_hidden", reply.hidden, golden["out.thinker_last_hidden"][row, :length])
    return reply


def _check_speech_alone(findings: _Findings, golden: Golden, reply: Reply, max_frames: int, models: Models) -> None:
    """Check a batch of one: prompt codes, every tensor on the way, frames and sound."""
    codes = models.mimi.encode(_prompt_audio(golden, 0))
    prompt_codes = golden["out.prompt_audio_codes"][0].T
    findings.same("prompt_audio_codes", torch.from_numpy(codes.astype("int64")), prompt_codes)
    recording = _say(golden, 0, prompt_codes, reply.token_ids, reply.hidden, max_frames, models)
    findings.same("frames_all", torch.tensor(recording.all_codes).reshape(-1, 8), golden["out.frames_all"][0])
    frames = torch.tensor([frame.codes for frame in recording.frames], dtype=torch.int64).reshape(-1, 8)
    findings.same("frames", frames, golden["out.frames"][0])
    first = golden["out.backbone_first_input_embeds"][0]
    findings.close("backbone_first_input_embeds", torch.cat(recording.rows[:2]), first)
    findings.close("backbone_last_hidden", torch.stack(recording.hidden), golden["out.backbone_last_hidden"][0])
    _check_logits(findings, "codebook0_logits", recording.codebook0_logits, golden["out.codebook0_logits"][0])
    if "out.decoder_logits_first3" in golden:
        expected = golden["out.decoder_logits_first3"][0]
        _check_logits(findings, "decoder_logits", recording.decoder_logits, expected.flatten(0, 1))
    pcm = models.mimi.decode(golden["out.frames"][0].numpy())
    findings.close("pcm", torch.from_numpy(pcm), golden["out.pcm.0"])


def _check_row_alone(
    findings: _Findings, golden: Golden, alone: Golden, row: int, max_frames: int, models: Models
) -> None:
    """Check the speech of one row of a batch against what the row gives alone."""
    codes = torch.from_numpy(models.mimi.encode(_prompt_audio(golden, row)).astype("int64"))
    token_ids = alone[f"row{row}.thinker_token_ids"].tolist()
    hidden = golden["out.thinker_last_hidden"][row, : len(token_ids)]
    recording = _say(golden, row, codes, token_ids, hidden, max_frames, models)
    frames = torch.tensor([frame.codes for frame in recording.frames], dtype=torch.int64).reshape(-1, 8)
    findings.same("frames", frames, alone[f"row{row}.frames"])
    expected = alone[f"row{row}.codebook0_logits_frame0"][None]
    _check_logits(findings, "codebook0_logits", recording.codebook0_logits, expected)


def _prompt_audio(golden: Golden, row: int) -> Any:
    """The voice recording of a row, without padding: float32 [S] at 24 kHz."""
    return golden["in.input_values"][row, 0, : int(golden["in.input_values_cutoffs"][row])].numpy()


def _say(
    golden: Golden,
    row: int,
    prompt_codes: Tensor,
    token_ids: list[int],
    hidden: Tensor,
    max_frames: int,
    models: Models,
) -> Recording:
    tokens = models.config.tokens
    transcript = golden["in.input_ids"][row][golden["in.attention_mask"][row].bool()].tolist()
    voice = enroll(models.generator.backbone, tokens, prompt_codes.numpy(), transcript)
    thoughts = [
        ThoughtInput(token_id, state, last=token_id == tokens.im_end)
        for token_id, state in zip(token_ids, hidden, strict=True)
    ]
    return speak(models.generator, SpeechRequest(voice, SamplingParams(greedy=True), max_frames), thoughts)


def _check_logits(findings: _Findings, name: str, found: list[Tensor], expected: Tensor) -> None:
    """Check the logits of the codes that the codec knows, for as many steps as were recorded."""
    findings.close(name, torch.stack(found[: len(expected)]), expected[:, :CODEBOOK_SIZE])
