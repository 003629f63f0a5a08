"""Warehouse and gallery of very many images: time to load, the guide's twenty questions, the gallery's page in a browser.

    python benchmarks/warehouse.py [--images 1000000] [--segments 4] [--classes 3] [--keep FOLDER] [--gallery]

Artifacts of one unit are drawn with numpy and Arrow, never row by row: every image has a manifest row, --classes rows of
descriptions with one or two objects each, --segments segments with run-length masks, and a row of context; nine in ten are
scored test images with a verdict, and one in four of these has reasons. Then the data base is built as the stage does, every
question of docs/sql.md is asked within the reader's usual limits, and with --gallery the page of as many images is written
(without pictures) and opened in headless Chromium, where filters, sorting and search are timed.
"""

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tmuad import tables
from tmuad.describe.position import READING_ORDER

UNIT = "demo.hardware_kit"  # the unit that the questions ask about
CHUNK = 100_000
CELLS = list(READING_ORDER)


def ragged(values: np.ndarray, lengths: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


class Drawn:
    """Rows of images `start` to `start + n`."""

    def __init__(self, start: int, n: int, classes: int, segments: int) -> None:
        self.rng, self.n, self.start = np.random.default_rng(start), n, start
        self.classes, self.segments = classes, segments
        self.ids = np.array([hashlib.sha256(str(i).encode()).hexdigest() for i in range(start, start + n)])
        number = np.arange(start, start + n)
        self.split = np.where(number % 10 == 0, "train", "test")
        kind = np.where(self.rng.random(n) < 0.05, "logical", np.where(self.rng.random(n) < 0.05, "structural", "good"))
        self.kind = np.where(self.split == "train", "good", kind)
        self.scored = self.split == "test"
        self.score = np.where(self.kind == "good", self.rng.gamma(2, 0.5, n), self.rng.gamma(6, 1.0, n))
        self.anomalous = self.score > 3

    def words(self, values: list[str], n: int) -> np.ndarray:
        return np.array(values)[self.rng.integers(0, len(values), n)]

    def runs(self, n: int) -> pa.ListArray:
        return ragged(self.rng.integers(1, 400, 12 * n).astype(np.uint32), np.full(n, 12))

    def boxes(self, n: int) -> dict[str, np.ndarray]:
        x, y = self.rng.integers(0, 400, n), self.rng.integers(0, 400, n)
        return {"x0": x, "y0": y, "x1": x + 40, "y1": y + 40}

    def manifest(self) -> dict[str, object]:
        pairs = zip(self.split, self.kind, strict=True)
        paths = [f"{split}/{kind}/{i:07}.png" for i, (split, kind) in enumerate(pairs, self.start)]
        defect = np.where(self.kind == "good", "", self.kind)
        empty = ragged(np.zeros(0, dtype="U1"), np.zeros(self.n, int))
        return {
            "image_id": self.ids,
            "path": paths,
            "split": self.split,
            "kind": self.kind,
            "defect": defect,
            "masks": empty,
        }

    def segments_table(self) -> dict[str, object]:
        n = self.n * self.segments
        number = np.tile(np.arange(self.segments), self.n)
        grounded = number < self.segments // 2
        return {
            "image_id": np.repeat(self.ids, self.segments), "source": np.where(grounded, "grounded", "open"),
            "index": number, "candidate": np.where(grounded, number, -1), "label": np.where(grounded, "class-1", ""),
            "score": self.rng.random(n), **self.boxes(n), "area": np.full(n, 1600), "runs": self.runs(n),
        }  # fmt: skip

    def descriptions(self) -> dict[str, object]:
        n = self.n * self.classes
        number = np.tile(np.arange(1, self.classes + 1), self.n)
        count = 1 + (self.rng.random(n) < 0.2)
        where = self.words(CELLS, n)
        size = self.rng.normal(0.05, 0.003, n)
        total = int(count.sum())
        text = [f"{c} class-{k} at {w}, {100 * s:.0f} %" for c, k, w, s in zip(count, number, where, size, strict=True)]
        texts = ["; ".join(text[i : i + self.classes]) for i in range(0, n, self.classes)]
        places = [ragged(self.rng.random(total), count) for _ in range(3)]
        inner = self.runs(total)
        nested = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(count)]).astype(np.int32)), inner)
        return {
            "image_id": np.repeat(self.ids, self.classes), "object_class": [f"class-{k}" for k in number], "count": count,
            "position": where, "size": size, "text": text, "image_text": np.repeat(texts, self.classes),
            "cells": ragged(where, np.ones(n, int)), "x": places[0], "y": places[1], "area": places[2],
            "candidates": ragged(self.rng.integers(0, 2, total).astype(np.int32), count), "object_runs": nested,
            "runs": self.runs(n),
        }  # fmt: skip

    def scores(self) -> dict[str, object]:
        names = [f.name for f in tables.SCORES_SCHEMA if f.name not in ("image_id", "score")]
        figures = {name: self.rng.random(self.scored.sum()) for name in names}
        return {"image_id": self.ids[self.scored], "score": self.score[self.scored], **figures}

    def verdicts(self) -> dict[str, object]:
        n = int(self.scored.sum())
        shares = {f"share_{bank}": np.full(n, 1 / 3) for bank in ("text", "objects", "patches")}
        return {
            "image_id": self.ids[self.scored], "verdict": np.where(self.anomalous[self.scored], "anomalous", "good"),
            "score": self.score[self.scored], "threshold": np.full(n, 3.0), **shares,
            "nearest_image_id": np.full(n, self.ids[0]),
        }  # fmt: skip

    def findings(self) -> dict[str, object]:
        with_reason = self.ids[self.scored & (self.anomalous | (self.rng.random(self.n) < 0.15))]
        n = len(with_reason)
        return {
            "image_id": with_reason, "rank": np.ones(n, int), "object_class": self.words(["class-1", "class-2", ""], n),
            "attribute": self.words(["missing", "extra", "size", "position", "appearance"], n),
            "expected": np.full(n, "2"), "found": np.full(n, "1"), "strength": self.rng.random(n), **self.boxes(n),
            "runs": self.runs(n), "sentence": np.full(n, "Expected 2 parts, found 1."),
        }  # fmt: skip

    def context(self) -> dict[str, object]:
        arrived = np.datetime64("2024-01-01") + self.rng.integers(0, 500 * 86400, self.n).astype("timedelta64[s]")
        return {
            "image_id": self.ids, "arrived": arrived, "arrived_from": np.full(self.n, "log"),
            "nearest_by_patch": np.full(self.n, self.ids[0]), "patch_distance": self.rng.random(self.n),
        }  # fmt: skip


