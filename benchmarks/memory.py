"""Peak memory of fitting the image banks on few and on many images, each in a process of its own.

    python benchmarks/memory.py [--images 1000 10000] [--side 56]

Features are drawn per image from its number, in the shapes of the embedded encoder at 448 px (two layers of patches, 12
objects and 40 regions of 101 channels), and never held by the benchmark itself: the banks are given iterators, as the
stage gives them from the cache. Printed are the high-water mark of the whole process, that before the fit (imports), and
the rows that the object bank held.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHANNELS, WIDE, OBJECT = 97, 49, 101
CLASSES = [f"class-{i}" for i in range(4)]


def patches(number: int, side: int) -> dict[str, NDArray[np.float16]]:
    rng = np.random.default_rng(number)
    detail = rng.normal(size=(side, side, CHANNELS)).astype(np.float16)
    return {"detail": detail, "surface": detail[::2, ::2, :WIDE].copy()}


def objects(count: int, per_image: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    for number in range(count):
        rows = np.random.default_rng([number, per_image]).normal(size=(per_image, OBJECT)).astype(np.float32)
        yield [CLASSES[i % 4] if per_image == 12 else "" for i in range(per_image)], rows


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB


def fit(bank: str, count: int, side: int) -> dict[str, float]:
    import faiss  # noqa: F401

    from tmuad.banks.cosine import CosineObjectBank, CosinePatchBank
    from tmuad.banks.objects import ObjectBank
    from tmuad.banks.patch_model import PatchImage, PatchModel
    from tmuad.banks.patches import PLACED, PatchBank
    from tmuad.config import ObjectBankParams, PatchBankParams

    grid = np.full((side, side), "", dtype="<U1")
    held_out = count // 5

    def image(number: int) -> PatchImage:
        return PatchImage(patches(number, side), grid)

    before, start = peak(), time.perf_counter()
    if bank == "patches":  # as the stage: a model of some, its maps of at most PLACED
        params = PatchBankParams()
        model = PatchModel.fit([image(i) for i in range(min(count, params.images))], params)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[1000, 10_000])
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument(
        "--banks", nargs="*", default=["objects", "regions", "patches", "cosine objects", "cosine patches"]
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(fit(options.child[0], int(options.child[1]), options.side)))
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
