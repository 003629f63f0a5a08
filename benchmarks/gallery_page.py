"""The gallery of very many images in headless Chromium: from opening the page to its last row, and filters, sorting, search.

    python benchmarks/gallery_page.py [--images 100000] [--keep FOLDER]

The page is written without pictures (their tiles stay blank); everything else is as the stage writes it. Chromium must be
installed. Times are those of the page itself.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tmuad.cards.card import Card, Neighbour, Reason
from tmuad.cards.difference import Field
from tmuad.gallery.page import write_gallery
from tmuad.gallery.records import Item

FIELDS = (Field("nut", "nut", "count", "1", "2", "2", True),)
KINDS = ("good", "logical", "structural")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def items(count: int) -> Iterator[Item]:
    rng = np.random.default_rng(0)
    runs, shares = np.zeros(0, np.uint32), {"text": 0.5, "objects": 0.25, "patches": 0.25}
    kinds = [
        (Reason(name, name, attribute, "2", "1", 0.9, (10, 20, 60, 90), f"{attribute} {name}.", runs),)
        for name in ("class-1", "class-2")
        for attribute in ("missing", "extra", "size")
    ]
    for i in range(count):
        kind, score = KINDS[int(rng.random() * 3)], float(rng.gamma(2, 1.5))
        card = Card(
            f"unit-{i * 4 // count}", f"test/{kind}/{i:07}.png", f"{i:064x}", "anomalous" if score > 3 else "good", score,
            3.0, 0.05, 20, shares, shares, "1 nut", kinds[i % 6] if score > 3 else (), FIELDS,
            Neighbour("aa", "train/7.png", "2 nut"), Neighbour("bb", "train/8.png", "0.3 away"), 128,
        )  # fmt: skip
        yield Item(card, kind, "", "test", f"{i:020x}", "", "p1", "p2")


STEPS = {
    "only wrong verdicts": "document.querySelector('#wrong').click()",
    "one kind besides": "document.querySelector(\"#kind [data-value='1']\").click()",
    "all again": "document.querySelector('#reset').click()",
    "sorted by distance from the threshold": "const s = document.querySelector('#sort'); s.value = 'near'; "
    "s.dispatchEvent(new Event('change'))",
    "one reason": "const s = document.querySelector('#reason'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'))",
    "all again, once more": "document.querySelector('#reset').click()",
    "search": "const s = document.querySelector('#search'); s.value = '0123'; s.dispatchEvent(new Event('input'))",
}


def measure(count: int, folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium: install the package `chromium`")
    start = time.perf_counter()
    index = write_gallery(folder, items(count), [])
    size = sum(path.stat().st_size for path in folder.rglob("*.js")) / 2**20
    print(f"gallery of {count:,} images, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"  written in {time.perf_counter() - start:.0f} s, {size:.0f} MiB of scripts", flush=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(600_000)
        start = time.perf_counter()
        page.goto(index.as_uri(), wait_until="commit")
        while not page.evaluate("document.querySelectorAll('.tile').length > 0"):
            page.wait_for_timeout(20)
        print(f"  first tiles after {time.perf_counter() - start:.1f} s", flush=True)
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"  first contentful paint after {paint / 1000:.1f} s of the page's own clock", flush=True)
        whole = f"{count:,} images of {count:,}"
        while not page.evaluate("document.querySelector('#count').textContent").startswith(whole):
            page.wait_for_timeout(100)
        memory = page.evaluate("performance.memory ? performance.memory.usedJSHeapSize / 2 ** 20 : NaN")
        print(f"  all rows after {time.perf_counter() - start:.1f} s; {memory:.0f} MiB of script memory", flush=True)
        for name, script in STEPS.items():
            took = page.evaluate(
                f"(() => {{ const t = performance.now(); {script}; return performance.now() - t; }})()"
            )
            shown = page.text_content("#count")
            print(f"  {name}: {took / 1000:.2f} s   ({shown})", flush=True)
        page.keyboard.press("Escape")
        page.click(".tile")
        page.wait_for_selector("#card[data-ready]")
        print(f"  a card: {page.text_content('#card-title')}")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="folder for the page, which is left")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        measure(options.images, options.keep or Path(place) / "gallery")


if __name__ == "__main__":
    main()
