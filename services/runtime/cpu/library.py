"""The compiled steps for a CPU: finds the library for this CPU and declares its functions and structures.

The library is built from source/ with the wheel or the editable installation (hatch_build.py). It runs on the threads
of PyTorch's OpenMP library. Where there is no library, or none for this CPU, PyTorch's operations do the same work.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from pathlib import Path

import torch

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
VARIANTS: dict[str, Callable[[], bool]] = {
    "avx512vnni": lambda: torch.cpu._is_avx512_supported() and torch.cpu._is_vnni_supported(),
    "avx2": lambda: torch.cpu._is_avx2_supported(),
}
"""The builds, the fastest first, and whether this CPU can run them."""

LAYOUT = 2
"""The layout of weights and structures (`chroma_layout` of steps.c). A library with another one is not used."""

MULTIPLE = 16
"""Inputs and outputs of a weight are filled up to a multiple of this."""
HEAD_DIMS = (16, 32, 48, 64, 80, 96, 128)


class OpenMP(Structure):
    """PyTorch's OpenMP functions; null: one thread."""

    _fields_ = (("parallel", c_void_p), ("number", c_void_p))


class Matrix(Structure):
    """`matrix` of products.h."""

    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("zeros", c_void_p),
        ("bias", c_void_p),
        ("outputs", c_int64),
        ("inputs", c_int64),
        ("group", c_int64),
    )


class Layer(Structure):
    """`layer` of steps.c."""

    _fields_ = (
        ("attention_norm", c_void_p),
        ("ffn_norm", c_void_p),
        ("qkv", Matrix),
        ("out", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
    )


class Stack(Structure):
    """`stack` of steps.c."""

    _fields_ = (
        ("layers", POINTER(Layer)),
        ("norm", c_void_p),
        ("count", c_int64),
        ("width", c_int64),
        ("ffn", c_int64),
        ("heads", c_int64),
        ("kv_heads", c_int64),
        ("head_dim", c_int64),
        ("epsilon", c_float),
    )


class Memory(Structure):
    """`memory` of attention.h."""

    _fields_ = (
        ("cos", c_void_p),
        ("sin", c_void_p),
        ("places", c_void_p),
        ("streams", c_void_p),
        ("lengths", c_void_p),
        ("tables", c_void_p),
        ("pages", c_int64),
        ("page_size", c_int64),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("layer_size", c_int64),
        ("bfloat16", c_int64),
        ("longest", c_int64),
    )


class Step(Structure):
    """`step` of steps.c."""

    _fields_ = (
        ("stack", POINTER(Stack)),
        ("memory", Memory),
        ("rows", c_int64),
        ("x", c_void_p),
        ("hidden", c_void_p),
        ("qkv", c_void_p),
        ("attended", c_void_p),
        ("gated", c_void_p),
        ("scores", c_void_p),
        ("factor", c_void_p),
        ("bytes", c_void_p),
        ("sums", c_void_p),
        ("scores_of_thread", c_int64),
        ("threads", c_int64),
        ("omp", OpenMP),
    )


class Single(Structure):
    """`single` of steps.c."""

    _fields_ = (
        ("matrix", Matrix),
        ("x", c_void_p),
        ("rows", c_int64),
        ("width", c_int64),
        ("out", c_void_p),
        ("bytes", c_void_p),
        ("sums", c_void_p),
        ("factor", c_void_p),
        ("threads", c_int64),
        ("omp", OpenMP),
    )


class Library:
    """The functions of one build."""

    def __init__(self, variant: str) -> None:
        functions = ctypes.CDLL(str(file_of(variant)))
        self.variant = variant
        self.step, self.product = functions.chroma_step, functions.chroma_product
        for function, given in ((self.step, Step), (self.product, Single)):
            function.argtypes, function.restype = (POINTER(given),), None
        self.openmp = _openmp()


def file_of(variant: str) -> Path:
    """Where the build for a kind of CPU lies."""
    return FOLDER / f"libsteps_{variant}.so"


def is_built(variant: str) -> bool:
    """Whether there is a build for a kind of CPU, made from this version of the source."""
    try:
        return c_int64.in_dll(ctypes.CDLL(str(file_of(variant))), "chroma_layout").value == LAYOUT
    except (OSError, ValueError):
        return False


@functools.cache
def library() -> Library | None:
    """The library for this CPU, or None when there is none: then it says so once."""
    for variant, runs in VARIANTS.items():
        if runs() and is_built(variant):
            return Library(variant)
    log.warning("no compiled steps for this CPU: steps with weights in 8 and 4 bits are slower")
    return None


def _openmp() -> OpenMP:
    """The OpenMP library that PyTorch has loaded. Empty when it has another one."""
    try:
        loaded = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
        names = ("GOMP_parallel", "omp_get_thread_num")
        return OpenMP(*(ctypes.cast(getattr(loaded, name), c_void_p) for name in names))
    except (OSError, AttributeError):
        log.warning("PyTorch's threads cannot be shared: steps with weights in 8 and 4 bits take one thread")
        return OpenMP()
