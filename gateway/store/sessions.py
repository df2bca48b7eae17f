"""Sessions in the store.

    chroma:session:{TENANT:HASH}:SESSION     hash: config, created, sequence, dropped, and turn:TURN for each turn
    chroma:audio:{TENANT:HASH}:SESSION:TURN  the user's speech of a turn, PCM at 16 kHz, with a TTL of its own
    chroma:session_deleted:{TENANT:HASH}     that a session was deleted, by a hash of its id, for a week

The value of a turn's field is the turn's place in the session, a blank, and `TurnRecord.to_json`. One script writes a
turn with its audio and removes the turns that no longer fit. Running it twice writes the turn once. The braces are part
of the keys: a cluster keeps all keys with the same text in braces on one server, so that a script may change them
together. HASH is a hash of the session's id, so the sessions of one tenant lie on all servers.
Settings, records and audio are encrypted when the store has keys (`gateway.store.cipher`).

A session that the store lost (its clock jumped and the TTL passed, or the store was emptied) is written again by the
conversation that holds it. The mark of a deletion tells a lost session from one that its user deleted.

Earlier versions wrote `chroma:session:TENANT:SESSION` and `chroma:audio:...` without braces. Such a session is read and
written under its old names until it expires. A tenant's name has no braces, so the names cannot be mixed up.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from redis.exceptions import RedisError

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.settings import GatewaySettings
from gateway.store import session_layout as layout
from gateway.store.connection.failures import OutcomeUnknown, store_error
from gateway.store.connection.server import Command, Value
from gateway.store.records import TurnRecord, trim
from gateway.store.redis import Store
from gateway.store.session_layout import SessionKeys
from gateway.store.withdrawals import Withdrawals
from services.common.errors import NotFound, OutOfRange

log = logging.getLogger(__name__)

_DELETED_TTL_S = 7 * 86_400
"""How long the mark of a deletion stays: longer than any conversation, and than most jumps of a clock."""
_MARGIN_S = 600
"""How much longer than any conversation the mark stays when the session was not there."""


@dataclass(frozen=True)
class Session:
    """A session as the store held it when it was read, and the changes since."""

    tenant: str
    session_id: str
    config: SessionConfig
    turns: tuple[TurnRecord, ...]
    dropped_turns: int
    sequence: int
    """Grows with every change of the turns."""
    created: float
    """Seconds since the epoch; so is `expires`."""
    expires: float
    unrecorded: frozenset[str] = frozenset()
    """Ids of turns that are in memory only: the store did not take them."""
    tagged: bool = True
    """False for a session that an earlier version wrote, under keys without braces."""

    @property
    def keys(self) -> SessionKeys:
        """The names of the session's keys."""
        return SessionKeys(self.tenant, self.session_id, self.tagged)


