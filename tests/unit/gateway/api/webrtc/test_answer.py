"""The answer to an offer: what is taken of it, and in which direction."""

from __future__ import annotations

import pytest

from gateway.api.webrtc.answer import LocalTransport, receives, sends, write_answer
from gateway.api.webrtc.offer import read_offer
from tests.support.webrtc_offers import OFFER

LOCAL = LocalTransport(
    ice_username="user",
    ice_password="password",
    fingerprints=[("sha-256", "AB:CD")],
    candidates=["1 1 udp 1 127.0.0.1 5000 typ host"],
    is_dtls_server=False,
    ssrc=7,
    cname="chroma",
    sctp_port=5000,
)


def _answer(offer: str) -> list[str]:
    return write_answer(read_offer(offer), LOCAL).split("\r\n")


def test_the_answer_has_a_section_for_each_of_the_offer_and_names_the_gateways_transport() -> None:
    lines = _answer(OFFER)
    assert next(line for line in lines if line.startswith("m=")).startswith("m=audio 9 ")
    assert sum(line.startswith("m=") for line in lines) == OFFER.count("m=")
    for line in ("a=ice-ufrag:user", "a=fingerprint:sha-256 AB:CD", "a=setup:active", "a=sctp-port:5000"):
        assert line in lines


@pytest.mark.parametrize(
    ("wanted", "given", "both"),
    [
        ("sendrecv", "sendrecv", (True, True)),
        ("sendonly", "recvonly", (False, True)),
        ("recvonly", "sendonly", (True, False)),
    ],
)
def test_sound_goes_the_ways_that_the_client_offers(wanted: str, given: str, both: tuple[bool, bool]) -> None:
    assert "a=sendrecv" in OFFER
    offer = OFFER.replace("a=sendrecv", f"a={wanted}")
    assert (sends(read_offer(offer)), receives(read_offer(offer))) == both
    lines = _answer(offer)
    assert f"a={given}" in lines
    assert any(line.startswith("a=ssrc:7 ") for line in lines) is both[0]
