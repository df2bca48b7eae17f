"""What callers use, counted in the store for all gateways together. Numbers only: gateway/access/usage.py knows limits.

    chroma:seats:{TENANT}:KEY          sorted set: the seats of a key, each with the time at which its lease ends
    chroma:turn_seats:{TENANT}:KEY     the same for its turns that hold slots of the model services
    chroma:used:{TENANT}:KEY:WHAT      number: what was used in the window that began with its first use; it has a TTL
    chroma:reserved:{TENANT}:KEY:WHAT  hash: what each turn under way may still use, and until when: AMOUNT:TIME
    chroma:used_by:{TENANT}            set: the ids of the keys that used anything within two days
    chroma:held:{TENANT}               hash: the bytes of each stored item, their sum, and the number of items of a kind
    chroma:held_until:{TENANT}         sorted set: the items that end by themselves, each with its time

`{*}` in place of `{TENANT}` and without a key stands for all callers together: no tenant has this name. All times are
those of the store's clock in milliseconds. A cluster keeps a tenant's counts on one server, so each script runs
there. The counts are no data of a client, so no script waits for the append-only file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from gateway.store.redis import Store

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_NOTE_KEY = """
local function note(used_by, key_id)
  if key_id ~= '' and redis.call('SCARD', used_by) < 1000 then
    redis.call('SADD', used_by, key_id)
    redis.call('PEXPIRE', used_by, 172800000)
  end
end
"""

# KEYS: seats, the tenant's key ids. ARGV: key id, seat, lease, limit. Answers 0 when the limit is reached.
# Leases that end later than a lease lasts are from before a jump of the clock: their gateways renew them if they live.
_TAKE_SEAT = (
    _NOW
    + _NOTE_KEY
    + """
local lease, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. (now + lease), '+inf')
note(KEYS[2], ARGV[1])
if limit > 0 and redis.call('ZCARD', KEYS[1]) >= limit then return 0 end
redis.call('ZADD', KEYS[1], now + lease, ARGV[2])
redis.call('PEXPIRE', KEYS[1], lease)
return 1
"""
)

# KEYS: seats. ARGV: lease, seat, ...
_RENEW_SEATS = (
    _NOW
    + """
local lease = tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + lease, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], lease)
return 1
"""
)

# KEYS: seats. Answers how many are taken.
_COUNT_SEATS = _NOW + "return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')"

# KEYS: the tenant's key ids, then for each count: the count, and what turns have reserved of it. ARGV: key id, turn (''
# for none), how long its reservations last, then for each count: amount, limit (0: none), window, reservation.
# A turn reserves what it asks for. When no other turn has a reservation, it may reserve what is left instead, so that
# only one turn at a time can pass the limit. A use of the turn without a reservation ends its one.
# Answers the place of the first count that is at its limit (0: none, and all amounts were added; negative: it is at its
# limit only with what other turns have reserved), then for each count what was used before, and how long its window
# still lasts (-2: it has not begun).
_USE = (
    _NOW
    + _NOTE_KEY
    + """
local turn, lasts = ARGV[2], tonumber(ARGV[3])
local function reserved_by_others(name)
  local sum, fields = 0, redis.call('HGETALL', name)
  for i = 1, #fields, 2 do
    local amount, ends = string.match(fields[i + 1], '^(%d+):(%d+)$')
    if tonumber(ends) <= now or tonumber(ends) > now + lasts then
      redis.call('HDEL', name, fields[i])
    elseif fields[i] ~= turn then
      sum = sum + tonumber(amount)
    end
  end
  return sum
end
local answer, reserved = {0}, {}
for i = 1, (#KEYS - 1) / 2 do
  local amount, limit, window = tonumber(ARGV[4 * i]), tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2])
  local wanted, name = tonumber(ARGV[4 * i + 3]), KEYS[2 * i]
  local used, left = tonumber(redis.call('GET', name) or '0'), redis.call('PTTL', name)
  if left == -1 or left > window then
    redis.call('PEXPIRE', name, window)
    left = window
  end
  reserved[i] = 0
  if answer[1] == 0 and limit > 0 then
    if used + math.max(amount, 1) > limit then
      answer[1] = i
    elseif wanted > 0 then
      local others = reserved_by_others(KEYS[2 * i + 1])
      if others > 0 and used + others + wanted > limit then answer[1] = -i end
      reserved[i] = math.min(wanted, limit - used - others)
    end
  end
  answer[2 * i], answer[2 * i + 1] = used, left
