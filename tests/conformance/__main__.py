"""`python -m tests.conformance DIR` compares our engines with the numbers of a golden folder.

It prints one JSON line for each case and exits with 1 when any number differs. The folder has the layout of
tests/golden/public (docs/model.md, section 10).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from tests.conformance.cases import check_codec_case, check_turn_case
from tests.conformance.models import Models
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import golden_names


def main() -> int:
    """Run all cases of the folder given on the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("golden", type=Path, help="a folder laid out like tests/golden/public")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder: Path = arguments.golden
    names = [name for name in golden_names(folder) if not name.endswith("_rows_alone")]
    if not names:
        print(f"{folder}: expected *.safetensors cases, found none", file=sys.stderr)
        return 2
    models = Models.load(golden_checkpoint(folder))
    failures = 0
    for name in names:
        check = check_codec_case if name == "mimi" else check_turn_case
        report = check(folder, name, models)
        print(json.dumps(report), flush=True)
        failures += not report["pass"]
    print(json.dumps({"cases": len(names), "failed": failures, "pass": failures == 0}))
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
