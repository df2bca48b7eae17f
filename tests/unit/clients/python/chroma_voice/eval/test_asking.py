"""A question is sent as what it is, and the reply comes back with its waits."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice import Client
from chroma_voice.errors import ChromaError
from chroma_voice.eval.asking import Asked, Given, Heard, Recorded, Typed, hear
from tests.support.fake_gateway import serving
from tests.support.speaking_gateway import TEXT, SpeakingGateway


@pytest.fixture
def gateway() -> SpeakingGateway:
    return SpeakingGateway("ann")


@pytest.fixture
async def client(gateway: SpeakingGateway) -> AsyncIterator[Client]:
    async with serving(gateway) as address, Client(address) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (Typed("What now?"), ["open", "text", "commit"]),
        (Given("Hello."), ["open", "say"]),
        (Recorded(np.full(1600, 0.5, np.float32), 16_000), ["open", "audio", "commit"]),
    ],
)
async def test_a_question_is_sent_as_what_it_is(
    client: Client, gateway: SpeakingGateway, asked: Asked, sent: list[str]
) -> None:
    ticks = count()
    heard = await hear(client, "ann", asked, max_reply_s=5, seed=3, store=False, clock=lambda: float(next(ticks)))
    assert [request.WhichOneof("request") for request in gateway.requests] == sent
    opening = gateway.requests[0].open
    assert (opening.max_lead_s, opening.store) == (0, False)
    assert opening.new_session.sampling.seed == 3
    assert opening.input_format.sample_rate_hz == (16_000 if isinstance(asked, Recorded) else 0)
    assert (heard.text, heard.ended, heard.seconds) == (TEXT, "eos", 0.5)
    assert (heard.first_piece_s, heard.first_sound_s) == (1.0, 1.0)
    assert heard.real_time_factor == 4.0  # one tick from piece to piece of 0.25 s


async def test_a_failed_turn_is_raised(client: Client, gateway: SpeakingGateway) -> None:
    gateway.failing = {"ann"}
    with pytest.raises(ChromaError, match="a step failed"):
        await hear(client, "ann", Typed("What now?"))


def test_a_loud_recording_does_not_wrap_around() -> None:
    assert np.frombuffer(Recorded(np.array([-2, 0, 2], np.float32), 16_000).speech, "<i2").tolist() == [
        -32768,
        0,
        32767,
    ]


def test_a_reply_is_written_as_it_came(tmp_path: Path) -> None:
    samples = np.arange(-5, 5, dtype=np.int16)
    Heard("", samples, "eos", None, None, None).write(tmp_path / "new" / "a.wav")
    written, rate_hz = soundfile.read(tmp_path / "new" / "a.wav", dtype="int16")
    assert (written.tolist(), rate_hz) == (samples.tolist(), 24_000)
