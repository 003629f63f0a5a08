"""Peak memory of fitting the image banks on few and on many images, each in a process of its own.

    python benchmarks/memory.py [--images 1000 10000] [--side 56]
    python benchmarks/memory.py --tables 20000 100000

Features are drawn per image from its number, in the shapes of the embedded encoder at 448 px (two layers of patches, 12
objects with portraits and 40 regions of 101 channels), and never held by the benchmark itself: the banks are given
iterators, as the stage gives them from the cache. Printed are the high-water mark of the whole process, that before the
fit (imports), and the rows that the object bank held.

With --tables: what the stages that read a unit's scores and descriptions whole (fuse, evaluate, gallery) hold of so many
images, each as demo.hardware_kit has it (12 objects with masks, 28 x 28 distances), and by the slope of a million.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from tmuad.banks.objects import Labelled
from tmuad.encode.portraits import LENGTH

CHANNELS, WIDE, OBJECT = 97, 49, 101
CLASSES = [f"class-{i}" for i in range(4)]


def patches(number: int, side: int) -> dict[str, NDArray[np.float16]]:
    rng = np.random.default_rng(number)
    detail = rng.normal(size=(side, side, CHANNELS)).astype(np.float16)
    return {"detail": detail, "surface": detail[::2, ::2, :WIDE].copy()}


def objects(count: int, per_image: int) -> Iterator[Labelled]:
    """12 an image are objects of classes, with portraits; more are regions, which have neither."""
    by_class = per_image == 12
    for number in range(count):
        rng = np.random.default_rng([number, per_image])
        rows = rng.normal(size=(per_image, OBJECT)).astype(np.float32)
        portraits = rng.normal(size=(per_image, LENGTH)).astype(np.float32) / np.float32(LENGTH**0.5)
        labels = [CLASSES[i % 4] if by_class else "" for i in range(per_image)]
        yield Labelled(labels, rows, portraits if by_class else None)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB


def fit(bank: str, count: int, side: int) -> dict[str, float]:
    import faiss  # noqa: F401

    from tmuad.banks.cosine import CosineObjectBank, CosinePatchBank
    from tmuad.banks.objects import ObjectBank
    from tmuad.banks.patch_model import Defects, PatchImage, PatchModel
    from tmuad.banks.patches import PLACED, PatchBank
    from tmuad.config import ObjectBankParams, PatchBankParams

    def defects(number: int, side: int) -> Defects:
        rng = np.random.default_rng([number, 1])
        features = rng.normal(size=(400, 2 * CHANNELS)).astype(np.float16)
        return Defects(features, rng.integers(0, side * side, 400).astype(np.int32))

    grid = np.full((side, side), "", dtype="<U1")
    held_out = count // 5

    def image(number: int) -> PatchImage:
        return PatchImage(patches(number, side), grid)

    before, start = peak(), time.perf_counter()
    if bank == "patches":  # as the stage: a model of some, its maps of at most PLACED
        params = PatchBankParams()
        teachers = range(min(max(round(params.share * count), params.least_images), params.most_images))
        model = PatchModel.fit([image(i) for i in teachers], params, [defects(i, side) for i in teachers])
        normals = [(model(image(i)), grid) for i in range(min(count, PLACED))]
        more = [(model(image(count + i)), grid) for i in range(min(held_out, PLACED))]
        PatchBank.placed(model, normals, params.distance_weight).calibrate(more)
    elif bank == "cosine patches":
        CosinePatchBank.fit((image(i) for i in range(count)), PatchBankParams(distance="cosine"))
    elif bank == "cosine objects":
        CosineObjectBank.fit(objects(count, 40), ObjectBankParams(distance="cosine"))
    else:
        per_image = 12 if bank == "objects" else 40
        ObjectBank.fit(objects(count, per_image), ObjectBankParams()).calibrate(objects(held_out, per_image))
    return {"before": before, "peak": peak(), "seconds": time.perf_counter() - start}


def write_tables(folder: Path, images: int) -> None:
    """descriptions, bank_scores and bank_findings of so many drawn images, a part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tmuad import masks
    from tmuad.describe.description import describe
    from tmuad.describe.table import descriptions_table, scene_object
    from tmuad.score.banks import BankResult
    from tmuad.score.table import finding_rows, result_row
    from tmuad.score.text import Finding
    from tmuad.tables import BANK_FINDINGS_SCHEMA, BANK_SCORES_SCHEMA, DESCRIPTIONS_SCHEMA

    rng, shape = np.random.default_rng(0), (448, 448)
    rows, columns = np.mgrid[:448, :448]
    discs = [
        masks.encode((rows - y) ** 2 + (columns - x) ** 2 < r**2)
        for y, x, r in zip(
            *(rng.integers(low, high, 64) for low, high in ((40, 400), (40, 400), (12, 36))), strict=True
        )
    ]
    things = [scene_object(CLASSES[i % 4], runs, shape) for i, runs in enumerate(discs)]
    schemas = {"descriptions": DESCRIPTIONS_SCHEMA, "scores": BANK_SCORES_SCHEMA, "findings": BANK_FINDINGS_SCHEMA}
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd"))
            for name, schema in schemas.items()
        }
        for first in range(0, images, 1000):
            described, results = [], []
            for number in range(first, min(first + 1000, images)):
                seen = [things[i] for i in rng.integers(0, 64, 12)]
                image_id = f"{number:064x}"
                described.append(describe(image_id, seen))
                found = Finding("class-1", "position", "left", "right", 0.4, seen[0].runs, 1, "left")
                distance = rng.random((28, 28)).astype(np.float32)
                regions = [thing.runs for thing in seen]
                results.append(
                    BankResult(image_id, [found], image_id, regions, rng.random(12).astype(np.float32), distance)
                )
            files["descriptions"].write_table(descriptions_table(described, shape, 0.05))
            files["scores"].write_table(pa.Table.from_pylist(list(map(result_row, results)), BANK_SCORES_SCHEMA))
            found_rows = [row for result in results for row in finding_rows(result)]
            files["findings"].write_table(pa.Table.from_pylist(found_rows, BANK_FINDINGS_SCHEMA))


