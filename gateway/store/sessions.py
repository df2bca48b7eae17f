"""Sessions in the store.

    chroma:session:TENANT:SESSION      hash: config, created, sequence, dropped, and turn:TURN for each turn
    chroma:audio:TENANT:SESSION:TURN   the user's speech of a turn, PCM at 16 kHz, with a TTL of its own

The value of a turn's field is the turn's place in the session, a blank, and `TurnRecord.to_json`. One script writes a
turn with its audio and removes the turns that no longer fit. Running it twice writes the turn once.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord, trim
from gateway.store.redis import Store
from services.common.errors import NotFound

# KEYS: session, audio of the turn, audio of each dropped turn. ARGV: turn id, record, audio, session TTL,
# audio TTL, dropped turn ids. Answers whether the session exists.
_RECORD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local field = 'turn:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], field) == 0 then
  local place = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
  redis.call('HSET', KEYS[1], field, place .. ' ' .. ARGV[2])
  if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5]) end
end
for i = 6, #ARGV do
  local gone = redis.call('HDEL', KEYS[1], 'turn:' .. ARGV[i])
  redis.call('HINCRBY', KEYS[1], 'dropped', gone)
  redis.call('DEL', KEYS[i - 3])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

# KEYS: session, audio of the turn. ARGV: turn id, record, whether its audio stays. Rewrites a turn in its place.
_AMEND = """
local old = redis.call('HGET', KEYS[1], 'turn:' .. ARGV[1])
if not old then return 0 end
redis.call('HSET', KEYS[1], 'turn:' .. ARGV[1], string.match(old, '^%d+') .. ' ' .. ARGV[2])
if ARGV[3] == '0' then redis.call('DEL', KEYS[2]) end
redis.call('HINCRBY', KEYS[1], 'sequence', 1)
return 1
"""

# KEYS: session. ARGV: config, creation time, TTL.
_CREATE = """
redis.call('HSET', KEYS[1], 'config', ARGV[1], 'created', ARGV[2], 'sequence', 0, 'dropped', 0)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: session. ARGV: the config that was read, the one to write, the TTL. -1: no session. 0: changed meanwhile.
_CONFIGURE = """
local found = redis.call('HGET', KEYS[1], 'config')
if not found then return -1 end
if found ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'config', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


@dataclass(frozen=True)
class Session:
    """A session as the store held it when it was read."""

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


class Sessions:
    """All sessions. Async methods raise Unavailable while the store is away, and NotFound for an unknown session."""

    def __init__(self, store: Store, settings: GatewaySettings) -> None:
        self._store = store
        self._settings = settings

    async def create(self, tenant: str, config: SessionConfig) -> Session:
        """Create a session. Its id cannot be guessed."""
        session_id = secrets.token_urlsafe(24)
        now = time.time()
        ttl_s = self._settings.session_ttl_s
        await self._store.write(_CREATE, [_key(tenant, session_id)], [config.SerializeToString(), now, ttl_s])
        return Session(tenant, session_id, config, (), 0, 0, now, now + ttl_s)

    async def load(self, tenant: str, session_id: str) -> Session:
        """Read the session with its turns and their audio. All its TTLs start anew."""
        key = _key(tenant, session_id)
        fields = await self._store.ask(self._store.redis.hgetall(key))
        if not fields:
            raise NotFound(f"no session {session_id!r}: it never existed, was deleted, or was unused for too long")
        places = sorted(
            (int(place), record)
            for name, value in fields.items()
            if name.startswith(b"turn:")
            for place, record in [value.split(b" ", 1)]
        )
        turns = [TurnRecord.from_json(record) for _, record in places]
        clips = await self._renew(tenant, session_id, turns)
        whole: list[TurnRecord] = []
        lost = 0
        for turn, clip in zip(turns, clips, strict=True):
            if clip is None and turn.audio():
                lost += 1 + len(whole)  # a history has no gaps: the turns before the lost one go too
                whole.clear()
            else:
                whole.append(turn.with_audio(clip or b""))
        return Session(
            tenant,
            session_id,
            SessionConfig.FromString(fields[b"config"]),
            tuple(whole),
            int(fields[b"dropped"]) + lost,
            int(fields[b"sequence"]),
            float(fields[b"created"]),
            time.time() + self._settings.session_ttl_s,
        )

    async def refresh(self, session: Session) -> Session:
        """Read the session again. Its turns are read only if another connection changed them."""
        key = _key(session.tenant, session.session_id)
        config, sequence = await self._store.ask(self._store.redis.hmget(key, ["config", "sequence"]))
        if config is None or int(sequence) != session.sequence:
            return await self.load(session.tenant, session.session_id)
        return replace(session, config=SessionConfig.FromString(config))

    async def configure(self, tenant: str, session_id: str, change: SessionConfig) -> SessionConfig:
        """Merge `change` into the session's settings and return them."""
        key = _key(tenant, session_id)
        while True:
            found = await self._store.ask(self._store.redis.hget(key, "config"))
            if found is None:
                raise NotFound(f"no session {session_id!r}")
            merged = merge(SessionConfig.FromString(found), change)
            values = [found, merged.SerializeToString(), self._settings.session_ttl_s]
            if await self._store.write(_CONFIGURE, [key], values) == 1:
                return merged

    async def delete(self, tenant: str, session_id: str) -> None:
        """Delete the session, its turns and their audio."""
        key = _key(tenant, session_id)
        names = await self._store.ask(self._store.redis.hkeys(key))
        clips = [
            _audio_key(tenant, session_id, name.removeprefix(b"turn:").decode())
            for name in names
            if name.startswith(b"turn:")
        ]
        if not await self._store.ask(self._store.redis.delete(key, *clips)):
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

    async def record(self, before: Session, after: Session) -> Session:
        """Write the last turn of `after`, and delete the turns of `before` that are not in `after`, atomically."""
        turn = after.turns[-1]
        kept = {turn.turn_id for turn in after.turns}
        dropped = [old.turn_id for old in before.turns if old.turn_id not in kept]
        tenant, session_id = after.tenant, after.session_id
        keys = [
            _key(tenant, session_id),
            *(_audio_key(tenant, session_id, turn_id) for turn_id in (turn.turn_id, *dropped)),
        ]
        ttls = self._settings.session_ttl_s, self._settings.audio_ttl_s
        if not await self._store.write(_RECORD, keys, [turn.turn_id, turn.to_json(), turn.audio(), *ttls, *dropped]):
            raise NotFound(f"no session {session_id!r}: it was deleted, or it expired")
        return replace(after, sequence=before.sequence + 1)

    async def amend(self, session: Session, turn: TurnRecord) -> Session:
        """Rewrite a recorded turn in its place. A turn that was never recorded, or was dropped, is not written."""
        names = session.tenant, session.session_id
        keys = [_key(*names), _audio_key(*names, turn.turn_id)]
        values = [turn.turn_id, turn.to_json(), int(bool(turn.audio()))]
        amended = await self._store.write(_AMEND, keys, values)
        return replace(session, sequence=session.sequence + amended)

    async def _renew(self, tenant: str, session_id: str, turns: list[TurnRecord]) -> list[bytes | None]:
        """The audio of each turn, None where it expired. All TTLs start anew."""
        async with self._store.redis.pipeline(transaction=False) as pipe:
            for turn in turns:
                pipe.getex(_audio_key(tenant, session_id, turn.turn_id), ex=self._settings.audio_ttl_s)
            pipe.expire(_key(tenant, session_id), self._settings.session_ttl_s)
            return (await self._store.ask(pipe.execute()))[:-1]


def merge(config: SessionConfig, change: SessionConfig) -> SessionConfig:
    """Return `config` with the fields that `change` sets. `sampling` is replaced as a whole."""
    merged = SessionConfig()
    merged.CopyFrom(config)
    merged.MergeFrom(change)
    if change.HasField("sampling"):
        merged.sampling.CopyFrom(change.sampling)
    return merged


def _key(tenant: str, session_id: str) -> str:
    return f"chroma:session:{tenant}:{session_id}"


def _audio_key(tenant: str, session_id: str, turn_id: str) -> str:
    return f"chroma:audio:{tenant}:{session_id}:{turn_id}"
