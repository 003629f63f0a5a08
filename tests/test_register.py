"""`tmuad init` as a library: what is entered in params.yaml, and what is said."""

from pathlib import Path

import numpy as np
import pytest
import sample_datasets as datasets
from PIL import Image

from tmuad.config import UnitParams, load_params
from tmuad.data.register import describe_registration, register, slug
from tmuad.errors import DataError, ImageError, ParameterError

HEAD = "# what we inspect\n"
TAIL = """
# how images are read
data:
    on_bad_image: stop   # or skip
    max_pixels: 200_000_000


finetune: {learning_rate: 2e-3, 'seed': 1}  # kept as it is
"""


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "project/params.yaml"
    path.parent.mkdir()
    path.write_text(f"{HEAD}units: {{}}\n{TAIL}")
    return path


# ---- what is entered


def test_a_category_becomes_a_unit_and_the_rest_of_the_file_stays(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_loco(tmp_path / "project/data/kit")
    registration = register(tmp_path / "project/data/kit", None, "auto", params)
    assert params.read_text() == f"{HEAD}units:\n  kit:\n    root: data/kit\n    layout: mvtec_loco\n{TAIL}"
    assert load_params(params).units == {"kit": UnitParams(root="data/kit", layout="mvtec_loco")}
    (unit,) = registration.units
    assert unit.added and unit.sizes == {(32, 32): 10}
    assert unit.counts == {
        ("train", "good"): 6,
        ("validation", "good"): 1,
        ("test", "good"): 1,
        ("test", "logical"): 1,
        ("test", "structural"): 1,
    }


def test_a_data_set_becomes_a_unit_for_each_category(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "data/bag")
    datasets.mvtec_loco(tmp_path / "data/box")
    register(tmp_path / "data", "demo", "auto", params)
    assert load_params(params).units == {
        "demo.bag": UnitParams(root="../data/bag", layout="mvtec_ad"),
        "demo.box": UnitParams(root="../data/box", layout="mvtec_loco"),
    }


def test_units_are_added_after_the_last_one_and_before_the_comment_that_follows(tmp_path: Path, params: Path) -> None:
    units = "units:\n    a: {root: x, layout: folder}  # the first\n    b:\n        root: y\n        layout: folder\n"
    params.write_text(HEAD + units + TAIL)
    datasets.mvtec_ad(tmp_path / "kit")
    register(tmp_path / "kit", None, "auto", params)
    added = "    kit:\n      root: ../kit\n      layout: mvtec_ad\n"
    assert params.read_text() == HEAD + units + added + TAIL


@pytest.mark.parametrize(
    "text",
    [
        "units: {old: {root: x, layout: folder}}\ndata: {size: 448}\n",
        "data: {size: 448}\nunits: {}",
        "data: {size: 448}\nunits: {\n  }  # none\n",
        "units:\n  old:\n    root: x\n    layout: folder",
        "units:\r\n  old:\r\n    root: x\r\n    layout: folder\r\n# end\r\ndata: {size: 448}\r\n",
    ],
)
def test_any_way_to_write_units(tmp_path: Path, params: Path, text: str) -> None:
    params.write_bytes(text.encode())
    before = load_params(params)
    datasets.mvtec_ad(tmp_path / "kit")
    register(tmp_path / "kit", None, "auto", params)
    new = UnitParams(root="../kit", layout="mvtec_ad")
    assert load_params(params) == before.model_copy(update={"units": before.units | {"kit": new}})
    assert ("\r\n" in text) == (params.read_bytes().count(b"\r\n") == params.read_bytes().count(b"\n"))


def test_a_file_that_new_lines_would_damage_is_left_alone(tmp_path: Path, params: Path) -> None:
    text = "units: {old: {root: x, layout: folder},}\n"
    params.write_text(text)
    datasets.mvtec_ad(tmp_path / "kit")
    with pytest.raises(ParameterError, match=r"add under 'units:'\n  kit: \{root: \.\./kit, layout: mvtec_ad\}"):
        register(tmp_path / "kit", None, "auto", params)
    assert params.read_text() == text


def test_to_register_again_changes_nothing(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "kit")
    first = register(tmp_path / "kit", None, "auto", params)
    before = params.read_bytes()
    second = register(tmp_path / "kit", None, "mvtec_ad", params)
    assert params.read_bytes() == before
    assert [unit.added for unit in (*first.units, *second.units)] == [True, False]


def test_a_root_far_away_is_absolute(tmp_path: Path, params: Path) -> None:
    deep = tmp_path / "a/b/c/params.yaml"
    deep.parent.mkdir(parents=True)
    deep.write_text("units: {}\n")
    datasets.mvtec_ad(tmp_path / "kit")
    register(tmp_path / "kit", None, "auto", deep)
    assert load_params(deep).units["kit"].root == (tmp_path / "kit").as_posix()


# ---- names


def test_path_with_spaces_and_non_ascii_letters(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "Prüf Set: Nr. 1" / "Dose groß")
    registration = register(tmp_path / "Prüf Set: Nr. 1", None, "auto", params)
    unit = load_params(params).units["Pruf-Set-Nr-1.Dose-gross"]
    assert unit.root == "../Prüf Set: Nr. 1/Dose groß"
    assert any("the folder 'Prüf Set: Nr. 1' is called 'Pruf-Set-Nr-1'" in remark for remark in registration.remarks)
    assert any("the category 'Dose groß' is the unit" in remark for remark in registration.remarks)


def test_slug() -> None:
    assert [slug(text) for text in ("kit", "Größe 1", "_x.y_", "-a--b-")] == ["kit", "Grosse-1", "x-y", "a--b"]
    assert slug("部品") == slug("部品") != slug("製品")
    assert slug("部品").startswith("unit-")


@pytest.mark.parametrize("name", ["001", "1e3", "no", "2024-01-01", "null", "1.10", "0x1F", "1_000"])
def test_names_that_yaml_would_take_for_something_else(tmp_path: Path, params: Path, name: str) -> None:
    datasets.mvtec_ad(tmp_path / name)
    register(tmp_path / name, name, "auto", params)
    assert load_params(params).units == {name: UnitParams(root=f"../{name}", layout="mvtec_ad")}


def test_a_name_that_is_not_valid(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "kit")
    with pytest.raises(ParameterError, match=r"--name my kit: not a unit name .* for instance --name my-kit"):
        register(tmp_path / "kit", "my kit", "auto", params)


def test_two_units_of_one_name(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "one/kit")
    datasets.mvtec_ad(tmp_path / "two/kit")
    register(tmp_path / "one/kit", None, "auto", params)
    before = params.read_bytes()
    with pytest.raises(ParameterError, match=r"the unit 'kit' exists with the root \.\./one/kit; choose another name"):
        register(tmp_path / "two/kit", None, "auto", params)
    with pytest.raises(ParameterError, match=r"the unit 'kit' exists with the layout mvtec_ad, found folder"):
        register(tmp_path / "one/kit", None, "folder", params)
    assert params.read_bytes() == before
    datasets.mvtec_ad(tmp_path / "set/über", first_seed=50)
    datasets.mvtec_ad(tmp_path / "set/uber")
    with pytest.raises(ParameterError, match=r"two categories would be the unit 'set\.uber'; rename one folder"):
        register(tmp_path / "set", None, "auto", params)


def test_one_folder_under_two_names_is_said(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "kit")
    register(tmp_path / "kit", None, "auto", params)
    again = register(tmp_path / "kit", "other", "auto", params)
    assert again.remarks == ("'other' has the same folder as the unit 'kit'",)
    assert set(load_params(params).units) == {"kit", "other"}


# ---- bad input


def test_bad_data_is_not_registered_and_all_of_it_is_named(tmp_path: Path, params: Path) -> None:
    for category in ("bag", "box"):
        datasets.mvtec_ad(tmp_path / f"set/{category}")
        (tmp_path / f"set/{category}/train/good/001.png").write_bytes(b"")
    before = params.read_bytes()
    with pytest.raises(ImageError) as caught:
        register(tmp_path / "set", None, "auto", params)
    for category in ("bag", "box"):
        assert f"set/{category}/train/good/001.png: the file is empty" in str(caught.value)
    assert params.read_bytes() == before


def test_a_misspelt_parameter_or_no_params_at_all(tmp_path: Path, params: Path) -> None:
    datasets.mvtec_ad(tmp_path / "kit")
    params.write_text("units: {}\ndata: {on_bad_imag: skip}\n")
    with pytest.raises(ParameterError, match=r"unknown parameter 'data\.on_bad_imag'; did you mean 'on_bad_image'"):
        register(tmp_path / "kit", None, "auto", params)
    with pytest.raises(ParameterError, match=r"gone\.yaml: no such file"):
        register(tmp_path / "kit", None, "auto", tmp_path / "gone.yaml")


def test_an_unknown_layout(tmp_path: Path, params: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"unknown layout\. Looked for"):
        register(tmp_path / "empty", None, "auto", params)


def test_a_read_only_folder(tmp_path: Path, params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.mvtec_ad(tmp_path / "kit")
    before = params.read_bytes()

    def refused(*_: object, **__: object) -> None:  # the tests may run as root, whom no permission bit stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    with pytest.raises(ParameterError, match=r"params\.yaml: cannot be written \(Permission denied\); make its folder"):
        register(tmp_path / "kit", None, "auto", params)
    assert params.read_bytes() == before


# ---- what is said


def test_render(tmp_path: Path, params: Path) -> None:
    root = datasets.mvtec_loco(tmp_path / "set [1]/kit")
    datasets.mvtec_ad(tmp_path / "set [1]/bag")
    (tmp_path / "set [1]/notes").mkdir()
    Image.new("RGB", (64, 48)).save(root / "train/good/[black].png")
    for index in range(20):
        (root / f"{'abcdefghijklmnopqrst'[index]}").mkdir()
        (root / f"{'abcdefghijklmnopqrst'[index]}/x.txt").touch()
    text = describe_registration(register(tmp_path / "set [1]", None, "auto", params))
    assert "set-1.kit: mvtec_loco in ../set [1]/kit (added)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["train", "7", "-", "-"] in lines
    assert ["test", "1", "1", "1"] in lines
    assert "pixels: 32 x 32 (10 images), 64 x 48 (1 image)" in text
    assert "more problems; the stage prepare lists all of them" in text
    assert "notes: no category: no folder train/good in it; ignored" in text
    assert "Note: the folder 'set [1]' is called 'set-1'" in text
    assert text.splitlines()[-1] == "Next: dvc repro"
    assert "\x1b" not in text


def test_render_of_many_sizes(tmp_path: Path, params: Path) -> None:
    for side in range(20, 30):
        noise = np.random.default_rng(side).integers(0, 256, (side, 40, 3)).astype(np.uint8)
        (tmp_path / "kit").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / f"kit/{side}.png")
    text = describe_registration(register(tmp_path / "kit", None, "auto", params))
    assert "pixels: 10 sizes from 40 x 20 to 40 x 29" in text
    assert text.splitlines()[-1] == "Next: dvc repro fuse@kit"