class Sessions:
    """All sessions. Async methods raise Unavailable while the store is away, ResourceExhausted when it is full, and
    NotFound for an unknown session."""

    def __init__(self, store: Store, settings: GatewaySettings) -> None:
        self.store = store
        self._settings = settings
        self.withdrawals = Withdrawals(store)
        """The turns that are still to be taken back."""

    async def close(self) -> None:
        """End what runs beside the calls."""
        await self.withdrawals.close()

    async def create(self, tenant: str, config: SessionConfig, session_id: str = "") -> Session:
        """Create a session. An empty `session_id` asks for a new one."""
        session_id = session_id or new_session_id()
        now = time.time()
        ttl_s = self._settings.session_ttl_s
        session = Session(tenant, session_id, config, (), 0, 0, now, now + ttl_s)
        values = [self._sealed_config(session.keys, config), now, ttl_s]
        await self.store.write(layout.CREATE, [session.keys.session], values)
        return session

    async def load(self, tenant: str, session_id: str) -> Session:
        """Read the session with its turns and their audio. All its TTLs start anew, if the store takes writes."""
        keys = SessionKeys(tenant, session_id)
        fields = await self.store.ask("HGETALL", keys.session)
        if not fields:
            keys = SessionKeys(tenant, session_id, tagged=False)
            fields = await self.store.ask("HGETALL", keys.session)
        if not fields:
            raise NotFound(f"no session {session_id!r}: it never existed, was deleted, or was unused for too long")
        withdrawn = self.withdrawals.pending(keys)
        places = sorted(
            (int(place), self.store.cipher.unseal(keys.place(name.decode()), record))
            for name, value in fields.items()
            if name.startswith(b"turn:") and name[5:].decode() not in withdrawn
            for place, record in [value.split(b" ", 1)]
        )
        turns = [TurnRecord.from_json(record) for _, record in places]
        clips = await self._clips(keys, turns)
        whole: list[TurnRecord] = []
        lost = 0
        for turn, clip in zip(turns, clips, strict=True):
            if clip is None and turn.audio():
                lost += 1 + len(whole)  # a history has no gaps: the turns before the lost one go too
                whole.clear()
            else:
                place = keys.audio(turn.turn_id)
                whole.append(turn.with_audio(self.store.cipher.unseal(place, clip or b"")))
        return Session(
            tenant,
            session_id,
            self._config(keys, fields[b"config"]),
            tuple(whole),
            int(fields[b"dropped"]) + lost,
            int(fields[b"sequence"]),
            float(fields[b"created"]),
            time.time() + self._settings.session_ttl_s,
            tagged=keys.tagged,
        )

    async def refresh(self, session: Session) -> Session:
        """Read the session again. Its turns are read only if another connection changed them; the turns that the store
        did not take stay in memory. A session that the store lost is written again."""
        key = session.keys.session
        config, sequence = await self.store.ask("HMGET", key, "config", "sequence")
        if config is None:
            return await self._restore(session) or await self.load(session.tenant, session.session_id)
        if int(sequence) == session.sequence:
            return replace(session, config=self._config(session.keys, config))
        fresh = await self.load(session.tenant, session.session_id)
        unrecorded = tuple(turn for turn in session.turns if turn.turn_id in session.unrecorded)
        return replace(fresh, turns=fresh.turns + unrecorded, unrecorded=session.unrecorded)

    async def configure(self, tenant: str, session_id: str, change: SessionConfig) -> SessionConfig:
        """Merge `change` into the session's settings and return them."""
        keys = SessionKeys(tenant, session_id)
        while True:
            found = await self.store.ask("HGET", keys.session, "config")
            if found is None and keys.tagged:
                keys = replace(keys, tagged=False)
                continue
            if found is None:
                raise NotFound(f"no session {session_id!r}")
            merged = merge(self._config(keys, found), change)
            values = [found, self._sealed_config(keys, merged), self._settings.session_ttl_s]
            if await self.store.write(layout.CONFIGURE, [keys.session], values) == 1:
                return merged

    async def check(self, tenant: str, session_id: str) -> None:
        """Check that the session exists. Raises NotFound."""
        for tagged in (True, False):
            if await self.store.ask("EXISTS", SessionKeys(tenant, session_id, tagged).session):
                return
        raise NotFound(f"no session {session_id!r}")

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete the session, its turns and their audio. A conversation that holds it does not write it again."""
        for tagged in (True, False):
            keys = SessionKeys(tenant, session_id, tagged)
            longest_s = round(self._settings.conversation_limit_s) + _MARGIN_S
            values = [keys.audio_prefix, _DELETED_TTL_S, longest_s]
            if await self.store.write(layout.DELETE, [keys.session, keys.deleted], values):
                return
        raise NotFound(f"no session {session_id!r}")

    def remember(self, session: Session, turn: TurnRecord, *, forget: int) -> Session:
        """Return `session` with `turn`, and without the `forget` oldest turns and those that no longer fit."""
        turns = trim(
            (*session.turns[forget:], turn),
            max_turns=self._settings.history_turns,
            max_audio_s=self._settings.history_audio_s,
        )
        dropped = len(session.turns) + 1 - len(turns)
        return replace(session, turns=turns, dropped_turns=session.dropped_turns + dropped)

    def insert(self, session: Session, put: Sequence[TurnRecord], after: str) -> Session:
        """Return `session` with turns put after the turn `after`, or before all turns, without the oldest turns that no
        longer fit. Turns that the session has move there. Raises OutOfRange when there is no room at that place."""
        moved = {turn.turn_id for turn in put}
        old = [turn for turn in session.turns if turn.turn_id not in moved]
        at = next((index + 1 for index, turn in enumerate(old) if turn.turn_id == after), 0)
        turns = trim(
            (*old[:at], *put, *old[at:]),
            max_turns=self._settings.history_turns,
            max_audio_s=self._settings.history_audio_s,
        )
        if not moved <= {turn.turn_id for turn in turns}:
            raise OutOfRange("the history has no room for an item at this place: delete some items after it")
        dropped = len(old) + len(put) - len(turns)
        return replace(session, turns=turns, dropped_turns=session.dropped_turns + dropped)

    async def record(self, before: Session, after: Session) -> Session:
        """Write the last turn of `after`, and delete the turns of `before` that are not in `after`, atomically.

        A session that the store lost is first written again, with the turns of `before`. When this raises, the store
        does not keep the turn.
        """
        turn = after.turns[-1]
        kept = {turn.turn_id for turn in after.turns}
        dropped = [old.turn_id for old in before.turns if old.turn_id not in kept]
        names = after.keys
        keys = [names.session, names.deleted, *(names.audio(turn_id) for turn_id in (turn.turn_id, *dropped))]
        ttls = self._settings.session_ttl_s, self._settings.audio_ttl_s
        values = [turn.turn_id, self._sealed_turn(names, turn), self._sealed_audio(names, turn), *ttls, *dropped]
        try:
            answer = await self.store.write(layout.RECORD, keys, values)
            if answer == layout.LOST:
                before = await self._restore(before) or before
                answer = await self.store.write(layout.RECORD, keys, values)
        except OutcomeUnknown:
            self.withdrawals.add(names, turn.turn_id)
            raise
        if answer != layout.RECORDED:
            raise NotFound(f"no session {after.session_id!r}: it was deleted")
        return replace(after, sequence=before.sequence + 1)

    async def amend(self, session: Session, turn: TurnRecord) -> Session:
        """Rewrite a recorded turn in its place. A turn that was never recorded, or was dropped, is not written."""
        keys = [session.keys.session, session.keys.audio(turn.turn_id)]
        values = [turn.turn_id, self._sealed_turn(session.keys, turn), int(bool(turn.audio()))]
        amended = await self.store.write(layout.AMEND, keys, values)
        return replace(session, sequence=session.sequence + amended)

    async def place(self, before: Session, after: Session, put: Sequence[TurnRecord]) -> Session:
        """Write the turns `put` at their places in `after`, and delete the turns of `before` that are not in `after`,
        atomically. A session that the store lost is written again with all turns of `after`."""
        kept, moved = {turn.turn_id for turn in after.turns}, {turn.turn_id for turn in put}
        dropped = [turn.turn_id for turn in before.turns if turn.turn_id not in kept]
        earlier = [turn.turn_id for turn in takewhile(lambda turn: turn.turn_id not in moved, after.turns)]
        names = after.keys
        clips = [names.audio(turn_id) for turn_id in [turn.turn_id for turn in put] + dropped]
        keys = [names.session, names.deleted, *clips]
        values: list[Value] = [self._settings.session_ttl_s, self._settings.audio_ttl_s, len(put)]
        for turn in put:
            values += [turn.turn_id, self._sealed_turn(names, turn), self._sealed_audio(names, turn)]
        values += [len(earlier), *reversed(earlier), *dropped]
        grown = await self.store.write(layout.PLACE, keys, values)
        if grown == layout.LOST:
            if (restored := await self._restore(after)) is not None:
                return restored
            grown = await self.store.write(layout.PLACE, keys, values)
        if grown <= 0:
            raise NotFound(f"no session {after.session_id!r}: it was deleted")
        return replace(after, sequence=before.sequence + grown)

    async def _restore(self, session: Session) -> Session | None:
        """Write a session that the store lost again, without the turns that were never recorded. Returns None when
        another conversation has written it again. Raises NotFound when it was deleted."""
        turns = [turn for turn in session.turns if turn.turn_id not in session.unrecorded]
        names = session.keys
        # No other connection holds this number, so all of them read the session again.
        sequence = max(session.sequence, len(turns)) + 1 + secrets.randbelow(1 << 20)
        keys = [names.session, names.deleted, *(names.audio(turn.turn_id) for turn in turns)]
        values: list[Value] = [
            self._settings.session_ttl_s,
            self._settings.audio_ttl_s,
            self._sealed_config(names, session.config),
            session.created,
            sequence,
            session.dropped_turns,
        ]
        for turn in turns:
            values += [turn.turn_id, self._sealed_turn(names, turn), self._sealed_audio(names, turn)]
        answer = await self.store.write(layout.RESTORE, keys, values)
        if answer == layout.WAS_DELETED:
            raise NotFound(f"no session {session.session_id!r}: it was deleted")
        if answer == layout.EXISTS:
            return None
        log.warning("the store lost a session: it is written again from memory, with %d turns", len(turns))
        return replace(session, sequence=sequence)

    def _config(self, keys: SessionKeys, stored: bytes) -> SessionConfig:
        return SessionConfig.FromString(self.store.cipher.unseal(keys.place("config"), stored))

    def _sealed_config(self, keys: SessionKeys, config: SessionConfig) -> bytes:
        return self.store.cipher.seal(keys.place("config"), config.SerializeToString())

    def _sealed_turn(self, keys: SessionKeys, turn: TurnRecord) -> bytes:
        return self.store.cipher.seal(keys.place(f"turn:{turn.turn_id}"), turn.to_json())

    def _sealed_audio(self, keys: SessionKeys, turn: TurnRecord) -> bytes:
        audio = turn.audio()
        return self.store.cipher.seal(keys.audio(turn.turn_id), audio) if audio else b""

    async def _clips(self, keys: SessionKeys, turns: list[TurnRecord]) -> list[bytes | None]:
        """The audio of each turn, None where it expired. The TTLs start anew, unless the store takes no writes: reading
        has to work then too."""
        names = [keys.audio(turn.turn_id) for turn in turns]
        commands: list[Command] = [("GET", name) for name in names]
        commands += [("EXPIRE", name, self._settings.audio_ttl_s) for name in names]
        commands += [("EXPIRE", keys.session, self._settings.session_ttl_s)]
        clips = (await self.store.ask_all(commands, strict=False))[: len(turns)]
        for clip in clips:
            if isinstance(clip, RedisError):
                raise store_error(clip)
        return clips


def new_session_id() -> str:
    """A random id that cannot be guessed."""
    return secrets.token_urlsafe(24)


def merge(config: SessionConfig, change: SessionConfig) -> SessionConfig:
    """Return `config` with the fields that `change` sets. `sampling` and `tools` are replaced as a whole."""
    merged = SessionConfig()
    merged.CopyFrom(config)
    merged.MergeFrom(change)
    if change.HasField("sampling"):
        merged.sampling.CopyFrom(change.sampling)
    if change.HasField("tools"):
        merged.tools.CopyFrom(change.tools)
    return merged
