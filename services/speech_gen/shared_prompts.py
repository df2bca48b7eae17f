"""Voice prompts kept in KV pages, so that later streams with the same voice need not compute them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from services.runtime.kvcache.paged_kv import PagedKV, Prefix


@dataclass(eq=False)
class SharedPrompt:
    """A computed voice prompt and the number of live streams that begin with it."""

    prefix: Prefix
    streams: int = 0


class SharedPrompts:
    """At most `capacity` prompts by voice fingerprint. The least recently used one that no stream uses leaves first."""

    def __init__(self, kv: PagedKV, capacity: int) -> None:
        self._kv = kv
        self._capacity = capacity
        self._prompts: OrderedDict[str, SharedPrompt] = OrderedDict()
        self._leaving: list[SharedPrompt] = []
        """Forgotten prompts that live streams began with. They hold their pages until the last of these leaves."""

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def pages(self) -> int:
        """KV pages that the prompts hold. May be read from any thread."""
        return sum(len(prompt.prefix.pages) for prompt in (*tuple(self._prompts.values()), *tuple(self._leaving)))

    def find(self, fingerprint: str) -> SharedPrompt | None:
        """The prompt of this voice, which becomes the most recently used one; None when it is not kept."""
        prompt = self._prompts.get(fingerprint)
        if prompt is not None:
            self._prompts.move_to_end(fingerprint)
        return prompt

    def keep(self, fingerprint: str, slot: int, positions: int) -> SharedPrompt | None:
        """Share the first `positions` positions of `slot`; None when there is no room for another prompt."""
        if len(self._prompts) >= self._capacity and not self.evict_one():
            return None
        prompt = self._prompts[fingerprint] = SharedPrompt(self._kv.share(slot, positions))
        return prompt

    def forget(self, fingerprint: str) -> None:
        """Drop this voice's prompt, at once or when the last stream that began with it leaves."""
        prompt = self._prompts.pop(fingerprint, None)
        if prompt is None:
            return
        if prompt.streams:
            self._leaving.append(prompt)
        else:
            self._kv.drop(prompt.prefix)

    def leave(self, prompt: SharedPrompt) -> None:
        """Note that a stream that began with the prompt has left."""
        prompt.streams -= 1
        if prompt.streams == 0 and prompt in self._leaving:
            self._leaving.remove(prompt)
            self._kv.drop(prompt.prefix)

    def evict_one(self) -> bool:
        """Drop the least recently used prompt without live streams. Returns whether there was one."""
        for fingerprint, prompt in self._prompts.items():
            if prompt.streams == 0:
                del self._prompts[fingerprint]
                self._kv.drop(prompt.prefix)
                return True
        return False
