#!/usr/bin/python3
"""runc for a machine whose root has no CAP_SYS_RESOURCE, such as a sandbox.

There the kernel refuses higher resource limits and a negative OOM score, which container engines ask for. This program
takes both out of the configuration and then becomes `runc`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def value_of(arguments: list[str], *names: str) -> str | None:
    """The value of the option with one of these names, given as `NAME VALUE` or `NAME=VALUE`."""
    for index, argument in enumerate(arguments):
        if argument in names:
            return arguments[index + 1]
        for name in names:
            if argument.startswith(f"{name}="):
                return argument.partition("=")[2]
    return None


def allow(process: dict[str, object]) -> None:
    """Take what needs CAP_SYS_RESOURCE out of an OCI process."""
    process.pop("rlimits", None)
    score = process.get("oomScoreAdj")
    if isinstance(score, int) and score < 0:
        del process["oomScoreAdj"]


def main(arguments: list[str]) -> None:
    """Change the configuration that the command reads, and run the command."""
    process_file = value_of(arguments, "--process", "-p")
    if "exec" in arguments and process_file is not None:
        path = Path(process_file)
        process = json.loads(path.read_text())
        allow(process)
        path.write_text(json.dumps(process))
    elif "create" in arguments or "run" in arguments:
        path = Path(value_of(arguments, "--bundle", "-b") or ".") / "config.json"
        config = json.loads(path.read_text())
        allow(config["process"])
        path.write_text(json.dumps(config))
    os.execvp("runc", ["runc", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
