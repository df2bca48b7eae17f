"""One speech alone equals the reference: rows, hidden states, logits, codes; small codebooks, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reference.speech import Recording, speak
from services.codec.model.mimi import Mimi
from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.common.wire.audio import CODEBOOK_SIZE
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.speech_gen.messages import EndReason, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.voice import enroll
from services.speech_gen.model.weights import load_generator
from tests.support.golden_speech import CHECKPOINT, SINGLE_CASES, Row, all_rows, single_rows, tensors
from tests.support.small_codebooks import SMALL_CODEBOOK, small_config, write_small


@pytest.mark.parametrize("case", SINGLE_CASES)
def test_golden_case_equals_the_reference(case: str, generator: Generator) -> None:
    row, golden = single_rows()[case], tensors(case)
    assert row.margin > 1e-3
    spoken = speak(generator, row.request(generator), row.thoughts)
    assert [frame.codes for frame in spoken.frames] == row.frames
    assert torch.tensor(spoken.all_codes).equal(golden["out.frames_all"][0])
    assert torch.cat(spoken.rows[:2]).equal(golden["out.backbone_first_input_embeds"][0])
    torch.testing.assert_close(torch.stack(spoken.hidden), golden["out.backbone_last_hidden"][0], rtol=0, atol=1e-4)
    expected = golden["out.codebook0_logits"][0, :, :CODEBOOK_SIZE]
    logits = torch.stack(spoken.codebook0_logits[: len(expected)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    if "out.decoder_logits_first3" in golden:
        expected = golden["out.decoder_logits_first3"][0, :, :, :CODEBOOK_SIZE]
        logits = torch.stack(spoken.decoder_logits[:21]).view(3, 7, CODEBOOK_SIZE)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("row", [0, 1])
def test_rows_of_the_padded_batch_come_out_as_they_do_alone(row: int, generator: Generator) -> None:
    speech = all_rows()[len(SINGLE_CASES) + row]
    spoken = speak(generator, speech.request(generator), speech.thoughts)
    expected = tensors("batch2_rows_alone")[f"row{row}.codebook0_logits_frame0"][:CODEBOOK_SIZE]
    torch.testing.assert_close(spoken.codebook0_logits[0], expected, rtol=0, atol=1e-4)
    assert [frame.codes for frame in spoken.frames] == speech.frames


def test_rows_follow_the_schedule_of_one_thought_to_two_frames(generator: Generator) -> None:
    row = single_rows()["thinker_eos_early"]
    spoken = speak(generator, row.request(generator), row.thoughts)
    assert len(row.thoughts) == 7
    assert [len(rows) for rows in spoken.rows[1:]] == [3, 1] * 7 + [1] * 18


def test_eos_frame_is_dropped_and_a_partial_one_is_kept_unvoiced(generator: Generator) -> None:
    dropped, partial = single_rows()["audio_eos_dropped"], single_rows()["audio_eos_partial"]
    spoken = speak(generator, dropped.request(generator), dropped.thoughts)
    assert spoken.end is not None
    assert (spoken.end.reason, spoken.end.frames, spoken.end.dropped_frame) == (EndReason.EOS, 12, (0,) * 8)
    assert all(frame.voiced for frame in spoken.frames)
    spoken = speak(generator, partial.request(generator), partial.thoughts)
    assert spoken.end is not None
    assert (spoken.end.reason, spoken.end.frames, spoken.end.dropped_frame) == (EndReason.EOS, 20, None)
    assert [frame.voiced for frame in spoken.frames] == [True] * 19 + [False]


def test_text_that_ends_without_a_mark_is_spoken_on(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    spoken = speak(generator, row.request(generator), row.thoughts[:3])
    assert [len(rows) for rows in spoken.rows[1:8]] == [3, 1, 3, 1, 3, 1, 1]
    assert [frame.codes for frame in spoken.frames[:6]] == row.frames[:6]


def test_speech_ends_cleanly_where_the_positions_end(generator: Generator) -> None:
    row = single_rows()["basic_audio"]
    kv = PagedKV(generator.kv.config, slots=1, pages=3, dtype=torch.float32, max_positions=31 + 3 * 4 + 1)
    short = Generator(generator.backbone, generator.decoder, kv, eos=generator.eos, im_end=generator.im_end)
    spoken = speak(short, row.request(generator), row.thoughts)
    assert spoken.end is not None
    assert (spoken.end.reason, spoken.end.frames) == (EndReason.POSITIONS, 6)
    assert [frame.codes for frame in spoken.frames] == row.frames[:6]


def test_speech_without_a_thought_is_refused(generator: Generator) -> None:
    row = single_rows()["text_only"]
    with pytest.raises(InvalidArgument, match="at least one thought"):
        speak(generator, row.request(generator), [])


@pytest.mark.parametrize(
    ("thought", "message"),
    [
        (ThoughtInput(640, torch.zeros(48)), "token id of 0 to 639, got 640"),
        (ThoughtInput(-1, torch.zeros(48)), "token id of 0 to 639, got -1"),
        (ThoughtInput(1, torch.zeros(47)), r"hidden state \[48\]"),
        (ThoughtInput(1, torch.zeros(48, dtype=torch.bfloat16)), "bfloat16"),
        (ThoughtInput(1, torch.full((48,), torch.nan)), "NaN"),
        (ThoughtInput(1, torch.full((48,), torch.inf)), "NaN or infinite"),
    ],
)
def test_bad_thought_is_refused(thought: ThoughtInput, message: str, generator: Generator) -> None:
    with pytest.raises(InvalidArgument, match=message):
        generator.check(thought)


def sampled(row: Row, generator: Generator, seed: int) -> list[tuple[int, ...]]:
    request = replace(row.request(generator), sampling=SamplingParams(seed=seed))
    return [frame.codes for frame in speak(generator, request, row.thoughts).frames]


def test_sampled_speech_follows_its_seed(generator: Generator) -> None:
    row = single_rows()["text_only"]
    first = sampled(row, generator, seed=1)
    assert first == sampled(row, generator, seed=1)
    assert first != sampled(row, generator, seed=2)
    assert first != row.frames
    assert all(code < CODEBOOK_SIZE for frame in first for code in frame)


def test_bfloat16_speech_begins_as_float32_speech_does() -> None:
    row = single_rows()["basic_audio"]
    generator = load_generator(Checkpoint.open(CHECKPOINT), slots=1, kv_pages=16, dtype=torch.bfloat16)
    thoughts = [replace(thought, hidden=thought.hidden.bfloat16()) for thought in row.thoughts]
    spoken = speak(generator, row.request(generator), thoughts)
    expected = tensors("basic_audio")["out.codebook0_logits"][0, 0, :CODEBOOK_SIZE]
    error = (spoken.codebook0_logits[0] - expected).abs().mean()
    assert len(spoken.frames) == row.max_frames
    assert error < 0.05 * expected.abs().mean()


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint of 512 codes a codebook: its own config decides which codes are drawn."""
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def small_generator(small_checkpoint: Checkpoint) -> Generator:
    return load_generator(small_checkpoint, slots=2)


