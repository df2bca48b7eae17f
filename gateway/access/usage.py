"""The use that callers make of the deployment, held to their limits across all gateways.

The store counts. While it is away, or full, this gateway goes on with counts of its own, which begin with nothing used
except the conversations and turns that are open here, so that calls in progress and new ones go on. A seat, of a
conversation or a turn, is a lease, which this gateway renews while it lives: the seats of a gateway that was killed are
free within `LEASE_MS`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from gateway.access.caller import ANONYMOUS, Caller
from gateway.access.limits import LimitName, Limits, key_limits, total_limits
from gateway.access.local_usage import LocalUsage
from gateway.access.quotas import WINDOWS, Quota, given_back, quotas_after, refusal, use_of
from gateway.metrics import show_usage
from gateway.processes.shared_counts import CONVERSATIONS, SharedCounts
from gateway.settings import GatewaySettings
from gateway.store.redis import Store
from gateway.store.usage import EVERYBODY, Owner, Seats, UsageStore, Use, Used
from services.common.errors import ResourceExhausted, Unavailable
from services.common.telemetry.process_metrics import REFUSED

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

LEASE_MS = 15_000
"""How long a seat stays taken when its gateway is gone."""
_RENEW_EVERY_S = 4.0
_SEAT_WAIT_S = 1.0
"""Time after which to look for a seat again: nobody knows when a conversation ends."""
_UPLOADS_AT_ONCE = 8
"""Recordings that this gateway takes in at once: each costs up to 16 MB, and work of the codec."""
_RESERVED_WAIT_S = 1.0
"""Time after which to ask again when turns under way have reserved what is left."""
_TURN_GRACE_S = 60.0
"""How much longer than the longest turn a reservation lasts whose gateway is gone."""
_FULL_FOR_S = 60.0
"""Time to wait when only a deletion makes room."""


def _no_changes(tenant: str, key_id: str) -> Mapping[LimitName, int | None]:
    return {}


def _no_turns() -> int:
    return 0


class Usage:
    """One gateway's view of the use of all. `run` renews the leases; without it they end.

    `store` None: this gateway counts alone. `changes_of` returns the limits that a key of a tenant has of its own.
    `turns_to_share` returns how many turns the keys share now; 0: they need not share. `counts`: the conversations of
    several processes of this gateway.
    """

    def __init__(
        self,
        store: Store | None,
        settings: GatewaySettings,
        changes_of: Callable[[str, str], Mapping[LimitName, int | None]] = _no_changes,
        turns_to_share: Callable[[], int] = _no_turns,
        counts: SharedCounts | None = None,
    ) -> None:
        self._store = UsageStore(store) if store is not None else None
        self._is_away = store is None
        self._local = LocalUsage()
        self._key_limits, self._total_limits = key_limits(settings), total_limits(settings)
        self._max_conversations = settings.max_conversations
        self._reserved_s = {
            LimitName.INPUT_AUDIO_S_PER_DAY: settings.max_input_s,
            LimitName.OUTPUT_AUDIO_S_PER_DAY: settings.max_reply_s,
        }
        self._turn_lasts_ms = round((settings.turn_limit_s + _TURN_GRACE_S) * 1000)
        self._changes_of = changes_of
        self._turns_to_share = _no_turns if settings.key_turns_at_once is not None else turns_to_share
        self._seats: dict[Seats, set[str]] = {}
        """The seats that are taken at this gateway."""
        self._open = (counts or SharedCounts.alone())[CONVERSATIONS]
        self._uploads = 0
        self._name = secrets.token_hex(6)
        self._seat_count = 0
        show_usage(self._most_conversations)

    def limits(self, caller: Caller) -> Limits:
        """The limits of the caller's key, or of its address if it has no key. A caller without a key on this machine
        has no share of the conversations and the turns at once: there are no others."""
        turns = self._turns_to_share()
        shared = {LimitName.TURNS_AT_ONCE: max(1, turns // 2)} if turns else {}
        limits = self._key_limits.changed(shared).changed(self._changes_of(caller.tenant, caller.key_id))
        alone = {LimitName.CONVERSATIONS: 0, LimitName.TURNS_AT_ONCE: 0}
        return limits.changed(alone) if caller.share == ANONYMOUS else limits

    @asynccontextmanager
    async def seat(self, caller: Caller) -> AsyncIterator[None]:
        """Take room for one conversation of this caller. Raises ResourceExhausted when there is none left."""
        if not self._open.take(limit=self._max_conversations):
            REFUSED.labels("gateway", "conversations").inc()
            limit = self._max_conversations
            raise ResourceExhausted(
                f"the gateway holds {limit} conversations, as many as it may", resource="conversations"
            )
        try:
            mine, all_limits = self._seat_of(Seats(_owner(caller)), self.limits(caller)), self._total_limits
            async with mine, self._seat_of(Seats(EVERYBODY), all_limits):
                yield
        finally:
            self._open.give_back()

    @asynccontextmanager
    async def turn_seat(self, caller: Caller) -> AsyncIterator[None]:
        """Take room for one turn that holds slots of the model services. Raises ResourceExhausted when the caller's key
        has its share of them."""
        limits = self.limits(caller)
        if not limits.turns_at_once:
            yield
            return
        async with self._seat_of(Seats(_owner(caller), are_of_turns=True), limits):
            yield

    async def begin_turn(self, caller: Caller, turn_id: str) -> list[Quota]:
        """Count a turn, and reserve the audio that it may have. `end_turn` ends the reservation.

        Returns what is then left of the limits that the caller's key has. Raises ResourceExhausted when the caller has
        no turn or no audio left; Reserved when other turns of the caller may use what is left of its audio.
        """
        amounts = {
            LimitName.TURNS_PER_MINUTE: 1,
            LimitName.INPUT_AUDIO_S_PER_DAY: 0,
            LimitName.OUTPUT_AUDIO_S_PER_DAY: 0,
        }
        return await self._use(caller, amounts, turn_id)

    async def end_turn(self, caller: Caller, turn_id: str, *, input_s: float, output_s: float) -> None:
        """Count the audio of a turn that has ended, in place of what it reserved."""
        amounts = (LimitName.INPUT_AUDIO_S_PER_DAY, input_s), (LimitName.OUTPUT_AUDIO_S_PER_DAY, output_s)
        for owner, limits in self._scopes(caller):
            if limits.are_set:
                uses = [
                    use_of(name, round(seconds * 1000), 0) for name, seconds in amounts if seconds or limits.of(name)
                ]
                if uses:
                    await self._count(owner, uses, turn_id)

    @asynccontextmanager
    async def upload(self, caller: Caller) -> AsyncIterator[None]:
        """Count a recording that becomes a voice, and make room for the work on it.

        Raises ResourceExhausted when the caller has no upload left, or the gateway has no room for another one.
        """
        if self._uploads >= _UPLOADS_AT_ONCE:
            REFUSED.labels("gateway", "uploads").inc()
            raise ResourceExhausted(f"the gateway takes {_UPLOADS_AT_ONCE} recordings at once", resource="uploads")
        self._uploads += 1
        try:
            await self._use(caller, {LimitName.UPLOADS_PER_DAY: 1})
            yield
        finally:
            self._uploads -= 1

    async def hold(self, caller: Caller, kind: LimitName, item_id: str, size: int, *, ttl_s: int = 0) -> None:
        """Count an item (a session, a voice, a client secret) of so many bytes that the store is about to keep, or its
        new size.

        `ttl_s` 0: it does not end by itself. Raises ResourceExhausted when the tenant's store is full.
        """
        item = f"{_KINDS[kind]}:{item_id}"
        held: list[tuple[Owner, str]] = []
        for owner, limits in self._holders(caller):
            name = item if owner != EVERYBODY else f"{_KINDS[kind]}:{caller.tenant}:{item_id}"
            try:
                await self._hold(owner, limits, kind, name, size, ttl_s)
            except ResourceExhausted:
                for other, other_name in held:
                    await self._let_go(other, other_name)
                raise
            held.append((owner, name))

    async def let_go(self, tenant: str, kind: LimitName, *item_ids: str) -> None:
        """Count these items of a tenant no more: they were deleted."""
        if item_ids:
            await self._let_go(Owner(tenant), *(f"{_KINDS[kind]}:{item_id}" for item_id in item_ids))
            if _holds(self._total_limits):
                await self._let_go(EVERYBODY, *(f"{_KINDS[kind]}:{tenant}:{item_id}" for item_id in item_ids))

    async def quotas(self, caller: Caller) -> list[Quota]:
        """What is left of the limits on turns and audio that the caller's key has."""
        limits = self.limits(caller)
        return await self._windows(_owner(caller), limits, [name for name in WINDOWS if limits.of(name)])

    async def key_usage(self, tenant: str, key_id: str) -> list[Quota]:
        """What a key uses, with and without a limit. `key_id` is a caller's `share`."""
        owner, limits = _owner(Caller(tenant, key_id)), self.limits(Caller(tenant, key_id))
        conversations = Quota(LimitName.CONVERSATIONS, limits.conversations, await self._count_seats(Seats(owner)))
        turns = await self._count_seats(Seats(owner, are_of_turns=True))
        return [
            conversations,
            Quota(LimitName.TURNS_AT_ONCE, limits.turns_at_once, turns),
            *await self._windows(owner, limits, list(WINDOWS)),
        ]

    async def held_usage(self, caller: Caller) -> list[Quota]:
        """What the caller's tenant keeps in the store. Raises Unavailable while the store is away."""
        if self._store is None:
            raise Unavailable("the store is away")
        kinds = {**_KINDS, LimitName.STORE_BYTES: "bytes"}
        counts, limits = await self._store.count_held(Owner(caller.tenant), *kinds.values()), self.limits(caller)
        return [Quota(name, limits.of(name), count) for name, count in zip(kinds, counts, strict=True)]

    async def key_ids(self, tenant: str) -> list[str]:
        """The ids of the tenant's keys that used anything within two days. Raises Unavailable."""
        if self._store is None:
            raise Unavailable("the store is away")
        return await self._store.key_ids(tenant)

    async def run(self) -> None:
        """Renew the leases of all seats until cancelled, and find out when the store is back."""
        store = self._store
        if store is None:
            return
        while True:
            await asyncio.sleep(1.0 if self._is_away else _RENEW_EVERY_S)
            try:
                await self._renew(store)
            except (Unavailable, ResourceExhausted) as error:
                self._went_away(error)
            else:
                if self._is_away:
                    log.info("the store counts the use of all gateways again")
                self._is_away = False

    async def _renew(self, store: UsageStore) -> None:
        all_taken = {seats: tuple(taken) for seats, taken in self._seats.items()}
        for seats, taken in all_taken.items():
            await store.renew_seats(seats, taken, lease_ms=LEASE_MS)
            for seat in set(taken) - self._seats.get(seats, set()):  # it was left meanwhile
                await store.leave_seat(seats, seat)
        if not all_taken and self._is_away:
            await store.count_seats(Seats(EVERYBODY))

    async def _count_seats(self, seats: Seats) -> int:
        return await self._or_local(lambda store: store.count_seats(seats), lambda: len(self._seats.get(seats, ())))

    def _most_conversations(self) -> int:
        """The conversations of the key that has most of them open here."""
        taken = self._seats.items()
        return max((len(own) for seats, own in taken if not seats.are_of_turns and seats.owner != EVERYBODY), default=0)

    @asynccontextmanager
    async def _seat_of(self, seats: Seats, limits: Limits) -> AsyncIterator[None]:
        kind = LimitName.TURNS_AT_ONCE if seats.are_of_turns else LimitName.CONVERSATIONS
        limit = limits.of(kind)
        if seats.owner == EVERYBODY and not limit:
            yield
            return
        self._seat_count += 1
        seat = f"{self._name}:{self._seat_count}"
        here = self._seats.get(seats, set())
        try:  # a cancelled attempt may have taken the seat in the store
            is_taken = await self._or_local(
                lambda store: store.take_seat(seats, seat, lease_ms=LEASE_MS, limit=limit),
                lambda: not limit or len(here) < limit,
            )
            if not is_taken:
                raise refusal(seats.owner, kind, limit, _SEAT_WAIT_S)
            self._seats.setdefault(seats, set()).add(seat)
            yield
        finally:
            self._seats.get(seats, set()).discard(seat)
            if not self._seats.get(seats, True):
                del self._seats[seats]
            await self._or_local(lambda store: store.leave_seat(seats, seat), lambda: None)

    async def _use(self, caller: Caller, amounts: Mapping[LimitName, int], turn: str = "") -> list[Quota]:
        """Use these amounts of the key's limits and of everybody's, or none of them. A turn reserves its audio too.
        Returns what the key has left."""
        quotas: list[Quota] = []
        used: list[tuple[Owner, list[Use]]] = []
        names = list(amounts)
        for owner, limits in self._scopes(caller):
            if not limits.are_set:
                continue
            uses = [
                use_of(name, amounts[name], limits.of(name), self._reserved_s.get(name, 0.0) if turn else 0.0)
                for name in names
            ]
            answer = await self._count(owner, uses, turn)
            if answer.refused is not None:
                for other, given in used:
                    await self._count(other, [given_back(use) for use in given], turn)
                name = names[answer.refused]
                wait_s = _RESERVED_WAIT_S if answer.is_reserved else answer.left_ms[answer.refused] / 1000
                raise refusal(owner, name, limits.of(name), wait_s, is_reserved=answer.is_reserved)
            used.append((owner, uses))
            if owner != EVERYBODY:
                quotas = quotas_after(limits, amounts, answer)
        return quotas

    async def _count(self, owner: Owner, uses: Sequence[Use], turn: str = "") -> Used:
        lasts_ms = self._turn_lasts_ms
        return await self._or_local(
            lambda store: store.use(owner, uses, turn=turn, lasts_ms=lasts_ms),
            lambda: self._local.use(owner, uses, turn=turn, lasts_ms=lasts_ms),
        )

    async def _windows(self, owner: Owner, limits: Limits, names: Sequence[LimitName]) -> list[Quota]:
        if not names:
            return []
        used = await self._count(owner, [use_of(name, 0, 0) for name in names])
        return [
            Quota(name, limits.of(name), before // WINDOWS[name][1], left_ms / 1000)
            for name, before, left_ms in zip(names, used.before, used.left_ms, strict=True)
        ]

    async def _hold(self, owner: Owner, limits: Limits, kind: LimitName, item: str, size: int, ttl_s: int) -> None:
        held = await self._or_local(
            lambda store: store.hold(
                owner, item, size, ttl_ms=ttl_s * 1000, max_items=limits.of(kind), max_bytes=limits.store_bytes
            ),
            lambda: None,  # the write itself fails too while the store is away
        )
        if held is not None and held.refused:
            name = kind if held.refused == "items" else LimitName.STORE_BYTES
            wait_s = _FULL_FOR_S if held.wait_ms is None else max(1.0, held.wait_ms / 1000)
            raise refusal(owner, name, limits.of(name), wait_s)

    async def _let_go(self, owner: Owner, *items: str) -> None:
        await self._or_local(lambda store: store.let_go(owner, *items), lambda: None)

    async def _or_local(
        self, asked: Callable[[UsageStore], Awaitable[ResultT]], local: Callable[[], ResultT]
    ) -> ResultT:
        """Ask the store, or count here while it is away or full."""
        if self._store is not None and not self._is_away:
            try:
                return await asked(self._store)
            except (Unavailable, ResourceExhausted) as error:
                self._went_away(error)
        return local()

    def _went_away(self, error: Unavailable | ResourceExhausted) -> None:
        if not self._is_away:
            log.warning("the store counts no use, so this gateway counts its own: %s", error.message)
        self._is_away = True

    def _scopes(self, caller: Caller) -> list[tuple[Owner, Limits]]:
        return [(_owner(caller), self.limits(caller)), (EVERYBODY, self._total_limits)]

    def _holders(self, caller: Caller) -> list[tuple[Owner, Limits]]:
        mine = (Owner(caller.tenant), self.limits(caller))
        return [mine, (EVERYBODY, self._total_limits)] if _holds(self._total_limits) else [mine]


_KINDS = {LimitName.SESSIONS: "session", LimitName.VOICES: "voice", LimitName.CLIENT_SECRETS: "secret"}


def _owner(caller: Caller) -> Owner:
    return Owner(caller.tenant, caller.share)


def _holds(limits: Limits) -> bool:
    return bool(limits.sessions or limits.voices or limits.client_secrets or limits.store_bytes)
