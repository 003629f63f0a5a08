"""Hands the results of the ablations to the stage `tables`.

`tables` depends on the folder ablations/results and not on the stages that fill it, so that a plain `dvc repro` never
runs an ablation: it shows what has been run so far, and says of the rest what it needs.
"""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from tmuad.ablate.store import RESULTS, RUNS
from tmuad.ablate.variants import GROUPS
from tmuad.parquet import write_artifact

INDEX = Path("ablations/published.csv")


def publish(units: Iterable[str], runs: Path = RUNS, results: Path = RESULTS, index: Path = INDEX) -> None:
    """Copy what was run on `units`, remove what belongs to other units, and list it in `index`."""
    lines = ["unit,group,sha256"]
    kept: set[Path] = set()
    for unit in sorted(units):
        for group in GROUPS:
            for path in ((runs / unit / group).with_suffix(suffix) for suffix in (".parquet", ".json")):
                if path.is_file():
                    content = path.read_bytes()
                    target = results / unit / path.name
                    write_artifact(target, content)
                    kept.add(target)
                    if path.suffix == ".json":
                        lines.append(f"{unit},{group},{hashlib.sha256(content).hexdigest()}")
    for folder in [p for p in results.glob("*") if p.is_dir()]:
        for stale in [p for p in folder.iterdir() if p not in kept]:
            stale.unlink()
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    write_artifact(index, ("\n".join(lines) + "\n").encode())