FILES = {
    "manifest": (tables.MANIFEST_SCHEMA, Drawn.manifest), "segments": (tables.SEGMENTS_SCHEMA, Drawn.segments_table),
    "descriptions": (tables.DESCRIPTIONS_SCHEMA, Drawn.descriptions), "scores": (tables.SCORES_SCHEMA, Drawn.scores),
    "verdicts": (tables.VERDICTS_SCHEMA, Drawn.verdicts), "findings": (tables.FINDINGS_SCHEMA, Drawn.findings),
    "context": (tables.CONTEXT_SCHEMA, Drawn.context),
}  # fmt: skip


def draw(folder: Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True)
    writers = {name: pq.ParquetWriter(folder / f"{name}.parquet", schema) for name, (schema, _) in FILES.items()}
    for start in range(0, options.images, CHUNK):
        drawn = Drawn(start, min(CHUNK, options.images - start), options.classes, options.segments)
        for name, (schema, columns) in FILES.items():
            values = columns(drawn)
            arrays = [
                v if isinstance(v := values[field.name], pa.Array) else pa.array(v).cast(field.type) for field in schema
            ]
            arrays = [array.cast(field.type) for array, field in zip(arrays, schema, strict=True)]
            writers[name].write_table(pa.table(arrays, schema=schema))
    for writer in writers.values():
        writer.close()


def build_and_ask(options: argparse.Namespace, base: Path) -> None:
    from tmuad.warehouse import TABLES, build, connect
    from tmuad.warehouse.access import Limits, Reader
    from tmuad.warehouse.questions import QUESTIONS

    path, start = base / "tmuad.duckdb", time.perf_counter()
    build(path, base / "artifacts", [UNIT])
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with connect(path) as connection:
        rows = sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES)
    print(
        f"loaded {rows:,} rows in {seconds:.0f} s; {path.stat().st_size / 2**30:.2f} GiB on disk, peak memory {peak:.1f} GiB"
    )
    took = []
    limits = Limits(memory=options.memory)
    for number, (question, sql) in enumerate(QUESTIONS, start=1):
        with connect(path, limits=limits) as connection:
            start = time.perf_counter()
            try:
                count = str(len(Reader(connection, path, limits).ask(sql)))
            except Exception as error:
                count = f"FAILED: {str(error)[:80]}"
        took.append(time.perf_counter() - start)
        print(f"  {number:2}. {took[-1]:6.2f} s  {count:>8} rows  {question}", flush=True)
    print(f"questions: median {np.median(took):.2f} s, slowest {max(took):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--memory", default="1GB", help="that a question may use; 1GB is the reader's default")
    parser.add_argument("--keep", type=Path, help="folder for artifacts and data base, which is left")
    parser.add_argument("--gallery", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        build_and_ask(options, Path(options.child))
        return
    with tempfile.TemporaryDirectory() as place:
        base = options.keep or Path(place)
        free, needed = shutil.disk_usage(base if base.exists() else base.parent).free, 8_000 * options.images
        if free < needed:
            sys.exit(
                f"{base}: {free / 2**30:.0f} GiB free, {needed / 2**30:.0f} are needed; name another folder with --keep"
            )
        print(f"{options.images:,} images, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        folder = base / "artifacts" / UNIT
        if not folder.exists():
            start = time.perf_counter()
            draw(folder, options)
            size = sum(file.stat().st_size for file in folder.iterdir()) / 2**30
            print(f"drawn in {time.perf_counter() - start:.0f} s, {size:.2f} GiB of Parquet", flush=True)
        command = [sys.executable, __file__, "--child", str(base), "--memory", options.memory]
        subprocess.run(command, check=True)  # a process of its own, whose peak memory is the build's
        if options.gallery:
            from gallery_page import measure  # beside this file

            measure(options.images, base / "gallery")


if __name__ == "__main__":
    main()
