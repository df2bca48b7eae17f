"""One caller: asks the questions of a planned conversation on schedule, and listens to the replies as they play."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from chroma_voice.bench.listening.listener import Listener
from chroma_voice.bench.listening.microphone import Microphone, sleep_until
from chroma_voice.bench.load.plan import PlannedConversation, PlannedTurn, Question
from chroma_voice.bench.records import TurnRecord
from chroma_voice.bench.targets.target import (
    RATE_HZ,
    Connection,
    Event,
    ReplyEnded,
    ReplyStarted,
    Sound,
    SpeechHeard,
    Target,
)
from chroma_voice.errors import ChromaError

NO_REPLY, NO_SOUND = "NO_REPLY", "NO_SOUND"
"""Statuses of our own: nothing came in time, and a reply that completed without any sound above silence."""


class _Turn:
    """A turn under way: its record, the listener of its reply, and what the server said of it."""

    def __init__(self, record: TurnRecord, listener: Listener) -> None:
        self.record = record
        self.listener = listener
        self.reply_id = ""
        self.ended: ReplyEnded | None = None


class Caller:
    """Holds one conversation. `start_s` is the start of the run, and `ends_s` the time after which no turn begins, both
    on the event loop's clock. `report` gets each turn's record when the turn is over.
    """

    def __init__(
        self,
        plan: PlannedConversation,
        target: Target,
        questions: Sequence[Question],
        report: Callable[[TurnRecord], None],
        *,
        start_s: float,
        ends_s: float,
        worker: int = 0,
        buffer_s: float = 0.0,
        patience_s: float = 30.0,
    ) -> None:
        self._plan = plan
        self._target = target
        self._questions = questions
        self._report = report
        self._start_s = start_s
        self._ends_s = ends_s
        self._worker = worker
        self._buffer_s = buffer_s
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._last_event_s = 0.0
        self._lost: ChromaError | None = None
        self._turn: _Turn | None = None
        self._before: _Turn | None = None
        """The turn whose reply is being interrupted."""

    @property
    def is_listening(self) -> bool:
        """Whether a reply is being played."""
        turn = self._turn
        return turn is not None and not turn.listener.has_heard_all(self._loop.time())

    async def run(self) -> None:
        """Hold the conversation. Every failure is in the records; none is raised."""
        begins_s = self._start_s + self._plan.at_s + self._plan.turns[0].think_s
        await sleep_until(begins_s)
        try:
            async with AsyncExitStack() as stack:
                try:
                    connection = await self._connect(stack, begins_s)
                except ChromaError as error:
                    self._lost = error
                    return
                async with asyncio.TaskGroup() as tasks:
                    reading = tasks.create_task(self._read(connection))
                    microphone = Microphone(connection.send_audio, RATE_HZ)
                    room = tasks.create_task(self._stay_open(microphone)) if self._plan.hands_free else None
                    await self._talk(connection, microphone, begins_s)
                    for task in (reading, room):
                        if task is not None:
                            task.cancel()
        except Exception as error:  # the boundary of one conversation: the others go on
            self._lost = ChromaError(f"{type(error).__name__}: {error}", status="CLIENT_ERROR")
        finally:
            self._close_all()

    async def _connect(self, stack: AsyncExitStack, begins_s: float) -> Connection:
        """Open the connection while the caller already speaks: a late connection does not move the schedule."""
        self._begin(0, begins_s)
        opening = self._target.connect(self._plan.voice, hands_free=self._plan.hands_free)
        connection = await stack.enter_async_context(opening)
        assert self._turn is not None, "the first turn has begun"
        self._turn.record.connect_s = self._loop.time() - begins_s
        return connection

    async def _talk(self, connection: Connection, microphone: Microphone, begins_s: float) -> None:
        for number, planned in enumerate(self._plan.turns):
            if number:
                await sleep_until(begins_s)
                if self._lost is not None or begins_s >= self._ends_s:
                    return
                self._begin(number, begins_s)
            turn = self._turn
            assert turn is not None, "a turn has begun"
            speech = self._questions[planned.question].speech
            try:
                if self._before is not None and not self._plan.hands_free:
                    await connection.interrupt(self._before.listener.clock.heard_s(begins_s))
                await microphone.speak(speech, begins_s)
                if not self._plan.hands_free:
                    await connection.commit()
            except ChromaError as error:
                self._lost = self._lost or error
                return
            turn.record.sent_late_s = self._loop.time() - self._start_s - turn.record.asked_s
            begins_s = await self._listen(turn, planned, number)
            if self._lost is not None:
                return

    def _begin(self, number: int, begins_s: float) -> None:
        """Begin a turn at `begins_s`, which interrupts the reply before if that is still played."""
        before, planned = self._turn, self._plan.turns[number]
        if self._before is not None:
            self._finish_before()  # the server never said that it had stopped
        if before is not None and before.record.barge_in_s is not None:
            self._before = before
            if before.ended is not None and not self._plan.hands_free:
                self._finish_before()  # all its sound is here, so the server has nothing to stop
        question = self._questions[planned.question]
        record = TurnRecord(
            conversation=self._plan.number,
            turn=number,
            worker=self._worker,
            voice=self._plan.voice,
            hands_free=self._plan.hands_free,
            question=question.name,
            question_s=question.duration_s,
            asked_s=begins_s + question.duration_s - self._start_s,
        )
        self._turn = _Turn(record, Listener(RATE_HZ, buffer_s=self._buffer_s))
        self._last_event_s = begins_s + question.duration_s

    async def _listen(self, turn: _Turn, planned: PlannedTurn, number: int) -> float:
        """Listen until the reply is over, was played, or is to be interrupted. Returns when the next turn begins."""
        clock = turn.listener.clock
        while True:
            now_s = self._loop.time()
            if self._lost is not None:
                return now_s
            barge_in_s = None if planned.barge_in_s is None else clock.reaches_s(planned.barge_in_s)
            if barge_in_s is not None and barge_in_s >= self._ends_s:
                barge_in_s = None  # the turn that would interrupt does not begin
            if barge_in_s is not None and now_s >= barge_in_s:
                turn.record.barge_in_s = barge_in_s - self._start_s
                return barge_in_s
            if turn.ended is not None and turn.listener.has_heard_all(now_s):
                self._finish(turn)
                # The next user thinks from the end of what was heard, which by the plan is not when this was noticed.
                over_s = max(turn.listener.clock.ends_s or 0.0, turn.record.asked_s + self._start_s)
                think_s = self._plan.turns[number + 1].think_s if number + 1 < len(self._plan.turns) else 0.0
                return (now_s if clock.ends_s is None else over_s) + think_s
            patient_until_s = self._last_event_s + self._patience_s
            if turn.ended is None and now_s >= patient_until_s:
                message = f"nothing came for {self._patience_s:g} s"
                self._lost = ChromaError(message, status=NO_REPLY)
                return now_s
            times = [barge_in_s, clock.ends_s if turn.ended is not None else patient_until_s]
            await self._wait(min(time_s for time_s in times if time_s is not None))

    async def _wait(self, until_s: float) -> None:
        """Wait for an event, until this time at the latest."""
        self._news.clear()
        try:
            async with asyncio.timeout_at(until_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _stay_open(self, microphone: Microphone) -> None:
        try:
            await microphone.stay_open()
        except ChromaError as error:
            self._lose(error)

    async def _read(self, connection: Connection) -> None:
        try:
            async for event in connection.events():
                self._take(event, self._loop.time())
                self._news.set()
        except ChromaError as error:
            self._lose(error)

    def _lose(self, error: ChromaError) -> None:
        self._lost = self._lost or error
        self._news.set()

    def _take(self, event: Event, now_s: float) -> None:
        """Take an event of the server."""
        self._last_event_s = max(self._last_event_s, now_s)
        turn, before = self._turn, self._before
        if turn is None:
            return
        match event:
            case SpeechHeard():
                if before is not None:
                    before.listener.stop(now_s)
                    if before.ended is not None:
                        self._finish_before()
            case ReplyStarted():
                if before is not None and event.reply_id == before.reply_id:
                    return
                if turn.reply_id and turn.reply_id != event.reply_id:
                    # The server took a pause within the question for its end. What counts is the reply to all of it.
                    turn.listener, turn.ended = Listener(RATE_HZ, buffer_s=self._buffer_s), None
                turn.reply_id = event.reply_id
            case Sound():
                if before is not None and event.reply_id == before.reply_id:
                    before.listener.receive(event.data, now_s)
                elif event.reply_id == turn.reply_id:
                    turn.listener.receive(event.data, now_s)
            case ReplyEnded():
                if before is not None and event.reply_id == before.reply_id:
                    before.listener.stop(now_s)
                    before.ended = event
                    self._finish_before()
                elif event.reply_id in (turn.reply_id, ""):
                    is_early = now_s < self._start_s + turn.record.asked_s
                    if not (is_early and event.outcome == "interrupted"):
                        turn.ended = event

    def _finish_before(self) -> None:
        """Complete the turn whose reply was interrupted."""
        if self._before is not None:
            self._finish(self._before)
            self._before = None

    def _finish(self, turn: _Turn) -> None:
        """Complete a turn's record and report it."""
        record, listener, ended = turn.record, turn.listener, turn.ended
        now_s, zero_s = self._loop.time(), self._start_s + turn.record.asked_s
        clock = listener.clock
        if listener.first_piece_s is not None:
            record.first_piece_s = listener.first_piece_s - zero_s
        if listener.first_sound_s is not None:
            record.first_sound_s = listener.first_sound_s - zero_s
        record.sound_s = listener.sound_s
        record.heard_s = clock.heard_s(now_s if listener.silent_s is None else listener.silent_s)
        record.gaps = [(gap.at_s - self._start_s, gap.length_s) for gap in clock.gaps]
        record.jitter_s, record.real_time_factor = listener.jitter_s, listener.real_time_factor
        record.ended_s = now_s - self._start_s
        if record.barge_in_s is not None and listener.silent_s is not None:
            record.silence_after_barge_in_s = max(0.0, listener.silent_s - self._start_s - record.barge_in_s)
        if ended is None:
            if self._lost is not None:
                record.outcome, record.status, record.message = "failed", self._lost.status, self._lost.message
        elif ended.outcome == "failed":
            record.outcome, record.status, record.message = "failed", ended.status, ended.message
        elif record.barge_in_s is not None:
            record.outcome = "interrupted"
        elif ended.outcome == "interrupted":
            record.outcome, record.status = "failed", "INTERRUPTED_BY_SERVER"
        elif listener.first_sound_s is None:
            record.outcome, record.status = "failed", NO_SOUND
        else:
            record.outcome = "completed"
        self._report(record)

    def _close_all(self) -> None:
        """Report the turns that were under way when the conversation ended or was cut off."""
        self._finish_before()
        if self._turn is not None and self._turn.record.ended_s is None:
            self._finish(self._turn)
