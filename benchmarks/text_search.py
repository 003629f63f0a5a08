"""The nearest of 100,000 texts by the text bank's index, beside one difflib ratio per text, in one run.

    python benchmarks/text_search.py [--texts 100000] [--queries 60] [--brute 3]

Descriptions are drawn in the grammar of the canonical text, from three worlds:
    fixed       parts have their places, of which a few move to the next cell, and sizes vary by a percent: photographs
                of one product, most of them near-duplicates of others
    loose       as fixed, each part out of place with 15 %
    scattered   every part lies anywhere: truly distinct texts, none near another
Queries are further draws that are not in the bank, a third of them with one part left out or moved. Every answer is
compared with that of brute force by cydifflib (as difflib, faster) for --checked queries, and for --brute queries with
difflib itself, whose time per text is extrapolated to nothing: it is measured over all texts.
"""

import argparse
import difflib
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from cydifflib import SequenceMatcher

from tmuad.banks.text_index import TextIndex
from tmuad.describe.position import READING_ORDER

CELLS = list(READING_ORDER)
CLASSES = 8
WORLDS = {"fixed": 0.05, "loose": 0.15, "scattered": 1.0}  # how many parts are out of place


def describer(world: str, rng: np.random.Generator) -> Callable[[bool], str]:
    """Draws descriptions; with True, of an image in which something is wrong."""
    homes = [rng.integers(0, 9, rng.integers(1, 4)) for _ in range(CLASSES)]
    sizes = rng.integers(2, 12, CLASSES)

    def draw(wrong: bool) -> str:
        odd, fault = (int(rng.integers(CLASSES)) if wrong else -1), rng.random()
        parts = []
        for number, home in enumerate(homes):
            if number == odd and fault < 0.5:
                continue
            moved = rng.random(len(home)) < WORLDS[world]
            step = rng.integers(1, 9, len(home)) if world == "scattered" or number == odd else 1
            cells = sorted(np.where(moved | (number == odd), (home + step) % 9, home).tolist())
            words = ", ".join(CELLS[cell] for cell in cells)
            parts.append(f"{len(cells)} class-{number + 1} at {words}, {sizes[number] + round(rng.normal(0, 0.5))} %")
        return "; ".join(parts)

    return draw


def brute(query: str, texts: list[str], matcher: type = SequenceMatcher) -> tuple[int, float]:
    ratio = matcher(None, "", query, autojunk=False)
    best, best_ratio = -1, -1.0
    for row, text in enumerate(texts):
        ratio.set_seq1(text)
        if (found := ratio.ratio()) > best_ratio:
            best, best_ratio = row, found
    return best, best_ratio


def measure(world: str, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    draw = describer(world, rng)
    drawn = [draw(False) for _ in range(options.texts)]
    texts = list(dict.fromkeys(drawn))
    known = set(texts)
    while len(texts) < options.texts and world == "scattered":
        texts.append(draw(False))
    queries: list[str] = []
    while len(queries) < options.queries:
        text = draw(len(queries) % 3 == 2)
        if text not in known:
            queries.append(text)
    start = time.perf_counter()
    index = TextIndex(texts)
    build = time.perf_counter() - start
    if world == "scattered":
        queries = queries[: options.scattered]
    wall, cpu, answers = [], [], []
    for query in queries:
        start, busy = time.perf_counter(), time.thread_time()
        answers.append(index.nearest(query))
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.thread_time() - busy))
    print(
        f"{world}: {options.texts} descriptions of {np.mean([len(t) for t in texts]):.0f} characters, {len(texts)} distinct"
    )
    print(f"  built in {build:.1f} s; similarity of the nearest: median {statistics.median(r for _, r in answers):.3f}")
    for name, ms in (("wall", wall), ("cpu", cpu)):
        print(
            f"  per query, {name}: mean {statistics.mean(ms):.2f} ms, median {statistics.median(ms):.2f}, "
            f"95 % {np.quantile(ms, 0.95):.2f}, slowest {max(ms):.2f}; at most 5 ms: {np.mean(np.array(ms) <= 5):.0%}"
        )
    start = time.perf_counter()
    checked = list(zip(queries, answers, strict=True))[: options.checked]
    wrong = sum(brute(query, texts) != answer for query, answer in checked)
    seconds = (time.perf_counter() - start) / max(1, len(checked))
    print(
        f"  cydifflib over all distinct texts: {seconds:.2f} s a query; {len(checked)} answers compared, {wrong} differ"
    )
    for query, answer in list(zip(queries, answers, strict=True))[: options.brute]:
        start = time.perf_counter()
        same = brute(query, texts, difflib.SequenceMatcher) == answer
        slow = time.perf_counter() - start
        print(
            f"  difflib over all distinct texts: {slow:.1f} s, {'the same answer' if same else 'ANOTHER ANSWER'}; "
            f"{1e3 * slow / statistics.mean(wall):,.0f} times the index's mean"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--scattered", type=int, default=2, help="queries of the scattered world, which take seconds")
    parser.add_argument("--checked", type=int, default=3)
    parser.add_argument("--brute", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, priority {os.nice(0)}")
    for world in options.worlds:
        measure(world, options)


if __name__ == "__main__":
    main()
