"""A bot of Pipecat over /v1/realtime: `pipecat_bot.py SCENARIO ws://host:port/v1/realtime SPEECH`.

SPEECH is a file with an utterance: 16-bit little-endian samples at 24 kHz. Prints one JSON object of what the bot did.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMRunFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    AudioOutput,
    InputAudioNoiseReduction,
    InputAudioTranscription,
    SemanticTurnDetection,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

RATE_HZ = 24_000
CHUNK = 4_800
"""Bytes of 100 ms."""
PATIENCE_S = 100


class Microphone(FrameProcessor):
    """The start of the pipeline, which also sees the errors that travel upstream."""

    def __init__(self, seen: dict[str, Any]) -> None:
        super().__init__()
        self.seen = seen
        self.failed = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, ErrorFrame):
            self.seen["errors"].append(frame.error)
            self.failed.set()
        await self.push_frame(frame, direction)


class Loudspeaker(FrameProcessor):
    """The end of the pipeline. It says when the bot speaks, as a transport does."""

    def __init__(self, seen: dict[str, Any]) -> None:
        super().__init__()
        self.seen = seen
        self.replied = asyncio.Event()
        self._news = asyncio.Event()

    async def until_spoken(self, frames: int) -> None:
        """Wait until the bot has spoken so many frames of 80 ms."""
        while self.seen["audio_bytes"] < frames * RATE_HZ * 2 * 8 // 100:
            self._news.clear()
            await self._news.wait()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.seen["audio_bytes"] += len(frame.audio)
            self._news.set()
        elif isinstance(frame, TTSTextFrame):
            self.seen["text"] += frame.text
        elif isinstance(frame, InterruptionFrame):
            self.seen["interruptions"] += 1
        elif isinstance(frame, TTSStartedFrame):
            await self.broadcast_frame(BotStartedSpeakingFrame)
        elif isinstance(frame, TTSStoppedFrame):
            await self.broadcast_frame(BotStoppedSpeakingFrame)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self.seen["replies"] += 1
            self.replied.set()
        await self.push_frame(frame, direction)


class Bot:
    """A running pipeline."""

    def __init__(self, url: str, messages: list[Any], properties: SessionProperties, tools: ToolsSchema | None) -> None:
        self.seen: dict[str, Any] = {
            "audio_bytes": 0,
            "text": "",
            "errors": [],
            "replies": 0,
            "interruptions": 0,
            "calls": [],
        }
        settings = OpenAIRealtimeLLMService.Settings(model="chroma-1.0", session_properties=properties)
        llm = OpenAIRealtimeLLMService(api_key="none", base_url=url, settings=settings)
        self.llm = llm
        llm.register_function("get_weather", self._weather)
        self.transcribed = asyncio.Event()
        llm.add_event_handler("on_conversation_item_updated", self._on_item)
        self.context = LLMContext(messages, tools) if tools else LLMContext(messages)
        aggregators = LLMContextAggregatorPair(self.context)
        self.loudspeaker = Loudspeaker(self.seen)
        self.microphone = Microphone(self.seen)
        stages = [self.microphone, aggregators.user(), llm, self.loudspeaker, aggregators.assistant()]
        rates = PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ)
        self.worker = PipelineWorker(Pipeline(stages), params=rates)

    async def _weather(self, params: FunctionCallParams) -> None:
        self.seen["calls"].append([params.function_name, dict(params.arguments)])
        await params.result_callback({"sky": "clear"})

    async def _on_item(self, _: Any, item_id: str, item: Any) -> None:
        if item is None:  # the update is the transcript
            self.transcribed.set()

    async def greet(self) -> None:
        """Make the bot speak first, and wait until it has."""
        await self.worker.queue_frames([LLMRunFrame()])
        await self.reply()

    async def reply(self) -> None:
        """Wait for the end of the next reply."""
        async with asyncio.timeout(PATIENCE_S):
            await self.loudspeaker.replied.wait()
        self.loudspeaker.replied.clear()

    async def hear(self, sound: bytes) -> None:
        """Send sound, twenty times as fast as it was spoken."""
        for start in range(0, len(sound), CHUNK):
            await self.worker.queue_frame(InputAudioRawFrame(sound[start : start + CHUNK], RATE_HZ, 1))
            await asyncio.sleep(0.005)


def example_properties(*, turn_detection: Any = None) -> SessionProperties:
    """The settings of Pipecat's first example, with a voice and a speed."""
    return SessionProperties(
        instructions="You are a guide.",
        audio=AudioConfiguration(
            input=AudioInput(
                transcription=InputAudioTranscription(),
                turn_detection=SemanticTurnDetection() if turn_detection is None else turn_detection,
                noise_reduction=InputAudioNoiseReduction(type="near_field"),
            ),
            output=AudioOutput(voice="bob", speed=1.1),
        ),
    )


