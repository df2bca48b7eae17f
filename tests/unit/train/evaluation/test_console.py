"""The tables tell where they come from, and bars advance."""

import re

from train.evaluation.console import bars, progress_of, source


def test_the_source_names_command_machine_date_and_commit() -> None:
    assert re.fullmatch(
        r"Measured by `make eval-nano` on .+, \d{4}-\d\d-\d\d, (commit [0-9a-f]{7,}|no commit)\.", source()
    )


def test_each_title_has_a_bar_that_advances() -> None:
    live = bars()
    advance = progress_of(live)("speaking", 3)
    advance()
    advance()
    [task] = live.tasks
    assert (task.description, task.completed, task.total) == ("speaking", 2, 3)
