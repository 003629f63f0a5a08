"""Our embedded profile and anomalib's models on the same images, in one run, each in a process of its own.

    python benchmarks/peers.py                                       # the first unit of params.yaml
    python benchmarks/peers.py --root FOLDER --layout mvtec_loco     # any category of any data set
    python benchmarks/peers.py --root FOLDER --keep WORK             # keep maps, to be joined by `tmuad plug`

All fit on the training images (those that calibrate are not among them), then judge the test images one at a time. "+ M_T"
is the same detector with our text bank, calibrated on its maps of the validation images. The data set is read where it
lies; nothing of it is copied. No weights are downloaded: anomalib's backbone has random weights unless --backbone-weights
names a file of them, so its figures here are no measure of what it does with pre-trained ones.

Times are CPU seconds of the process, so that others at work on the machine change little; with one thread, the default,
they are what the wall clock shows on an idle machine. fit: without imports. s/image: median over the test images, reading
the file included, with the 10th and 90th percentile; "+ M_T" adds its own to the detector's. peak: high-water mark of the
process's memory, imports included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import yaml

SOURCE = Path(__file__).resolve().parent.parent
UNIT = "unit"
MODELS = ("patchcore", "padim")
NAMES = {"ours": "tmuad, embedded", "patchcore": "anomalib PatchCore", "padim": "anomalib PaDiM"}
FIT = ("segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse")  # what an Inspector needs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of a category; by default the first unit of params.yaml")
    parser.add_argument("--layout", help="by default it is recognised: mvtec_ad, mvtec_loco, visa, bmad")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--backbone", default="resnet18", help="of anomalib's models, a name of timm's")
    parser.add_argument("--backbone-weights", type=Path, help="state_dict (.pth, .safetensors) for it; else random")
    parser.add_argument("--size", type=int, default=224, help="px a side, for anomalib")
    parser.add_argument("--our-size", type=int, help="px a side, for ours; by default params.yaml's data.size")
    parser.add_argument("--coreset", type=float, default=0.01, help="share of patches that PatchCore keeps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for maps and artifacts, which is left")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, json.loads(sys.stdin.read()))
        return
    root, layout = chosen(options)
    with tempfile.TemporaryDirectory() as place:
        work = options.keep or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        table = contest(work.resolve(), root, layout, options)
    print(table)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(table)


def chosen(options: argparse.Namespace) -> tuple[Path, str]:
    """The category's folder and layout."""
    from tmuad.data.layouts import detect

    if options.root is None:
        units = yaml.safe_load(Path("params.yaml").read_text())["units"]
        root = Path(next(iter(units.values()))["root"])
    else:
        root = options.root
    if not root.is_dir():
        sys.exit(f"{root}: no such folder; name one with --root, or draw the demo data: dvc repro demo")
    return root.resolve(), options.layout or detect(root)


def contest(work: Path, root: Path, layout: str, options: argparse.Namespace) -> str:
    """All contenders, one after another; the table."""
    params = yaml.safe_load((SOURCE / "params.yaml").read_text())
    params["units"] = {UNIT: {"root": str(root), "layout": layout}}
    params["data"] |= {"workers": 1, "cache": str(work / "cache")}
    if options.our_size:
        params["data"]["size"] = options.our_size
    (work / "params.yaml").write_text(yaml.safe_dump(params))
    (work / "profiles").mkdir(exist_ok=True)
    images = prepare(work, root)
    for split in ("train", "validation", "test"):
        if not any(image["split"] == split for image in images):
            sys.exit(f"{root}: no {split} images; give a category with good and anomalous test images")
    given = {
        "work": str(work), "root": str(root), "images": images, "size": options.size, "threads": options.threads,
        "backbone": options.backbone, "coreset": options.coreset,
        "weights": str(options.backbone_weights.resolve()) if options.backbone_weights else None,
    }  # fmt: skip
    results = {name: in_process(name, given, options.threads) for name in ("ours", *options.models)}
    joined = {name: in_process("plug", given | {"model": name}, options.threads) for name in options.models}
    return written(root, images, results, joined, options)


def prepare(work: Path, root: Path) -> list[dict[str, str]]:
    """All images, checked; the manifest is left without test images, so that no fit can have seen them."""
    from tmuad.parquet import read_parquet, write_parquet
    from tmuad.stages.__main__ import main as stage
    from tmuad.tables import MANIFEST_SCHEMA
    from tmuad.workspace import UnitPaths

    with chdir(work):
        if stage(["prepare", UNIT]):
            sys.exit(f"{root}: see above")
        manifest = read_parquet(UnitPaths(UNIT).manifest)
        rows = manifest.select(["image_id", "path", "split", "kind"]).to_pylist()
        keep = [row["split"] != "test" for row in rows]
        write_parquet(manifest.filter(keep), UnitPaths(UNIT).manifest, MANIFEST_SCHEMA)
    return rows


