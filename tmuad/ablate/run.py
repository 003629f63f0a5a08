"""All variants of a group on one unit, in one process: what they share is read once, and what did not change is kept."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmuad.ablate.cost import numbers_learnt, peak_megabytes, seconds_per_image
from tmuad.ablate.encoded import caption_task, novelties, texts_of
from tmuad.ablate.figures import image_cells, pixel_cells, subset_map, test_rows
from tmuad.ablate.moved import moved_cells
from tmuad.ablate.refit import refitted
from tmuad.ablate.rescore import FittedUnit, Rescored, compared_again, look_of, rescore, texts_under
from tmuad.ablate.store import Outcome, Results, inputs_of, parameters_digest, write_results
from tmuad.ablate.variants import (
    Variant,
    check_all,
    check_weights,
    load_variants,
    named,
    params_of,
    selected,
    weights_of,
)
from tmuad.banks.remembered import learnt_from
from tmuad.cache import Record, fingerprint, open_cache
from tmuad.config import Params
from tmuad.encode.features import DefectTask
from tmuad.encode.slots import feature_task
from tmuad.engine import executing, fill
from tmuad.evaluate.bootstrap import Bootstrap
from tmuad.evaluate.cells import Cell, Cells
from tmuad.score.fuse import Calibration, reliability_of, weighted
from tmuad.score.judge import calibrate
from tmuad.stages.common import shape_of
from tmuad.stages.maps import truths

log = logging.getLogger(__name__)
SOURCES = ("ablate", "banks", "describe", "encode", "evaluate", "score", "segment", "stages")  # code of the variants
Scores = dict[str, float]  # image_id -> S_image


def run_group(params: Params, unit: str, group: str) -> None:
    """Run the variants of `group` that the profile has, and write their results.

    Raises:
        ParameterError, WeightsError: a variant of the list, of whatever group, cannot be run; nothing is written.
    """
    variants = load_variants()
    check_all(variants, params)
    chosen = selected(variants, params, group)
    inputs = inputs_of(unit, group)
    outcomes = run_variants(params, unit, chosen, inputs)
    write_results(Results(unit, group, params.profile, inputs, outcomes))


def run_one(params: Params, unit: str, name: str) -> Outcome:
    """One variant by name; nothing is written."""
    variant = named(load_variants(), name)
    check_weights(name, variant, params_of(name, variant, params))
    return run_variants(params, unit, {name: variant}, inputs_of(unit, variant.group))[name]


def run_variants(
    params: Params, unit: str, variants: Mapping[str, Variant], inputs: Mapping[str, str]
) -> dict[str, Outcome]:
    """The outcome of each variant; one that was run before on the same inputs, by the same code, comes from the cache."""
    cache, source = open_cache(params.data.cache), _source_digest()
    outcomes: dict[str, Outcome] = {}
    keys = {n: _key(params, unit, n, v, inputs, source) for n, v in variants.items()}
    for name in variants:
        if variants[name].group != "cost" and (kept := cache.get(unit, keys[name])):
            outcomes[name] = _unpacked(kept)
    missing = {name: variant for name, variant in variants.items() if name not in outcomes}
    log.info("%s: %d variants to run, %d unchanged", unit, len(missing), len(outcomes))
    with executing(params):
        for name, outcome in _run_missing(FittedUnit(unit, params), missing).items():
            cache.put(unit, keys[name], _packed(outcome))
            outcomes[name] = outcome
    return {name: outcomes[name] for name in variants}


def _run_missing(fitted: FittedUnit, variants: Mapping[str, Variant]) -> dict[str, Outcome]:
    if not variants:
        return {}
    _fill_cache(fitted, variants)
    by_group: dict[str, dict[str, Variant]] = {}
    for name, variant in variants.items():
        by_group.setdefault(variant.group, {})[name] = variant
    outcomes: dict[str, Outcome] = {}
    for group, mine in by_group.items():
        if group == "banks":
            outcomes |= _banks(fitted, mine)
        elif group == "shots":
            outcomes |= _shots(fitted, mine)
        elif group == "cost":
            outcomes |= {name: _cost(fitted, variant) for name, variant in mine.items()}
        else:
            outcomes |= {name: _alone(fitted, name, variant) for name, variant in mine.items()}
    return outcomes


def _fill_cache(fitted: FittedUnit, variants: Mapping[str, Variant]) -> None:
    """All images through all tasks first: worker processes must not be forked once faiss has started its threads."""
    images = fitted.images("train", "validation", "test")
    done: set[str] = set()
    for name, variant in variants.items():
        params = params_of(name, variant, fitted.params)
        if variant.group in ("objects", "patches", "clusters", "shots"):
            task = feature_task(params, fitted.unit) if variant.group == "shots" else look_of(fitted, params)
            for step, seen in (
                (task, images),
                (DefectTask(), learnt_from(fitted.images("train"), params.patch_bank)),
            ):
                if step.fingerprint not in done:
                    done.add(step.fingerprint)
                    fill(step, seen, params.data)
        if variant.encoded and (captions := caption_task(variant.encoded, params, fitted.unit)):
            fill(captions, images, params.data)


def _alone(fitted: FittedUnit, name: str, variant: Variant) -> Outcome:
    """A variant of the groups whose image scores are all that is asked for."""
    changed = params_of(name, variant, fitted.params)
    if variant.encoded:
        train, test = fitted.images("train"), fitted.images("test")
        texts = [texts_of(variant.encoded, part, fitted.descriptions, changed, fitted.unit) for part in (train, test)]
        values = novelties(variant.encoded, texts[0], texts[1], changed)
        scores = {ref.image_id: float(value) for ref, value in zip(test, values, strict=True)}
        return _outcome(variant, changed, image_cells(test_rows(fitted.manifest), scores, _bootstrap(changed)))
    timed = variant.group == "clusters" and changed.patch_bank == fitted.params.patch_bank
    rescored = compared_again(fitted) if timed else rescore(fitted, changed)
    scores = _scores(fitted, rescored, variant, changed)
    cells = image_cells(test_rows(fitted.manifest), scores, _bootstrap(changed))
    if variant.figure == 13:
        good = list(test_rows(fitted.manifest).query("kind == 'good'")["image_id"])
        bank, described = texts_under(fitted, changed)
        cells |= moved_cells(good, described, bank, changed.text_score, _bootstrap(changed))
    return _outcome(variant, changed, cells, {f"seconds {k}": v for k, v in rescored.seconds.items()})


def _calibration(fitted: FittedUnit, rescored: Rescored, changed: Params) -> Calibration:
    held_out = {ref.image_id for ref in fitted.images("validation")}
    normals = [r for r in rescored.results if r.image_id in held_out]
    return calibrate(normals, shape_of(changed), changed.fuse, changed.decide.of(fitted.unit), rescored.by_class)


def _scores(fitted: FittedUnit, rescored: Rescored, variant: Variant, changed: Params) -> Scores:
    """S_image of the test images."""
    shape = shape_of(changed)
    test = {ref.image_id for ref in fitted.images("test")}
    results = [r for r in rescored.results if r.image_id in test]
    if len(variant.banks) == 1:  # a bank alone needs no calibration but the reliability of its findings
        held_out = {ref.image_id for ref in fitted.images("validation")}
        reliability = reliability_of([r.findings for r in rescored.results if r.image_id in held_out])
        return {r.image_id: float(r.map_of(variant.banks[0], shape, reliability).max()) for r in results}
    calibration = _calibration(fitted, rescored, changed)
    scores: Scores = {}
    for r in results:
        maps = r.maps(shape, calibration.reliability)
        scores[r.image_id] = float(subset_map(maps, weighted(maps, calibration, changed.fuse), variant.banks).max())
    return scores


def _banks(fitted: FittedUnit, variants: Mapping[str, Variant]) -> dict[str, Outcome]:
    """Subsets and weights of the banks, at image and pixel level: every map is made in one pass over the test images."""
    shape, test = shape_of(fitted.params), test_rows(fitted.manifest)
    changed = {name: params_of(name, variant, fitted.params) for name, variant in variants.items()}
    base = Rescored(fitted.results, {}, fitted.by_class)
    calibration = _calibration(fitted, base, fitted.params)  # centre and scale of the banks, which no weight changes
    by_id = {result.image_id: result for result in fitted.results}
    scores: dict[str, Scores] = {name: {} for name in variants}

    def maps(image_id: str) -> dict[str, NDArray[np.float32]]:
        banks = by_id[image_id].maps(shape, calibration.reliability)
        terms = {fusion: weighted(banks, calibration, fusion) for fusion in {c.fuse for c in changed.values()}}
        found = {n: subset_map(banks, terms[changed[n].fuse], v.banks) for n, v in variants.items()}
        for name, fused in found.items():
            scores[name][image_id] = float(fused.max())
        return found

    bootstrap = _bootstrap(fitted.params)
    pixels = pixel_cells(test, maps, truths(fitted.params, fitted.unit), bootstrap)
    for image_id in test["image_id"]:  # those without a mask
        if image_id not in next(iter(scores.values())):
            maps(image_id)
    return {
        name: _outcome(variant, changed[name], image_cells(test, scores[name], bootstrap) | pixels.get(name, {}))
        for name, variant in variants.items()
    }


def _shots(fitted: FittedUnit, variants: Mapping[str, Variant]) -> dict[str, Outcome]:
    """Variants that are fitted anew: those that differ in the text score or the fusion alone share a fit."""
    runs = [(n, v, seed) for n, v in variants.items() for seed in (v.seeds or (fitted.params.data.shots_seed,))]
    fits: dict[str, list[tuple[str, Variant, Params]]] = {}
    for name, variant, seed in runs:
        changed = params_of(name, variant, fitted.params, seed)
        same = {"text_score": fitted.params.text_score, "fuse": fitted.params.fuse, "decide": fitted.params.decide}
        fits.setdefault(changed.model_copy(update=same).model_dump_json(), []).append((name, variant, changed))
    found: dict[str, list[Cells]] = {name: [] for name in variants}
    for number, members in enumerate(fits.values(), start=1):
        log.info("%s: fit %d of %d", fitted.unit, number, len(fits))
        first = members[0][2]
        with refitted(fitted.unit, first) as again:
            for name, variant, changed in members:
                under = again.params.model_copy(update={"text_score": changed.text_score, "fuse": changed.fuse})
                scores = _scores(again, rescore(again, under), variant, under)
                found[name].append(image_cells(test_rows(again.manifest), scores, _bootstrap(under)))
    return {
        n: _outcome(v, params_of(n, v, fitted.params), _mean(found[n]), _spread(found[n])) for n, v in variants.items()
    }


def _mean(runs: list[Cells]) -> Cells:
    """The mean of several runs on the same test images, resample by resample: what one such run scores on average."""
    keys = [key for key in runs[0] if all(np.isfinite(run[key].value) for run in runs)]
    return {
        key: Cell(
            float(np.mean([run[key].value for run in runs])), np.mean([run[key].replicates for run in runs], axis=0)
        )
        for key in keys
    }


def _spread(runs: list[Cells]) -> dict[str, float]:
    """How far single runs lie apart: standard deviation, lowest and highest AUROC."""
    values = [run["image", "auroc"].value for run in runs]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"runs": float(len(values)), "deviation": deviation, "lowest": min(values), "highest": max(values)}


def _cost(fitted: FittedUnit, variant: Variant) -> Outcome:
    seconds = {f"seconds {stage}": value for stage, value in seconds_per_image(fitted).items()}
    measured = seconds | {"megabytes": peak_megabytes(), "numbers": float(numbers_learnt(fitted.params, fitted.paths))}
    return _outcome(variant, fitted.params, {}, measured)


def _outcome(variant: Variant, params: Params, cells: Cells, measured: dict[str, float] | None = None) -> Outcome:
    return Outcome(cells, parameters_digest(params), weights_of(variant, params), measured or {})


def _bootstrap(params: Params) -> Bootstrap:
    return Bootstrap(params.evaluate.resamples, params.evaluate.seed)


def _source_digest() -> str:
    home, digest = Path(__file__).parent.parent, hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((home / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _key(params: Params, unit: str, name: str, variant: Variant, inputs: Mapping[str, str], source: str) -> str:
    changed = params_of(name, variant, params)
    how = (variant.group, variant.figure, variant.banks, variant.encoded, variant.seeds, parameters_digest(changed))
    return fingerprint("ablation", unit, how, sorted(inputs.items()), weights_of(variant, changed), source)


def _packed(outcome: Outcome) -> Record:
    keys = sorted(outcome.cells)
    told = {
        "keys": keys,
        "values": [outcome.cells[key].value for key in keys],
        "parameters": outcome.parameters,
        "weights": outcome.weights,
        "measured": outcome.measured,
    }
    rows = [outcome.cells[key].replicates for key in keys]
    replicates = np.stack(rows) if rows else np.zeros((0, 1))
    return {"told": np.array(bytearray(json.dumps(told).encode()), dtype=np.uint8), "replicates": replicates}


def _unpacked(record: Record) -> Outcome:
    told = json.loads(record["told"].tobytes())
    rows = zip(told["keys"], told["values"], record["replicates"], strict=True)
    cells = {tuple(key): Cell(float("nan") if value is None else value, row) for key, value, row in rows}
    return Outcome(cells, told["parameters"], told["weights"], told["measured"])
