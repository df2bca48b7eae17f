"""The alert rules over running processes, evaluated by a real Prometheus: ordinary traffic fires none, faults do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bench.soak.callers import Callers
from chroma_voice import AlreadyExists, ChromaError, Client, InvalidArgument, NotFound, TurnDone, Unavailable
from chroma_voice.local.ports import LOOPBACK, free_ports
from tests.support.api_keys import key_entry, write_keys
from tests.support.local_stack import (
    LONG_SPEECH,
    PATIENCE_S,
    VOICE,
    VOICE_FILE,
    VOICE_TRANSCRIPT,
    LocalStack,
    ask,
    ask_until_answered,
    first_sound,
    until,
)
from tests.support.prometheus_tools import Prometheus, rule_groups, scraping
from tests.support.server_process import Replica

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLOWER = (
    ("ChromaVoiceFirstSoundSlow", 'le="1.0"', 'le="10.0"'),
    ("ChromaVoiceUnderruns", 'le="0.0"', 'le="5.0"'),
    ("ChromaVoiceStepsTooSlow", "> 0.08", "> 0.8"),
    ("ChromaVoiceStoreSlow", "> 0.25", "> 1.9"),
)
"""Bounds of seconds, as they are and as a busy test machine keeps them: alert, text, its replacement."""
SHORTEST_FOR_S = 20
"""The shortest time for which an alert's condition must hold here. A gateway of one replica restarts within it."""


def rules_of_a_slow_machine() -> list[dict[str, Any]]:
    """The rules, with the bounds of `SLOWER`, and a tenth of the time for which a condition must hold."""
    text = yaml.safe_dump(rule_groups())
    for alert, bound, slower in SLOWER:
        assert alert in text
        assert bound in text
        text = text.replace(bound, slower)

    def shorter(match: re.Match[str]) -> str:
        return f"for: {max(SHORTEST_FOR_S, int(match[1]) * 6)}s"

    return yaml.safe_load(re.sub(r"for: (\d+)m", shorter, text))


def alerts(prometheus: Prometheus, query: str = "ALERTS") -> set[str]:
    """The alerts whose condition holds, pending or firing."""
    return {one["metric"]["alertname"] for one in prometheus.ask(query)}


def details(prometheus: Prometheus) -> list[Any]:
    """What a failed assertion shows."""
    return prometheus.ask("ALERTS") + prometheus.ask("chroma_voice_turns_total")


KEY = "sk-of-this-test-0123456789abcdef"
ENDED_KEY = "sk-that-has-ended-0123456789abcdef"


# Ordinary traffic, one kind a function.


async def over_grpc(stack: LocalStack) -> None:
    """Turns to the end, cancelled, barged into and hung up."""
    callers = Callers(stack.endpoints.gateway, count=3, seed=5)
    await callers.run(20.0)
    assert not callers.wrong
    assert callers.ends["turns completed"]


async def mistakes_over_grpc(stack: LocalStack) -> None:
    """Requests that a caller got wrong, with the status that says so."""
    async with stack.client() as client:
        for _ in range(5):
            with pytest.raises(AlreadyExists):
                await client.create_voice(
                    VOICE, audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="told"
                )
            with pytest.raises(NotFound):
                await client.get_voice("nobody")
            with pytest.raises(NotFound):
                await client.get_session("none")
            with pytest.raises(InvalidArgument):
                await client.create_voice("mute", audio_file=b"no sound", transcript="a", consent="told")
            with pytest.raises(ChromaError):
                async with client.conversation(voice="nobody") as talk:
                    await ask(talk)
            async with client.conversation(voice=VOICE, max_lead_s=0) as talk:
                await talk.commit()  # without a question
                async for _ in talk.reply():
                    pass


async def enrolments(stack: LocalStack) -> None:
    """A voice made, used, and deleted in the middle of a reply that speaks with it; a session deleted in a turn."""
    async with stack.client() as client:
        await client.create_voice(
            "guest", audio_file=VOICE_FILE.read_bytes(), transcript=VOICE_TRANSCRIPT, consent="told"
        )
        async with client.conversation(voice="guest", sampling=LONG_SPEECH, max_reply_s=3, max_lead_s=0.5) as talk:
            await first_sound(talk)
            await client.delete_voice("guest")
            async for _ in talk.reply():
                pass
        async with client.conversation(voice=VOICE, sampling=LONG_SPEECH, max_reply_s=3, max_lead_s=0.5) as talk:
            await first_sound(talk)
            await client.delete_session(talk.session.session_id)
            async for _ in talk.reply():
                pass


