"""The output of the launcher: a spinner for each process that starts, and a line for each change."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from chroma_voice.local.processes.supervisor import Change


class Screen:
    """Reports changes of the processes `names`. Spinners appear on a terminal only; lines appear everywhere."""

    def __init__(self, names: list[str]) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._width = max(len(name) for name in names)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._spinners = {
            name: self._progress.add_task(f"{name:<{self._width}} starting", total=None) for name in names
        }

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line, markup=False)

    def show(self, change: Change) -> None:
        """Print a change of a process."""
        name = f"{change.name:<{self._width}}"
        match change.state:
            case "starting":
                pass
            case "ready":
                self._drop_spinner(change.name)
                self.say(f"{name} ready after {change.seconds:.1f} s")
            case "died":
                self.say(f"{name} {change.reason}; starting it again in {change.seconds:.2f} s. The end of its log:")
                for line in change.log_lines:
                    self.say(f"  {line}")

    def all_ready(self, line: str) -> None:
        """Stop the spinners and print that everything is ready."""
        self._progress.stop()
        self.say(line)

    def _drop_spinner(self, name: str) -> None:
        spinner = self._spinners.pop(name, None)
        if spinner is not None:
            self._progress.remove_task(spinner)