end
if answer[1] ~= 0 then return answer end
for i = 1, (#KEYS - 1) / 2 do
  local amount, begun, name = tonumber(ARGV[4 * i]), answer[2 * i + 1] >= 0, KEYS[2 * i]
  if amount > 0 or (amount < 0 and begun) then
    redis.call('INCRBY', name, amount)
    if not begun then redis.call('PEXPIRE', name, ARGV[4 * i + 2]) end
    note(KEYS[1], ARGV[1])
  end
  if reserved[i] > 0 then
    redis.call('HSET', KEYS[2 * i + 1], turn, string.format('%.0f:%.0f', reserved[i], now + lasts))
    redis.call('PEXPIRE', KEYS[2 * i + 1], lasts)
  elseif turn ~= '' then
    redis.call('HDEL', KEYS[2 * i + 1], turn)
  end
end
return answer
"""
)

_PRUNE = (
    _NOW
    + """
local function drop(item)
  local size = redis.call('HGET', KEYS[1], item)
  if size then
    redis.call('HDEL', KEYS[1], item)
    redis.call('HINCRBY', KEYS[1], 'bytes', -size)
    redis.call('HINCRBY', KEYS[1], string.match(item, '^%a+'), -1)
  end
  redis.call('ZREM', KEYS[2], item)
end
for _, item in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do drop(item) end
"""
)

# KEYS: held, held until. ARGV: item (KIND:ID), its bytes, its TTL (0: none), limit of items of its kind, of bytes.
# Answers 0 when the item is held, else which limit it is past (1: items, 2: bytes); the number before; and how long it
# takes until an item ends by itself (-1: none does).
_HOLD = (
    _PRUNE
    + """
local item, size, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local kind = string.match(item, '^%a+')
local old = tonumber(redis.call('HGET', KEYS[1], item) or '-1')
local count = tonumber(redis.call('HGET', KEYS[1], kind) or '0')
local bytes = tonumber(redis.call('HGET', KEYS[1], 'bytes') or '0')
local grown = size - math.max(old, 0)
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local wait = first[2] and math.max(0, first[2] - now) or -1
if old < 0 and tonumber(ARGV[4]) > 0 and count >= tonumber(ARGV[4]) then return {1, count, wait} end
if grown > 0 and tonumber(ARGV[5]) > 0 and bytes + grown > tonumber(ARGV[5]) then return {2, bytes, wait} end
redis.call('HSET', KEYS[1], item, size)
redis.call('HINCRBY', KEYS[1], 'bytes', grown)
if old < 0 then redis.call('HINCRBY', KEYS[1], kind, 1) end
if ttl > 0 then redis.call('ZADD', KEYS[2], now + ttl, item) else redis.call('ZREM', KEYS[2], item) end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
if last then redis.call('PEXPIREAT', KEYS[2], last) end
if last and tonumber(redis.call('HGET', KEYS[1], 'voice') or '0') == 0 then
  redis.call('PEXPIREAT', KEYS[1], last)
else
  redis.call('PERSIST', KEYS[1])
end
return {0, bytes, wait}
"""
)

# KEYS: held, held until. ARGV: item, ...
_LET_GO = (
    _PRUNE
    + """
for i = 1, #ARGV do drop(ARGV[i]) end
if redis.call('HGET', KEYS[1], 'bytes') == '0' then redis.call('DEL', KEYS[1]) end
return 1
"""
)

# KEYS: held, held until. ARGV: kind, ... Answers the number of items of each kind.
_COUNT_HELD = _PRUNE + "return redis.call('HMGET', KEYS[1], unpack(ARGV))"

ALL = "*"
"""In place of a tenant: all callers together."""


@dataclass(frozen=True)
class Owner:
    """Whose counts: those of one key of a tenant, or those of all callers, with tenant `ALL` and no key."""

    tenant: str
    key_id: str = ""

    def used_key(self, what: str) -> str:
        """Name of a count."""
        return f"chroma:used:{{{self.tenant}}}:{self.key_id}:{what}"

    def reserved_key(self, what: str) -> str:
        """Name of the hash of what turns under way may still use of a count."""
        return f"chroma:reserved:{{{self.tenant}}}:{self.key_id}:{what}"

    def used_by_key(self) -> str:
        """Name of the set of the tenant's key ids."""
        return f"chroma:used_by:{{{self.tenant}}}"

    def held_keys(self) -> list[str]:
        """Names of the hash and the sorted set of stored items."""
        return [f"chroma:held:{{{self.tenant}}}", f"chroma:held_until:{{{self.tenant}}}"]


EVERYBODY = Owner(ALL)


@dataclass(frozen=True)
class Seats:
    """The seats of an owner: for its conversations, or for its turns that hold slots of the model services."""

    owner: Owner
    are_of_turns: bool = False

    def key(self) -> str:
        """Name of the sorted set."""
        kind = "turn_seats" if self.are_of_turns else "seats"
        return f"chroma:{kind}:{{{self.owner.tenant}}}:{self.owner.key_id}"


@dataclass(frozen=True)
class Use:
    """A use of something that is counted in windows. The window begins with the first use."""

    what: str
    amount: int
    """0: only look. Negative: give back."""
    limit: int
    """0: no limit."""
    window_ms: int
    reserve: int = 0
    """What the turn may use, if there is a limit."""


@dataclass(frozen=True)
class Used:
    """What the counts were before a use."""

    refused: int | None
    """Index of the first use that is past its limit. None: all were added."""
    before: tuple[int, ...]
    left_ms: tuple[int, ...]
    """How long each window still lasts; 0 when it has not begun."""
    is_reserved: bool = False
    """Whether the refused use is past its limit only with what other turns have reserved."""


@dataclass(frozen=True)
class Held:
    """Whether an item may be stored."""

    refused: str
    """Which limit it is past: `items` or `bytes`. Empty: it is held."""
    before: int
    """The number of items, or of bytes, before."""
    wait_ms: int | None
    """How long it takes until an item ends by itself. None: none does."""


class UsageStore:
    """The counts. Every method raises Unavailable while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take_seat(self, seats: Seats, seat: str, *, lease_ms: int, limit: int) -> bool:
        """Take a seat until its lease ends. False when the limit is reached. 0: no limit."""
        keys = [seats.key(), seats.owner.used_by_key()]
        return bool(await self._store.evaluate(_TAKE_SEAT, keys, [seats.owner.key_id, seat, lease_ms, limit]))

    async def renew_seats(self, seats: Seats, taken: Sequence[str], *, lease_ms: int) -> None:
        """Let the leases of these seats begin anew, also of those that have ended."""
        await self._store.evaluate(_RENEW_SEATS, [seats.key()], [lease_ms, *taken])

    async def leave_seat(self, seats: Seats, seat: str) -> None:
        """Give a seat back."""
        await self._store.ask("ZREM", seats.key(), seat)

    async def count_seats(self, seats: Seats) -> int:
        """The number of seats taken."""
        return cast(int, await self._store.evaluate(_COUNT_SEATS, [seats.key()], []))

    async def use(self, owner: Owner, uses: Sequence[Use], *, turn: str = "", lasts_ms: int = 0) -> Used:
        """Add all amounts, or none when one is past its limit.

        `turn` makes the reservations of the uses, for `lasts_ms`, and ends those that it has of the other ones.
        """
        keys = [owner.used_by_key()]
        for use in uses:
            keys += [owner.used_key(use.what), owner.reserved_key(use.what)]
        values = [value for use in uses for value in (use.amount, use.limit, use.window_ms, use.reserve)]
        answer = await self._store.evaluate(_USE, keys, [owner.key_id, turn, lasts_ms, *values])
        refused, *counts = cast(list[int], answer)
        left_ms = tuple(max(0, left) for left in counts[1::2])
        return Used(abs(refused) - 1 if refused else None, tuple(counts[::2]), left_ms, is_reserved=refused < 0)

    async def hold(self, owner: Owner, item: str, size: int, *, ttl_ms: int, max_items: int, max_bytes: int) -> Held:
        """Count a stored item `KIND:ID` of so many bytes, or its new size. `ttl_ms` 0: it does not end by itself."""
        answer = await self._store.evaluate(_HOLD, owner.held_keys(), [item, size, ttl_ms, max_items, max_bytes])
        refused, before, wait_ms = cast(list[int], answer)
        return Held(("", "items", "bytes")[refused], before, None if wait_ms < 0 else wait_ms)

    async def let_go(self, owner: Owner, *items: str) -> None:
        """Count these items no more."""
        await self._store.evaluate(_LET_GO, owner.held_keys(), items)

    async def count_held(self, owner: Owner, *kinds: str) -> tuple[int, ...]:
        """The number of items of each kind that are held; the kind `bytes` stands for their bytes."""
        counts = cast(list[bytes | None], await self._store.evaluate(_COUNT_HELD, owner.held_keys(), kinds))
        return tuple(int(count or 0) for count in counts)

    async def key_ids(self, tenant: str) -> list[str]:
        """The ids of the tenant's keys that used anything within two days, in order."""
        found = cast(set[bytes], await self._store.ask("SMEMBERS", Owner(tenant).used_by_key()))
        return sorted(name.decode() for name in found)