async def over_http(stack: LocalStack) -> None:
    """Speech and chat, whole and streamed, hung up, and refused for what was asked or who asked."""
    speech = {"model": "chroma", "voice": VOICE, "input": "Good morning."}
    chat = {"model": "chroma", "messages": [{"role": "user", "content": "How are you?"}], "max_tokens": 8}
    spoken = {**chat, "modalities": ["text", "audio"], "audio": {"voice": VOICE, "format": "pcm16"}, "stream": True}
    async with httpx.AsyncClient(base_url=stack.endpoints.page, timeout=60, trust_env=False) as client:
        for _ in range(3):
            for path, body in (("/v1/audio/speech", speech), ("/v1/chat/completions", chat)):
                assert (await client.post(path, json=body)).status_code == 200
            async with client.stream("POST", "/v1/chat/completions", json=spoken) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for _ in answer.aiter_raw():
                    pass
            long = {**speech, "input": "Good morning. " * 30, "response_format": "pcm"}
            async with client.stream("POST", "/v1/audio/speech", json=long) as answer:
                async for _ in answer.aiter_raw(1_000):
                    break
            for status, headers, body in (
                (400, {}, {"model": "chroma"}),
                (404, {}, {**speech, "voice": "nobody"}),
                (403, {"origin": "https://elsewhere.example"}, speech),
            ):
                refused = await client.post("/v1/audio/speech", json=body, headers=headers)
                assert refused.status_code == status, refused.text


async def over_realtime(stack: LocalStack) -> None:
    """A turn to the end, a cancelled turn, an event that is not understood, and a connection that is cut."""
    url = f"ws://{urlsplit(stack.endpoints.page).netloc}/v1/realtime?model=chroma"
    for _ in range(3):
        async with connect(url, proxy=None) as connection:

            async def until_event(kind: str, connection: Any = connection) -> None:
                async with asyncio.timeout(PATIENCE_S):
                    while (event := json.loads(await connection.recv()))["type"] != kind:
                        assert event["type"] != "error", event

            async def say(text: str, connection: Any = connection) -> None:
                content = [{"type": "input_text", "text": text}]
                item = {"type": "message", "role": "user", "content": content}
                await connection.send(json.dumps({"type": "conversation.item.create", "item": item}))
                await connection.send(json.dumps({"type": "response.create"}))

            await say("How are you?")
            await until_event("response.done")
            await say("Tell me a story.")
            await until_event("response.created")
            await connection.send(json.dumps({"type": "response.cancel"}))
            await until_event("response.done")
            await connection.send(json.dumps({"type": "no.such.event"}))
            while json.loads(await connection.recv())["type"] != "error":
                pass
            await say("Good bye.")
            await until_event("response.created")
            connection.transport.abort()


async def refused_keys(page: str) -> None:
    """Turns with a key, and some calls of clients whose key is wrong, has ended or is missing, on every face."""
    chat = {"model": "chroma", "messages": [{"role": "user", "content": "How are you?"}], "max_tokens": 8}
    url = f"ws://{urlsplit(page).netloc}/v1/realtime?model=chroma"
    async with httpx.AsyncClient(base_url=page, timeout=60, trust_env=False) as client:
        for key, status in ((KEY, 200), ("sk-unknown", 401), (ENDED_KEY, 401), ("", 401)):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            for _ in range(3):
                answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
                assert answer.status_code == status, answer.text
                if status == 401:
                    with pytest.raises(InvalidStatus):
                        await connect(url, proxy=None, additional_headers=headers)


async def guessed_keys(page: str, prometheus: Prometheus) -> None:
    """Somebody tries one key after the other, until the condition of the alert holds."""
    async with httpx.AsyncClient(base_url=page, timeout=60, trust_env=False) as client, asyncio.timeout(PATIENCE_S):
        number = 0
        while "ChromaVoiceCallersRefused" not in alerts(prometheus):
            for _ in range(100):
                number += 1
                answer = await client.get("/v1/voices", headers={"authorization": f"Bearer sk-{number}"})
                assert answer.status_code == 401


