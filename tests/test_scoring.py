"""`tmuad score` as a function: order, files of one name, heat maps, and the card for people."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from fits import SIZE, Bench, kit, save
from PIL import Image

from tmuad.config import load_params
from tmuad.errors import DataError, ImageError
from tmuad.scoring import Outcome, card, list_images, score_files


def score(bench: Bench, *paths: Path, out: Path, policy: str = "stop") -> list[Outcome]:
    return list(score_files(paths, "kit", load_params(bench.place / "params.yaml"), out, policy))


def test_outcomes_come_in_order_whole_and_ready_for_json(scoring: Bench, tmp_path: Path) -> None:
    good, bad = save(tmp_path / "b.png", kit(66)), save(tmp_path / "a.png", kit(61, discs=0))
    outcomes = score(scoring, good, bad, out=tmp_path / "out")
    assert [o["image"] for o in outcomes] == [str(good), str(bad)]
    assert [o["verdict"] for o in outcomes] == ["good", "anomalous"]
    assert json.loads(json.dumps(outcomes)) == outcomes
    for outcome in outcomes:
        assert (outcome["score"] > outcome["threshold"]) == (outcome["verdict"] == "anomalous")
        assert sum(outcome["shares"].values()) == pytest.approx(1, abs=1e-3)
        assert 0 < outcome["p_value"] <= 1
        for reason in outcome["reasons"]:
            x0, y0, x1, y1 = reason["box"]
            assert 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            assert reason["sentence"].endswith(".")
    assert outcomes[1]["reasons"]


def test_the_box_of_a_reason_is_where_the_part_is_missing(scoring: Bench, tmp_path: Path) -> None:
    [outcome] = score(scoring, save(tmp_path / "a.png", kit(62, discs=1)), out=tmp_path / "out")
    x0, y0, x1, y1 = next(r["box"] for r in outcome["reasons"] if r["attribute"] == "missing")
    assert x0 < 74 / SIZE < x1 and y0 < 26 / SIZE < y1


def test_heat_maps_are_pictures_of_the_image_and_two_files_of_one_name_get_two(scoring: Bench, tmp_path: Path) -> None:
    paths = [save(tmp_path / place / "Teil ä.png", kit(63 + i)) for i, place in enumerate(("a", "b"))]
    outcomes = score(scoring, *paths, out=tmp_path / "out put")
    maps = {outcome["heat_map"] for outcome in outcomes}
    assert len(maps) == 2
    for path in maps:
        with Image.open(path) as picture:
            assert picture.size == (SIZE, SIZE) and picture.mode == "RGB"
            assert np.ptp(np.asarray(picture)) > 50


def test_scoring_twice_writes_the_same_files(scoring: Bench, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", kit(66))
    first = score(scoring, path, out=tmp_path / "out")
    bytes_of = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert score(scoring, path, out=tmp_path / "out") == first
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == bytes_of


def test_as_many_processes_as_one_likes_say_the_same_in_the_same_order(scoring: Bench, tmp_path: Path) -> None:
    files = [save(tmp_path / f"{i}.png", kit(66 + i, discs=i % 3)) for i in range(5)]
    (tmp_path / "bad.png").write_bytes(b"no")
    params = load_params(scoring.place / "params.yaml")
    said = {}
    for workers in (1, 3):
        few = params.model_copy(update={"data": params.data.model_copy(update={"workers": workers})})
        out = tmp_path / "out"
        said[workers] = list(score_files([*files[:3], tmp_path / "bad.png", *files[3:]], "kit", few, out, "skip"))
        heat = {p.name: p.read_bytes() for p in out.iterdir()}
        assert len(heat) == 5
        with pytest.raises(ImageError, match=r"bad\.png"):
            list(score_files([files[0], tmp_path / "bad.png", *files], "kit", few, out, "stop"))
        said[workers].append(heat)
    assert said[1] == said[3]
    assert [o["image"] for o in said[1][:-1]][3] == str(tmp_path / "bad.png")


def test_an_image_of_another_size_is_judged_like_its_small_self(scoring: Bench, tmp_path: Path) -> None:
    """Enlarged, the same things are seen at the same places, and a missing part is found at any size.

    Not that a good image stays good: whoever fits on sharp images of 64 px has never seen a soft one.
    """
    for seed in (61, 62, 63):
        paths = [save(tmp_path / f"{seed}.png", kit(seed))]
        for times in (2, 3):
            enlarged = Image.fromarray(kit(seed)).resize((times * SIZE, times * SIZE), Image.Resampling.BICUBIC)
            paths.append(save(tmp_path / f"{seed}-{times}.png", np.asarray(enlarged)))
        outcomes = score(scoring, *paths, out=tmp_path / "out")
        assert len({o["text"].partition(",")[0] for o in outcomes}) == 1
        assert outcomes[0]["verdict"] == "good"
        assert not [r for o in outcomes for r in o["reasons"] if r["attribute"] in ("missing", "extra")]
    faulty = kit(66, discs=1)
    small, large = save(tmp_path / "s.png", faulty), save(tmp_path / "l.png", faulty.repeat(3, 0).repeat(3, 1))
    one, other = score(scoring, small, large, out=tmp_path / "out")
    assert one["verdict"] == other["verdict"] == "anomalous"
    assert one["text"].split(";")[0] == other["text"].split(";")[0]
    missing = [[r["sentence"] for r in o["reasons"] if r["attribute"] == "missing"] for o in (one, other)]
    assert missing[0] == missing[1] != []


def test_bad_images_end_the_run_or_are_outcomes(scoring: Bench, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"bad\.png"):
        score(scoring, tmp_path / "bad.png", out=tmp_path / "out")
    [outcome] = score(scoring, tmp_path / "bad.png", out=tmp_path / "out", policy="skip")
    assert outcome["image"] == str(tmp_path / "bad.png") and set(outcome) == {"image", "error"}
    assert card(outcome).startswith("SKIPPED")


def test_a_name_that_is_not_unicode_is_a_bad_image_and_not_a_crash(scoring: Bench, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"b\xffd.png")
    try:
        path.write_bytes(save(tmp_path / "a.png", kit(66)).read_bytes())
    except OSError:
        pytest.skip("the file system takes Unicode alone")
    with pytest.raises(ImageError, match=r"b\\udcffd\.png: the name is not valid Unicode"):
        score(scoring, path, out=tmp_path / "out")
    bad, good = score(scoring, path, tmp_path / "a.png", out=tmp_path / "out", policy="skip")
    assert json.dumps(bad, ensure_ascii=False).encode() and "rename the file" in bad["error"]
    assert good["verdict"] == "good"


def test_folders_are_searched_in_depth_without_hidden_files_and_earlier_heat_maps(tmp_path: Path) -> None:
    wanted = [save(tmp_path / name, kit(0)) for name in ("a.PNG", "b/c.jpeg", "b/d.tif")]
    for name in (".hidden.png", ".trash/e.png", "out/a-12345678.png", "b/._c.png"):
        save(tmp_path / name, kit(1))
    (tmp_path / "notes.txt").write_text("x")
    assert list_images([tmp_path], tmp_path / "out") == wanted
    assert list_images([tmp_path / "b" / "d.tif", tmp_path / "notes.txt"], tmp_path) == [
        tmp_path / "b/d.tif", tmp_path / "notes.txt",
    ]  # fmt: skip
    with pytest.raises(DataError, match="no image in this folder"):
        list_images([tmp_path / "out"], tmp_path / "out")
    with pytest.raises(DataError, match="no such file or folder"):
        list_images([tmp_path / "gone"], tmp_path / "out")


def test_the_card_says_what_people_need() -> None:
    outcome = {
        "image": "new/7.jpg", "verdict": "anomalous", "score": 7.311, "threshold": 2.5, "p_value": 0.02,
        "shares": {"text": 0.714, "objects": 0.2, "patches": 0.086}, "heat_map": "out/7.png",
        "reasons": [{"sentence": "Expected 2 screws, found 1: 1 is missing at the left."}],
    }  # fmt: skip
    words = card(outcome)
    for part in (
        "ANOMALOUS",
        "new/7.jpg",
        "score 7.31, threshold 2.50",
        "- Expected 2 screws",
        "text 71%",
        "out/7.png",
    ):
        assert part in words
    assert "threshold none" in card({**outcome, "threshold": None})
    good = card({**outcome, "verdict": "good"})
    assert good.startswith("GOOD") and "Expected" not in good
