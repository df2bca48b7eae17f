"""The page of examples/browser, which lies on another origin than the gateway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from chroma_voice.keys_file import KeysFile
from chroma_voice.local.ports import free_ports
from tests.support.local_stack import PATIENCE_S, LocalStack, environment
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[LocalStack]:
    """chroma-nano with API keys, which a page of one other origin may call."""
    (port,) = free_ports(1)
    file = tmp_path / "keys.json"
    key = KeysFile(file).add("page", "default", ["talk", "voices"], None)
    settings = {"CHROMA_API_KEYS_FILE": str(file), "CHROMA_API_KEY": key}
    stack = LocalStack(tmp_path / "state", "", CHROMA_HTTP_ORIGINS=f"http://localhost:{port}", **settings)
    stack.start()
    yield stack
    stack.stop()


async def test_a_page_of_another_origin_asks_and_gets_a_spoken_reply(browser: Browser, keyed: LocalStack) -> None:
    origin = keyed.settings["CHROMA_HTTP_ORIGINS"]
    gateway, port = keyed.endpoints.page.rstrip("/"), origin.rpartition(":")[2]
    program = ROOT / "examples" / "browser" / "serve.py"
    command = [sys.executable, str(program), gateway, "--port", port]
    variables = {**environment(), "CHROMA_API_KEY": keyed.settings["CHROMA_API_KEY"]}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as server:  # noqa: ASYNC220
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == f"open {origin}\n"
            page = await browser.new_page()
            page.set_default_timeout(PATIENCE_S * 1000)
            await page.goto(origin)
            await page.get_by_role("button", name="Ask").click()
            await expect(page.locator("p")).to_have_attribute("data-status", "completed")
            await expect(page.locator("p")).to_contain_text("warm a tortilla")
        finally:
            server.kill()
