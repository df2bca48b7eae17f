"""Ways to store weights in 4 bits, compared: `python -m bench.quality.quantization_schemes OUT`.

For each scheme it prints the bits of a weight and, on a trained checkpoint, the error of products and of the thinker's
logits. It writes the checkpoint whose matrices are rounded by this scheme but stored in floating point.
`python -m train.evaluation --checkpoint OUT/SCHEME --precision float32` then says how well it answers and speaks.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from services.reasoner.model.weights import load_thinker
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.quantized import quantize
from services.runtime.checkpoint.quantized_layout import CODEBOOK_HEADS, is_matrix
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.kvcache.paged_kv import PagedKV
from services.runtime.kvcache.pages import PAGE_SIZE
from train.corpus.domain import load_domain

_ROWS = 64
"""Normal inputs of a product."""
_QUESTIONS = 40


@dataclass(frozen=True)
class Scheme:
    """`rounded` gives the float32 matrix [O, I] that the stored numbers stand for. `bits`: of a weight, with scales."""

    name: str
    bits: float
    rounded: Callable[[Tensor], Tensor]


def with_offsets(group_size: int) -> Callable[[Tensor], Tensor]:
    """4 bits as the services have them: a scale and an offset for each group."""
    return lambda weight: quantize(weight, 4, group_size=group_size).dequantized()


def without_offsets(group_size: int) -> Callable[[Tensor], Tensor]:
    """4 bits with a scale for each group: whole numbers from -7 to 7."""

    def rounded(weight: Tensor) -> Tensor:
        groups = weight.float().unflatten(1, (-1, group_size))
        scales = (groups.abs().amax(dim=2, keepdim=True) / 7).bfloat16().float()
        whole = torch.where(scales > 0, groups / scales.clamp_min(1e-30), 0.0).round().clamp(-7, 7)
        return (whole * scales).flatten(1)

    return rounded


SCHEMES = (
    Scheme("8-bits", 8.0, lambda weight: quantize(weight, 8).dequantized()),
    Scheme("offset-32", 5.0, with_offsets(32)),
    Scheme("offset-64", 4.5, with_offsets(64)),
    Scheme("scale-32", 4.5, without_offsets(32)),
    Scheme("scale-64", 4.25, without_offsets(64)),
)
"""The first, and the third of those with 4 bits, are what CHROMA_WEIGHTS sets."""


def product_errors(tensors: dict[str, Tensor], scheme: Scheme) -> list[float]:
    """For every matrix: the error of its products with normal inputs, relative to the products."""
    errors = []
    for _, matrix in matrices(tensors):
        x = torch.randn(_ROWS, matrix.shape[1], generator=torch.Generator().manual_seed(0))
        exact = x @ matrix.T
        errors.append(float((x @ scheme.rounded(matrix).T - exact).norm() / exact.norm()))
    return errors


def matrices(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The matrices of linear layers, float32 [O, I], by name."""
    for name, tensor in tensors.items():
        if name == CODEBOOK_HEADS:
            yield name, tensor.float().transpose(1, 2).flatten(0, 1)
        elif is_matrix(name):
            yield name, tensor.float()


def rounded_tensors(tensors: dict[str, Tensor], scheme: Scheme) -> dict[str, Tensor]:
    """All tensors, the matrices rounded by `scheme`, in float32."""
    found = dict(tensors)
    for name, matrix in matrices(tensors):
        found[name] = scheme.rounded(matrix)
    if CODEBOOK_HEADS in tensors:
        heads, inputs, outputs = tensors[CODEBOOK_HEADS].shape
        found[CODEBOOK_HEADS] = found[CODEBOOK_HEADS].view(heads, outputs, inputs).transpose(1, 2).contiguous()
    return found


def write(source: Path, tensors: dict[str, Tensor], folder: Path) -> None:
    """A checkpoint with the files of `source` and these tensors, in one shard. An existing folder is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    save_file(tensors, folder / "model.safetensors")


@torch.inference_mode()
def question_logits(folder: Path, count: int = _QUESTIONS) -> Tensor:
    """The thinker's logits [R, vocab] at the last positions of the first `count` held-out phrasings."""
    checkpoint = Checkpoint.open(folder)
    thinker, tokenizer = load_thinker(checkpoint, dtype=torch.float32), Tokenizer.from_checkpoint(checkpoint)
    texts = [text for intent in load_domain().intents for text in intent.held_out][:count]
    found = []
    for text in texts:
        ids = tokenizer.encode(text)
        kv = PagedKV(thinker.config, slots=1, pages=-(-len(ids) // PAGE_SIZE), dtype=torch.float32)
        rows = thinker.embedding[torch.tensor(ids)].float()
        found.append(thinker.head(thinker.forward(rows, kv.plan([kv.open()], [len(ids)])))[-1])
    return torch.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=Path("models/chroma-nano"))
    options = parser.parse_args()
    tensors: dict[str, Tensor] = {}
    for shard in sorted(options.checkpoint.glob("*.safetensors")):
        tensors |= load_file(shard)
    exact = question_logits(options.checkpoint)
    table = Table("scheme", "bits a weight", "products: mean error", "largest", "logits of the thinker", "same choice")
    results = {}
    for scheme in SCHEMES:
        errors = product_errors(tensors, scheme)
        write(options.checkpoint, rounded_tensors(tensors, scheme), options.out / scheme.name)
        logits = question_logits(options.out / scheme.name)
        of_logits = float((logits - exact).norm() / exact.norm())
        same = float((logits.argmax(dim=1) == exact.argmax(dim=1)).float().mean())
        mean = sum(errors) / len(errors)
        results[scheme.name] = {"bits": scheme.bits, "mean": mean, "largest": max(errors), "logits": of_logits}
        results[scheme.name]["same choice"] = same
        shown = (f"{mean:.1%}", f"{max(errors):.1%}", f"{of_logits:.1%}", f"{same:.0%}")
        table.add_row(scheme.name, f"{scheme.bits:g}", *shown)
    (options.out / "schemes.json").write_text(json.dumps(results, indent=2))
    Console().print(table)


if __name__ == "__main__":
    main()