WEATHER = ToolsSchema(
    standard_tools=[
        FunctionSchema(
            name="get_weather",
            description="The weather of a city",
            properties={"city": {"type": "string"}},
            required=["city"],
        )
    ]
)
SILENCE = bytes(CHUNK * 20)
HELLO = [{"role": "user", "content": "Say hello."}]


async def example(bot: Bot, speech: bytes) -> None:
    """The bot greets, then answers an utterance."""
    await bot.greet()
    await bot.hear(SILENCE[: CHUNK * 5] + speech + SILENCE)
    await bot.reply()
    async with asyncio.timeout(PATIENCE_S):
        await bot.transcribed.wait()


async def greets(bot: Bot, speech: bytes) -> None:
    """The bot speaks first."""
    await bot.greet()


async def open_microphone(bot: Bot, speech: bytes) -> None:
    """The bot speaks first while silence comes from the microphone; then a turn that the bot's side ends."""
    await bot.hear(SILENCE)
    await bot.greet()
    await bot.worker.queue_frame(UserStartedSpeakingFrame())
    await bot.hear(speech)
    await bot.worker.queue_frame(UserStoppedSpeakingFrame())
    await bot.reply()


async def interrupted(bot: Bot, speech: bytes) -> None:
    """The user speaks into the greeting, which the server holds after four frames; the bot answers what was said."""
    await bot.worker.queue_frames([LLMRunFrame()])
    async with asyncio.timeout(PATIENCE_S):
        await bot.loudspeaker.until_spoken(frames=4)
    await bot.hear(SILENCE[: CHUNK * 3] + speech + SILENCE)
    while bot.seen["replies"] < 2:
        await bot.reply()


async def drained(bot: Bot, speech: bytes) -> None:
    """The bot greets, then the gateway goes away. The program reads in the error of its microphone which session
    it was, connects to it again, and the bot answers what the user says then."""
    await bot.greet()
    async with asyncio.timeout(50):
        while not bot.microphone.failed.is_set():
            await bot.hear(SILENCE[:CHUNK])
    (again,) = set(re.findall(r"session_id=[\w-]+", " ".join(bot.seen["errors"])))
    bot.llm.base_url += ("&" if "?" in bot.llm.base_url else "?") + again
    await bot.llm.reset_conversation()
    await bot.hear(SILENCE[: CHUNK * 5] + speech + SILENCE)
    await bot.reply()


async def calls(bot: Bot, speech: bytes) -> None:
    """The bot answers with a call of a tool, and again with its result."""
    await bot.greet()
    while not bot.seen["audio_bytes"]:
        await bot.reply()


SCENARIOS: dict[
    str, tuple[Callable[[Bot, bytes], Awaitable[None]], list[Any], SessionProperties, ToolsSchema | None]
] = {
    "example": (example, HELLO, example_properties(), WEATHER),
    "empty": (greets, [], SessionProperties(instructions="Greet the visitor."), None),
    "open-microphone": (open_microphone, HELLO, example_properties(turn_detection=False), None),
    "interrupted": (interrupted, HELLO, example_properties(), None),
    "drained": (drained, HELLO, example_properties(), None),
    "calls": (calls, HELLO, example_properties(), WEATHER),
}


async def main(name: str, url: str, speech: bytes) -> None:
    """Run a scenario and print what was seen."""
    scenario, messages, properties, tools = SCENARIOS[name]
    bot = Bot(url, list(messages), properties, tools)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(bot.worker)
    running = asyncio.create_task(runner.run())
    try:
        await scenario(bot, speech)
    except TimeoutError:
        bot.seen["errors"].append(f"no reply within {PATIENCE_S} s")
    await bot.worker.cancel()
    await running
    bot.seen["messages"] = bot.context.get_messages()
    print(json.dumps(bot.seen))


asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()))
