"""Profiles: what they override, and what they refuse."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tmuad.config import ComponentsParams, RegionsParams, UnitParams, load_params, parse_params
from tmuad.config_models import ClipFinetuneParams, GroundedSamParams, SamParams
from tmuad.data.params_edit import add_units
from tmuad.errors import ParameterError
from tmuad.profiles import apply_profile, load_profile, overlay

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(p.stem for p in (ROOT / "profiles").glob("*.yaml"))
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


def workspace(folder: Path, params: str, **profiles: str) -> Path:
    (folder / "profiles").mkdir(exist_ok=True)
    for name, text in profiles.items():
        (folder / f"profiles/{name}.yaml").write_text(text)
    path = folder / "params.yaml"
    path.write_text(params)
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_every_profile_fits_the_params_of_the_repository(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    text = (ROOT / "params.yaml").read_text().replace("profile: embedded", f"profile: {name}")
    (tmp_path / "params.yaml").write_text(text)
    params = load_params(tmp_path / "params.yaml")
    assert params.profile == name
    assert isinstance(params.segment.grounded, GroundedSamParams)
    assert isinstance(params.segment.open, SamParams)
    assert isinstance(params.finetune, ClipFinetuneParams)
    assert params.fuse.method == "paper"


def test_the_variants_of_table_xi() -> None:
    variants = {name: parse_params({"units": {}, "profile": name}, folder=ROOT) for name in SHIPPED}
    clusters = {name: params.patch_bank.clusters for name, params in variants.items()}
    assert (clusters["tmuad-u-l"], clusters["tmuad-u-b"], clusters["tmuad-u-s"]) == (300, 100, 25)
    assert variants["tmuad-u-s"].describe.position == "nine_grid"
    assert variants["tmuad-u-b"].describe.position == variants["tmuad-i-b"].describe.position == "vlm"
    scopes = {n: p.finetune.scope for n, p in variants.items() if isinstance(p.finetune, ClipFinetuneParams)}
    assert (scopes["tmuad-u-b"], scopes["tmuad-i-b"]) == ("unified", "individual")
    same = variants["tmuad-u-b"].model_dump(exclude={"profile"})
    assert same == variants["paper"].model_dump(exclude={"profile"})


def test_without_a_profile_nothing_changes() -> None:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = parse_params(raw, folder=ROOT)
    assert isinstance(params.segment.grounded, ComponentsParams) and isinstance(params.segment.open, RegionsParams)
    assert params.patch_bank.encoders == ("filters",)
    assert parse_params({k: v for k, v in raw.items() if k != "profile"}) == params


def test_the_profile_wins_and_the_rest_stays(tmp_path: Path) -> None:
    path = workspace(tmp_path, "profile: mine\nunits: {}\nfuse: {method: calibrated}\ndata: {bits: 12}\n",
                     mine="fuse: {method: paper}\n")  # fmt: skip
    params = load_params(path)
    assert (params.fuse.method, params.data.bits) == ("paper", 12)


def test_another_backend_replaces_a_slot_as_a_whole(tmp_path: Path) -> None:
    params = "profile: mine\nunits: {}\nsegment: {grounded: {backend: components, sensitivity: 2}}\n"
    path = workspace(tmp_path, params, mine="segment: {grounded: {backend: grounded_sam, box_threshold: 0.5}}\n")
    grounded = load_params(path).segment.grounded
    assert isinstance(grounded, GroundedSamParams) and grounded.box_threshold == 0.5


def test_the_same_backend_is_merged(tmp_path: Path) -> None:
    params = "profile: child\nunits: {}\n"
    path = workspace(
        tmp_path,
        params,
        parent="segment: {grounded: {backend: grounded_sam, box_threshold: 0.5, nms: 0.3}}\n",
        child="extends: parent\nsegment: {grounded: {backend: grounded_sam, nms: 0.9}}\n",
    )
    grounded = load_params(path).segment.grounded
    assert isinstance(grounded, GroundedSamParams) and (grounded.box_threshold, grounded.nms) == (0.5, 0.9)


@given(MAPPINGS, MAPPINGS)
def test_overlay_twice_is_overlay_once_and_changes_neither(base: dict[str, object], over: dict[str, object]) -> None:
    before = yaml.safe_dump([base, over])
    once = overlay(base, over)
    assert overlay(once, over) == once
    assert yaml.safe_dump([base, over]) == before
    assert overlay(base, {}) == base and overlay({}, over) == over


@pytest.mark.parametrize(
    ("profile", "files", "words"),
    [
        ("papr", {"paper": ""}, ["papr.yaml: no such profile", "Did you mean 'paper'?"]),
        ("a", {"a": "extends: b", "b": "extends: a"}, ["extends itself", "a -> b -> a"]),
        ("a", {"a": "units: {}"}, ["'units' belongs into params.yaml"]),
        ("a", {"a": "- 1"}, ["expected a mapping", "list"]),
        ("a", {"a": "fuse: {metod: paper}"}, ["with profile a", "fuse.metod", "did you mean 'method'?"]),
        (
            "a",
            {"a": "segment: {open: {backend: sam, modell: vit_h}}"},
            ["segment.open.modell", "did you mean 'model'?"],
        ),
        ("a", {"a": "segment: {open: {backend: samm}}"}, ["segment.open.backend: 'samm'", "regions, sam"]),
        ("a", {"a": "finetune: {backend: clip, crop_sise: 3}"}, ["finetune.crop_sise", "crop_size"]),
        ("../x", {}, ["expected the name of a file"]),
        (3, {}, ["expected the name of a file", "3"]),
    ],
)
def test_what_a_profile_refuses(tmp_path: Path, profile: object, files: dict[str, str], words: list[str]) -> None:
    path = workspace(tmp_path, f"profile: {profile}\nunits: {{}}\n", **files)
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    for word in words:
        assert word in str(caught.value)


def test_units_can_be_added_under_a_profile(tmp_path: Path) -> None:
    path = workspace(tmp_path, "profile: mine\nunits: {}\n", mine="fuse: {method: paper}\n")
    add_units(load_params(path), path, {"kit": UnitParams(root="x", layout="folder")})
    assert load_params(path).unit("kit").root == "x"
    assert "paper" not in path.read_text()


def test_the_source_says_which_profile(tmp_path: Path) -> None:
    workspace(tmp_path, "", mine="fuse: {method: paper}\n")
    raw, source = apply_profile({"profile": "mine"}, "params.yaml", tmp_path)
    assert raw["fuse"] == {"method": "paper"} and source == "params.yaml with profile mine"
    assert load_profile("embedded", tmp_path) == {}
