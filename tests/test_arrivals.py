"""The library half of re-fitting: files, duplicates, inspection, gate, quarantine, history."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_datasets import picture

from tmuad.arrivals import history, quarantine
from tmuad.arrivals.files import move, open_for_writing, place_tree
from tmuad.arrivals.gate import Judged, compare, exceeds
from tmuad.arrivals.inspect import inspect, target_name
from tmuad.arrivals.journal import DONE, ROLL_BACK, STEPS, Arrival, Journal, Run
from tmuad.arrivals.labelled import read_labelled
from tmuad.arrivals.similar import distances, near_duplicates
from tmuad.config import GateParams, Params, parse_params
from tmuad.data.manifest import SCHEMA, build_manifest
from tmuad.data.verify import file_id
from tmuad.errors import ArtifactError, DataError
from tmuad.parquet import write_parquet
from tmuad.score.fuse import Calibration
from tmuad.workspace import UnitPaths

UNIT = "kit"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A prepared unit of six images of 64 px in the current folder."""
    monkeypatch.chdir(tmp_path)
    for index in range(6):
        picture(Path(f"data/kit/{index}.png"), index, side=64)
    settings = {
        "units": {UNIT: {"root": "data/kit", "layout": "folder"}},
        "data": {"size": 64, "workers": 1},
        "refit": {"settle": 0.05},
    }
    parsed = parse_params(settings)
    manifest, _ = build_manifest(Path("data/kit"), "folder", on_bad_image="stop", max_pixels=10**6, holdout=0.3)
    write_parquet(manifest, UnitPaths(UNIT).manifest, SCHEMA)
    return parsed


