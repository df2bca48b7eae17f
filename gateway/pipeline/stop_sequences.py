"""Stop sequences of a client: texts before which a reply ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chroma.v1.reasoner_pb2 import Thought


class StopSequences:
    """Finds the first stop sequence in the text of a reply.

    It holds thoughts back while their text may be the beginning of a stop sequence, since a sequence may stretch over
    several thoughts. Without sequences it holds nothing back.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self.is_found = False
        self.cut: Thought | None = None
        """The thought in which the sequence begins, with the text before it. None: it begins with a thought."""
        self._sequences = tuple(filter(None, sequences))
        self._held: list[Thought] = []

    def push_all(self, thoughts: Iterable[Thought]) -> list[Thought]:
        """Take the next thoughts, up to that with which a stop sequence is found. Returns those that are surely before
        any, in order."""
        if not self._sequences:
            return list(thoughts)
        released: list[Thought] = []
        for thought in thoughts:
            released += self.push(thought)
            if self.is_found:
                break
        return released

    def push(self, thought: Thought) -> list[Thought]:
        """Take the next thought. Returns the thoughts that are surely before any stop sequence, in order."""
        self._held.append(thought)
        text = "".join(held.text for held in self._held)
        starts = [start for sequence in self._sequences if (start := text.find(sequence)) >= 0]
        if starts:
            self.is_found = True
            return self._release(min(starts), may_cut=True)
        if thought.last:
            return self._release(len(text))
        return self._release(len(text) - self._unsure_chars(text))

    def _unsure_chars(self, text: str) -> int:
        """How many characters at the end of the text may begin a stop sequence."""
        most = max(map(len, self._sequences), default=1) - 1
        ends = range(min(most, len(text)), 0, -1)
        return next((size for size in ends if any(it.startswith(text[-size:]) for it in self._sequences)), 0)

    def _release(self, sure_chars: int, *, may_cut: bool = False) -> list[Thought]:
        """Return the held thoughts whose text ends within these first characters, and hold the others."""
        count = end = 0
        for held in self._held:
            if end + len(held.text) > sure_chars:
                break
            end += len(held.text)
            count += 1
        released, self._held = self._held[:count], self._held[count:]
        if may_cut and end < sure_chars:
            self.cut = Thought()
            self.cut.CopyFrom(self._held[0])
            self.cut.text = self._held[0].text[: sure_chars - end]
        return released
