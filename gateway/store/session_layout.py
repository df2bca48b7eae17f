"""How a session lies in the store: the names of its keys, and the scripts that change them.

Each script is atomic. Running one twice has the effect of running it once, because a lost answer makes redis-py send
it again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

RECORDED, DELETED, LOST = 1, 0, -1
"""Answers of RECORD."""
RESTORED, EXISTS, WAS_DELETED = 1, 0, -1
"""Answers of RESTORE."""

# KEYS: session. ARGV: config, creation time, TTL.
CREATE = """
redis.call('HSET', KEYS[1], 'config', ARGV[1], 'created', ARGV[2], 'sequence', 0, 'dropped', 0)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: session, mark of its deletion, audio of the turn, audio of each dropped turn. ARGV: turn id, record, audio,
# session TTL, audio TTL, dropped turn ids.
RECORD = f"""
if redis.call('EXISTS', KEYS[1]) == 0 then
  return redis.call('EXISTS', KEYS[2]) == 1 and {DELETED} or {LOST}
end
local field = 'turn:' .. ARGV[1]
if redis.call('HEXISTS', KEYS[1], field) == 0 then
  local place = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
  redis.call('HSET', KEYS[1], field, place .. ' ' .. ARGV[2])
  if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[5]) end
end
for i = 6, #ARGV do
  local gone = redis.call('HDEL', KEYS[1], 'turn:' .. ARGV[i])
  redis.call('HINCRBY', KEYS[1], 'dropped', gone)
  redis.call('DEL', KEYS[i - 2])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {RECORDED}
"""

# KEYS: session, audio of the turn. ARGV: turn id. Takes a turn back that nobody was told to be recorded.
WITHDRAW = """
if redis.call('HDEL', KEYS[1], 'turn:' .. ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[2])
redis.call('HINCRBY', KEYS[1], 'sequence', 1)
return 1
"""

# KEYS: session, audio of the turn. ARGV: turn id, record, whether its audio stays. Rewrites a turn in its place.
AMEND = """
local old = redis.call('HGET', KEYS[1], 'turn:' .. ARGV[1])
if not old then return 0 end
redis.call('HSET', KEYS[1], 'turn:' .. ARGV[1], string.match(old, '^%d+') .. ' ' .. ARGV[2])
if ARGV[3] == '0' then redis.call('DEL', KEYS[2]) end
redis.call('HINCRBY', KEYS[1], 'sequence', 1)
return 1
"""

# KEYS: session, mark of its deletion, audio of each turn to put, audio of each dropped turn. ARGV: session TTL, audio
# TTL, number of turns to put; id, record and audio of each; number of anchors; ids of the anchors, the nearest first;
# dropped turn ids. Puts turns, new ones or turns of the session, in their order after the first anchor that is there,
# or before all turns. All turns get new places. Answers how much the sequence has grown.
PLACE = f"""
if redis.call('EXISTS', KEYS[1]) == 0 then
  return redis.call('EXISTS', KEYS[2]) == 1 and {DELETED} or {LOST}
end
local count = tonumber(ARGV[3])
local put = {{}}
for i = 1, count do put[ARGV[3 * i + 1]] = true end
local fields = redis.call('HGETALL', KEYS[1])
local old = {{}}
for i = 1, #fields, 2 do
  local id = string.sub(fields[i], 6)
  if string.sub(fields[i], 1, 5) == 'turn:' and not put[id] then
    local blank = string.find(fields[i + 1], ' ', 1, true)
    local place = tonumber(string.sub(fields[i + 1], 1, blank - 1))
    table.insert(old, {{place, id, string.sub(fields[i + 1], blank + 1)}})
  end
end
table.sort(old, function(one, other) return one[1] < other[1] end)
local after, anchors = 0, 4 + 3 * count
for i = anchors + 1, anchors + tonumber(ARGV[anchors]) do
  for j, turn in ipairs(old) do
    if after == 0 and turn[2] == ARGV[i] then after = j end
  end
end
local turns = {{}}
for j = 1, after do table.insert(turns, old[j]) end
for i = 1, count do
  table.insert(turns, {{0, ARGV[3 * i + 1], ARGV[3 * i + 2]}})
  if ARGV[3 * i + 3] ~= '' then
    redis.call('SET', KEYS[i + 2], ARGV[3 * i + 3], 'EX', ARGV[2])
  else
    redis.call('DEL', KEYS[i + 2])
  end
end
for j = after + 1, #old do table.insert(turns, old[j]) end
local sequence = tonumber(redis.call('HGET', KEYS[1], 'sequence'))
for j, turn in ipairs(turns) do
  redis.call('HSET', KEYS[1], 'turn:' .. turn[2], string.format('%d', sequence + j) .. ' ' .. turn[3])
end
redis.call('HSET', KEYS[1], 'sequence', string.format('%d', sequence + #turns))
local first = anchors + 1 + tonumber(ARGV[anchors])
for i = first, #ARGV do
  local gone = redis.call('HDEL', KEYS[1], 'turn:' .. ARGV[i])
  redis.call('HINCRBY', KEYS[1], 'dropped', gone)
  redis.call('DEL', KEYS[2 + count + i - first + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return #turns
"""

