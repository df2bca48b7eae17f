"""Reference points of voices: themselves, others and the codec; and why one is missing."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chroma_voice.errors import Unavailable
from chroma_voice.eval.folder import read_folder
from chroma_voice.eval.instruments import vectors_of
from chroma_voice.eval.pairs import PairSet, PairVoice
from chroma_voice.eval.records import ReferenceKind
from chroma_voice.eval.references import References, measure_references
from tests.support.eval_results import INSTRUMENTS, encode, write_folder, write_sound

Samples = NDArray[np.float32]


@pytest.fixture
def pairs(tmp_path: Path) -> PairSet:
    return read_folder(write_folder(tmp_path))


def of(references: References, kind: ReferenceKind) -> dict[str, float | None]:
    return {one.voice: one.similarity for one in references.found if one.kind == kind}


async def halved(samples: Samples) -> Samples:
    """A codec that makes a sound half as loud."""
    return samples / np.float32(2)


async def test_all_reference_points_are_measured(pairs: PairSet) -> None:
    done: list[int] = []
    vectors = vectors_of(pairs, encode)
    found = await measure_references(pairs, vectors, INSTRUMENTS, halved, lambda: done.append(1))
    assert not found.missing
    assert of(found, "itself") == {"ann": pytest.approx(1.0), "ben": pytest.approx(1.0)}
    assert of(found, "other") == {"ann": pytest.approx(np.cos(np.pi / 4))}
    assert of(found, "codec")["ben"] == pytest.approx(np.cos(0.375 * np.pi / 2), abs=0.02)
    assert [(one.wrong, one.words) for one in found.found if one.kind in ("recording", "codec")] == [(0, 3)] * 4
    assert len(done) == 2


async def test_another_recording_of_a_speaker_is_better_than_halves(pairs: PairSet, tmp_path: Path) -> None:
    ann = pairs.voices["ann"]
    two = PairVoice("ann", (ann.recordings[0], write_sound(tmp_path / "more.wav", 0.5)), ann.transcript, "")
    found = await measure_references(
        PairSet("x", [], {"ann": two}), {"ann": encode(np.full(9, 0.25, np.float32))}, INSTRUMENTS, None
    )
    assert of(found, "itself") == {"ann": pytest.approx(np.cos(0.25 * np.pi / 2))}
    assert found.missing == {
        "codec": "no codec service is known: --codec names one",
        "other": "there is one voice only",
    }


async def test_a_codec_that_refuses_is_told_once(pairs: PairSet) -> None:
    asked: list[int] = []

    async def refusing(samples: Samples) -> Samples:
        asked.append(len(samples))
        raise Unavailable("nobody there")

    found = await measure_references(pairs, vectors_of(pairs, encode), INSTRUMENTS, refusing)
    assert found.missing == {"codec": "the codec service refuses: nobody there"}
    assert len(asked) == 1


async def test_without_recordings_nothing_can_be_compared() -> None:
    found = await measure_references(PairSet("x", [], {}), {}, INSTRUMENTS, None)
    assert set(found.missing) == {"codec", "other", "recording", "itself"}
    assert found.found == []
