"""SDP offers: a browser's, and those that no browser sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import BadParameter
from gateway.api.webrtc.answer import LocalTransport, write_answer
from gateway.api.webrtc.offer import read_offer
from tests.support.webrtc_offers import CANDIDATE, OFFER

_LOCAL = LocalTransport(
    "ufrag", "p" * 22, [("sha-256", "AB")], ["1 1 udp 1 192.0.2.1 5 typ host"], False, 7, "us", 5000
)


def test_the_parts_of_a_browser_s_offer_are_found() -> None:
    offer = read_offer(OFFER)
    assert (offer.sound, offer.data, offer.opus) == (0, 2, 111)
    assert (offer.ice_username, offer.ice_password) == ("8hhY", "asd88fgpdd777uzjYhagZgasd88fgpdd")
    assert [algorithm for algorithm, _ in offer.fingerprints] == ["sha-256"]
    assert (offer.setup, offer.sctp_port, offer.max_message_bytes) == ("actpass", 5_000, 262_144)
    (candidate,) = offer.candidates
    assert (str(candidate.address), candidate.port, candidate.kind) == ("198.51.100.7", 50_000, "host")


def test_the_answer_takes_sound_and_data_and_refuses_the_rest() -> None:
    lines = write_answer(read_offer(OFFER), _LOCAL).split("\r\n")
    assert [line for line in lines if line.startswith("m=")] == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    ]
    assert "a=group:BUNDLE 0 2" in lines
    assert lines.count("a=candidate:1 1 udp 1 192.0.2.1 5 typ host") == 2
    assert "a=sendrecv" in lines
    assert lines.count("a=setup:active") == 2


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_each_direction_of_sound_is_answered_by_its_counterpart(asked: str, answered: str) -> None:
    answer = write_answer(read_offer(OFFER.replace("a=sendrecv", f"a={asked}", 1)), _LOCAL)
    assert f"a={answered}\r\n" in answer.split("m=video")[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "v=0",
        "\x00" * 100,
        OFFER.replace("opus/48000/2", "PCMU/8000"),
        OFFER.replace("m=audio 9", "m=audio 99999"),
        OFFER.replace("m=audio", "m=audio\x07"),
        OFFER.replace("a=ice-ufrag:8hhY", "a=ice-ufrag:x"),
        OFFER.replace("a=ice-pwd:asd88fgpdd777uzjYhagZgasd88fgpdd", ""),
        OFFER.replace("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        OFFER.replace("a=fingerprint:sha-256 19:", "a=fingerprint:sha-256 zz:"),
        OFFER.replace("a=rtcp-mux", "a=rtcp"),
        OFFER.replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1"),
        OFFER.replace("a=mid:2", "a=mid:0"),
        OFFER.replace("a=setup:actpass", "a=setup:sideways"),
        OFFER.replace("a=sctp-port:5000", "a=sctp-port:99999"),
        OFFER.replace("a=sctp-port:5000", "a=sctp-port:five"),
        OFFER + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n" * 20,
        OFFER + "a=x:1\r\n" * 3_000,
        OFFER.replace(CANDIDATE, f"{CANDIDATE}\r\n" * 100),
        OFFER.replace("198.51.100.7 50000", "198.51.100.7 70000"),
        OFFER.replace("198.51.100.7", "internal.example.com"),
        OFFER.replace("198.51.100.7", "300.1.1.1"),
        OFFER.replace("2113937151", "99999999999"),
        OFFER.replace("typ host", "typ"),
    ],
)
def test_what_no_browser_sends_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^sdp: "):
        read_offer(text)


@pytest.mark.parametrize(
    "candidate",
    [
        "candidate:1 1 udp 1 8f1a3b0c-1111-2222-3333-444455556666.local 50000 typ host",
        "candidate:1 1 tcp 1 198.51.100.7 9 typ host tcptype active",
        "candidate:1 2 udp 1 198.51.100.7 50000 typ host",
        "candidate:1 1 udp 1 198.51.100.7 0 typ host",
        "candidate:1 1 udp 1 198.51.100.7 50000 typ prflx",
    ],
)
def test_candidates_that_cannot_be_used_are_ignored(candidate: str) -> None:
    assert read_offer(OFFER.replace(CANDIDATE, f"a={candidate}")).candidates == []


@given(st.integers(0, len(OFFER) - 1), st.integers(0, 200), st.text(max_size=30))
def test_a_broken_offer_is_read_or_refused_and_nothing_else(at: int, cut: int, put: str) -> None:
    try:
        offer = read_offer(OFFER[:at] + put + OFFER[at + cut :])
    except BadParameter:
        return
    write_answer(offer, _LOCAL).encode()
