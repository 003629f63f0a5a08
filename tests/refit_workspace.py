"""A small workspace of its own for the tests of the flows: git, DVC, a drawn data set of one unit, fitted and committed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from workspaces import only_tracked

from tmuad.config import DemoParams
from tmuad.data.demo.generate import SUPERSAMPLE, draw_faulty, draw_good, make_atlas

SOURCE = Path(__file__).parent.parent
UNIT, ROOT = "kit", Path("data/hardware_kit")
DEMO = DemoParams(categories=("hardware_kit",), size=96, train=6, validation=4, test_good=3, per_fault=1)
IDENTITY = {"GIT_AUTHOR_NAME": "Line", "GIT_AUTHOR_EMAIL": "line@example.com"}
ENVIRONMENT = os.environ | {
    **IDENTITY,
    "GIT_COMMITTER_NAME": "Line",
    "GIT_COMMITTER_EMAIL": "line@example.com",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def run(folder: Path, *command: str, check: bool = True, **more: str) -> "subprocess.CompletedProcess[str]":
    """`command` in `folder`, which stands first on Python's path."""
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder)} | more
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def python(folder: Path, *arguments: str, check: bool = True, **more: str) -> "subprocess.CompletedProcess[str]":
    return run(folder, sys.executable, *arguments, check=check, **more)


def build(folder: Path) -> None:
    """Git, DVC, code, parameters and data; not fitted."""
    from tmuad.data.demo.generate import generate

    folder.mkdir(parents=True)
    for name in ("tmuad", "flows"):
        shutil.copytree(SOURCE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "variants.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(SOURCE / name, folder)
    for name in ("reports/reference", "reports/plug", "ablations/results"):
        shutil.copytree(SOURCE / name, folder / name, ignore=only_tracked)
    for name in ("names", "catalog", "corrections", "arrivals", "queries"):
        shutil.copytree(SOURCE / "data" / name, folder / "data" / name)
    for name in ("models", "profiles"):
        shutil.copytree(SOURCE / name, folder / name)
    generate(folder / "data", DEMO)
    params = yaml.safe_load((SOURCE / "params.yaml").read_text())
    params["units"] = {UNIT: {"root": str(ROOT), "layout": "mvtec_loco"}}
    params["data"].update(size=64, workers=1)
    params["finetune"].update(epochs=1, crops_per_class=16)
    params["object_bank"]["clusters"] = 8
    params["patch_bank"].update(clusters=8, max_patches=2000)
    # So few images say nothing of quality: the tests of the gate set limits of their own.
    gate = {"false_alarm_rate": 0.95, "auroc_drop": 1.0, "shift": 1000.0, "flips": 0.95}
    params["refit"].update(settle=0.3, debounce=1.0, guard=0.0, min_free=0, lock_wait=0.0, dvc_wait=20.0, gate=gate)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run(folder, "git", "init", "-q", "-b", "main")
    python(folder, "-m", "dvc", "init", "-q")
    python(folder, "-m", "dvc", "config", "core.analytics", "false")
    python(folder, "-m", "dvc", "add", "-q", str(ROOT))


def fit(folder: Path) -> None:
    """`dvc repro` of the unit and a commit."""
    code = "from flows.dvc import Dvc\nwith Dvc(print) as dvc: dvc.call('reproduce', targets=['evaluate@kit', 'context@kit'])"
    python(folder, "-c", code)
    commit(folder, "fitted")


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "--allow-empty", "-m", message)


def copy(source: Path, target: Path) -> Path:
    """A workspace like `source`, which nobody else has."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def set_refit(folder: Path, **values: object) -> None:
    """Change parameters of `refit`, and commit."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for key, value in values.items():
        params["refit"][key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    commit(folder, "parameters")


def good_image(path: Path, index: int) -> Path:
    """A further normal image of the data set."""
    from PIL import Image

    _, photo = draw_good("hardware_kit", "train", 1000 + index, DEMO, _atlas())
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path)
    return path


def arrive(folder: Path, *names: str) -> list[Path]:
    """Normal images that a person vouches for: banks of six images would not know all of them for good."""
    incoming = [good_image(folder / "data/incoming" / UNIT / name, index) for index, name in enumerate(names)]
    rulings = folder / "data/quarantine" / UNIT / "rulings.json"
    rulings.parent.mkdir(parents=True, exist_ok=True)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in incoming]
    rulings.write_text(json.dumps(dict.fromkeys(digests, "released")))
    return incoming


def bad_image(path: Path, index: int) -> Path:
    """One with a part missing."""
    from PIL import Image

    photo = draw_faulty("hardware_kit", "logical", "missing", 1000 + index, DEMO, _atlas()).photo()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path)
    return path


def _atlas():
    if not _atlases:
        _atlases.append(make_atlas(DEMO.size * SUPERSAMPLE, DEMO.seed))
    return _atlases[0]


_atlases: list = []


def state(folder: Path, unit: str = UNIT) -> dict[str, bytes]:
    """Every artifact of the unit, its lock file, .dvc file and the images of the data set."""
    files = [*(folder / "artifacts" / unit).glob("*"), *(folder / ROOT).rglob("*.png")]
    files += [folder / "dvc.lock", folder / f"{ROOT}.dvc"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.is_file()}


def banks(folder: Path, names: Sequence[str] = ("object_bank", "patch_bank", "classifier")) -> dict[str, bytes]:
    base = folder / "artifacts" / UNIT
    files = [
        *(base / f"{name}.safetensors" for name in names),
        base / "text_entries.parquet",
        base / "calibration.json",
    ]
    return {path.name: path.read_bytes() for path in files}


def all_images(folder: Path) -> list[str]:
    """The digest of every image file outside of DVC's and our caches, doubles included."""
    found = []
    for place in ("data/incoming", "data/quarantine", "data/rejected", str(ROOT / "train")):
        for path in (folder / place).rglob("*.png"):
            if path.name != "heat_map.png" and not path.name.startswith("."):
                found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return sorted(found)
