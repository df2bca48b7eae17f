"""The stack against transformers' Llama and Qwen2, for any cut of the same rows into calls."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model

from services.runtime.checkpoint.config import RopeConfig, StackConfig
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.layers.transformer import Stack
from tests.support.stacks import stack_of

LLAMA3 = RopeConfig(
    theta=500_000.0, kind="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=32
)


def stack_config(*, bias: bool) -> StackConfig:
    rope = RopeConfig(theta=1_000_000.0) if bias else LLAMA3
    return StackConfig(3, 48, 6, 2, 8, 80, 1e-6, bias, rope, 256)


def reference_model(config: StackConfig) -> torch.nn.Module:
    torch.manual_seed(1)
    shared = {
        "vocab_size": 8,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_width,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "initializer_range": 0.2,
    }
    if config.qkv_bias:
        rope = {"rope_type": "default", "rope_theta": config.rope.theta}
        model = Qwen2Model(Qwen2Config(**shared, rope_parameters=rope))
    else:
        rope = {
            "rope_type": "llama3",
            "rope_theta": config.rope.theta,
            "factor": config.rope.factor,
            "low_freq_factor": config.rope.low_freq_factor,
            "high_freq_factor": config.rope.high_freq_factor,
            "original_max_position_embeddings": config.rope.original_max_positions,
        }
        model = LlamaModel(LlamaConfig(**shared, rope_parameters=rope))
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return model.eval()


def our_stack(config: StackConfig, model: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Stack:
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("embed_tokens")}
    return stack_of(config, weights, dtype=dtype)


def memory(config: StackConfig) -> PagedKV:
    return PagedKV(config, slots=4, pages=64, page_size=4, dtype=torch.float32)


@pytest.mark.parametrize("bias", [False, True], ids=["llama", "qwen2"])
@pytest.mark.parametrize("cuts", [[40], [1] * 40, [7, 1, 3, 16, 1, 12]], ids=["whole", "row by row", "uneven"])
@torch.inference_mode()
def test_any_cut_of_the_rows_equals_transformers(bias: bool, cuts: list[int]) -> None:
    config = stack_config(bias=bias)
    model = reference_model(config)
    rows = torch.randn(40, config.width)
    expected = model(inputs_embeds=rows[None]).last_hidden_state[0]
    stack, kv = our_stack(config, model), memory(config)
    slot = kv.open()
    hidden = torch.cat([stack(chunk, kv.plan([slot], [len(chunk)])) for chunk in rows.split(cuts)])
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_streams_in_one_call_do_not_see_each_other() -> None:
    config = stack_config(bias=False)
    model = reference_model(config)
    stack, kv = our_stack(config, model), memory(config)
    streams = [torch.randn(20, config.width) for _ in range(3)]
    expected = [model(inputs_embeds=rows[None]).last_hidden_state[0] for rows in streams]
    slots = [kv.open() for _ in streams]
    done = [0, 0, 0]
    hidden: list[list[torch.Tensor]] = [[], [], []]
    for counts in ([5, 5, 9], [1, 3, 3], [1, 1, 3], [3, 3, 1], [10, 8, 4]):
        plan = kv.plan(slots, counts)
        rows = torch.cat([streams[i][done[i] : done[i] + n] for i, n in enumerate(counts)])
        for i, part in enumerate(stack(rows, plan).split(counts)):
            hidden[i].append(part)
            done[i] += counts[i]
    for parts, whole in zip(hidden, expected, strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_shared_prefix_gives_what_prefilling_it_gives() -> None:
    config = stack_config(bias=False)
    model = reference_model(config)
    stack, kv = our_stack(config, model), memory(config)
    prompt, rest = torch.randn(10, config.width), [torch.randn(6, config.width) for _ in range(2)]
    first = kv.open()
    stack(prompt, kv.plan([first], [10]))
    prefix = kv.share(first, 10)
    slots = [first, kv.open(prefix)]
    for step in range(6):
        hidden = stack(torch.stack([rows[step] for rows in rest]), kv.plan(slots, [1, 1]))
        for i, rows in enumerate(rest):
            expected = model(inputs_embeds=torch.cat([prompt, rows[: step + 1]])[None]).last_hidden_state[0, -1]
            torch.testing.assert_close(hidden[i], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_bfloat16_stays_near_float32() -> None:
    config = stack_config(bias=True)
    model = reference_model(config)
    stack = our_stack(config, model, torch.bfloat16)
    kv = PagedKV(config, slots=1, pages=8, dtype=torch.bfloat16)
    rows = torch.randn(12, config.width)
    expected = model(inputs_embeds=rows[None]).last_hidden_state[0]
    hidden = stack(rows.bfloat16(), kv.plan([kv.open()], [12]))
    assert hidden.dtype == torch.bfloat16
    assert (hidden.float() - expected).abs().mean() < 0.05 * expected.abs().mean()
