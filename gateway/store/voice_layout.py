"""How a voice lies in the store: the names of its keys, and the scripts that change them.

Each script is atomic. Running one twice has the effect of running it once, because a lost answer makes redis-py send
it again.
"""

from __future__ import annotations

import hashlib

from gateway.store.consents import ADD_CONSENT

VOICES_INDEXED = "chroma:voices_indexed"
OLD_PREFIX = "chroma:voice:"
"""How the keys of voices begin that earlier versions wrote."""

# KEYS: voice, index, consent, index of consents, revoked recordings, the idempotency key's record.
# ARGV: voice id, consent id, consent record, time, most consents, mark of the recording, digest of the request (empty:
# no idempotency key), its TTL, `request`, its value, field, value, ...
# Answers 1 and the id of the voice, which may be that of an earlier call with the same idempotency key. Else:
# 0: the id is taken. -3: the idempotency key has another request. -1, -2, -4: as `add_consent` answers.
CREATE = (
    ADD_CONSENT
    + """
if ARGV[7] ~= '' then
  local digest = redis.call('HGET', KEYS[6], 'digest')
  if digest then
    if digest ~= ARGV[7] then return {-3, ''} end
    return {1, redis.call('HGET', KEYS[6], 'voice')}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {redis.call('HGET', KEYS[1], ARGV[9]) == ARGV[10] and 1 or 0, ARGV[1]}
end
local added = add_consent(KEYS[3], KEYS[4], KEYS[5], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
if added < 0 then return {added, ''} end
redis.call('HSET', KEYS[3], 'voice:' .. ARGV[1], ARGV[4] .. ' 0')
redis.call('HSET', KEYS[1], unpack(ARGV, 9))
redis.call('ZADD', KEYS[2], 0, ARGV[1])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[6], 'digest', ARGV[7], 'voice', ARGV[1])
  redis.call('EXPIRE', KEYS[6], ARGV[8])
end
return {1, ARGV[1]}
"""
)

# KEYS: voice, index, embeddings, times of their use, consent. ARGV: voice id, its `request`, its consent id, time.
# Answers 0 when there is no such voice, or another one of this id. The note in the consent comes last: a store whose
# memory is full takes it from a script that has begun to delete.
DELETE = """
local request, consent = unpack(redis.call('HMGET', KEYS[1], 'request', 'consent_id'))
if (request or '') ~= ARGV[2] or (consent or '') ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
local prefix = ARGV[1] .. ':'
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(field, 1, #prefix) == prefix then
    redis.call('HDEL', KEYS[3], field)
    redis.call('ZREM', KEYS[4], field)
  end
end
local times = ARGV[3] ~= '' and redis.call('HGET', KEYS[5], 'voice:' .. ARGV[1])
if times then redis.call('HSET', KEYS[5], 'voice:' .. ARGV[1], string.match(times, '^%S+') .. ' ' .. ARGV[4]) end
return 1
"""

# KEYS: voice, index. ARGV: voice id. Takes an id out of the index, unless the voice was made meanwhile.
UNLIST = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
"""


def voice_key(tenant: str, voice_id: str) -> str:
    """The key of a voice."""
    return f"chroma:voice:{{{tenant}}}:{voice_id}"


def index_key(tenant: str) -> str:
    """The key of the index of a tenant's voices."""
    return f"chroma:voices:{{{tenant}}}"


def request_key(tenant: str, key: str) -> str:
    """The key of the request for which an idempotency key stands."""
    return f"chroma:voice_request:{{{tenant}}}:{hashlib.sha256(key.encode()).hexdigest()}"


def old_key(tenant: str, voice_id: str) -> str:
    """The key under which an earlier version wrote a voice."""
    return f"{OLD_PREFIX}{tenant}:{voice_id}"


def named_by_old_key(key: str) -> tuple[str, str] | None:
    """Tenant and voice id of a key that an earlier version wrote."""
    tenant, _, voice_id = key.removeprefix(OLD_PREFIX).partition(":")
    return None if tenant.startswith("{") else (tenant, voice_id)