def in_process(name: str, given: dict[str, Any], threads: int) -> dict[str, Any]:
    print(f"{name} {given.get('model', '')}...", file=sys.stderr, flush=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SOURCE), "TQDM_DISABLE": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, "--child", name]
    done = subprocess.run(
        command,
        input=json.dumps(given),
        text=True,
        capture_output=True,
        cwd=given["work"],
        env=environment,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name}:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def child(name: str, given: dict[str, Any]) -> None:
    """One contender; its result is the last line of standard output."""
    import torch

    torch.set_num_threads(given["threads"])
    result = {"ours": ours, "plug": plugged}.get(name, anomalib_model)(given | {"name": name})
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB
    print(json.dumps(result))


def ours(given: dict[str, Any]) -> dict[str, Any]:
    from tmuad.config import load_params
    from tmuad.engine import load_image
    from tmuad.inspector import Inspector
    from tmuad.stages.__main__ import main as stage

    if hasattr(os, "sched_setaffinity"):  # as many cores as threads, and no worker processes beside a single one
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-given["threads"] :])
    start = cpu_seconds()
    for name in FIT:
        if stage([name, UNIT]):
            sys.exit(f"stage {name} failed")
    fit = cpu_seconds() - start
    params = load_params(Path("params.yaml"))
    inspector = Inspector.load(UNIT, params)
    scores, seconds = timed(given, lambda file: inspector.inspect(load_image(file, params.data))[0].score)
    return {"fit": fit, "scores": scores, "seconds": seconds}


def anomalib_model(given: dict[str, Any]) -> dict[str, Any]:
    """Trained and asked through anomalib's own Engine."""
    import warnings

    warnings.filterwarnings("ignore")
    import torch
    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore
    from lightning.pytorch import Callback
    from torch.utils.data import ConcatDataset, DataLoader

    from tmuad.plug.adapters.anomalib import save_predictions

    class Clock(Callback):  # type: ignore[misc]
        """When each batch was done, the reading of its file included."""

        def __init__(self) -> None:
            self.done: list[float] = []

        def on_predict_start(self, *_: Any) -> None:
            self.done = [cpu_seconds()]

        def on_predict_batch_end(self, *_: Any, **__: Any) -> None:
            self.done.append(cpu_seconds())

    torch.manual_seed(0)
    root, size, clock = Path(given["root"]), (given["size"], given["size"]), Clock()
    options = {"post_processor": False, "evaluator": False, "visualizer": False, "pre_trained": False}
    if given["name"] == "patchcore":
        pre = Patchcore.configure_pre_processor(size)
        model = Patchcore(given["backbone"], coreset_sampling_ratio=given["coreset"], pre_processor=pre, **options)
    else:
        model = Padim(given["backbone"], pre_processor=Padim.configure_pre_processor(size), **options)
    if given["weights"]:
        load_backbone(model, Path(given["weights"]))
    engine = Engine(callbacks=[clock], default_root_dir=given["work"] + "/anomalib", accelerator="cpu", logger=False)

    def loader(split: str, batch: int) -> Any:
        parts = [PredictDataset(root / image["path"], image_size=size) for image in of(given, split)]
        return DataLoader(ConcatDataset(parts), batch_size=batch, collate_fn=parts[0].collate_fn, num_workers=0)

    start = cpu_seconds()
    engine.fit(model, train_dataloaders=loader("train", 16))
    fit = cpu_seconds() - start
    predictions = list(engine.predict(model, dataloaders=loader("validation", 1)))
    tested = list(engine.predict(model, dataloaders=loader("test", 1)))
    seconds = np.diff(clock.done).tolist()
    save_predictions(predictions + tested, root, Path(given["work"]) / "maps" / given["name"])
    images = zip(of(given, "test"), tested, strict=True)
    scores = {image["path"]: float(batch.pred_score[0]) for image, batch in images}
    return {"fit": fit, "scores": scores, "seconds": seconds}


def load_backbone(model: Any, file: Path) -> None:
    """Weights of a classifier into the feature extractor, which lacks its last layers."""
    from tmuad.errors import WeightsError
    from tmuad.weights import read_state

    try:
        state = read_state(file)
    except WeightsError as error:
        sys.exit(str(error))
    body = model.model.feature_extractor.feature_extractor
    try:
        missing, _ = body.load_state_dict(state, strict=False)
    except RuntimeError as error:
        sys.exit(f"{file}: not the weights of this backbone ({' '.join(str(error).split())})")
    if missing:
        sys.exit(f"{file}: not the weights of this backbone, {missing[0]} is missing")


