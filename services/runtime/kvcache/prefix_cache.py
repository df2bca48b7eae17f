"""Keys and values that are computed once and used again: a tree of KV pages.

Each position has a cache key, an integer: the id of its token, or a digest of the recording with the position in it.
Two positions have equal keys and values when their cache keys and all cache keys before them are equal.

A node of the tree is one page. The path from the root to a node spells the cache keys of a stream's first positions. A
new stream takes over the longest cached prefix of its scope: an earlier turn of the conversation, a turn that was
cancelled, or one of another session of the scope. It computes the other positions.

Scopes. A stream belongs to a scope, such as a tenant, and sees only the pages that streams of this scope have cached.
So the number of positions that it finds says nothing about what other scopes have said. The pages that hold the
deployment's own text only, the `common` positions at the start of a prompt, are seen by streams of all scopes.

Owners. A session owns what its streams have cached, and `forget` removes it. A page stays while another session of the
scope owns it or a page after it: then that session has said the same words.

A stream that needs a page comes before the cache: `evict` gives back pages that no stream uses. The least recently
used page goes first, whatever its scope, and a leaf goes before its parent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.common.errors import ResourceExhausted
from services.runtime.kvcache.attention_ragged import RaggedAttention
from services.runtime.kvcache.paged_kv import PagedKV, Prefix

MAX_OWNERS = 16
"""Owners that a page remembers. An older one is dropped: the others have cached the same positions."""

_COMMON = None
"""The scope of pages that streams of all scopes see."""


@dataclass(frozen=True)
class Sharing:
    """What a stream may share.

    `scope` names those it shares with; empty: it shares with no one. `owner` names its session; empty: none. Its first
    `common` positions hold the deployment's own text only.
    """

    scope: str = ""
    owner: str = ""
    common: int = 0


@dataclass(eq=False)
class _Node:
    """One page and the cache keys of its positions. Only a leaf may have fewer positions than a page takes."""

    keys: tuple[int, ...]
    page: int
    scope: str | None
    parent: _Node | None
    children: dict[str | None, dict[tuple[int, ...], _Node]] = field(default_factory=dict)
    """By scope, then by their keys."""
    owners: dict[str, None] = field(default_factory=dict)
    """Those whose cached positions end here, oldest first."""


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
        self._root = _Node((), 0, _COMMON, None)
        self._used: OrderedDict[_Node, None] = OrderedDict()
        """Every node, least recently used first; a node comes before its parent."""
        self._owned: dict[str, set[_Node]] = {}
        """The nodes at which each owner's cached positions end."""

    @property
    def pages(self) -> int:
        """Pages that the cache refers to, those that streams use included."""
        return len(self._used)

    def match_prefix(self, slot: int, keys: Sequence[int], sharing: Sharing) -> int:
        """Start the empty `slot` with the longest cached prefix of `keys`. Returns its positions, 0 when none is."""
        prefix = self._find(keys, sharing)
        if prefix.positions % self._kv.page_size and not self._kv.free_pages and not self.evict(1, spared=prefix):
            full = prefix.positions // self._kv.page_size  # no page is free for a copy of the last one
            prefix = Prefix(prefix.pages[:full], full * self._kv.page_size)
        if prefix.positions:
            self._kv.start_with(slot, prefix)
            self.counters.hits += 1
        else:
            self.counters.misses += 1
        return prefix.positions

    def insert(self, slot: int, keys: Sequence[int], sharing: Sharing, *, ends_here: bool) -> None:
        """Cache the first positions of `slot`, whose cache keys are `keys`. They must be final.

        Args:
            ends_here: the stream has ended, so its last page is cached although it is not full.
        """
        count = len(keys) if ends_here else len(keys) // self._kv.page_size * self._kv.page_size
        chunks = list(self._chunks(keys[:count], sharing))
        if not chunks:
            return
        node = self._root
        path: list[_Node] = []
        pages = self._kv.share(slot, sum(len(chunk) for _, chunk in chunks)).pages
        for (scope, chunk), page in zip(chunks, pages, strict=True):
            child = self._child_for(node, scope, chunk)
            if child is None:
                child = _Node(chunk, page, scope, node)
                node.children.setdefault(scope, {})[chunk] = child
            else:
                self._kv.drop(Prefix((page,), len(chunk)))  # cached already
            path.append(child)
            node = child
        self._touch(path)
        self._own(path, sharing.owner)

    def forget(self, *, owner: str = "", scope: str = "") -> None:
        """Remove what an owner or a whole scope has cached. Pages that streams use are freed when these streams end."""
        for node in self._owned.pop(owner, set()) if owner else ():
            node.owners.pop(owner, None)
            self._prune(node)
        nodes = [node for node in self._used if scope and node.scope == scope]
        for node in nodes:
            for name in list(node.owners):
                self._disown(node, name)
        for node in nodes:
            self._remove(node)

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

    def _chunks(self, keys: Sequence[int], sharing: Sharing) -> Iterator[tuple[str | None, tuple[int, ...]]]:
        """The keys of each page with the scope that sees it. Without a scope, only the common pages."""
        size = self._kv.page_size
        for start in range(0, len(keys), size):
            is_common = start + size <= sharing.common
            if not is_common and not sharing.scope:
                return
            yield _COMMON if is_common else sharing.scope, tuple(keys[start : start + size])

    def _find(self, keys: Sequence[int], sharing: Sharing) -> Prefix:
        """The longest cached prefix of `keys`: whole pages, then the part of one page that agrees."""
        node = self._root
        path: list[_Node] = []
        found = 0
        for scope, chunk in self._chunks(keys, sharing):
            siblings = node.children.get(scope, {})
            child = siblings.get(chunk)
            if child is None:
                shared, last = 0, node
                for other in siblings.values():
                    length = _common_length(other.keys, chunk)
                    if length > shared:
                        shared, last = length, other
                if shared:
                    path.append(last)
                    found += shared
                break
            path.append(child)
            found += len(chunk)
            node = child
        self._touch(path)
        return Prefix(tuple(node.page for node in path), found)

    def _child_for(self, node: _Node, scope: str | None, chunk: tuple[int, ...]) -> _Node | None:
        """The child whose keys begin with `chunk`. A child with a shorter part of `chunk` is removed."""
        siblings = node.children.get(scope, {})
        child = siblings.get(chunk)
        if child is None:
            for other in list(siblings.values()):
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

    def _own(self, path: list[_Node], owner: str) -> None:
        """Note that the owner's cached positions end at the last node of the path, and no longer before it."""
        if not owner or path[-1].scope is _COMMON:
            return
        for node in path[:-1]:
            self._disown(node, owner)
        last = path[-1]
        last.owners[owner] = None
        self._owned.setdefault(owner, set()).add(last)
        if len(last.owners) > MAX_OWNERS:
            self._disown(last, next(iter(last.owners)))

    def _disown(self, node: _Node, owner: str) -> None:
        if owner not in node.owners:
            return
        del node.owners[owner]
        nodes = self._owned[owner]
        nodes.remove(node)
        if not nodes:
            del self._owned[owner]

    def _prune(self, node: _Node) -> None:
        """Remove a leaf without owners, then each parent that becomes one. Common nodes stay."""
        while node.scope is not _COMMON and not node.children and not node.owners:
            parent = node.parent
            assert parent is not None, "only the root has no parent, and it is common"
            self._remove(node)
            node = parent

    def _remove(self, node: _Node) -> None:
        """Take a node out of the tree and drop its page. A parent that would be left without an owner gets its
        owners."""
        parent = node.parent
        assert parent is not None, "the root is never removed"
        siblings = parent.children[node.scope]
        del siblings[node.keys]
        if not siblings:
            del parent.children[node.scope]
        inherits = parent.scope is not _COMMON and not parent.children and not parent.owners
        for owner in list(node.owners):
            self._disown(node, owner)
            if inherits:
                parent.owners[owner] = None
                self._owned.setdefault(owner, set()).add(parent)
        del self._used[node]
        self._kv.drop(Prefix((node.page,), len(node.keys)))


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Leading items that two sequences share."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
