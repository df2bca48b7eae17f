"""`chroma-voice bench` against the real processes, and its report in a browser."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.local_stack import LocalStack, run

LOAD = ("--duration", "6", "--rate", "0.5", "--min-turns", "2", "--max-turns", "2", "--think", "0.3", "--no-store")
"""Two or three conversations at once."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def bench(nano: LocalStack, out: Path, *options: str) -> tuple[dict[str, Any], Path]:
    """The JSON of a load, and its report."""
    run("bench", "--state", nano.folder.path, "--out", out, *LOAD, *options)
    (folder,) = out.iterdir()
    return json.loads((folder / "bench.json").read_text()), folder / "bench.html"


async def test_a_load_over_grpc_and_its_report_in_a_browser(nano: LocalStack, browser: Browser, tmp_path: Path) -> None:
    found, report = await asyncio.to_thread(bench, nano, tmp_path / "grpc")
    summary = found["summary"]
    assert summary["completed"] + summary["interrupted"] == summary["turns"] >= 2, found
    assert summary["waits"]["first_sound"]["count"] == summary["turns"]
    (readings,) = found["server"].values()
    assert readings[-1]["values"]["chroma_voice_turns_total"] > readings[0]["values"]["chroma_voice_turns_total"]

    page = await browser.new_page(viewport={"width": 390, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    await page.goto(report.as_uri())
    assert said == [report.as_uri()]
    assert await page.locator("svg[role=img]").count() >= 6
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    assert "first sound, p95" in await page.locator("table").nth(1).inner_text()
    assert len(await page.pdf()) > 10_000


def test_a_load_over_realtime_with_open_microphones(nano: LocalStack, tmp_path: Path) -> None:
    found, _ = bench(nano, tmp_path / "realtime", "--realtime", "--hands-free", "0.5", "--barge-in", "1")
    summary = found["summary"]
    assert summary["failed"] == 0, found
    assert summary["waits"]["silence_after_barge_in"]["count"] == summary["interrupted"] >= 1
    assert {turn["hands_free"] for turn in found["turns"]} <= {True, False}
