"""How much a recording sounds like a speaker: speaker embeddings and their comparison."""
