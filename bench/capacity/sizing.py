"""From cells to an installation: GPUs, gateways, servers of the store, cost, and what autoscaling must foresee."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.capacity.assumptions import Assumptions
from bench.capacity.cells import Cell

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Installation:
    """What so many live conversations need. Costs are in the unit of the prices that were given."""

    live: int
    cell: Cell
    gpus: int
    """For the load alone."""
    gpus_with_zone: int
    """So that the load still fits when one zone is lost."""
    gateway_cores: int
    store_servers: int
    store_limit: str
    """What decides their number: commands or memory."""
    cost_per_hour: float
    cost_per_talk_hour: float
    """Of an hour of one conversation, with the reserve for a zone."""


def install(assumptions: Assumptions, cell: Cell, live: int) -> Installation:
    """Size an installation. Raises `ValueError` for a cell that holds no conversation."""
    if cell.live < 1:
        raise ValueError(f"{cell.gpu} holds no conversation within the objective")
    gpus = math.ceil(live / cell.live)
    reserved = with_zone_reserve(gpus, assumptions.zones.count)
    gateway = assumptions.gateway
    cores = math.ceil(live * gateway.cpu_ms / 1e3 / gateway.core_used)
    cores = with_zone_reserve(cores, assumptions.zones.count)
    servers, limit = store_servers(assumptions, live)
    cost = reserved * assumptions.gpus[cell.gpu].price_per_hour + cores * gateway.price_per_core_hour
    return Installation(live, cell, gpus, reserved, cores, servers, limit, cost, cost / live)


def with_zone_reserve(count: int, zones: int) -> int:
    """So many that `count` are left when one of the zones is lost. A single zone has no reserve."""
    return count if zones < 2 else zones * math.ceil(count / (zones - 1))


def store_servers(assumptions: Assumptions, live: int) -> tuple[int, str]:
    """Primaries of the store's cluster, and what decides: commands or memory."""
    store = assumptions.store
    commands = live / assumptions.talk.turn_s * store.commands_per_turn / store.commands_per_server
    size = live * store.sessions_per_live * store.bytes_per_session / 1e9 / store.memory_gb_per_server
    return max(1, math.ceil(max(commands, size))), "commands" if commands > size else "memory"


def live_of_a_tenant(assumptions: Assumptions) -> int:
    """Live conversations that one tenant may have: the keys that all its turns change lie on one server."""
    store = assumptions.store
    turns_per_s = store.commands_per_server / max(store.commands_per_turn * store.tenant_share, 1e-9)
    return int(turns_per_s * assumptions.talk.turn_s)


@dataclass(frozen=True)
class Foresight:
    """What an autoscaler must foresee. Shares are of the peak."""

    cold_start_s: float
    """From the decision to the first turn, when a node is there."""
    cold_start_with_node_s: float
    delay_s: float
    """From the growth to the first turn on a new replica: a poll, and the cold start."""
    headroom: float
    """Share of the peak that must be free beforehand, so that growth meets no refusal."""
    target: float
    """The highest share of slots in use at which the autoscaler may begin to add replicas."""


def foresee(assumptions: Assumptions, cell: Cell, *, with_node: bool) -> Foresight:
    """How early replicas must be added, for the steepest growth of the assumptions."""
    scaling = assumptions.scaling
    cold_start_s = scaling.pod_start_s + cell.weights_gb / scaling.weights_gb_s + scaling.warm_up_s
    with_node_s = cold_start_s + scaling.node_start_s
    delay_s = scaling.poll_s + (with_node_s if with_node else cold_start_s)
    headroom = scaling.growth_share_per_min / 60 * delay_s
    return Foresight(cold_start_s, with_node_s, delay_s, headroom, max(0.0, 1 - headroom))
