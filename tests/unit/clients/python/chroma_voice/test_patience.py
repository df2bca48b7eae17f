from __future__ import annotations

import asyncio

import pytest

from chroma_voice.errors import InvalidArgument
from chroma_voice.patience import Patience, SilenceAlarm
from gateway.settings import GatewaySettings


async def test_the_alarm_rings_when_an_owed_message_does_not_come() -> None:
    rung = asyncio.Event()
    alarm = SilenceAlarm(0.01, rung.set)
    alarm.set_owed(True)
    with alarm.reading():
        await asyncio.wait_for(rung.wait(), 30)
    assert alarm.rang


async def test_a_message_that_becomes_owed_while_a_read_waits_is_missed_too() -> None:
    rung = asyncio.Event()
    alarm = SilenceAlarm(0.01, rung.set)
    with alarm.reading():
        alarm.set_owed(True)
        await asyncio.wait_for(rung.wait(), 30)


async def test_the_alarm_is_quiet_when_nothing_is_owed_or_nobody_reads() -> None:
    rung = asyncio.Event()
    alarm = SilenceAlarm(0.01, rung.set)
    with alarm.reading():
        await asyncio.sleep(0.05)
        alarm.set_owed(True)
        alarm.set_owed(False)
        await asyncio.sleep(0.05)
    alarm.set_owed(True)
    await asyncio.sleep(0.05)
    assert not alarm.rang
    assert not rung.is_set()


def test_the_gateway_takes_pings_as_often_as_the_client_sends_them() -> None:
    sent = dict(Patience().channel_options())
    least_s = GatewaySettings.model_fields["grpc_ping_s"].default
    assert Patience(ping_every_s=least_s).ping_every_s == least_s
    assert sent["grpc.keepalive_time_ms"] >= 1000 * least_s
    assert sent["grpc.keepalive_time_ms"] + sent["grpc.keepalive_timeout_ms"] < 20_000


@pytest.mark.parametrize("seconds", [4.9, 0.0, -1.0, float("nan")])
def test_more_frequent_pings_than_the_gateway_takes_are_refused(seconds: float) -> None:
    with pytest.raises(InvalidArgument, match="ping_every_s of at least 5 s"):
        Patience(ping_every_s=seconds)
