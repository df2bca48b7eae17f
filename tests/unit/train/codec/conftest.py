"""The toy corpus, fitted once for the tests of both halves of the codec."""

from __future__ import annotations

import pytest

from tests.support.toy_codec import toy_corpus
from train.codec.crops import CodedClip
from train.codec.patch_quantizer import PatchQuantizer


@pytest.fixture(scope="session")
def toy() -> tuple[PatchQuantizer, list[CodedClip]]:
    return toy_corpus()
