"""The nearest of 100,000 texts by the text bank's index, beside one difflib ratio per text, in one run.

    python benchmarks/text_search.py [--texts 100000] [--queries 300] [--brute 1]

Descriptions are drawn in the grammar of the canonical text, from three worlds:
    fixed       parts have their places, of which a few move to the next cell, and sizes vary by a percent: photographs
                of one product, most of them near-duplicates of others
    loose       as fixed, each part out of place with 15 %
    scattered   every part lies anywhere: truly distinct texts, none near another
Queries are further draws that are not in the bank: as many like the normal images as with a part left out, with one too many,
and with one in another place, each kind in a row of its own. The answers of --checked queries of each kind are
compared with those of brute force by cydifflib (as difflib, faster), and of --brute queries with those of difflib itself
over all texts, one ratio per text, which gives the factor.

Times are of one thread, wall clock and CPU; on a machine that does other things, the latter tells more.
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
FAULTS = ("normal", "missing", "extra", "moved")
LIMIT = 5.0  # ms per query that are asked for
WORLDS = {"fixed": 0.05, "loose": 0.15, "scattered": 1.0}  # how many parts are out of place


def describer(world: str, rng: np.random.Generator) -> Callable[[str], str]:
    """Draws descriptions: normal ones, or of an image with one of FAULTS."""
    homes = [rng.integers(0, 9, rng.integers(1, 4)) for _ in range(CLASSES)]
    sizes = rng.integers(2, 12, CLASSES)

    def draw(fault: str) -> str:
        odd = int(rng.integers(CLASSES)) if fault != "normal" else -1
        parts = []
        for number, home in enumerate(homes):
            if number == odd and fault == "missing":
                continue
            moved = rng.random(len(home)) < WORLDS[world]
            elsewhere = number == odd and fault == "moved"
            step = rng.integers(1, 9, len(home)) if world == "scattered" or elsewhere else 1
            cells = sorted(np.where(moved | elsewhere, (home + step) % 9, home).tolist())
            if number == odd and fault == "extra":
                cells = sorted([*cells, int(rng.integers(9))])
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
    texts = list(dict.fromkeys(draw("normal") for _ in range(options.texts)))
    known = set(texts)
    count = options.queries if world != "scattered" else options.scattered
    queries: dict[str, list[str]] = {}
    for fault in FAULTS:
        drawn: dict[str, None] = {}
        while len(drawn) < -(-count // len(FAULTS)):
            if (text := draw(fault)) not in known:
                drawn[text] = None
        queries[fault] = list(drawn)
    start = time.perf_counter()
    index = TextIndex(texts)
    build = time.perf_counter() - start
    print(
        f"\n{world}: {options.texts} descriptions of {np.mean([len(t) for t in texts]):.0f} characters, "
        f"{len(texts)} distinct; built in {build:.1f} s"
    )
    print(
        f"  {'':10}{'queries':>8}{'similarity':>12}{'mean':>8}{'50 %':>7}{'95 %':>7}{'99 %':>7}{'slowest':>9}  within"
    )
    answers: dict[str, tuple[int, float]] = {}
    cpu_of: dict[str, float] = {}
    for fault, those in queries.items():
        wall, cpu = [], []
        for query in those:
            before, busy = time.perf_counter(), time.thread_time()
            answers[query] = index.nearest(query)
            cpu_of[query] = time.thread_time() - busy
            wall.append(1e3 * (time.perf_counter() - before))
            cpu.append(1e3 * cpu_of[query])
        near = statistics.median(answers[query][1] for query in those)
        for name, ms in (("cpu", cpu), ("wall", wall)):
            mean, (half, most, nearly) = statistics.mean(ms), np.quantile(ms, (0.5, 0.95, 0.99))
            title = (f"{fault:10}{len(ms):8}{near:12.3f}") if name == "cpu" else f"{'':30}"
            print(
                f"  {title}{mean:8.2f}{half:7.2f}{most:7.2f}{nearly:7.2f}{max(ms):9.2f}"
                f"  {np.mean(np.array(ms) <= LIMIT):.1%} in {LIMIT:.0f} ms, {name}"
            )
    checked = [query for those in queries.values() for query in those[: options.checked]]
    before = time.perf_counter()
    wrong = sum(brute(query, texts) != answers[query] for query in checked)
    seconds = (time.perf_counter() - before) / max(1, len(checked))
    print(
        f"  cydifflib over all distinct texts: {seconds:.2f} s a query; {len(checked)} answers compared, {wrong} differ"
    )
    for query in [those[n] for n in range(options.brute) for those in queries.values()][: options.brute]:
        busy = time.thread_time()
        same = brute(query, texts, difflib.SequenceMatcher) == answers[query]
        slow = time.thread_time() - busy
        print(
            f"  difflib, one ratio per distinct text: {slow:.1f} s of CPU, {'the same' if same else 'ANOTHER'} answer; "
            f"the index: {1e3 * cpu_of[query]:.2f} ms, {slow / cpu_of[query]:,.0f} times as fast "
            f"({slow / max(cpu_of.values()):,.0f} times by its slowest query)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--scattered", type=int, default=12, help="queries of the scattered world, which take longer")
    parser.add_argument("--checked", type=int, default=2, help="of each kind")
    parser.add_argument("--brute", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, priority {os.nice(0)}")
    for world in options.worlds:
        measure(world, options)


if __name__ == "__main__":
    main()
