"""One run of the fuzzer: `python -m tests.fuzz.fuzzer TARGET` and libFuzzer's own arguments."""

from __future__ import annotations

import sys

import atheris

_INSTRUMENTED = ["gateway", "services.common", "starlette.formparsers", "python_multipart"]

with atheris.instrument_imports(include=_INSTRUMENTED):  # pyright: ignore[reportAttributeAccessIssue]
    from tests.fuzz.targets import TARGETS, raise_logged_bugs


def main() -> None:
    """Fuzz until libFuzzer's limit. Ends the process with a status that says whether something was found."""
    name = sys.argv.pop(1)
    raise_logged_bugs()
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
