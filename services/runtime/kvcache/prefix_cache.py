"""Keys and values computed once and used again: a tree of KV pages, found by what their rows are.

A row has an identity, an integer: a token's id, or a number made of a recording's digest and the row's place in it.
Two rows have equal keys and values when they and all rows before them have equal identities. A node of the tree is one
page, and the path from the root to it spells the identities of a stream's first rows. A new stream takes the longest
cached prefix, whichever stream computed it: one of another session with the same system prompt, an earlier turn of the
conversation, or a turn that was broken off, up to the row where they differ. Rows that are not cached are computed.

The cache never keeps a page from a stream that needs one. `evict` gives up pages that no stream uses, the least
recently used first, leaves before their parents.
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
    """One page: the identities of its rows, as many as it has; only a leaf may have fewer than the page takes."""

    identities: tuple[int, ...]
    page: int
    parent: _Node | None
    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)


@dataclass
class PrefixCounters:
    """What has happened since the start. A hit found at least one row."""

    hits: int = 0
    misses: int = 0
    evicted_pages: int = 0


class PrefixCache:
    """Prefixes of streams of one KV memory. Used by its thread. Costs no page that a stream asks for."""

    def __init__(self, kv: PagedKV) -> None:
        self.counters = PrefixCounters()
        self._kv = kv
        self._root = _Node((), 0, None)
        self._used: OrderedDict[_Node, None] = OrderedDict()
        """Every node, least recently used first; a node comes before its parent."""

    @property
    def pages(self) -> int:
        """Pages that the cache refers to, whether streams use them too or not."""
        return len(self._used)

    def match_prefix(self, slot: int, identities: Sequence[int]) -> int:
        """Start the empty `slot` with the longest cached prefix. Returns its rows, 0 when none is cached."""
        prefix = self._find(identities)
        if prefix.rows % self._kv.page_size and not self._kv.free_pages and not self.evict(1, spared=prefix):
            full = prefix.rows // self._kv.page_size  # no page for the copy of the last one
            prefix = Prefix(prefix.pages[:full], full * self._kv.page_size)
        if prefix.rows:
            self._kv.begin_with(slot, prefix)
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        return prefix.rows

    def insert(self, slot: int, identities: Sequence[int], *, ends_here: bool) -> None:
        """Cache the first rows of `slot`, which have these identities. They must not change any more.

        Args:
            ends_here: the stream is over, so its last page is cached although it is not full.
        """
        size = self._kv.page_size
        count = len(identities) if ends_here else len(identities) // size * size
        if not count:
            return
        node = self._root
        path: list[_Node] = []
        for start, page in zip(range(0, count, size), self._kv.share(slot, count).pages, strict=True):
            chunk = tuple(identities[start : min(start + size, count)])
            child = self._at(node, chunk)
            if child is None:
                child = node.children[chunk] = _Node(chunk, page, node)
            else:
                self._kv.drop(Prefix((page,), len(chunk)))  # cached already
            path.append(child)
            node = child
        self._touch(path)

    def plan(self, slots: Sequence[int], counts: Sequence[int]) -> RaggedAttention:
        """As `PagedKV.plan`; when no page is free, the cache gives up as many as it takes, if it has them."""
        while True:
            try:
                return self._kv.plan(slots, counts)
            except ResourceExhausted:
                if not self.evict(self._lacking(slots, counts)):
                    raise

    def evict(self, pages: int, spared: Prefix | None = None) -> int:
        """Give back up to `pages` pages that no stream uses and `spared` does not hold. Returns how many."""
        if pages <= 0:
            return 0
        freed = 0
        kept = spared.pages if spared else ()
        for _ in range(len(self._used)):
            if freed == pages:
                break
            node = next(iter(self._used))
            if node.children or node.page in kept or self._kv.is_shared(node.page):
                self._used.move_to_end(node)  # in use now is used now
                continue
            self._remove(node)
            freed += 1
        self.counters.evicted_pages += freed
        return freed

    def _lacking(self, slots: Sequence[int], counts: Sequence[int]) -> int:
        """Pages that these rows need beyond the free ones."""
        lengths = [int(self._kv.lengths[slot]) for slot in slots]
        pages_for = self._kv.pages_for
        needed = (pages_for(rows + more) - pages_for(rows) for rows, more in zip(lengths, counts, strict=True))
        return sum(needed) - self._kv.free_pages

    def _find(self, identities: Sequence[int]) -> Prefix:
        size = self._kv.page_size
        node = self._root
        path: list[_Node] = []
        while child := node.children.get(tuple(identities[len(path) * size : (len(path) + 1) * size])):
            path.append(child)
            node = child
        rows = sum(len(node.identities) for node in path)
        rest = identities[rows : rows + size]
        shared, last = 0, node
        for child in node.children.values():
            length = _common(child.identities, rest)
            if length > shared:
                shared, last = length, child
        if shared:
            path.append(last)
        self._touch(path)
        return Prefix(tuple(node.page for node in path), rows + shared)

    def _at(self, node: _Node, chunk: tuple[int, ...]) -> _Node | None:
        """The child that holds the rows of `chunk`. One that holds fewer of them makes way."""
        child = node.children.get(chunk)
        if child is None:
            for other in list(node.children.values()):
                shared = _common(other.identities, chunk)
                if shared == len(chunk):
                    return other
                if shared == len(other.identities):
                    self._remove(other)
        return child

    def _touch(self, path: list[_Node]) -> None:
        for node in reversed(path):
            self._used[node] = None
            self._used.move_to_end(node)

    def _remove(self, node: _Node) -> None:
        assert node.parent is not None, "the root stays"
        del node.parent.children[node.identities]
        del self._used[node]
        self._kv.drop(Prefix((node.page,), len(node.identities)))


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Leading items that two sequences share."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
