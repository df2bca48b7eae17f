"""The replicas of the services: which of them a call goes to, what is lost with one, and what becomes of a zone.

A replica here is a set of the three engines, on one device or on devices of their own. Calls go where
gateway/pipeline/upstreams.py sends them: rendezvous hashing of a key, and to the next replica when one is full.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import simpy

from bench.capacity.simulation.codec import Codec
from bench.capacity.simulation.devices import Cores, Device, Gpu
from bench.capacity.simulation.engines import Engine
from bench.capacity.simulation.reasoner import Reasoner
from bench.capacity.simulation.speech import SpeechGenerator
from bench.capacity.simulation.step_times import StepTimes

SERVICES = ("reasoner", "speech_gen", "codec")
FULL_S = 1.0
"""How long a replica that refused a call comes last in the order: the least that a service tells."""


@dataclass(eq=False)
class Replica:
    """The three engines of one place. `zone` is lost as a whole."""

    number: int
    zone: int
    reasoner: Reasoner
    speech_gen: SpeechGenerator
    codec: Codec
    devices: tuple[Device, ...]
    serves: bool = True
    voices: set[str] = field(default_factory=set)
    """Voices whose prompt the speech generator has computed."""
    full_until_s: dict[str, float] = field(default_factory=dict)

    def engine(self, service: str) -> Engine[Any]:
        """The engine of a service."""
        return getattr(self, service)

    def slots_used(self) -> dict[str, float]:
        """Share of the slots in use, by service."""
        return {name: 1 - self.engine(name).free_slots / self.engine(name).slots for name in SERVICES}


class Fleet:
    """All replicas.

    Args:
        times: of the steps on one device.
        cores: None: each replica has a GPU. Else all engines share so many cores of one machine.
        other_load: cores that gateway and callers use; for `cores` only.
    """

    def __init__(
        self,
        env: simpy.Environment,
        times: StepTimes,
        *,
        seed: int = 0,
        cores: float | None = None,
        other_load: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.env = env
        self.replicas: list[Replica] = []
        self._times = times
        self._seed = seed
        self._cores = Cores(env, cores, other_load) if cores is not None else None
        self._orders: dict[str, list[Replica]] = {}

    def slowdown(self) -> float:
        """How many times longer a message takes now than on an idle machine. 1 where engines have their own devices."""
        return self._cores.slowdown() if self._cores is not None else 1.0

    @property
    def serving(self) -> list[Replica]:
        """The replicas that serve now."""
        return [replica for replica in self.replicas if replica.serves]

    def add(self, zone: int = 0) -> Replica:
        """Add a replica that serves at once."""
        number = len(self.replicas)
        device: Device = self._cores or Gpu(self.env)
        dice = random.Random(f"{self._seed} replica {number}")
        times = self._times

        def made(kind: type[Any], slots: int) -> Any:
            return kind(self.env, device, times, slots, dice)

        replica = Replica(
            number,
            zone,
            made(Reasoner, times.reasoner_slots or times.slots),
            made(SpeechGenerator, times.slots),
            made(Codec, times.slots),
            (device,),
        )
        self.replicas.append(replica)
        self._orders.clear()
        return replica

    def lose(self, replica: Replica) -> None:
        """A replica goes away at once, with all that runs there."""
        replica.serves = False
        replica.voices.clear()
        self._orders.clear()
        for service in SERVICES:
            replica.engine(service).kill()

    def drain(self, replica: Replica) -> None:
        """A replica gets no further calls; what runs there goes on."""
        replica.serves = False
        self._orders.clear()

    def lose_zone(self, zone: int) -> None:
        """All replicas of a zone go away at once."""
        for replica in self.serving:
            if replica.zone == zone:
                self.lose(replica)

    def candidates(self, service: str, key: str) -> Iterator[Replica]:
        """The replicas to try, in order. Those that were full a moment ago come last."""
        now_s = self.env.now
        order = self._ranked(key)
        yield from sorted(order, key=lambda replica: replica.full_until_s.get(service, 0.0) > now_s)

    def note_full(self, service: str, replica: Replica) -> None:
        """Note that the replica has refused a call."""
        replica.full_until_s[service] = self.env.now + FULL_S

    def _ranked(self, key: str) -> list[Replica]:
        """The serving replicas by rendezvous hashing of the key."""
        serving = self._orders.get("")
        if serving is None:
            serving = self._orders[""] = self.serving
        if len(serving) == 1:
            return serving
        if key not in self._orders:
            if len(self._orders) > 50_000:
                self._orders = {"": serving}
            self._orders[key] = sorted(serving, key=lambda it: zlib.crc32(f"{key} {it.number}".encode()))
        return self._orders[key]


def lose_zone_at(fleet: Fleet, zone: int, at_s: float) -> Generator[simpy.Event, Any, None]:
    """A process that loses a zone at a time."""
    yield fleet.env.timeout(at_s)
    fleet.lose_zone(zone)
