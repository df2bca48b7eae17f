"""Teacher forcing computes the same as the service: the same rows, logits and names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints.tensor_names import expected_tensors
from reference.speech import Recording, speak
from services.common.sampling import SamplingParams
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import enroll
from tests.support.tiny_speech import TinySpeech, tiny_speech
from train.optim.training_loop import load_artefact, save_artefact
from train.speech.batch import SpeechBatch
from train.speech.model import SpeechModel
from train.speech.positions import Speech, lay_out


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> TinySpeech:
    return tiny_speech(tmp_path_factory.mktemp("tiny"))


@dataclass(frozen=True)
class Said:
    """One speech as the service made it, and the batch that teaches the same."""

    recording: Recording
    codes: torch.Tensor
    batch: SpeechBatch


def say(served: TinySpeech, *, reply_tokens: int, frames: int, seed: int) -> Said:
    """Let the service speak a random text in a random voice, then lay out what it said."""
    dice = np.random.default_rng(seed)
    prompt_ids, reply_ids = (dice.integers(0, 500, n).tolist() for n in (5, reply_tokens))
    prompt_codes = dice.integers(0, 500, (7, served.config.codebooks))
    hidden = torch.from_numpy(dice.standard_normal((reply_tokens + 1, served.config.backbone.width))).float()
    im_end = served.config.tokens.im_end
    thoughts = [ThoughtInput(token, hidden[i], token == im_end) for i, token in enumerate([*reply_ids, im_end])]
    voice = enroll(served.generator.backbone, served.config.tokens, prompt_codes, prompt_ids)
    request = SpeechRequest(voice, SamplingParams(seed=seed), frames)
    recording = speak(served.generator, request, thoughts)
    codes = np.array(recording.all_codes)
    rows = lay_out(served.config, Speech(prompt_ids, prompt_codes, reply_ids, codes[:-1]))
    brought = recording.end.thoughts if recording.end else 0
    return Said(recording, torch.from_numpy(codes), SpeechBatch.of([rows], hidden[:brought]))


@pytest.mark.parametrize(("reply_tokens", "frames"), [(3, 12), (9, 6), (1, 1), (4, 9), (2, 5)])
def test_rows_and_logits_are_those_of_the_service(served: TinySpeech, reply_tokens: int, frames: int) -> None:
    """Text that ends before the speech, with it and after it; the last frame stands where EOS is taught."""
    if frames == 1:
        frames = 2  # the frame that is left out below is the one after a single frame
    said = say(served, reply_tokens=reply_tokens, frames=frames, seed=frames)
    batch, model = said.batch, served.model
    expected_rows = torch.cat(said.recording.rows)
    with torch.inference_mode():
        rows = model.rows(batch)
        hidden = model.hidden(batch)
        codebook0 = model.codebook0_logits(hidden)
        depth = model.depth_logits(hidden, said.codes).flatten(0, 1)
    torch.testing.assert_close(rows, expected_rows, rtol=0, atol=1e-6)
    for ours, theirs in ((codebook0, said.recording.codebook0_logits), (depth, said.recording.decoder_logits)):
        served_logits = torch.stack(theirs)
        torch.testing.assert_close(ours[:, : served_logits.shape[1]], served_logits, rtol=0, atol=1e-4)


def test_the_artefact_has_the_checkpoints_names_and_shapes(served: TinySpeech, tmp_path: Path) -> None:
    save_artefact(tmp_path / "speech.safetensors", served.model.state_dict())
    stored = load_artefact(tmp_path / "speech.safetensors")
    expected = {
        name: shape
        for name, shape in expected_tensors(served.config).items()
        if name.startswith(("backbone.", "decoder.")) and name != "backbone.audio_embedding.embed_audio_tokens.weight"
    }
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == expected
    fresh = SpeechModel(served.config, served.model.text_table)
    fresh.load_state_dict(stored)
    for name, tensor in fresh.state_dict().items():
        torch.testing.assert_close(tensor, served.model.state_dict()[name], rtol=1e-3, atol=1e-4)
