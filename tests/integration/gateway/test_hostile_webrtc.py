"""Hostile offers of calls, and strangers at the sockets of a call."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice
from tests.support.webrtc_client import webrtc_talk
from tests.support.webrtc_offers import CANDIDATE, OFFER

_CALLS = "/v1/realtime/calls"
_SDP = {"Content-Type": "application/sdp"}


async def _post(client: Client, **request: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        return await http.post(_CALLS, **request)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"content": b"", "headers": _SDP}, 400),
        ({"content": b"\xff\xfe", "headers": _SDP}, 400),
        ({"content": OFFER.encode() * 100, "headers": _SDP}, 413),
        ({"content": OFFER.replace("opus/48000/2", "PCMU/8000").encode(), "headers": _SDP}, 400),
        ({"json": {"sdp": OFFER}}, 415),
        ({"files": {"session": (None, "{}")}}, 400),
        ({"files": {"sdp": (None, OFFER), "more": (None, "1")}}, 400),
        ({"files": {"sdp": (None, OFFER), "session": (None, "[]")}}, 400),
        ({"files": {"sdp": (None, OFFER), "session": (None, "{")}}, 400),
        ({"files": {"sdp": (None, OFFER), "session": (None, '{"audio": 5}')}}, 400),
        ({"files": {"sdp": (None, OFFER), "session": (None, '{"audio": {"output": {"voice": "nobody"}}}')}}, 400),
    ],
)
async def test_a_wrong_request_is_refused_and_holds_nothing(
    client: Client, fakes: Fakes, request_: dict[str, Any], status: int
) -> None:
    response = await _post(client, **request_)
    assert response.status_code in (status, 404 if "nobody" in str(request_) else status)
    assert response.json()["error"]["message"]
    assert fakes.open_calls == 0


async def test_no_address_of_an_offer_is_contacted(client: Client) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind(("127.0.0.1", 0))
        victim.settimeout(1.0)
        port = victim.getsockname()[1]
        candidates = f"a=candidate:1 1 udp 2113937151 127.0.0.1 {port} typ host"
        response = await _post(client, content=OFFER.replace(CANDIDATE, candidates).encode(), headers=_SDP)
        assert response.status_code == 201
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(victim.recv, 2_000)


async def test_what_strangers_send_to_the_socket_of_a_call_does_nothing(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        response = await talk.call(_CALLS, connect=False)
        (address, port) = next(re.finditer(r"candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", response.text)).groups()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            binding = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
            for junk in (
                b"",
                b"\x00",
                b"\x01" * 40,
                b"\x16" * 100,
                b"\x80" * 200,
                binding,
                binding + b"\x00\x06\xff\xff",
            ):
                for _ in range(50):
                    stranger.sendto(junk, (address, int(port)))
            await talk.answer(response)
            await talk.until("session.created")
            stranger.setblocking(False)
            answers: list[bytes] = []
            while True:
                try:
                    answers.append(stranger.recv(2_000))
                except BlockingIOError:
                    break
            assert all(len(answer) <= 100 for answer in answers), "refusals, no longer than this"


async def test_without_aiortc_the_path_says_what_is_missing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    response = await _post(client, content=OFFER.encode(), headers=_SDP)
    assert response.status_code == 404
    assert "the extra webrtc" in response.json()["error"]["message"]


async def test_where_calls_are_off_the_path_says_so(start_gateway: StartGateway) -> None:
    async with start_gateway(webrtc_calls=0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        response = await _post(client, content=OFFER.encode(), headers=_SDP)
        assert response.status_code == 404
        assert "CHROMA_WEBRTC_CALLS" in response.json()["error"]["message"]


async def test_a_port_range_that_is_taken_refuses_the_call(start_gateway: StartGateway) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with start_gateway(webrtc_ports=f"{port}-{port}") as client:
            await client.voices.CreateVoice(new_voice("ada"))
            response = await _post(client, content=OFFER.encode(), headers=_SDP)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")


async def test_a_client_that_vanishes_loses_its_call(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.05)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 2)
    async with webrtc_talk(client.http_address) as talk:
        assert (await talk.call(_CALLS)).status_code == 201
        await talk.until("session.created")
        talk.vanish()
        async with asyncio.timeout(60):
            while REGISTRY.get_sample_value("chroma_voice_webrtc_calls"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_client_with_another_certificate_than_it_offered_is_not_served(client: Client) -> None:
    async with webrtc_talk(client.http_address) as talk:
        talk.change_offer = lambda sdp: re.sub(r"(fingerprint:sha-\d+ )\w\w:\w\w", r"\1AA:BB", sdp)
        assert (await talk.call(_CALLS)).status_code == 201
        async with asyncio.timeout(60):
            while REGISTRY.get_sample_value("chroma_voice_webrtc_calls"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert talk.seen == []