def plugged(given: dict[str, Any]) -> dict[str, Any]:
    """What M_T adds: its own seconds, and the scores of the two together."""
    from tmuad.plug import TextBank
    from tmuad.plug.maps import FileMaps
    from tmuad.plug.scores import read_scores

    root, folder = Path(given["root"]), Path(given["work"]) / "maps" / given["model"]
    files = {image["path"]: folder / f"{image['path']}.npy" for image in given["images"] if image["split"] != "train"}
    own = read_scores(folder / "scores.csv", files, root)
    maps = FileMaps(files, 10**8)
    bank = TextBank.load(UNIT)
    validation = [image["path"] for image in of(given, "validation")]
    fusion = bank.calibrate({path: maps[path] for path in validation}, {path: own[path] for path in validation})

    def judge(file: Path) -> float:
        path = file.relative_to(root).as_posix()
        return fusion.one(str(file), maps[path], own[path])[0].score  # a new image: it is segmented and described

    scores, seconds = timed(given, judge)
    return {"scores": scores, "seconds": seconds}


def cpu_seconds() -> float:
    """Of this process and of those it has started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def of(given: dict[str, Any], split: str) -> list[dict[str, str]]:
    return [image for image in given["images"] if image["split"] == split]


def timed(given: dict[str, Any], judge: Callable[[Path], float]) -> tuple[dict[str, float], list[float]]:
    scores: dict[str, float] = {}
    seconds: list[float] = []
    for image in of(given, "test"):
        start = cpu_seconds()
        scores[image["path"]] = judge(Path(given["root"]) / image["path"])
        seconds.append(cpu_seconds() - start)
    return scores, seconds


def written(
    root: Path,
    images: list[dict[str, str]],
    results: dict[str, dict[str, Any]],
    joined: dict[str, dict[str, Any]],
    options: argparse.Namespace,
) -> str:
    """The table in Markdown."""
    from tmuad.report.markdown import markdown_table

    test = [image for image in images if image["split"] == "test"]
    counts = {kind: sum(image["kind"] == kind for image in test) for kind in ("good", "logical", "structural")}
    rows = []
    for name, result in results.items():
        rows.append([NAMES[name], *figures(test, result["scores"]), *costs(result["fit"], result["seconds"], result)])
        if name in joined:
            both = joined[name]
            peak = {"peak_mb": max(result["peak_mb"], both["peak_mb"])}
            total = [a + b for a, b in zip(result["seconds"], both["seconds"], strict=True)]
            text = results["ours"]["fit"]
            rows.append(
                [f"{NAMES[name]} + M_T", *figures(test, both["scores"]), *costs(result["fit"] + text, total, peak)]
            )
    weights = "given weights" if options.backbone_weights else "random weights"
    train = sum(image["split"] == "train" for image in images)
    headings = ["method", "image, all", "image, logical", "image, structural", "fit, s", "s/image", "peak, MB"]
    return (
        f"{root.name}: {train} training images; test images: {counts['good']} good, {counts['logical']} logical, "
        f"{counts['structural']} structural. anomalib's {options.backbone}, {options.size} px, {weights}. "
        f"AUROC in per cent with 95 % intervals; CPU seconds, {options.threads} thread(s) each; "
        "the fit of + M_T includes all our banks.\n\n" + markdown_table(headings, rows)
    )


def figures(test: list[dict[str, str]], scores: dict[str, float]) -> Iterator[str]:
    """AUROC of all, logical and structural anomalies."""
    from tmuad.evaluate.bootstrap import Bootstrap, image_weights, interval
    from tmuad.evaluate.image_metrics import image_figures
    from tmuad.report.markdown import with_interval

    weights = image_weights([image["image_id"] for image in test], Bootstrap())
    values = np.array([scores[image["path"]] for image in test])
    for kinds in (("logical", "structural"), ("logical",), ("structural",)):
        chosen = np.array([image["kind"] in ("good", *kinds) for image in test])
        anomalous = np.array([image["kind"] != "good" for image in test])[chosen]
        if not anomalous.any() or anomalous.all():
            yield "–"
            continue
        drawn = image_figures(values[chosen], anomalous, weights[chosen])["auroc"]
        yield with_interval(float(drawn[0]), interval(float(drawn[0]), drawn))


def costs(fit: float, seconds: list[float], result: dict[str, Any]) -> list[str]:
    low, middle, high = np.quantile(seconds[1:] or seconds, [0.1, 0.5, 0.9])  # the first one warms up
    return [f"{fit:.0f}", f"{middle:.3f} [{low:.3f}, {high:.3f}]", f"{result['peak_mb']:.0f}"]


if __name__ == "__main__":
    main()
