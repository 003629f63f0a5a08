"""Object names of categories: read, written, refused."""

from pathlib import Path

import pytest
import yaml
from sample_datasets import mvtec_ad
from typer.testing import CliRunner

from tmuad.cli import app
from tmuad.data.catalog import dataset_names, load_dataset
from tmuad.data.object_names import data_set_of, object_names, parse_names, write_names
from tmuad.errors import ParameterError

TEXT = """# What the parts show.
categories:
  kit: {objects: [screw, lens cap]}   # ours
  tray:
    objects:
      - LED
"""


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "parts.yaml"
    path.write_text(text)
    return path


def test_names_of_a_category(tmp_path: Path) -> None:
    written(tmp_path)
    assert object_names("parts.kit", tmp_path) == ("screw", "lens cap")
    assert object_names("parts.tray", tmp_path) == ("LED",)
    assert object_names("parts.other", tmp_path) == object_names("else.kit", tmp_path) == ()
    assert object_names("parts.KIT", tmp_path) == ("screw", "lens cap")
    written(tmp_path, TEXT + "aliases: {tray: [tablet]}\n")
    assert object_names("parts.tablet", tmp_path) == ("LED",)
    assert data_set_of("a.b.c") == ("a", "b.c") and data_set_of("kit") == ("kit", "kit")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kit: [screw]", "expected 'categories'"),
        ("categories: {kit: {objects: screw}}", "expected a list of names, found 'screw'"),
        ("categories: {kit: {objects: [screw, 3]}}", "expected a list of names"),
        ("categories: {kit: {objects: [screw, ' ']}}", "expected a list of names"),
        ("categories: {kit: {objects: [Screw, screw]}}", "stands twice"),
        ("categories: [", "not readable as YAML"),
    ],
)
def test_what_is_no_catalogue(tmp_path: Path, text: str, words: str) -> None:
    written(tmp_path, text)
    with pytest.raises(ParameterError, match=words):
        object_names("parts.kit", tmp_path)


def test_names_of_the_public_data_sets_are_found() -> None:
    folder = Path(__file__).parent.parent / "data/catalog"
    assert "hexagon nut" in object_names("mvtec_loco.screw_bag", folder)
    assert all(object_names(f"{d}.{c}", folder) for d in dataset_names() for c in load_dataset(d).categories)


def test_a_file_with_names_alone_is_no_public_data_set(tmp_path: Path) -> None:
    write_names(["mine"], ["screw"], tmp_path)
    assert dataset_names(tmp_path) == []


def test_new_names_leave_every_other_line_alone(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert write_names(["parts.new", "parts.kit"], ["screw", "lens cap"], tmp_path) == [path]
    assert object_names("parts.new", tmp_path) == ("screw", "lens cap")
    assert [line for line in path.read_text().splitlines() if "new" not in line] == TEXT.splitlines()
    assert write_names(["parts.new"], ["screw", "lens cap"], tmp_path) == []


def test_a_file_of_its_own_for_a_new_data_set(tmp_path: Path) -> None:
    write_names(["mine"], ["no", "1e3", "nut: M4"], tmp_path / "catalog")
    assert object_names("mine", tmp_path / "catalog") == ("no", "1e3", "nut: M4")


def test_other_names_and_odd_layouts_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(ParameterError, match="kit has the objects screw, lens cap already"):
        write_names(["parts.kit"], ["nut"], tmp_path)
    for text in ("categories: {kit: {objects: [a]}}\n", "categories:\n        kit: {objects: [a]}\n"):
        path.write_text(text)
        with pytest.raises(ParameterError, match=r"add under 'categories:'"):
            write_names(["parts.new"], ["nut"], tmp_path)
        assert path.read_text() == text


def test_the_option_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("units: {}\ndata: {workers: 1}\n")
    mvtec_ad(tmp_path / "kit")
    result = CliRunner().invoke(app, ["init", "kit", "--classes", " screw,  lens cap "])
    assert result.exit_code == 0, result.output
    assert "objects to look for: screw, lens cap (in data/catalog/kit.yaml)" in result.output
    assert yaml.safe_load(Path("data/catalog/kit.yaml").read_text()) == {
        "categories": {"kit": {"objects": ["screw", "lens cap"]}}
    }
    result = CliRunner().invoke(app, ["init", "kit", "--classes", ", ,"])
    assert isinstance(result.exception, ParameterError)


@pytest.mark.parametrize("text", ["", " , ", "screw, Screw"])
def test_classes_that_name_nothing_or_one_thing_twice(text: str) -> None:
    with pytest.raises(ParameterError, match="--classes"):
        parse_names(text)