# KEYS: session. ARGV: the config that was read, the one to write, the TTL. -1: no session. 0: changed meanwhile.
CONFIGURE = """
local found = redis.call('HGET', KEYS[1], 'config')
if not found then return -1 end
if found ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'config', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: session, mark of its deletion. ARGV: prefix of its audio keys, TTL of the mark, and of that of a session that is
# not there: a conversation may hold it and would write it again. Answers whether it existed.
# The mark comes last: a store whose memory is full takes it from a script that has begun to delete.
DELETE = """
local names = redis.call('HKEYS', KEYS[1])
for _, name in ipairs(names) do
  if string.sub(name, 1, 5) == 'turn:' then redis.call('DEL', ARGV[1] .. string.sub(name, 6)) end
end
redis.call('DEL', KEYS[1])
if #names == 0 then
  redis.call('SET', KEYS[2], 1, 'EX', ARGV[3], 'NX')
  return 0
end
redis.call('SET', KEYS[2], 1, 'EX', ARGV[2])
return 1
"""

# KEYS: session, mark of its deletion, audio of each turn. ARGV: session TTL, audio TTL, config, creation time,
# sequence, dropped, then turn id, record and audio of each turn.
RESTORE = f"""
if redis.call('EXISTS', KEYS[2]) == 1 then return {WAS_DELETED} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {EXISTS} end
redis.call('HSET', KEYS[1], 'config', ARGV[3], 'created', ARGV[4], 'sequence', ARGV[5], 'dropped', ARGV[6])
local place = 0
for i = 7, #ARGV, 3 do
  place = place + 1
  redis.call('HSET', KEYS[1], 'turn:' .. ARGV[i], place .. ' ' .. ARGV[i + 1])
  if ARGV[i + 2] ~= '' then redis.call('SET', KEYS[2 + place], ARGV[i + 2], 'EX', ARGV[2]) end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {RESTORED}
"""


@dataclass(frozen=True)
class SessionKeys:
    """The names of one session's keys, all of one hash slot. `tagged` is False for a session that an earlier version
    wrote: its keys have slots of their own."""

    tenant: str
    session_id: str
    tagged: bool = True

    @property
    def session(self) -> str:
        """The session's hash."""
        return f"chroma:session:{self._tag}:{self.session_id}"

    def place(self, field: str) -> str:
        """The name of a field of the session's hash, to which its encrypted value is bound."""
        return f"{self.session} {field}"

    @property
    def audio_prefix(self) -> str:
        """What the key of a turn's audio has before the turn's id."""
        return f"chroma:audio:{self._tag}:{self.session_id}:"

    def audio(self, turn_id: str) -> str:
        """The user's speech of a turn."""
        return self.audio_prefix + turn_id

    @property
    def deleted(self) -> str:
        """The mark of the session's deletion. It has a hash of the id, so nothing of a deleted session stays."""
        return f"chroma:session_deleted:{{{self.tenant}:{self._digest}}}"

    @property
    def _tag(self) -> str:
        return f"{{{self.tenant}:{self._digest}}}" if self.tagged else self.tenant

    @property
    def _digest(self) -> str:
        return hashlib.blake2b(self.session_id.encode(), digest_size=16).hexdigest()
