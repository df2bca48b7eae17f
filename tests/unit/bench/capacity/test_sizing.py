"""Arithmetic from a cell to an installation."""

from __future__ import annotations

import pytest

from bench.capacity.assumptions import read_assumptions
from bench.capacity.cells import Cell
from bench.capacity.sizing import foresee, install, live_of_a_tenant, store_servers, with_zone_reserve

ASSUMED = read_assumptions()
CELL = Cell("H200", "as-stored", 256, 10.0, 400, "slots of codec", 0.1, 0.2, 0.57, {})


def test_gpus_carry_the_load_also_when_a_zone_is_lost() -> None:
    needed = install(ASSUMED, CELL, 100_000)
    assert needed.gpus == 250
    assert needed.gpus_with_zone == 375
    assert needed.gpus_with_zone * 2 / 3 >= needed.gpus


@pytest.mark.parametrize(("count", "zones", "expected"), [(10, 1, 10), (10, 2, 20), (10, 3, 15), (1, 3, 3), (7, 3, 12)])
def test_a_reserve_is_even_over_the_zones(count: int, zones: int, expected: int) -> None:
    assert with_zone_reserve(count, zones) == expected


def test_cost_is_gpus_and_cores_at_the_given_prices() -> None:
    needed = install(ASSUMED, CELL, 1000)
    assert needed.gateway_cores == with_zone_reserve(5, 3)  # 1000 times 3.0 ms, a core used to 60 %
    assert needed.cost_per_hour == needed.gpus_with_zone + needed.gateway_cores
    assert needed.cost_per_talk_hour == pytest.approx(needed.cost_per_hour / 1000)
    gpus = {"H200": ASSUMED.gpus["H200"].model_copy(update={"price_per_hour": 3.0})}
    dearer = install(ASSUMED.model_copy(update={"gpus": gpus}), CELL, 1000)
    assert dearer.cost_per_hour - needed.cost_per_hour == pytest.approx(2 * needed.gpus_with_zone)


def test_a_cell_without_conversations_cannot_be_multiplied() -> None:
    empty = Cell("L4", "as-stored", 60, 10.0, 0, "time to the first sound", 1.0, 2.0, 0.57, {})
    with pytest.raises(ValueError, match="L4 holds no conversation"):
        install(ASSUMED, empty, 1000)


def test_the_store_grows_with_commands_or_with_memory() -> None:
    assert store_servers(ASSUMED, 1000) == (2, "memory")
    busy = ASSUMED.store.model_copy(update={"bytes_per_session": 1.0})
    servers, limit = store_servers(ASSUMED.model_copy(update={"store": busy}), 1_000_000)
    turns = 1_000_000 / ASSUMED.talk.turn_s
    assert limit == "commands"
    assert servers == pytest.approx(turns * busy.commands_per_turn / busy.commands_per_server, abs=1)


def test_one_tenant_is_bounded_by_one_server() -> None:
    live = live_of_a_tenant(ASSUMED)
    commands = live / ASSUMED.talk.turn_s * ASSUMED.store.commands_per_turn * ASSUMED.store.tenant_share
    assert commands == pytest.approx(ASSUMED.store.commands_per_server, rel=0.001)


def test_headroom_is_the_growth_during_the_delay() -> None:
    with_node, without = foresee(ASSUMED, CELL, with_node=True), foresee(ASSUMED, CELL, with_node=False)
    assert without.cold_start_s == pytest.approx(40 + 10 + 22)
    assert without.delay_s == pytest.approx(15 + 72)
    assert without.headroom == pytest.approx(0.05 / 60 * 87)
    assert with_node.delay_s - without.delay_s == ASSUMED.scaling.node_start_s
    assert with_node.target < without.target < 1
