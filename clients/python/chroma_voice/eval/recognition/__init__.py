"""How well a recogniser understands the replies: Whisper, texts as words, word error rates."""
