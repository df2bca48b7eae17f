"""The models on a CUDA device: replayed graphs equal eager steps, and no step lacks its graph. bfloat16 stays near
float32.
"""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch

from reference.thinker import embed, think
from services.codec.model.decode_step import DecodeStep
from services.codec.model.mimi import Mimi
from services.common.sampling import SamplingParams
from services.common.wire.audio import CODEBOOK_SIZE
from services.reasoner.model.thinker import Thinker
from services.reasoner.model.thought_step import ThoughtStep
from services.reasoner.model.tower_step import TowerStep
from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.graphs.graphs import StepGraphs
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.prompt_step import PromptStep
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.weights import load_generator
from tests.support import golden_cases, golden_speech

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

CHECKPOINT = Checkpoint.open(golden_speech.CHECKPOINT)
SLOTS = 6

FLOAT32_TOLERANCE = 1e-3
"""Largest difference of a hidden state or logit from the CPU's in float32: sums are taken in another order."""

BFLOAT16_TOLERANCE = 0.05
"""Mean difference of bfloat16 logits from the reference's, as a share of their mean size: 8 bits a number."""


@pytest.fixture(autouse=True, scope="module")
def exact_float32() -> None:
    """No TF32: it has 10 bits and would move tokens."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def generator_on(device: str, dtype: torch.dtype = torch.float32) -> Generator:
    return load_generator(CHECKPOINT, slots=SLOTS, kv_pages=64, dtype=dtype, device=device)


def speak_all(generator: Generator, seed: int) -> dict[str, list[tuple[int, ...]]]:
    """Generate every golden speech, with random streams in each step. Returns the frames of each stream by name."""
    dice = random.Random(seed)
    waiting = list(golden_speech.all_rows())
    dice.shuffle(waiting)
    live: dict[int, tuple[golden_speech.Row, list[ThoughtInput]]] = {}
    spoken: dict[str, list[tuple[int, ...]]] = {row.name: [] for row in waiting}
    while waiting or live:
        if waiting and generator.kv.free_slots and (not live or dice.random() < 0.4):
            row = waiting.pop()
            slot = generator.open(SamplingParams(greedy=True))
            generator.prefill([slot], [row.request(generator).voice.rows[:-1]])
            live[slot] = (row, list(row.thoughts))
        chosen = [slot for slot in live if dice.random() < 0.8] or list(live)[:1]
        fed = {
            slot: live[slot][1].pop(0) for slot in chosen if len(spoken[live[slot][0].name]) % 2 == 0 and live[slot][1]
        }
        alone = [slot for slot in chosen if slot not in fed]
        codes = generator.frame(alone, list(fed), list(fed.values()))
        for slot, frame in zip([*alone, *fed], codes.tolist(), strict=True):
            row, _ = live[slot]
            spoken[row.name].append(tuple(frame))
            if len(spoken[row.name]) == len(row.frames):
                del live[slot]
                generator.close(slot)
    return spoken


@pytest.mark.parametrize("seed", range(3))
def test_replayed_frames_are_the_reference_and_every_step_was_captured(seed: int) -> None:
    generator = generator_on("cuda")
    generator.capture()
    graphs = len(generator.graphs)
    assert graphs > 0
    spoken = speak_all(generator, seed)
    assert spoken == {row.name: row.frames for row in golden_speech.all_rows()}
    assert len(generator.graphs) == graphs
    assert generator.graphs.eager_steps == 0


def test_replayed_frames_equal_eager_ones_with_sampling() -> None:
    row = golden_speech.single_rows()["basic_audio"]
    frames: list[np.ndarray] = []
    for graphs in (True, False):
        generator = generator_on("cuda")
        if graphs:
            generator.capture()
        slots = [generator.open(SamplingParams(seed=seed, top_k=top_k)) for seed, top_k in enumerate((5, 50, 500))]
        generator.prefill(slots, [row.request(generator).voice.rows[:-1]] * 3)
        made = [
            generator.frame([], slots, [row.thoughts[step // 2]] * 3)
            if step % 2 == 0
            else generator.frame(slots, [], [])
            for step in range(20)
        ]
        frames.append(np.stack(made))
    assert np.array_equal(frames[0], frames[1])
    assert len(np.unique(frames[0][:, 0], axis=0)) > 1


def test_nothing_is_allocated_by_a_replayed_frame() -> None:
    generator = generator_on("cuda")
    generator.capture()
    row = golden_speech.single_rows()["basic_audio"]
    slot = generator.open(SamplingParams(greedy=True))
    generator.prefill([slot], [row.request(generator).voice.rows[:-1]])
    generator.frame([], [slot], row.thoughts[:1])
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(9):
        generator.frame([slot], [], [])
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@pytest.mark.parametrize("case", golden_speech.SINGLE_CASES)
def test_bfloat16_stays_near_the_reference(case: str) -> None:
    """Only the first frame is compared. Later frames continue from codes that bfloat16 may have chosen otherwise."""
    generator = generator_on("cuda", torch.bfloat16)
    row = golden_speech.single_rows()[case]
    slot = generator.open(SamplingParams(greedy=True))
    generator.prefill([slot], [row.request(generator).voice.rows[:-1]])
    recorded: list[torch.Tensor] = []
    original = generator.backbone.codebook0_logits

    def recording(hidden: torch.Tensor) -> torch.Tensor:
        recorded.append(original(hidden))
        return recorded[-1]

    generator.backbone.codebook0_logits = recording
    first = row.thoughts[0]
    generator.frame([], [slot], [ThoughtInput(first.token_id, first.hidden.bfloat16())])
    expected = golden_speech.tensors(case)["out.codebook0_logits"][0, 0, :CODEBOOK_SIZE]
    error = (recorded[0][0].cpu() - expected).abs().mean()
    assert error < BFLOAT16_TOLERANCE * expected.abs().mean()


@pytest.mark.parametrize("case", golden_cases.CASES)
def test_thinker_on_cuda_equals_the_reference(case: str) -> None:
    thinker = load_thinker(CHECKPOINT, dtype=torch.float32, device="cuda")
    for row in golden_cases.golden_rows(case):
        reply = think(thinker, row.input_ids, row.clips, len(row.token_ids))
        assert reply.token_ids == row.token_ids
        torch.testing.assert_close(reply.hidden.cpu(), row.hidden, rtol=0, atol=FLOAT32_TOLERANCE)


def test_replayed_thoughts_equal_those_of_the_cpu() -> None:
    dice = random.Random(4)
    prompts = [[dice.randrange(600) for _ in range(dice.randrange(1, 60))] for _ in range(SLOTS)]
    results = []
    for device in ("cpu", "cuda"):
        thinker = load_thinker(CHECKPOINT, dtype=torch.float32, device=device)
        results.append(thoughts_of(thinker, prompts))
    (cpu_ids, cpu_hidden), (cuda_ids, cuda_hidden) = results
    assert cuda_ids == cpu_ids
    torch.testing.assert_close(cuda_hidden, cpu_hidden, rtol=0, atol=FLOAT32_TOLERANCE)


def thoughts_of(thinker: Thinker, prompts: list[list[int]]) -> tuple[list[list[int]], torch.Tensor]:
    """The tokens and hidden states of 30 steps. The last stream takes part from the 16th step on."""
    kv = PagedKV(
        thinker.config, slots=SLOTS, pages=90, dtype=torch.float32, device=thinker.stack.device, max_positions=200
    )
    step = ThoughtStep(thinker, kv)
    step.capture()
    slots = [kv.open() for _ in prompts]
    for slot, prompt in zip(slots, prompts, strict=True):
        thinker.forward(embed(thinker, prompt), kv.plan([slot], [len(prompt)]))
    last = [prompt[-1] for prompt in prompts]
    ids: list[list[int]] = []
    hidden: list[torch.Tensor] = []
    for number in range(30):
        width = len(slots) - (number < 15)
        chosen, states = step(kv.plan(slots[:width], [1] * width), last[:width])
        last[:width] = chosen
        ids.append(chosen)
        hidden.append(states.clone())
    assert step.graphs.eager_steps == 0
    return ids, torch.cat(hidden)


@pytest.mark.parametrize("seed", range(3))
def test_prompts_in_chunks_of_any_size_equal_the_cpu(seed: int) -> None:
    """Eager steps of 1 to 256 rows of several streams, whose prompts grow to a few hundred rows."""
    results = [prefilled(device, torch.float32, seed) for device in ("cpu", "cuda")]
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT32_TOLERANCE)


def test_prompts_in_bfloat16_stay_near_float32() -> None:
    expected, found = (torch.cat(prefilled("cuda", dtype, 5)) for dtype in (torch.float32, torch.bfloat16))
    assert (found - expected).abs().mean() < BFLOAT16_TOLERANCE * expected.abs().mean()


def prefilled(device: str, dtype: torch.dtype, seed: int) -> list[torch.Tensor]:
    """The hidden states of 8 steps of the thinker's stack, each with a random number of rows of random streams. They
    are returned as float32 on the CPU.
    """
    thinker = load_thinker(CHECKPOINT, dtype=dtype, device=device)
    dice = np.random.default_rng(seed)
    kv = PagedKV(thinker.config, slots=SLOTS, pages=SLOTS * 40, dtype=dtype, device=device, max_positions=640)
    slots = [kv.open() for _ in range(SLOTS)]
    hidden: list[torch.Tensor] = []
    for step in range(8):
        count = int(dice.integers(1, SLOTS + 1))
        shares = [int(rows) for rows in dice.integers(1, 256 // count if step % 2 else 20, count)]
        chosen = [int(slot) for slot in dice.permutation(slots)[:count]]
        shares = [min(rows, 640 - int(kv.lengths[slot])) or 1 for slot, rows in zip(chosen, shares, strict=True)]
        ids = dice.integers(0, 600, sum(shares)).tolist()
        hidden.append(thinker.forward(embed(thinker, ids), kv.plan(chosen, shares)).float().cpu())
    return hidden


@pytest.mark.parametrize("seed", range(3))
def test_replayed_prompts_in_chunks_of_any_size_equal_the_cpu(seed: int) -> None:
    dice = np.random.default_rng(seed)
    thinkers = [load_thinker(CHECKPOINT, dtype=torch.float32, device=device) for device in ("cpu", "cuda")]
    caches = [
        PagedKV(one.config, slots=SLOTS, pages=SLOTS * 40, dtype=torch.float32, device=one.stack.device)
        for one in thinkers
    ]
    steps = [PromptStep(kv, StepGraphs(kv.k.device)) for kv in caches]
    graphs = steps[1].graphs
    steps[1].capture(thinkers[1].forward)
    slots, _ = ([kv.open() for _ in range(SLOTS)] for kv in caches)
    for _ in range(8):
        chosen = [int(slot) for slot in dice.permutation(slots)[: dice.integers(1, SLOTS + 1)]]
        counts = [int(count) for count in dice.integers(1, 1 + 200 // len(chosen), len(chosen))]
        counts = [
            min(count, caches[0].max_positions - int(caches[0].lengths[slot])) or 1
            for slot, count in zip(chosen, counts, strict=True)
        ]
        ids = [dice.integers(0, 600, count).tolist() for count in counts]
        expected, found = (
            step(one.forward, [embed(one, some) for some in ids], kv.plan(chosen, counts)).cpu()
            for step, one, kv in zip(steps, thinkers, caches, strict=True)
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT32_TOLERANCE)
    assert graphs.eager_steps == 0


def test_replayed_chunks_equal_the_cpu() -> None:
    dice = torch.Generator().manual_seed(6)
    towers = [load_thinker(CHECKPOINT, dtype=torch.float32, device=device).tower for device in ("cpu", "cuda")]
    step = TowerStep(towers[1], StepGraphs(torch.device("cuda")))
    step.capture()
    for count in (1, 2, 3, 8, 5):
        lengths = torch.randint(3, towers[0].chunk_frames + 1, (count,), generator=dice).tolist()
        chunks = [torch.randn(length, towers[0].mel_bins, generator=dice) for length in lengths]
        with torch.inference_mode():
            for rows, expected in zip(step(chunks), towers[0](chunks), strict=True):
                torch.testing.assert_close(rows.cpu(), expected, rtol=0, atol=FLOAT32_TOLERANCE)
    assert step.graphs.eager_steps == 0


def test_a_prompt_of_a_new_length_needs_no_planning() -> None:
    """A step of a new shape takes milliseconds. cuDNN's attention would plan for a quarter of a second."""
    thinker = load_thinker(CHECKPOINT, dtype=torch.bfloat16, device="cuda")
    kv = PagedKV(
        thinker.config, slots=2, pages=200, dtype=torch.bfloat16, device=thinker.stack.device, max_positions=1600
    )
    taken_s: list[float] = []
    for rows in (50, *range(3, 256, 11)):
        slots = [kv.open(), kv.open()]
        begun_s = time.perf_counter()
        embedded = embed(thinker, [1] * (rows + 20))
        thinker.forward(embedded, kv.plan(slots, [20, rows])).cpu()
        taken_s.append(time.perf_counter() - begun_s)
        for slot in slots:
            kv.close(slot)
    assert max(taken_s[1:]) < 0.2


def test_a_frame_has_three_shapes_a_width_at_most() -> None:
    generator = generator_on("cuda")
    generator.capture()
    assert len(generator.graphs) == 5 + 2 + 3 + 3 + 3  # prompts; frames of 1, 2, 4 and 6 streams


def test_replayed_decode_steps_equal_the_cpu_for_any_set_of_streams() -> None:
    dice, noise = random.Random(3), np.random.default_rng(3)
    cpu, cuda = (
        DecodeStep(Mimi.load(CHECKPOINT, device).decoder, torch.device(device), slots=7, width=6, step_frames=4)
        for device in ("cpu", "cuda")
    )
    cuda.capture()
    for _ in range(60):
        frames = dice.choice([1, 1, 2, 4])
        slots = dice.sample(range(7), dice.randint(1, 6 // frames))
        codes = noise.integers(0, 2048, (len(slots), frames, 8))
        np.testing.assert_allclose(cuda(codes, slots), cpu(codes, slots), rtol=0, atol=FLOAT32_TOLERANCE)
    assert cuda.graphs.eager_steps == 0
