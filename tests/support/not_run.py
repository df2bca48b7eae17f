"""Why a `bash` block of a document does not run as it stands. Every other one runs in the test that takes it.

A block is named by its page and the words with which it begins. The commands of all blocks are also checked by name,
option and file (tests/support/documented_commands.py).
"""

from __future__ import annotations

DRY_RUN = {
    ("CONTRIBUTING.md", "make setup"): "it is continuous integration, in which this test runs: over an hour",
    ("README.md", "MODEL=FlashLabs/Chroma-4B make demo"): "the published weights: 10 GB from the hub",
    ("docs/nano.md", "make -j2 train-nano  "): "hours of training, and a GPU",
    ("docs/nano.md", "make -j2 train-nano STAGE=synthesis"): "an hour of speech synthesis and of evaluation",
    ("docs/operations.md", "make wheels"): (
        "gigabytes of packages, and a registry of base images; tests/containers builds the images with both engines"
    ),
}
"""Blocks of make, whose lines run as `make --dry-run`, and why not as make itself."""

NOT_RUN = {
    ("README.md", "chroma-voice up --model /path/to/checkpoint --device cuda"): "a GPU, and the published weights",
    ("docs/bench.md", "chroma-voice bench --find-capacity"): (
        "five minutes for each of a dozen rates; tests/unit/clients/python/chroma_voice/bench searches a capacity"
    ),
    ("docs/eval.md", "pip install 'chroma-voice[eval]'"): (
        "the recogniser and the encoder, which the tests do without; tests/e2e/test_eval.py evaluates the same pairs"
    ),
    ("docs/eval.md", 'echo "Common Voice'): "a GPU, the published weights and a data set",
    ("docs/nano.md", "python -m train.pack.unpack --root build/nano  "): "hours of training after an earlier stage",
    ("docs/nano.md", "python -m train.pack.unpack --root build/nano\n"): "hours of training after an earlier stage",
}
"""Blocks that need what no test has."""