def incoming(name: str) -> Path:
    path = Path("data/incoming/kit") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def smooth(path: Path, seed: int, side: int = 64) -> Image.Image:
    """A photograph with something in it: noise alone looks the same to any thumbnail."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    image.save(path)
    return image


def test_each_file_gets_a_decision_and_none_is_moved(params: Params) -> None:
    picture(incoming("new.png"), 100, side=64)
    shutil.copy("data/kit/0.png", incoming("known.png"))
    shutil.copy(incoming("new.png"), incoming("twice.png"))
    picture(incoming("small.png"), 101, side=40)
    incoming("broken.png").write_bytes(b"\x89PNG and then nothing")
    incoming("empty.png").write_bytes(b"")
    incoming("notes.txt").write_text("shift B")
    incoming(".hidden.png").write_bytes(b"x")
    incoming("coming.png.part").write_bytes(b"x")
    incoming("Thumbs.db").write_bytes(b"x")
    picture(incoming("waiting.png"), 102, side=64)
    before = {path: path.read_bytes() for path in Path("data/incoming").rglob("*") if path.is_file()}
    decided = {a.name: a for a in inspect(UNIT, params, {file_id(incoming("waiting.png")): "waits in quarantine"})}
    words = {
        "known.png": "known already: 0.png",
        "twice.png": "the same bytes as new.png",
        "small.png": "40 x 40 pixels; the unit's images have 64 x 64",
        "broken.png": "",
        "empty.png": "the file is empty",
        "notes.txt": "not a file of a kind that is read",
        "waiting.png": "waits in quarantine",
    }
    assert {name: a.decision for name, a in decided.items()} == {"new.png": "new"} | dict.fromkeys(words, "reject")
    assert all(words[name] in decided[name].reason for name in words)
    assert decided["new.png"].target == f"new-{decided['new.png'].image_id[:12]}.png"
    assert {path: path.read_bytes() for path in Path("data/incoming").rglob("*") if path.is_file()} == before


def test_a_file_that_is_still_written_waits(params: Params) -> None:
    path = picture(incoming("slow.png"), 100, side=64)
    with path.open("ab") as writer:
        assert open_for_writing([path]) == {path}
        (arrival,) = inspect(UNIT, params, {})
        assert (arrival.decision, arrival.reason) == ("leave", "still being written")
        writer.flush()
    assert open_for_writing([path]) == set()
    with path.open("rb"):
        assert open_for_writing([path]) == set()
    assert inspect(UNIT, params, {})[0].decision == "new"


def test_a_folder_that_is_not_there_is_empty(params: Params) -> None:
    assert inspect(UNIT, params, {}) == ()
    shutil.rmtree("data/kit")
    picture(incoming("new.png"), 100, side=64)
    with pytest.raises(DataError, match="dvc checkout data/kit"):
        inspect(UNIT, params, {})


def test_the_same_photograph_saved_again_is_found(params: Params) -> None:
    image = smooth(Path("data/kit/scene.png"), 1)
    manifest, _ = build_manifest(Path("data/kit"), "folder", on_bad_image="stop", max_pixels=10**6, holdout=0.3)
    write_parquet(manifest, UnitPaths(UNIT).manifest, SCHEMA)
    image.save(incoming("again.jpg"), quality=80)
    smooth(incoming("other.png"), 2).save(incoming("other, again.jpg"), quality=80)
    decided = {a.name: (a.decision, a.reason) for a in inspect(UNIT, params, {})}
    assert (
        decided["again.jpg"][0] == "reject" and "nearly the same image as data/kit/scene.png" in decided["again.jpg"][1]
    )
    assert decided["other, again.jpg"][0] == "new"  # the first by name stays
    assert decided["other.png"][0] == "reject"
    off = params.model_copy(update={"refit": params.refit.model_copy(update={"near_duplicate": 0.0})})
    assert all(a.decision == "new" for a in inspect(UNIT, off, {}))


@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 4), st.floats(1, 150))
def test_near_duplicates_as_a_loop_finds_them(seed: int, new: int, known: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    some, others = (rng.integers(0, 256, (n, 9)).astype(np.float32) for n in (new, known))

    def rms(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.mean((a - b) ** 2)))

    matrix = distances(some, others)
    assert all(abs(matrix[i, j] - rms(some[i], others[j])) < 1e-2 for i in range(new) for j in range(known))
    kept: list[int] = []
    for i, found in enumerate(near_duplicates(some, others, limit)):
        double = any(rms(some[i], other) < limit for other in others) or any(
            rms(some[i], some[j]) < limit for j in kept
        )
        assert (found is not None) == double
        if not double:
            kept.append(i)


def test_a_name_is_safe_and_its_own() -> None:
    assert target_name("a/Öl Teil (2).PNG", "ab" * 32, "folder") == "Ol-Teil-2-abababababab.png"
    assert target_name("x.jpg", "ab" * 32, "mvtec_loco") == "train/good/x-abababababab.jpg"


def other_file_system(tmp_path: Path) -> Path | None:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev else None


@pytest.mark.parametrize("across", [False, True])
def test_a_move_can_be_repeated_and_loses_nothing(tmp_path: Path, across: bool) -> None:
    base = other_file_system(tmp_path) if across else tmp_path
    if base is None:
        pytest.skip("one file system only")
    source, target = tmp_path / "in/a.png", base / f"tmuad-{os.getpid()}/out/a.png"
    source.parent.mkdir()
    source.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    try:
        assert move(source, target, digest) and target.read_bytes() == b"content" and not source.exists()
        assert move(source, target, digest)  # done already
        source.write_bytes(b"content")  # killed between copy and unlink
        assert move(source, target, digest) and not source.exists()
        source.write_bytes(b"a new file of that name")
        assert move(source, target, digest) and source.exists()
        with pytest.raises(DataError, match="another image has this name"):
            move(source, target, hashlib.sha256(b"a new file of that name").hexdigest())
        assert not move(tmp_path / "in/none.png", base / f"tmuad-{os.getpid()}/none.png", digest)
        assert [p.name for p in target.parent.iterdir()] == ["a.png"]
    finally:
        shutil.rmtree(base / f"tmuad-{os.getpid()}", ignore_errors=True)


def test_a_tree_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("1")
    (tmp_path / ".b.part").mkdir()  # of a killed run
    place_tree(tmp_path / "a", tmp_path / "b")
    place_tree(tmp_path / "none", tmp_path / "b")  # there already
    assert (tmp_path / "b/x").read_text() == "1" and not (tmp_path / ".b.part").exists()


def test_the_journal_is_what_was_written(tmp_path: Path) -> None:
    run = Run("r1", UNIT, "refit", "hand", "2026-01-01 00:00:00", "inspect")
    journal = Journal.create(tmp_path / "unit/run.json", run)
    journal.update(arrivals=(Arrival("a.png", "00", "admit", score=1.5),), gate={"passed": True})
    journal.warn("twice")
    journal.warn("twice")
    read = Journal.load(journal.path).run
    assert read == journal.run and read.warnings == ("twice",) and read.with_decision("admit")[0].score == 1.5
    journal.path.write_text(journal.path.read_text()[:-30])
    with pytest.raises(ArtifactError, match="no readable journal"):
        Journal.load(journal.path)


@pytest.mark.parametrize("kind", STEPS)
def test_steps_follow_one_another_to_the_end(kind: str) -> None:
    run = Run("r1", UNIT, kind, "hand", "", STEPS[kind][0])
    seen = [run.step]
    while run.step != DONE:
        run = Run("r1", UNIT, kind, "hand", "", run.next_step)
        seen.append(run.step)
    assert tuple(seen) == (*STEPS[kind], DONE)
    assert Run("r1", UNIT, kind, "hand", "", ROLL_BACK).next_step == "publish"


def judged(scores: dict[str, tuple[str, bool, float]], threshold: float = 1.0) -> Judged:
    """image -> (split, anomalous, score)"""
    rows = [(i, f"{i}.png", split, bad, score, score > threshold) for i, (split, bad, score) in scores.items()]
    table = pd.DataFrame(rows, columns=["image_id", "path", "split", "anomalous", "score", "alarm"])
    banks = {"text": 0.0, "objects": 0.0, "patches": 0.0}
    return Judged(table, Calibration(banks, banks, {}, threshold, 0.05, (0.5,)))


def scores(shift: float = 0.0) -> dict[str, tuple[str, bool, float]]:
    held_out = {f"v{i}": ("validation", False, i / 20 + shift) for i in range(20)}
    good = {f"g{i}": ("test", False, i / 25 + shift) for i in range(20)}
    return held_out | good | {f"b{i}": ("test", True, 2 + i / 10 - shift) for i in range(10)}


def test_the_same_banks_pass_the_gate() -> None:
    report = compare(judged(scores()), judged(scores()), GateParams())
    assert report.passed and report.flips == () and report.reason == ""
    assert report.metrics == {"false_alarm_rate": 0.0, "detection_rate": 1.0, "auroc": 1.0}


def test_what_got_worse_does_not() -> None:
    report = compare(judged(scores()), judged(scores(0.9)), GateParams())
    failed = {check.name for check in report.checks if not check.passed}
    assert failed == {
        "false alarms, labelled", "false alarms, held out", "shift of scores", "AUROC, labelled", "flipped verdicts",
    }  # fmt: skip
    assert all(flip.after != flip.truth for flip in report.flips) and len(report.flips) > 20
    assert "AUROC, labelled: 1.0000 to" in report.reason


def test_a_poisoned_bank_is_seen_in_what_it_misses() -> None:
    """Normal scores as before, yet half of the anomalies pass as good."""
    worse = scores() | {f"b{i}": ("test", True, 0.4) for i in range(5)}
    report = compare(judged(scores()), judged(worse), GateParams())
    assert not report.passed and "AUROC" in report.reason
    assert [flip.path for flip in report.flips] == [f"b{i}.png" for i in range(5)]


def test_images_that_only_one_side_knows_are_not_compared() -> None:
    more = scores() | {"new": ("validation", False, 50.0)}
    assert compare(judged(scores()), judged(more), GateParams()).passed


def test_without_labelled_images_the_held_out_ones_decide() -> None:
    few = {k: v for k, v in scores().items() if v[0] == "validation"}
    moved = {k: (split, bad, score + 0.9) for k, (split, bad, score) in few.items()}
    assert compare(judged(few), judged(few), GateParams()).metrics["auroc"] is None
    assert not compare(judged(few), judged(moved), GateParams()).passed


@given(st.integers(0, 40), st.integers(1, 40), st.floats(0.01, 0.9))
def test_a_rate_exceeds_its_limit_as_the_binomial_sum_says(count: int, total: int, limit: float) -> None:
    from math import comb

    count = min(count, total)
    tail = sum(comb(total, k) * limit**k * (1 - limit) ** (total - k) for k in range(count, total + 1))
    if abs(tail - 0.05) > 1e-9:
        assert exceeds(count, total, limit) == (count > 0 and count / total > limit and tail < 0.05)


def waiting(params: Params, seed: int) -> str:
    path = picture(Path(f"{seed}.png"), seed, side=64)
    image_id = file_id(path)
    folder = quarantine.write_card(UNIT, image_id, params, {"verdict": "anomalous"}, f"ANOMALOUS {seed}", b"png")
    move(path, folder / path.name, image_id)
    return image_id


def test_a_person_decides_what_is_in_quarantine(params: Params) -> None:
    good, bad = waiting(params, 200), waiting(params, 201)
    assert {case.image_id for case in quarantine.cases(UNIT, params)} == {good, bad}
    assert {case.card for case in quarantine.cases(UNIT, params)} == {"ANOMALOUS 200\n", "ANOMALOUS 201\n"}
    with pytest.raises(DataError, match="no image 'zzzz'; waiting there: "):
        quarantine.release(UNIT, "zzzz", params)
    assert quarantine.release(UNIT, good[:8], params) == Path("data/incoming/kit/200.png")
    assert quarantine.discard(UNIT, "201.png", params) == Path(f"data/rejected/kit/201-{bad[:12]}.png")
    assert quarantine.cases(UNIT, params) == []
    assert quarantine.rulings(UNIT, params) == {good: "released", bad: "discarded"}
    picture(incoming("back.png"), 201, side=64)
    decided = {a.name: a for a in inspect(UNIT, params, quarantine.kept_out(UNIT, params))}
    assert decided["200.png"].decision == "new" and decided["back.png"].reason == "discarded by a person"
    (Path("data/quarantine/kit") / quarantine.RULINGS).write_text("{")
    with pytest.raises(DataError, match="repair or remove it"):
        quarantine.rulings(UNIT, params)


def test_history_keeps_one_record_a_run(params: Params) -> None:
    first = history.Record("r1", "refit", "promoted", "v1", "2026-01-01 00:00:00", "me", added=("a", "b"))
    for record in (first, first, history.Record("r2", "forget", "promoted", "v2", "2026-01-02 00:00:00", "me")):
        history.append(UNIT, record)
    assert [r.run for r in history.read(UNIT)] == ["r1", "r2"] and history.read(UNIT)[0] == first
    assert history.next_version(UNIT) == "v3" and "forget" in history.table(UNIT)
    history.path_of(UNIT).write_text(json.dumps({"run": "x"}) + "\n")
    with pytest.raises(ArtifactError, match=r"line 1 is not a record.*git checkout"):
        history.read(UNIT)


def test_a_labelled_set_is_used_whole_or_not_at_all(params: Params) -> None:
    def with_set(folder: str) -> Params:
        return params.model_copy(update={"refit": params.refit.model_copy(update={"labelled": {UNIT: folder}})})

    assert read_labelled(UNIT, params).images == []
    picture(Path("truth/good/a.png"), 1, side=64)
    with pytest.raises(DataError, match="no anomalous image"):
        read_labelled(UNIT, with_set("truth"))
    picture(Path("truth/scratched/b.png"), 2, side=64)
    assert read_labelled(UNIT, with_set("truth")).anomalous == [False, True]
    Path("truth/scratched/c.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 3 images cannot be used"):
        read_labelled(UNIT, with_set("truth"))
    with pytest.raises(DataError, match="no such folder"):
        read_labelled(UNIT, with_set("elsewhere"))
