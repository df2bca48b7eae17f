"""Voices that are missing are enrolled for their pairs and removed afterwards; others stay as they are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chroma_voice import Client
from chroma_voice.errors import FailedPrecondition, NotFound
from chroma_voice.eval.enrolment import enrolled
from chroma_voice.eval.pairs import PairVoice
from tests.support.eval_results import write_sound
from tests.support.fake_gateway import serving
from tests.support.speaking_gateway import SpeakingGateway


@pytest.fixture
def gateway() -> SpeakingGateway:
    return SpeakingGateway("ann")


@pytest.fixture
async def client(gateway: SpeakingGateway) -> AsyncIterator[Client]:
    async with serving(gateway) as address, Client(address, attempts=1) as client:
        yield client


def voice(tmp_path: Path, name: str, said: str = "Said.", consent: str = "Agreed.") -> PairVoice:
    return PairVoice(name, (write_sound(tmp_path / f"{name}.wav"),), said, consent)


async def test_a_missing_voice_is_there_for_its_pairs(client: Client, gateway: SpeakingGateway, tmp_path: Path) -> None:
    async with enrolled(client, "ben", voice(tmp_path, "ben")):
        assert gateway.voices["ben"].consent == "Agreed."
    assert (list(gateway.voices), gateway.deleted) == (["ann"], ["ben"])


async def test_it_is_removed_also_after_an_error(client: Client, gateway: SpeakingGateway, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        async with enrolled(client, "ben", voice(tmp_path, "ben")):
            raise RuntimeError("stop")
    assert gateway.deleted == ["ben"]


async def test_a_voice_that_is_there_stays(client: Client, gateway: SpeakingGateway, tmp_path: Path) -> None:
    for known in (voice(tmp_path, "ann", consent=""), None):
        async with enrolled(client, "ann", known):
            pass
    assert (list(gateway.voices), gateway.deleted) == (["ann"], [])


async def test_what_cannot_be_enrolled_is_told(client: Client, tmp_path: Path) -> None:
    for name, known, kind, told in (
        ("ann", voice(tmp_path, "ann", "Other words."), FailedPrecondition, "another voice 'ann'"),
        ("ben", voice(tmp_path, "ben", consent=""), FailedPrecondition, "consent.txt"),
        ("ben", None, NotFound, "no recording"),
    ):
        with pytest.raises(kind, match=told):
            async with enrolled(client, name, known):
                pass
