"""List and verify the images of a unit."""

from pathlib import Path

from tmuad.cache import open_cache
from tmuad.config import Params
from tmuad.data.manifest import SCHEMA, build_manifest, write_problems
from tmuad.parquet import write_parquet
from tmuad.workspace import UnitPaths


def run(params: Params, unit: str) -> None:
    paths, data, settings = UnitPaths(unit), params.data, params.unit(unit)
    manifest, problems = build_manifest(
        Path(settings.root),
        settings.layout,
        on_bad_image=data.on_bad_image,
        max_pixels=data.max_pixels,
        holdout=data.holdout,
        shots=data.shots,
        shots_seed=data.shots_seed,
        bits=data.bits,
        cache=open_cache(data.cache),
        workers=data.workers,
    )
    write_parquet(manifest, paths.manifest, SCHEMA)
    write_problems(problems, paths.problems)
    for problem in problems:
        print(f"{unit}: {problem}")
