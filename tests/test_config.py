"""Parameters: what is wrong is said, and nothing wrong is accepted."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tmuad.config import Params, load_params, parse_params, read_yaml
from tmuad.errors import ParameterError

UNIT = {"root": "data/demo/kit", "layout": "mvtec_loco"}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(raw: object) -> str:
    with pytest.raises(ParameterError) as caught:
        parse_params(raw)
    return str(caught.value)


# ---- what is right


def test_a_file_with_units_alone_gives_the_defaults(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "units:\n  demo.kit: {root: data/demo/kit, layout: mvtec_loco}\n"))
    assert params.unit("demo.kit").root == "data/demo/kit"
    assert params.data.size == 448
    assert (params.fuse.paper.text, params.fuse.paper.objects, params.fuse.paper.patches) == (0.05, 0.30, 0.65)


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    """YAML 1.1 calls 4e-3 a string; people write it."""
    params = load_params(written(tmp_path, "units: {}\nfinetune: {learning_rate: 4e-3}\n"))
    assert params.finetune.learning_rate == 0.004


def test_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    text = "units:\n  a: &base {root: x, layout: folder}\n  b:\n    <<: *base\n    root: y\n"
    params = load_params(written(tmp_path, text))
    assert (params.unit("b").root, params.unit("b").layout) == ("y", "folder")


def test_parameters_are_immutable() -> None:
    params = parse_params({"units": {}})
    with pytest.raises(ValueError, match="frozen"):
        params.data.size = 64  # type: ignore[misc]


def test_dumping_and_parsing_gives_the_same_parameters() -> None:
    params = parse_params({"units": {"a": UNIT}, "fuse": {"method": "paper"}})
    assert parse_params(yaml.safe_load(yaml.safe_dump(params.model_dump(mode="json")))) == params


# ---- unknown keys


@pytest.mark.parametrize(
    ("raw", "key", "neighbour"),
    [
        ({"units": {}, "segmnt": {}}, "segmnt", "segment"),
        ({"units": {}, "data": {"sise": 448}}, "data.sise", "size"),
        ({"units": {}, "segment": {"grounded": {"min_are": 0.1}}}, "segment.grounded.min_are", "min_area"),
        ({"units": {}, "fuse": {"paper": {"txt": 1}}}, "fuse.paper.txt", "text"),
        ({"units": {"a": {**UNIT, "layot": "folder"}}}, "units.a.layot", "layout"),
    ],
)
def test_an_unknown_key_is_named_with_its_neighbours(raw: dict[str, Any], key: str, neighbour: str) -> None:
    message = refusal(raw)
    assert f"unknown parameter '{key}'" in message
    assert f"did you mean '{neighbour}'?" in message
    assert "Known here: " in message


def test_a_key_unlike_any_other_gets_the_list_but_no_guess() -> None:
    message = refusal({"units": {}, "decide": {"zzz": 1}})
    assert "did you mean" not in message
    assert "false_alarm_rate" in message


def test_every_mistake_is_listed() -> None:
    message = refusal({"units": {}, "data": {"sise": 1, "bits": 99}, "demo": {"seed": -1}})
    assert len(message.splitlines()) == 3


# ---- units


def test_two_units_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "units:\n  a: {root: x, layout: folder}\n  b: {root: z, layout: folder}\n  a: {root: y, layout: folder}\n",
    )
    with pytest.raises(ParameterError, match=r"params\.yaml: line 4: the key 'a' stands twice"):
        load_params(path)


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", ".hidden", "-x", "ä", "a\n"])
def test_a_unit_name_that_is_no_file_name_is_refused(name: str) -> None:
    assert "units" in refusal({"units": {name: UNIT}})


def test_a_unit_without_root_says_so_without_a_dump() -> None:
    assert refusal({"units": {"a": {"layout": "folder"}}}) == "params: units.a.root: required, but not given"


def test_an_unknown_layout_lists_the_layouts() -> None:
    message = refusal({"units": {"a": {"root": "x", "layout": "coco"}}})
    assert "mvtec_loco" in message
    assert "'coco'" in message


def test_an_unknown_unit_lists_the_units_and_guesses() -> None:
    params = parse_params({"units": {"demo.kit": UNIT, "tiles": UNIT}})
    with pytest.raises(ParameterError, match=r"'demo.kti'.*demo.kit, tiles.*Did you mean 'demo.kit'"):
        params.unit("demo.kti")
    with pytest.raises(ParameterError, match="none"):
        parse_params({"units": {}}).unit("a")


# ---- values


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "size", 63),
        ("data", "size", 4096),
        ("data", "size", 449),  # segmentation works at half size
        ("data", "size", 448.5),
        ("data", "size", "big"),
        ("data", "size", None),
        ("data", "size", [448]),
        ("data", "bits", 17),
        ("data", "holdout", 0),
        ("data", "holdout", 1.0),
        ("data", "holdout", math.nan),
        ("data", "on_bad_image", "ignore"),
        ("data", "workers", -1),
        ("data", "max_pixels", math.inf),
        ("finetune", "crop_size", 40),
        ("finetune", "learning_rate", math.nan),
        ("finetune", "learning_rate", math.inf),
        ("describe", "fuzz", 0.17),
        ("decide", "false_alarm_rate", 0),
        ("decide", "false_alarm_rate", 1),
        ("fuse", "method", "mean"),
        ("fuse", "paper", {"text": -0.1}),
        ("fuse", "paper", {"text": math.nan}),
        ("fuse", "calibrated", {"patches": math.inf}),
        ("fuse", "calibrated", None),
        ("patch_bank", "encoders", "filters"),
        ("patch_bank", "encoders", ["resnet"]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(section: str, key: str, value: object) -> None:
    message = refusal({"units": {}, section: {key: value}})
    assert message.startswith(f"params: {section}.{key}")


@pytest.mark.parametrize("raw", [None, [], "text", 3, {"units": "kit"}, {"units": []}, {}])
def test_no_mapping_of_sections_is_refused(raw: object) -> None:
    assert refusal(raw).startswith("params: ")


# ---- files


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no such file; run this in the folder"):
        load_params(tmp_path / "params.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot be read"):
        load_params(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        b"units: [",
        b"\xff\xfe\x00units",
        b"a: \x00",
        b"a: !!python/object:os.system 1",
        b"root: 2024-13-01",  # looks like a date
        b"a: !!int x",
        b"{[a]: 1}",
        b"a: *nowhere",
        b"[" * 500,
        b"!!timestamp x",
    ],
)
def test_what_is_not_yaml_is_said_to_be_so(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ParameterError, match=r"params\.yaml: not readable as YAML"):
        load_params(written(tmp_path, text))


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_bottomless_nesting_is_refused_before_it_is_built(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParameterError, match=r"params\.yaml: not readable as YAML: nested more than 64 deep"):
        load_params(written(tmp_path, text))


def test_an_empty_file_is_no_mapping(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "# nothing\n")) is None
    with pytest.raises(ParameterError, match="expected a mapping"):
        load_params(tmp_path / "params.yaml")


# ---- anything

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["filters", "folder"])
)
KEYS = st.sampled_from(
    ["units", "data", "size", "fuse", "paper", "text", "segment", "open", "root", "layout"]
) | st.text(max_size=4)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, ANYTHING, max_size=3) | SCALARS)
def test_whatever_is_given_is_accepted_or_refused_in_words(raw: object) -> None:
    try:
        assert isinstance(parse_params(raw), Params)
    except ParameterError as error:
        assert str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=30) | st.text(alphabet="[]{}:,&*!<>|-?#'\"% \n\tab1.~", max_size=30).map(str.encode))
def test_whatever_a_file_holds_is_accepted_or_refused_in_words(tmp_path: Path, content: bytes) -> None:
    try:
        load_params(written(tmp_path, content))
    except ParameterError as error:
        assert "params.yaml" in str(error)


def test_a_section_with_nothing_in_it_has_its_defaults() -> None:
    assert parse_params({"units": None, "data": None, "fuse": None}) == parse_params({"units": {}})
