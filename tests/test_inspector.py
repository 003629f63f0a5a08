"""A fitted unit that inspects images: the same verdict as the stages give, and no trace of what it has seen."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fits import SIZE, Bench, data_set, kit, save

from tmuad.config import Params, load_params
from tmuad.engine import load_image
from tmuad.errors import ArtifactError, ParameterError
from tmuad.inspector import Inspector


@pytest.fixture
def params(scoring: Bench) -> Params:
    return load_params(scoring.place / "params.yaml")


def test_the_inspector_says_what_the_stages_said(bench: Bench) -> None:
    """Of every test image of a data set: score, verdict, threshold and description, to the last digit.

    Not of held-out ones: the stages judge each of these under the scales that the others set.
    """
    root = data_set(bench.place / "set")
    bench.params({"kit": {"root": "set", "layout": "mvtec_loco"}})
    bench.fit()
    params = load_params(Path("params.yaml"))
    inspector = Inspector.load("kit", params)
    tables = {n: pq.read_table(f"artifacts/kit/{n}.parquet").to_pandas() for n in ("manifest", "verdicts", "findings")}
    texts = pq.read_table("artifacts/kit/descriptions.parquet").to_pandas().groupby("image_id")["image_text"].first()
    verdicts = tables["verdicts"].set_index("image_id")
    files = tables["manifest"][tables["manifest"]["split"] == "test"]
    assert len(files) == 4
    for image_id, path in zip(files["image_id"], files["path"], strict=True):
        verdict, description = inspector.inspect(load_image(root / path, params.data), image_id)
        row = verdicts.loc[image_id]
        assert verdict.score == pytest.approx(row["score"], rel=1e-5)
        assert ("anomalous" if verdict.anomalous else "good") == row["verdict"]
        assert verdict.threshold == pytest.approx(row["threshold"])
        assert description.text == texts[image_id]
        mine = tables["findings"][tables["findings"]["image_id"] == image_id]
        assert [f.attribute for f in verdict.findings] == mine.sort_values("rank")["attribute"].tolist()


def test_a_missing_disc_is_named(params: Params) -> None:
    verdict, description = Inspector.load("kit", params).inspect(kit(77, discs=1))
    assert verdict.anomalous
    [missing] = [f for f in verdict.findings if f.attribute == "missing"]
    assert (missing.expected, missing.found, missing.where) == ("2", "1", "top right")
    assert description.by_name[missing.object_class].count == 1


def test_scoring_leaves_no_trace(params: Params) -> None:
    inspector = Inspector.load("kit", params)
    first = inspector.inspect(kit(60))[0]
    inspector.inspect(kit(61, discs=0))
    again = inspector.inspect(kit(60))[0]
    assert first.score == again.score
    np.testing.assert_array_equal(first.maps["fused"], again.maps["fused"])


@pytest.mark.parametrize("shade", [0, 255])
def test_an_image_without_objects_gets_a_verdict_too(params: Params, shade: int) -> None:
    verdict, description = Inspector.load("kit", params).inspect(np.full((SIZE, SIZE, 3), shade, dtype=np.uint8))
    assert verdict.anomalous and np.isfinite(verdict.maps["fused"]).all()
    assert not description.objects


def test_units_that_are_unknown_or_not_fitted(params: Params, bench: Bench) -> None:
    with pytest.raises(ParameterError, match=r"unknown unit 'kitt'.*Did you mean 'kit'"):
        Inspector.load("kitt", params)
    with pytest.raises(ArtifactError, match=r"kit: not fitted yet .* run: dvc repro fuse@kit"):
        Inspector.load("kit", params)


@pytest.mark.parametrize(("section", "key", "value"), [("data", "size", 112), ("finetune", "crop_size", 64)])
def test_parameters_changed_since_the_fit_are_named(params: Params, section: str, key: str, value: int) -> None:
    changed = params.model_copy(update={section: getattr(params, section).model_copy(update={key: value})})
    with pytest.raises(ArtifactError, match=rf"kit: fitted with another {section}\.{key} .* dvc repro fuse@kit"):
        Inspector.load("kit", changed)


def test_a_changed_size_is_noticed_in_a_unit_without_objects(bench: Bench) -> None:
    for i in range(3):
        save(bench.place / f"photos/{i}.png", np.full((SIZE, SIZE, 3), 100 + i, dtype=np.uint8))
    units = {"flat": {"root": "photos", "layout": "folder"}}
    bench.params(units)
    bench.fit("flat")
    Inspector.load("flat", load_params(Path("params.yaml")))
    bench.params(units, {"data": {"size": 128}})
    with pytest.raises(ArtifactError, match=r"data\.size"):
        Inspector.load("flat", load_params(Path("params.yaml")))