@contextlib.contextmanager
def gateway_with_keys(stack: LocalStack, folder: Path) -> Iterator[tuple[str, str]]:
    """Another gateway of the stack, which asks for keys. Yields its page and the address of its metrics."""
    ended = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = write_keys(folder / "keys.json", key_entry(KEY, id="app"), key_entry(ENDED_KEY, id="old", expires=ended))
    (port,) = free_ports(1)
    settings = {
        "CHROMA_REASONER": stack.endpoints.reasoner,
        "CHROMA_SPEECH_GEN": stack.endpoints.speech_gen,
        "CHROMA_CODEC": stack.endpoints.codec,
        "CHROMA_REDIS_URL": stack.endpoints.redis_url,
        "CHROMA_API_KEYS_FILE": str(keys),
        "CHROMA_HTTP_LISTEN": f"{LOOPBACK}:{port}",
    }
    gateway = Replica("gateway", [sys.executable, "-m", "gateway"], settings, folder / "gateway.log")
    gateway.start()
    try:
        yield f"http://{LOOPBACK}:{port}", gateway.metrics_address
    finally:
        gateway.close()


async def drained_gateway(stack: LocalStack) -> None:
    """A gateway that ends as for an upgrade while a turn runs, and its successor."""
    pid = stack.endpoints.pids["gateway"]
    done: object = None
    async with stack.client() as client:
        with contextlib.suppress(Unavailable):  # the drained gateway ends the conversation after the turn
            async with client.conversation(voice=VOICE, sampling=LONG_SPEECH, max_reply_s=3, max_lead_s=0.5) as talk:
                await first_sound(talk)
                os.kill(pid, signal.SIGTERM)
                done = [event async for event in talk.reply()][-1]
    assert isinstance(done, TurnDone)
    assert done.outcome == "completed"
    await stack.back("gateway", pid)


async def test_no_alert_fires_on_ordinary_traffic_and_those_of_a_fault_do(stack: LocalStack, tmp_path: Path) -> None:
    with (
        gateway_with_keys(stack, tmp_path) as (keyed, its_metrics),
        scraping(
            {**stack.endpoints.metrics, "gateway-with-keys": its_metrics}, tmp_path, rules_of_a_slow_machine()
        ) as prometheus,
    ):
        await until(lambda: prometheus.up() and set(prometheus.up().values()) == {"up"})
        for kind in (over_grpc, mistakes_over_grpc, enrolments, over_http, over_realtime, drained_gateway, over_grpc):
            await kind(stack)
        await refused_keys(keyed)
        await until(lambda: set(prometheus.up().values()) == {"up"})
        await until(lambda: prometheus.ask("chroma_voice:turns:increase1h >= 20"))
        await asyncio.sleep(3)  # a few evaluations more
        assert not prometheus.broken_rules()
        # A condition that holds would fire the alert if the same traffic went on.
        assert not alerts(prometheus), details(prometheus)
        assert not alerts(prometheus, 'last_over_time(ALERTS{alertstate="firing"}[1h])'), details(prometheus)

        async with stack.client() as client:
            await frozen(stack, "valkey", client, prometheus, {"ChromaVoiceTurnsUnrecorded", "ChromaVoiceStoreFailing"})
            await frozen(stack, "codec", client, prometheus, {"ChromaVoiceStageAway", "ChromaVoiceTurnsFailing"})
        await guessed_keys(keyed, prometheus)


async def frozen(stack: LocalStack, name: str, client: Client, prometheus: Prometheus, expected: set[str]) -> None:
    """Talk while a process is frozen, until the conditions of these alerts hold; afterwards turns work again."""
    async with client.conversation(voice=VOICE, max_reply_s=1.0, max_lead_s=0) as talk:
        await ask_until_answered(talk)
        pid = stack.endpoints.pids[name]
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not expected <= alerts(prometheus):
                    await ask(talk)
                    await asyncio.sleep(0.2)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await ask_until_answered(talk)).outcome == "completed"
