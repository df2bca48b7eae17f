"""The HTTP face: voices, speech and chat as OpenAI's clients speak, and the page."""
