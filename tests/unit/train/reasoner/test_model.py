"""The reasoner for training computes the same as the service."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from checkpoints.tensor_names import expected_tensors
from reference.thinker import think
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.weights import load_thinker
from tests.support.tiny_reasoner import TinyReasoner, sound
from train.corpus.vocabulary import text_embedding
from train.hearing.clip_features import Recording
from train.pack.config import nano
from train.reasoner.conversation_batch import LaidOut, join
from train.reasoner.layout import UserInput
from train.reasoner.model import PREFIX, ReasonerModel


@pytest.fixture(scope="module")
def served(tiny: TinyReasoner) -> Thinker:
    return load_thinker(tiny.checkpoint, dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(tiny: TinyReasoner) -> ReasonerModel:
    model = tiny.new_model()
    model.load_artefact(tiny.tensors())
    return model


def conversations() -> dict[str, tuple[list[torch.Tensor], list[tuple[UserInput, str]]]]:
    """Named conversations: their recordings, and their turns."""
    long, short, quick = sound(4.63, seed=1), sound(0.9, seed=2), sound(2.0, seed=3)
    return {
        "spoken": ([long], [(Recording(long, "one", 0), "Yes.")]),
        "typed": ([], [("What is there?", "Yes.")]),
        "history": (
            [long, short, quick],
            [
                (Recording(long, "one", 0), "A first answer."),
                ("typed in between", "A second one."),
                (Recording(short, "two", 0), "Hello."),
                (Recording(quick, "three", 0), "Yes."),
            ],
        ),
    }


def with_thoughts(tiny: TinyReasoner, served: Thinker, name: str) -> tuple[LaidOut, torch.Tensor]:
    """A conversation whose last reply is what the service thinks, and the states [n, D] it thinks it from."""
    clips, turns = conversations()[name]
    laid_out = tiny.layout(turns, system_prompt="You are brief." if name == "history" else None)
    prompt = laid_out.ids[: laid_out.target_at[-len(tiny.layout.reply_ids(turns[-1][1]))] + 1]
    reply = think(served, prompt, clips, 9)
    at = list(range(len(prompt) - 1, len(prompt) - 1 + len(reply.token_ids)))
    return LaidOut([*prompt, *reply.token_ids[:-1]], at, reply.token_ids, laid_out.clips), reply.hidden


def test_logits_equal_the_services_in_one_batch(tiny: TinyReasoner, served: Thinker, trained: ReasonerModel) -> None:
    rows = [with_thoughts(tiny, served, name) for name in conversations()]
    batch = join([row for row, _ in rows], audio_id=tiny.config.tokens.audio, chunk_frames=200)
    with torch.no_grad():
        hidden = trained.hidden(batch, trained.audio_embeddings(batch.clips))
        logits = trained.logits(hidden)
    expected = torch.cat([states for _, states in rows])
    torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits, served.head(expected).float(), atol=1e-4, rtol=0)
    assert logits.argmax(dim=-1).tolist() == batch.targets.tolist()


def test_batch_without_a_recording_has_no_audio_embeddings(tiny: TinyReasoner, trained: ReasonerModel) -> None:
    batch = join([tiny.layout([("typed", "Yes.")])], audio_id=tiny.config.tokens.audio, chunk_frames=200)
    assert trained.audio_embeddings(batch.clips).shape == (0, tiny.config.thinker.text.width)
    assert trained.hidden(batch, trained.audio_embeddings(batch.clips)).shape == (
        len(batch.targets),
        tiny.config.thinker.text.width,
    )


def test_artefact_has_the_published_names_and_shapes(tiny: TinyReasoner) -> None:
    for config, model in ((tiny.config, tiny.new_model()), (nano(), ReasonerModel(nano(), text_embedding()))):
        expected = {name: shape for name, shape in expected_tensors(config).items() if name.startswith(PREFIX)}
        assert {name: tuple(tensor.shape) for name, tensor in model.artefact().items()} == expected


def test_table_and_final_norm_are_not_trained() -> None:
    model = ReasonerModel(nano(), text_embedding())
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"model.embed_tokens.weight", "model.norm.weight", "audio_tower.audio_bos_eos_token.weight"}
    assert torch.equal(model.artefact()["thinker.model.embed_tokens.weight"], text_embedding())
    assert torch.equal(model.artefact()["thinker.model.norm.weight"], torch.ones(256))


def test_table_of_another_shape_is_refused(tiny: TinyReasoner) -> None:
    with pytest.raises(ValueError, match=r"text table: expected shape \[640, 48\], got \[3, 48\]"):
        ReasonerModel(tiny.config, torch.zeros(3, 48))


def test_artefact_of_another_model_is_refused(tmp_path: Path, tiny: TinyReasoner) -> None:
    tensors = tiny.tensors()
    del tensors["thinker.lm_head.weight"]
    with pytest.raises(RuntimeError, match=r"lm_head\.weight"):
        tiny.new_model().load_artefact(tensors)
