"""Commands that talk: questions, replies, and how the terminal shows them."""