def read_tables(what: str, folder: Path) -> dict[str, float]:
    from tmuad.describe.table import read_descriptions
    from tmuad.parquet import read_parquet
    from tmuad.score.table import read_results

    before, start = peak(), time.perf_counter()
    tables = {name: folder / f"{name}.parquet" for name in ("descriptions", "scores", "findings")}
    kept: list[object] = []
    if what in ("descriptions", "both"):
        kept.append({d.image_id: d for d in read_descriptions(read_parquet(tables["descriptions"]))})
    if what in ("results", "both"):
        kept.append(read_results(read_parquet(tables["scores"]), read_parquet(tables["findings"])))
    held = psutil.Process().memory_info().rss / 2**20
    return {"before": before, "peak": peak(), "held": held, "seconds": time.perf_counter() - start}


def measure_tables(counts: Sequence[int]) -> None:
    print(f"{'read whole':15} {'images':>9} {'before, MB':>10} {'peak, MB':>10} {'then held':>10} {'seconds':>8}")
    found: dict[str, list[dict[str, float]]] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_tables(Path(folder), count)
            for what in ("descriptions", "results", "both"):
                command = [sys.executable, __file__, "--child", what, folder]
                one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                found.setdefault(what, []).append(one)
                print(
                    f"{what:15} {count:9,} {one['before']:10.0f} {one['peak']:10.0f} {one['held']:10.0f} {one['seconds']:8.1f}",
                    flush=True,
                )
    for what, (few, many) in found.items():
        per_image = {key: (many[key] - few[key]) / (counts[1] - counts[0]) for key in ("peak", "held")}
        print(
            f"{what}: {1024 * per_image['peak']:.1f} kB an image at the peak, {1024 * per_image['held']:.1f} kB held; "
            f"a million images {(few['peak'] + per_image['peak'] * (10**6 - counts[0])) / 1024:.1f} GiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument(
        "--banks", nargs="*", default=["objects", "regions", "patches", "cosine objects", "cosine patches"]
    )
    parser.add_argument(
        "--tables", type=int, nargs=2, metavar=("FEW", "MANY"), help="tables read whole instead of banks"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, of = options.child
        done = read_tables(what, Path(of)) if Path(of).is_dir() else fit(what, int(of), options.side)
        print(json.dumps(done))
        return
    if options.tables:
        measure_tables(options.tables)
        return
    few, many = options.images
    print(f"{'bank':15} {'before, MB':>10} {few:>10,} {many:>10,} {'change':>8} {'of the fit alone':>17}   seconds")
    for bank in options.banks:
        found = []
        for count in options.images:
            command = [sys.executable, __file__, "--side", str(options.side), "--child", bank, str(count)]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        one, other = found
        change = other["peak"] / one["peak"] - 1
        alone = (other["peak"] - other["before"]) / max(one["peak"] - one["before"], 1) - 1
        print(
            f"{bank:15} {one['before']:10.0f} {one['peak']:10.0f} {other['peak']:10.0f} {change:+8.1%} {alone:+17.1%}   "
            f"{one['seconds']:.0f}, {other['seconds']:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
