"""How many launches a frame of the published model's layers takes on a GPU. Their width does not matter here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

import pytest
import torch

from services.common.sampling import SamplingParams
from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache import attention
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers import fused, linear
from services.runtime.layers.fused_stack import FusedStack
from services.runtime.layers.linear import Linear
from services.speech_gen.model import depth_decoder, sampling
from services.speech_gen.model.backbone import Backbone
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.generator import Generator, ThoughtInput
from tests.support.kernels import DEVICE, NEEDS_KERNELS
from tests.support.launches import count_launches
from tests.support.stacks import random_tensors, stack_of

pytestmark = [NEEDS_KERNELS, pytest.mark.skipif(DEVICE != "cpu", reason="counts in the interpreter")]

CODEBOOKS, CODES, WIDTH = 8, 20, 16


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> Generator:
    """A generator with 16 and 4 layers, as the published one, which computes with kernels."""
    from services.runtime.kvcache import attention_triton

    monkeypatch.setattr(linear, "_can_pack", lambda weight: False)
    for module in (fused, attention, depth_decoder, sampling):
        monkeypatch.setattr(module, "uses_kernels", lambda x: True)
    monkeypatch.setattr(attention_triton, "_processors", lambda device: 132)  # an H100's
    configs = [StackConfig(layers, WIDTH, 4, 2, 4, 32, 1e-5, False, RopeConfig(theta=1e4), 32) for layers in (16, 4)]
    backbone, decoder = (stack_of(config, random_tensors(config)) for config in configs)
    table = torch.zeros(CODEBOOKS * CODES, WIDTH)
    heads = [Linear(torch.zeros(CODES, WIDTH)) for _ in range(CODEBOOKS)]
    return Generator(
        Backbone(backbone, torch.zeros(10, WIDTH), table, heads[0], CODEBOOKS),
        DepthDecoder(decoder, Linear(torch.zeros(WIDTH, WIDTH)), table, heads[1:], streams=4),
        PagedKV(configs[0], slots=4, pages=8, dtype=torch.float32),
        eos=0,
        im_end=1,
        padded=True,
    )


def launches(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What a frame of one stream with a thought launches."""
    slot = generator.open(SamplingParams())
    thought = ThoughtInput(0, torch.zeros(WIDTH))
    counted: Counter[str] = Counter()

    def captured(key: Hashable, step: Callable[[], None]) -> None:
        with count_launches(monkeypatch) as launched:
            step()
        counted.update(launched)

    monkeypatch.setattr(generator.graphs, "run", captured)
    generator.frame([], [slot], [thought])
    return counted


def use_kernels(generator: Generator, *, staged: bool) -> None:
    from services.speech_gen.model.depth_frame import DepthFrame

    stack, decoder = generator.backbone.stack, generator.decoder
    stack.fused, stack.fused_rows = FusedStack(stack), 32
    frame = DepthFrame(decoder.stack, decoder.heads, decoder.code_rows, *decoder.rotary, streams=4)
    frame.staged = staged
    decoder.frame, decoder.frame_streams = frame, 4


def test_pytorchs_products_take_as_many_launches_as_before(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = launches(generator, monkeypatch)
    assert counted["linear"] == 4 * (16 + 7 * 4) + 1 + 1 + 7  # the layers, the projection and the heads
    assert counted.total() == 427


def test_a_frame_takes_five_launches_for_a_layer_of_the_backbone_and_one_for_the_depth_decoder(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kernels(generator, staged=False)
    counted = launches(generator, monkeypatch)
    assert counted["_qkv"] == counted["_walk"] == 16
    assert counted["_product"] == 3 * 16
    assert counted["frame_kernel"] == 1
    assert counted.total() == 107


def test_a_launch_for_each_stage_of_the_depth_decoder_is_still_fewer_than_pytorchs(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kernels(generator, staged=True)
    counted = launches(generator, monkeypatch)
    assert counted["frame_kernel"] == 7 * (4 * 6 + 3)
    assert counted.total() == 295
