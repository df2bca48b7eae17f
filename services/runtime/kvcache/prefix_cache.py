"""Keys and values that are computed once and used again: a tree of KV pages.

Each position has a cache key, an integer: the id of its token, or a digest of the recording with the position in it.
Two positions have equal keys and values when their cache keys and all cache keys before them are equal.

A node of the tree is one page. The path from the root to a node spells the cache keys of a stream's first positions. A
new stream takes over the longest cached prefix, whichever stream computed it: one of another session with the same
system prompt, an earlier turn of the conversation, or a turn that was cancelled. It computes the other positions.

A stream that needs a page comes before the cache: `evict` gives back pages that no stream uses. The least recently
used page goes first, and a leaf goes before its parent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import ResourceExhausted
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV, Prefix


@dataclass(eq=False)
class _Node:
    """One page and the cache keys of its positions. Only a leaf may have fewer positions than a page takes."""

    keys: tuple[int, ...]
    page: int
    parent: _Node | None
    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)


@dataclass
class PrefixCounters:
    """Counts since the start. A lookup that finds at least one position is a hit."""

    hits: int = 0
    misses: int = 0
    evicted_pages: int = 0


class PrefixCache:
    """The cached prefixes of one KV cache. Used by the thread that uses the KV cache."""

    def __init__(self, kv: PagedKV) -> None:
        self.counters = PrefixCounters()
        self._kv = kv
        self._root = _Node((), 0, None)
        self._used: OrderedDict[_Node, None] = OrderedDict()
        """Every node, least recently used first; a node comes before its parent."""

    @property
    def pages(self) -> int:
        """Pages that the cache refers to, those that streams use included."""
        return len(self._used)

    def match_prefix(self, slot: int, keys: Sequence[int]) -> int:
        """Start the empty `slot` with the longest cached prefix of `keys`. Returns its positions, 0 when none is."""
        prefix = self._find(keys)
        if prefix.positions % self._kv.page_size and not self._kv.free_pages and not self.evict(1, spared=prefix):
            full = prefix.positions // self._kv.page_size  # no page is free for a copy of the last one
            prefix = Prefix(prefix.pages[:full], full * self._kv.page_size)
        if prefix.positions:
            self._kv.start_with(slot, prefix)
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        return prefix.positions

    def insert(self, slot: int, keys: Sequence[int], *, ends_here: bool) -> None:
        """Cache the first positions of `slot`, whose cache keys are `keys`. They must be final.

        Args:
            ends_here: the stream has ended, so its last page is cached although it is not full.
        """
        size = self._kv.page_size
        count = len(keys) if ends_here else len(keys) // size * size
        if not count:
            return
        node = self._root
        path: list[_Node] = []
        for start, page in zip(range(0, count, size), self._kv.share(slot, count).pages, strict=True):
            chunk = tuple(keys[start : min(start + size, count)])
            child = self._child_for(node, chunk)
            if child is None:
                child = node.children[chunk] = _Node(chunk, page, node)
            else:
                self._kv.drop(Prefix((page,), len(chunk)))  # cached already
            path.append(child)
            node = child
        self._touch(path)

    def plan(self, slots: Sequence[int], counts: Sequence[int]) -> RaggedAttention:
        """Call `PagedKV.plan`. Where pages are missing, evict as many first. Raises as `PagedKV.plan`."""
        while True:
            try:
                return self._kv.plan(slots, counts)
            except ResourceExhausted:
                if not self.evict(self._missing_pages(slots, counts)):
                    raise

    def evict(self, pages: int, spared: Prefix | None = None) -> int:
        """Give back up to `pages` pages that no stream uses. Keep those of `spared`. Returns the number given back."""
        if pages <= 0:
            return 0
        freed = 0
        kept = spared.pages if spared else ()
        for _ in range(len(self._used)):
            if freed == pages:
                break
            node = next(iter(self._used))
            if node.children or node.page in kept or self._kv.is_shared(node.page):
                self._used.move_to_end(node)  # a page in use counts as just used
                continue
            self._remove(node)
            freed += 1
        self.counters.evicted_pages += freed
        return freed

    def _missing_pages(self, slots: Sequence[int], counts: Sequence[int]) -> int:
        """Pages that a step needs beyond the free ones, when `slots[i]` appends `counts[i]` positions."""
        lengths = [int(self._kv.lengths[slot]) for slot in slots]
        pages_for = self._kv.pages_for
        needed = (pages_for(length + more) - pages_for(length) for length, more in zip(lengths, counts, strict=True))
        return sum(needed) - self._kv.free_pages

    def _find(self, keys: Sequence[int]) -> Prefix:
        """The longest cached prefix of `keys`: whole pages, then the part of one page that agrees."""
        size = self._kv.page_size
        node = self._root
        path: list[_Node] = []
        while child := node.children.get(tuple(keys[len(path) * size : (len(path) + 1) * size])):
            path.append(child)
            node = child
        found = sum(len(node.keys) for node in path)
        rest = keys[found : found + size]
        shared, last = 0, node
        for child in node.children.values():
            length = _common_length(child.keys, rest)
            if length > shared:
                shared, last = length, child
        if shared:
            path.append(last)
        self._touch(path)
        return Prefix(tuple(node.page for node in path), found + shared)

    def _child_for(self, node: _Node, chunk: tuple[int, ...]) -> _Node | None:
        """The child whose keys begin with `chunk`. A child with a shorter part of `chunk` is removed."""
        child = node.children.get(chunk)
        if child is None:
            for other in list(node.children.values()):
                shared = _common_length(other.keys, chunk)
                if shared == len(chunk):
                    return other
                if shared == len(other.keys):
                    self._remove(other)
        return child

    def _touch(self, path: list[_Node]) -> None:
        """Mark the nodes of a path as just used."""
        for node in reversed(path):
            self._used[node] = None
            self._used.move_to_end(node)

    def _remove(self, node: _Node) -> None:
        assert node.parent is not None, "the root is never removed"
        del node.parent.children[node.keys]
        del self._used[node]
        self._kv.drop(Prefix((node.page,), len(node.keys)))


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Leading items that two sequences share."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
