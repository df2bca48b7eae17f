"""Stage `assemble`: join the artefacts into one checkpoint in the published layout: `python -m train.pack.assemble`.

The stage checks everything before it replaces a file: the tensors are exactly those of config.json, their shapes are
right, their values are finite, and the files are small enough for the repository.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from safetensors.torch import save_file

from checkpoints.tensor_names import expected_tensors
from services.runtime.checkpoint.card import CARD_FILE
from services.runtime.checkpoint.checkpoint import AUDIO_TABLE_NAMES
from services.runtime.checkpoint.config import ChromaConfig
from services.runtime.checkpoint.shards import INDEX_FILE, SINGLE_FILE
from train.corpus.domain import load_domain
from train.corpus.vocabulary import text_embedding, write_nano_tokenizer
from train.optim.training_loop import ROOT, load_artefact
from train.pack.card import nano_card
from train.pack.config import nano_config

ARTEFACTS = ("codec", "speech", "reasoner")
"""The stages' artefacts that are joined, each the file NAME.safetensors."""

TEXT_TABLE = "thinker.model.embed_tokens.weight"
CHECKPOINT_BYTES = 32_000_000
"""Most bytes of all written files."""

TEMPERATURE = 0.3
TOP_K = 50

Tensors = Mapping[str, torch.Tensor]


class AssemblyError(ValueError):
    """The artefacts do not form a checkpoint; the message names the tensor and the fault."""


def stage_of(name: str) -> str:
    """The artefact of a tensor of the checkpoint. One service reads all tensors of one artefact."""
    first = name.partition(".")[0]
    return {"codec_model": "codec", "thinker": "reasoner"}.get(first, "speech")


def read_artefacts(root: Path) -> dict[str, torch.Tensor]:
    """The tensors of all stages and the frozen text table, under their published names.

    Raises `FileNotFoundError` for a missing artefact, and `AssemblyError` for a tensor that differs in two of them.
    """
    tensors: dict[str, torch.Tensor] = {TEXT_TABLE: text_embedding()}
    for name in ARTEFACTS:
        for tensor_name, tensor in load_artefact(root / f"{name}.safetensors").items():
            known = tensors.get(tensor_name)
            if known is not None and not torch.equal(known, tensor):
                raise AssemblyError(f"{name}.safetensors: tensor {tensor_name} differs from the one of an earlier part")
            tensors[tensor_name] = tensor
    return tensors


def assemble(tensors: Tensors, config: Mapping[str, Any], folder: Path, *, temperature: float, top_k: int) -> int:
    """Write a checkpoint of `tensors`, in float16, into `folder` and return its bytes. Other files in `folder` stay.

    Raises `AssemblyError` and changes nothing when a tensor is missing, unexpected, not finite in float16 or has a
    wrong shape, or when the files would be larger than `CHECKPOINT_BYTES`.
    """
    halves = _checked(tensors, expected_tensors(ChromaConfig.from_dict(config)))
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as draft_name:
        draft = Path(draft_name)
        save_file(halves, draft / SINGLE_FILE, metadata={"format": "pt"})
        write_nano_tokenizer(draft)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": top_k}
        _write_json(draft / "generation_config.json", sampling)
        _write_json(draft / CARD_FILE, nano_card(load_domain()))
        _write_json(draft / "config.json", {**config, "dtype": "float16"})
        size_bytes = sum(file.stat().st_size for file in draft.iterdir())
        if size_bytes > CHECKPOINT_BYTES:
            raise AssemblyError(f"the checkpoint takes {size_bytes:,} bytes, expected at most {CHECKPOINT_BYTES:,}")
        for old in (*folder.glob("*.safetensors"), folder / INDEX_FILE):
            old.unlink(missing_ok=True)
        for file in draft.iterdir():
            file.replace(folder / file.name)
    return size_bytes


def _checked(tensors: Tensors, expected: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The tensors in float16, in the published checkpoint's order, with the shared audio table once.

    Raises `AssemblyError` like `assemble`.
    """
    kept_table, other_table = reversed(AUDIO_TABLE_NAMES)
    if other_table in tensors:
        tensors = {kept_table: tensors[other_table], **tensors}
    wanted = {name: shape for name, shape in expected.items() if name != other_table}
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise AssemblyError(f"{len(missing)} tensors are missing, among them {', '.join(missing[:5])}")
    unexpected = sorted(tensors.keys() - expected.keys())
    if unexpected:
        raise AssemblyError(f"{len(unexpected)} tensors are unknown to config.json: {', '.join(unexpected[:5])}")
    halves: dict[str, torch.Tensor] = {}
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise AssemblyError(f"tensor {name}: expected shape {list(shape)}, found {list(tensors[name].shape)}")
        halves[name] = tensors[name].half().contiguous()
        if not halves[name].isfinite().all():
            raise AssemblyError(f"tensor {name}: has values that are not finite in float16")
    return halves


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main(
    root: Annotated[Path, typer.Option(help="Working folder with the artefacts.")] = ROOT,
    out: Annotated[Path, typer.Option(help="The checkpoint's folder.")] = Path("models/chroma-nano"),
    temperature: Annotated[float, typer.Option(help="Default temperature of the codes.")] = TEMPERATURE,
    top_k: Annotated[int, typer.Option(help="Default number of likeliest codes to draw from.")] = TOP_K,
) -> None:
    """Join codec, speech model and reasoner into one checkpoint."""
    size_bytes = assemble(read_artefacts(root), nano_config(), out, temperature=temperature, top_k=top_k)
    Console(highlight=False, soft_wrap=True).print(f"{out}: {size_bytes:,} bytes")


if __name__ == "__main__":
    typer.run(main)
