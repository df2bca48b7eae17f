"""`python -m chroma_voice.cli` is `chroma-voice`."""

from chroma_voice.cli import main

main()
