"""`make fuzz`: coverage-guided fuzzing of the public parsers with atheris, each target for its share of the time.

New inputs go to `out/fuzz/TARGET`, findings to `out/fuzz/TARGET-crash-*`. Worth keeping: add the bytes to the seeds in
`tests/fuzz/corpus/TARGET`, which tests/fuzz/test_corpus.py runs in the suite.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.hostile import CHAT_REQUESTS, RAW_VALUES, REALTIME_EVENTS, SPEECH_REQUESTS

_FOLDER = Path(__file__).parent
_OUT = Path("out") / "fuzz"
_MAX_BYTES = 16_384
_SLOW_S, _MAX_MB = 10, 2_048
"""An input that takes longer, or more memory, is a finding."""


def main() -> int:
    """Fuzz the targets one after the other. Returns the number of targets with findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=5.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer; 0: another one in each run")
    parser.add_argument("targets", nargs="*", help="names of targets; none: all")
    wanted = parser.parse_args()
    names = wanted.targets or sorted(folder.name for folder in (_FOLDER / "corpus").iterdir())
    dictionary = _OUT / "words.dict"
    found: list[str] = []
    for name in names:
        seconds = max(1, int(wanted.minutes * 60 / len(names)))
        print(f"--- {name}: {seconds} s", flush=True)
        inputs = _OUT / name
        inputs.mkdir(parents=True, exist_ok=True)
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in sorted(_words())))
        options = {
            "max_total_time": seconds,
            "max_len": _MAX_BYTES,
            "timeout": _SLOW_S,
            "rss_limit_mb": _MAX_MB,
            "artifact_prefix": _OUT / f"{name}-",
            "seed": wanted.seed,
            "dict": dictionary,
            "reduce_inputs": 0,
            "print_final_stats": 1,
        }
        arguments = [f"-{option}={value}" for option, value in options.items()]
        command = [sys.executable, "-m", "tests.fuzz.fuzzer", name, *arguments]
        if subprocess.run([*command, inputs, _FOLDER / "corpus" / name], check=False).returncode:
            found.append(name)
    print(f"findings in: {', '.join(found)} (see {_OUT})" if found else f"no findings in {len(names)} targets")
    return len(found)


def _words() -> set[str]:
    """The names and short values of valid requests, which the fuzzer puts into its inputs."""
    requests = (*REALTIME_EVENTS, *CHAT_REQUESTS, *SPEECH_REQUESTS)
    words = {word for request in requests for word in re.findall(r'"[^"]+"', json.dumps(request))}
    return {word for word in (*words, *RAW_VALUES) if 0 < len(word) < 60}


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


if __name__ == "__main__":
    sys.exit(main())
