"""How many characters very many texts share with a query in the same order: the longest common subsequence of each.

A text is its beginning and its end, cut between two parts of a description; descriptions repeat those of others, so that
each is worked out once. The query is cut opposite, wherever it is best. Rows of the usual table are differences of 0 or 1
and so bits of a word [Crochemore et al. 2001, Hyyrö 2004]; one step takes the next character of every text at once. Of the
table only the diagonals are worked out that a text with few characters left over can pass through, one word of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # (n,) numbers of texts

BREAK = "; "  # between the parts of a description
MANY = 127  # characters left over, or more: two such numbers have to fit a byte
STRIDE = 8  # characters after which the window of diagonals moves on: whole bytes
WIDEST = 64 - STRIDE + 1  # band for whose window one word is enough
ONE, BITS, ALL = np.uint64(1), np.uint64(64), ~np.uint64(0)
BATCH = 8192  # texts that are put together at once; bounds the memory


@dataclass(frozen=True)
class Band:
    """How many characters may stay without a match: of the texts, and of the query."""

    text: int
    query: int

    @property
    def width(self) -> int:
        """Places of the query that may lie opposite a place of a text."""
        return self.text + self.query + 1


class Halves:
    """Beginnings and ends of texts, each once; ends are read backwards. Those that begin alike share what they share."""

    def __init__(self, texts: Sequence[str], alphabet: "Alphabet") -> None:
        self._alphabet = alphabet
        cuts = [_cut(text) for text in texts]
        heads = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
        tails = [text[cut:][::-1] for text, cut in zip(texts, cuts, strict=True)]
        sides = [sorted(set(heads)), sorted(set(tails))]
        number = {part: i for i, part in enumerate(sides[0])}
        self._head = np.array([number[part] for part in heads], dtype=np.int32)
        number = {part: len(sides[0]) + i for i, part in enumerate(sides[1])}
        self._tail = np.array([number[part] for part in tails], dtype=np.int32)
        self._lengths = np.array([len(part) for side in sides for part in side], dtype=np.int64)
        codes = np.full((len(self._lengths), _blocks(self._lengths.max(initial=0)) * STRIDE), alphabet.size - 1)
        codes[np.arange(codes.shape[1]) < self._lengths[:, None]] = alphabet.numbers("".join(sides[0] + sides[1]))
        codes[len(sides[0]) :] += alphabet.size
        self._tree = _Tree(codes.astype(alphabet.dtype), _blocks(self._lengths))

    def left_over(self, query: str, rows: Rows, band: Band) -> NDArray[np.int64]:
        """Characters (n,) of each text of `rows` that have no match in a longest common subsequence with `query`.

        Exact where it and what is left over of the query are within the band, which is WIDEST at most. Otherwise it is
        not too small by mistake: as many as with the matches within the band alone, or some number above `band.text`.
        """
        assert band.width <= WIDEST
        heads, tails = self._head[rows], self._tail[rows]
        used = np.zeros(len(self._lengths), dtype=np.bool_)
        used[heads] = used[tails] = True
        parts = np.flatnonzero(used)
        place = np.empty(len(used), dtype=np.int64)
        place[parts] = np.arange(len(parts))
        first = self._rows(query, parts, band)  # (parts, width): opposite each place of the query, from the diagonal on
        # What is opposite of the beginning's place a is the end's place `turn - a`: its rows are read backwards.
        width = band.width
        padded = np.full((len(parts), 3 * width), MANY, dtype=np.uint8)
        padded[:, width : 2 * width] = first[:, ::-1]
        windows = sliding_window_view(padded, width, axis=1)  # (parts, 2 width + 1, width)
        turn = len(query) - (self._lengths[heads] + self._lengths[tails]) + 2 * band.text
        start = np.clip(2 * width - 1 - turn, 0, 2 * width)
        head, tail = place[heads], place[tails]
        least = np.empty(len(rows), dtype=np.int64)
        for low in range(0, len(rows), BATCH):
            batch = slice(low, low + BATCH)
            both = first.take(head[batch], axis=0) + windows[tail[batch], start[batch]]
            least[batch] = np.ascontiguousarray(both.T).min(axis=0)  # many times faster than along a short axis
        return least

    def _rows(self, query: str, parts: Rows, band: Band) -> NDArray[np.uint8]:
        """Characters (parts, width) without a match where the query is cut at each place of the band.

        A number above 63 may be too small, but is above 63 still.
        """
        lengths = self._lengths[parts]
        open_, matched = self._tree.walk(parts, self._masks(query, _blocks(lengths.max(initial=0)), band))
        _shift(open_, matched, (lengths - STRIDE * np.maximum(0, _blocks(lengths) - 1)).astype(np.uint64))
        octets = np.ascontiguousarray((~open_).astype("<u8").view(np.uint8).reshape(len(parts), 8).T)
        gained = np.unpackbits(octets, axis=0, bitorder="little", count=band.width - 1)
        rows = np.empty((band.width, len(parts)), dtype=np.uint8)
        rows[0] = np.minimum(lengths - matched, MANY)
        for place in range(band.width - 1):
            np.subtract(rows[place], gained[place], out=rows[place + 1])
        return np.ascontiguousarray(rows.T)

    def _masks(self, query: str, blocks: int, band: Band) -> NDArray[np.uint64]:
        """Where the query has which character, (blocks, codes): for each block from its first diagonal on."""
        size = self._alphabet.size
        bits = np.zeros((2 * size, max(STRIDE * blocks + 64, band.text + len(query))), dtype=np.bool_)
        numbers, places = self._alphabet.numbers(query), band.text + np.arange(len(query))
        bits[numbers, places] = True
        bits[size + numbers[::-1], places] = True
        bits[[size - 1, 2 * size - 1]] = False  # characters that no text has, and what follows the end of a part
        octets = np.packbits(bits, axis=1, bitorder="little")
        windows = np.ascontiguousarray(sliding_window_view(octets, 8, axis=1)[:, :blocks])  # (codes, blocks, 8)
        return np.ascontiguousarray(windows.view("<u8")[:, :, 0].T)


class _Tree:
    """Parts in blocks of STRIDE characters: a node for every block that follows what came before it."""

    def __init__(self, codes: NDArray[np.integer], blocks: NDArray[np.int64]) -> None:
        """Of the codes (P, characters) of parts in any order that keeps together what begins alike; of so many blocks."""
        depth = codes.shape[1] // STRIDE
        differs = (codes[1:] != codes[:-1]).reshape(max(0, len(codes) - 1), depth, STRIDE).any(axis=2)
        alike = np.zeros(len(codes), dtype=np.int64)  # blocks that a part has in common with the one before it
        alike[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1) if depth else 0, depth)
        self._first = [0, 1]  # number of the first node of each block; node 0 comes before all
        parents, following = [np.zeros(1, dtype=np.int64)], [np.zeros((1, STRIDE), dtype=codes.dtype)]
        node = np.zeros(len(codes), dtype=np.int64)  # of each part so far; in the end that of its last block
        for block in range(depth):
            inside = np.flatnonzero(blocks > block)
            new = alike[inside] <= block
            new[:1] = True
            parents.append(node[inside[new]])
            following.append(codes[inside[new], block * STRIDE : (block + 1) * STRIDE])
            node[inside] = self._first[-1] + np.cumsum(new) - 1
            self._first.append(self._first[-1] + int(new.sum()))
        self._last = node
        self._parents = np.concatenate(parents)
        self._codes = np.ascontiguousarray(np.concatenate(following).T)  # (STRIDE, nodes)

    def walk(self, parts: Rows, masks: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The window (n,) of each of `parts` in its last block, and the matches (n,) that lie before it."""
        blocks, codes = masks.shape
        if not blocks:  # nothing but empty parts
            return np.full(len(parts), ALL), np.zeros(len(parts), dtype=np.int64)
        wanted = np.zeros(self._first[-1], dtype=np.bool_)
        wanted[self._last[parts]] = True
        for block in range(blocks - 1, -1, -1):
            first, end = self._first[block + 1], self._first[block + 2]
            wanted[self._parents[first:end][wanted[first:end]]] = True
        wanted[0] = True
        nodes = np.flatnonzero(wanted)
        starts = np.searchsorted(nodes, self._first[1 : blocks + 2])
        place = np.empty(len(wanted), dtype=np.int64)
        place[nodes] = np.arange(len(nodes))
        before = place[self._parents[nodes]]
        numbers = self._codes.take(nodes, axis=1).astype(np.int64)
        numbers[:, 1:] += np.repeat(np.arange(blocks) * codes, np.diff(starts))
        found = masks.ravel().take(numbers)  # (STRIDE, nodes)
        open_ = np.full(len(nodes), ALL)  # bit 0: there the query's character finds a match
        matched = np.zeros(len(nodes), dtype=np.int64)
        for block in range(blocks):
            here = slice(starts[block], starts[block + 1])
            window, passed = open_.take(before[here]), matched.take(before[here])
            if block:
                _shift(window, passed, np.uint64(STRIDE))
            _advance(window, found[:, here])
            open_[here], matched[here] = window, passed
        last = place[self._last[parts]]
        return open_.take(last), matched.take(last)


