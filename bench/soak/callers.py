"""Callers who talk, cancel, barge in and hang up, over gRPC, as the soak's ordinary load."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from pathlib import Path

import soundfile

from chroma_voice import AudioDelta, ChromaError, Client, Conversation, TurnDone

SAMPLES = Path(__file__).parents[2] / "samples"
VOICE = "reader"
TURNS = 3
"""Most turns of one conversation."""
PIECE_S = 0.1
PAUSE_S = 0.2
"""A caller's pause after a failure, so that a lost service is not asked thousands of times a minute."""
DELETED_AT_ONCE = 10
CLEAR = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""The failures that a caller may meet while processes are killed and frozen."""


class HangUp(Exception):
    """The caller leaves in the middle of a reply."""


class Callers:
    """`count` concurrent series of random calls. `ends` counts the ends of their turns.

    With `faults`, UNAVAILABLE is an end like others. The sessions are deleted at the end.
    """

    def __init__(self, gateway: str, *, count: int, seed: int, faults: bool = False) -> None:
        self.ends: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        """Failures that no caller should meet, by status and text."""
        self._clear = CLEAR if faults else CLEAR[:1]
        self._gateway = gateway
        self._count = count
        self._seed = seed
        samples, self._rate_hz = soundfile.read(SAMPLES / "question_make_taco.wav", dtype="int16")
        piece = int(PIECE_S * self._rate_hz)
        self._question = [samples[at : at + piece].tobytes() for at in range(0, len(samples), piece)]

    async def run(self, seconds: float) -> None:
        """Run the calls for `seconds` and finish those that are open then."""
        ends_s = time.monotonic() + seconds
        async with asyncio.TaskGroup() as places:
            for place in range(self._count):
                places.create_task(self._place(random.Random(f"{self._seed} {place}"), ends_s))
        self._seed += 1

    async def _place(self, dice: random.Random, ends_s: float) -> None:
        async with Client(self._gateway, attempts=1) as client, contextlib.AsyncExitStack() as over:
            sessions: list[str] = []
            over.push_async_callback(self._delete, sessions)
            while time.monotonic() < ends_s:
                try:
                    await self._call(client, dice, sessions)
                except HangUp:
                    pass
                except ChromaError as error:
                    self._failed(error)
                    await asyncio.sleep(PAUSE_S)

    async def _delete(self, sessions: list[str]) -> None:
        """Delete several at once: one rewriting of the store's file serves them all."""
        async with Client(self._gateway) as client:
            for at in range(0, len(sessions), DELETED_AT_ONCE):
                some = sessions[at : at + DELETED_AT_ONCE]
                ends = await asyncio.gather(*map(client.delete_session, some), return_exceptions=True)
                for end in ends:
                    if isinstance(end, ChromaError) and end.status != "NOT_FOUND":
                        self.wrong[f"delete a session: {end}"] += 1

    async def _call(self, client: Client, dice: random.Random, sessions: list[str]) -> None:
        talk = client.conversation(
            voice=VOICE, input_rate_hz=self._rate_hz, max_reply_s=dice.uniform(0.5, 4.0), max_lead_s=0.5
        )
        async with talk:
            sessions.append(talk.session.session_id)
            for _ in range(dice.randint(1, TURNS)):
                await self._ask(talk, dice)
                end = dice.choice(("played to the end", "cancelled", "barged in", "hung up"))
                if end == "played to the end":
                    await self._receive_rest(talk)
                elif await self._receive_some(talk, dice.randint(1, 12)):
                    self.ends[end] += 1
                    await self._interrupt(talk, end, dice)

    async def _interrupt(self, talk: Conversation, end: str, dice: random.Random) -> None:
        """End the running reply in the way `end`, then wait for the end of the turn."""
        if end == "hung up":
            raise HangUp
        if end == "cancelled":
            await talk.cancel(played_s=dice.uniform(0.0, 0.5))
            await self._receive_rest(talk)
        else:
            await self._ask(talk, dice)
            await self._receive_rest(talk, turns=2)

    async def _ask(self, talk: Conversation, dice: random.Random) -> None:
        if dice.random() < 0.5:
            for piece in self._question[: dice.randint(5, len(self._question))]:
                await talk.send_audio(piece)
        else:
            await talk.send_text("How do I make a taco?")
        await talk.commit()

    async def _receive_some(self, talk: Conversation, pieces: int) -> bool:
        """Receive this many pieces of sound. Returns False if the reply ended before."""
        async for event in talk.reply():
            pieces -= isinstance(event, AudioDelta)
            if isinstance(event, TurnDone):
                self._count_turn(event)
                return False
            if not pieces:
                return True
        return False

    async def _receive_rest(self, talk: Conversation, turns: int = 1) -> None:
        """Receive up to the end of this many turns. The next may start before the one that it interrupts has ended."""
        while turns > 0:
            async for event in talk.reply():
                if isinstance(event, TurnDone):
                    self._count_turn(event)
                    turns -= 1

    def _count_turn(self, done: TurnDone) -> None:
        """Count the end of a turn. Raises the error of a failed one: the caller leaves."""
        done.raise_for_error()
        self.ends[f"turns {done.outcome}" if done.recorded else f"turns {done.outcome}, unrecorded"] += 1

    def _failed(self, error: ChromaError) -> None:
        if error.status in self._clear:
            self.ends[f"turns {error.status}"] += 1
        else:
            self.wrong[str(error)] += 1
