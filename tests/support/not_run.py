"""Why a `bash` block of a document does not run as it stands. Every other one runs in the test that takes it.

The key of a block is its page and its first line. The commands of all blocks are also checked by name, option and file
(tests/support/documented_commands.py).
"""

from __future__ import annotations

DRY_RUN = {
    (
        "CONTRIBUTING.md",
        "make setup         # .venv with everything; TORCH_INDEX=https://download.pytorch.org/whl/cpu "
        "for a small torch",
    ): "it is continuous integration itself, in which this test runs: over an hour",
    ("docs/nano.md", "make -j2 train-nano                 # everything, two stages at a time, one core each"): (
        "hours of training, and a GPU"
    ),
    (
        "docs/nano.md",
        "make -j2 train-nano STAGE=synthesis ARGS=--only-evaluation    # the recordings that it needs, if "
        "build/nano has none",
    ): "an hour of speech synthesis and of evaluation",
    (
        "docs/operations.md",
        "make wheels                              # into deploy/wheels, with this machine's pip; optional",
    ): "gigabytes of packages, and a registry of base images; `make test-containers` builds the images",
}
"""Blocks of make, of which `make --dry-run` runs every line, and why not make itself."""

NOT_RUN = {
    (
        "README.md",
        "MODEL=FlashLabs/Chroma-4B make demo                      # about 10 GB from the hub, bfloat16 on the "
        "CPU: slow",
    ): "the published weights (10 GB of a hub with a licence to accept), and a GPU",
    ("docs/bench.md", "chroma-voice bench --find-capacity --rate 1 --duration 300"): (
        "five minutes for each of a dozen rates; tests/unit/clients/python/chroma_voice/bench searches a capacity"
    ),
    (
        "docs/nano.md",
        "python -m train.pack.unpack --root build/nano        # the checkpoint, as what its stages left",
    ): ("hours of training, with the corpus of an earlier stage"),
    ("docs/nano.md", "python -m train.pack.unpack --root build/nano"): (
        "hours of training, with the corpus of an earlier stage"
    ),
    (
        "docs/operations.md",
        'commit=$(python -c "from huggingface_hub import model_info; print(model_info('
        '\'FlashLabs/Chroma-4B\').sha)"); echo "WEIGHTS_REVISION=$commit"',
    ): "the published weights: 14 GB from a hub",
    (
        "docs/operations.md",
        "printf 'FROM scratch\\nCOPY . /chroma\\n' >Containerfile       # CHROMA_MODEL=/models/chroma",
    ): ("an image of the published weights, and a registry that takes it"),
}
"""Blocks that need what no test has."""