def spoken_with_small_codebooks(generator: Generator, params: SamplingParams) -> Recording:
    voice = enroll(
        generator.backbone, ChromaConfig.from_dict(small_config()).tokens, np.full((2, 8), SMALL_CODEBOOK - 1), [1, 2]
    )
    noise = torch.Generator().manual_seed(1)
    thoughts = [ThoughtInput(3 + i, torch.randn(generator.backbone.width, generator=noise), i == 3) for i in range(4)]
    return speak(generator, SpeechRequest(voice, params, max_frames=12), thoughts)


def test_only_codes_that_the_codec_has_have_logits(small_generator: Generator) -> None:
    recording = spoken_with_small_codebooks(small_generator, SamplingParams(greedy=True))
    logits = [*recording.codebook0_logits, *recording.decoder_logits]
    assert {tuple(row.shape) for row in logits} == {(SMALL_CODEBOOK,)}


@pytest.mark.parametrize("top_k", [50, SMALL_CODEBOOK, 2048, 10_000])
def test_codes_drawn_with_any_top_k_can_be_decoded(
    top_k: int, small_checkpoint: Checkpoint, small_generator: Generator
) -> None:
    recording = spoken_with_small_codebooks(small_generator, SamplingParams(top_k=top_k, temperature=100.0, seed=7))
    codes = np.array([frame.codes for frame in recording.frames])
    assert codes.shape == (12, 8)
    assert 256 < codes.max() < SMALL_CODEBOOK
    pcm = Mimi.load(small_checkpoint).decode(codes)
    assert pcm.shape == (12 * 1920,)
    assert np.isfinite(pcm).all()


def test_a_top_k_above_the_codebook_size_draws_as_all_codes_do(small_generator: Generator) -> None:
    all_codes = spoken_with_small_codebooks(small_generator, SamplingParams(top_k=SMALL_CODEBOOK, seed=7)).all_codes
    assert (
        spoken_with_small_codebooks(small_generator, SamplingParams(top_k=SMALL_CODEBOOK + 1, seed=7)).all_codes
        == all_codes
    )


def test_padded_steps_draw_the_same_codes(small_checkpoint: Checkpoint, small_generator: Generator) -> None:
    plain = load_generator(small_checkpoint, slots=2)
    padded = Generator(plain.backbone, plain.decoder, plain.kv, eos=plain.eos, im_end=plain.im_end, padded=True)
    params = SamplingParams(top_k=10_000, seed=7)
    assert (
        spoken_with_small_codebooks(padded, params).all_codes
        == spoken_with_small_codebooks(small_generator, params).all_codes
    )


def test_greedy_streams_have_no_codes_sorted(small_generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def sorting(*given: object, **options: object) -> None:
        raise AssertionError("codes are sorted")

    monkeypatch.setattr(torch.Tensor, "topk", sorting)
    spoken_with_small_codebooks(small_generator, SamplingParams(greedy=True))
    with pytest.raises(AssertionError, match="codes are sorted"):
        spoken_with_small_codebooks(small_generator, SamplingParams(seed=1))
