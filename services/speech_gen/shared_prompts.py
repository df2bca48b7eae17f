"""Voice prompts kept in KV pages: the second stream with a voice begins with them instead of prefilling its own."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from services.runtime.kvcache.paged_kv import PagedKV, Prefix


@dataclass
class SharedPrompt:
    """A prefilled voice prompt and how many live streams begin with it."""

    prefix: Prefix
    streams: int = 0


class SharedPrompts:
    """At most `capacity` prompts by voice fingerprint. Those of no live stream leave first used, first out."""

    def __init__(self, kv: PagedKV, capacity: int) -> None:
        self._kv = kv
        self._capacity = capacity
        self._prompts: OrderedDict[str, SharedPrompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def pages(self) -> int:
        """KV pages that the prompts hold. May be read from any thread."""
        return sum(len(prompt.prefix.pages) for prompt in tuple(self._prompts.values()))

    def find(self, fingerprint: str) -> SharedPrompt | None:
        """The prompt of this voice, now the most recently used one."""
        prompt = self._prompts.get(fingerprint)
        if prompt is not None:
            self._prompts.move_to_end(fingerprint)
        return prompt

    def keep(self, fingerprint: str, slot: int, rows: int) -> SharedPrompt | None:
        """Share the first `rows` rows of `slot` from now on; None when there is no place for another prompt."""
        if len(self._prompts) >= self._capacity and not self.evict_one():
            return None
        prompt = self._prompts[fingerprint] = SharedPrompt(self._kv.share(slot, rows))
        return prompt

    def evict_one(self) -> bool:
        """Drop the least recently used prompt that no live stream begins with. False when there is none."""
        for fingerprint, prompt in self._prompts.items():
            if prompt.streams == 0:
                del self._prompts[fingerprint]
                self._kv.drop(prompt.prefix)
                return True
        return False