class Alphabet:
    """Numbers for the characters of texts; all others have the number `size - 1`."""

    def __init__(self, used: NDArray[np.integer]) -> None:
        self.size = len(used) + 1
        self.dtype = np.min_scalar_type(2 * self.size)
        self._number = np.full(int(used.max(initial=0)) + 2, self.size - 1, dtype=np.int64)
        self._number[used] = np.arange(len(used))

    def numbers(self, text: str) -> NDArray[np.int64]:
        return self._number[np.minimum(codes(text), len(self._number) - 1)]


def _blocks(lengths: Any) -> Any:
    """So many blocks of STRIDE characters, the last of which may be cut short."""
    return -(-lengths // STRIDE)


def codes(text: str) -> NDArray[np.uint32]:
    """Its characters as numbers, one each."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)


def _cut(text: str) -> int:
    """Between two parts, as near to the middle as there is such a place."""
    middle = len(text) // 2
    places = [at + len(BREAK) for at in (text.rfind(BREAK, 0, middle), text.find(BREAK, middle)) if at >= 0]
    return min(places, key=lambda place: abs(place - middle), default=middle)


def _advance(open_: NDArray[np.uint64], found: NDArray[np.uint64]) -> None:
    """Take the next characters of each text, in place: (n,), and where the query has them, (steps, n), overwritten.

    Of the open places up to a match, that with the match takes the turn of the next closed one: an addition's carry.
    """
    total = np.empty_like(open_)
    for match in found:
        np.bitwise_and(match, open_, out=match)
        np.add(open_, match, out=total)
        np.subtract(open_, match, out=open_)
        np.bitwise_or(open_, total, out=open_)


def _shift(open_: NDArray[np.uint64], matched: NDArray[np.int64], by: np.uint64 | NDArray[np.uint64]) -> None:
    """Move the windows 0 to STRIDE places on, in place; matches that they leave behind are counted."""
    matched += np.bitwise_count(~open_ & ((ONE << by) - ONE))
    open_ >>= by
    open_ |= ALL << (BITS - by)  # by all 64 places: 0
