"""How every process starts: settings, logs, one event loop, and a clear last line when it cannot serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from services.common.errors import ChromaError
from services.common.settings import SettingsT, read_settings
from services.common.telemetry.logs import configure_logs
from services.common.telemetry.otlp import start_export


def run_process(settings_type: type[SettingsT], serve: Callable[[SettingsT], Awaitable[None]]) -> None:
    """Read the settings and run `serve` until it returns. Exits 2 on a bad setting and 1 on an error of ours."""
    settings = read_settings(settings_type)
    configure_logs(settings.log_level, settings.log_format, settings.service)

    async def main() -> None:
        await serve(settings)

    with ExitStack() as at_end:
        try:
            if settings.otlp_endpoint:
                at_end.callback(start_export(settings.otlp_endpoint, settings.service))
            asyncio.run(main())
        except ChromaError as error:
            logging.getLogger(__name__).error("cannot serve: %s", error.message)
            raise SystemExit(1) from None
