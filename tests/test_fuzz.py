"""Whatever a person or a broken disk may put into a file: a result, or an error in words that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from fits import kit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tmuad.config import UnitParams, load_params, parse_params
from tmuad.data.images import image_shape, read_image
from tmuad.data.layouts.mvtec_loco import saturation_config
from tmuad.data.params_edit import add_units
from tmuad.errors import TmuadError
from tmuad.report.tables import load_result
from tmuad.score.fuse import Calibration, load_calibration
from tmuad.score.sentences import load_names
from tmuad.segment.classes import load_classes

settings.register_profile("fuzz", settings.get_profile("tmuad"), suppress_health_check=list(HealthCheck))
FUZZ = settings(settings.get_profile("fuzz"), max_examples=60)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
YAML_BYTES = st.binary(max_size=60) | st.text(alphabet="-:{}[]&*!|>'\"%@`#,?ab1 \n\t", max_size=60).map(str.encode)


def in_words(path: Path, read: Callable[[Path], object]) -> object:
    """What was read; None where it was refused with an error that names the file."""
    try:
        return read(path)
    except TmuadError as error:
        assert str(path) in str(error) or path.name in str(error)
        return None


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@FUZZ
@given(YAML_BYTES | st.dictionaries(st.text(max_size=8), VALUES, max_size=3).map(lambda v: yaml.safe_dump(v).encode()))
def test_names_of_classes(tmp_path: Path, content: bytes) -> None:
    names = in_words(write(tmp_path / "kit.yaml", content), load_names)
    if isinstance(names, dict):
        assert all(one.strip() and many.strip() for one, many in names.values())
        assert len({one for one, _ in names.values()}) == len(names)


GOOD_DEFECT = {"defect_name": "scratch", "pixel_value": 255, "saturation_threshold": 1.0, "relative_saturation": True}
DEFECTS = st.lists(
    st.dictionaries(st.sampled_from([*GOOD_DEFECT, "other"]), VALUES, max_size=5).map(lambda d: GOOD_DEFECT | d),
    max_size=3,
)


@FUZZ
@given((VALUES | DEFECTS).map(lambda v: json.dumps(v, default=str).encode()) | st.binary(max_size=40))
def test_defects_config(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "defects_config.json", content)
    entries = in_words(tmp_path / "defects_config.json", lambda path: saturation_config(path.parent))
    if isinstance(entries, list):
        assert all(1 <= e.pixel_value <= 255 and e.saturation_threshold > 0 for e in entries)
        assert len({e.pixel_value for e in entries}) == len(entries)


UNIT = {"new.unit": UnitParams(root="my photos/ä: b", layout="folder")}
KNOWN = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True).filter(lambda name: name != "new.unit"),
    st.fixed_dictionaries({"root": st.text(max_size=8), "layout": st.sampled_from(["folder", "mvtec_ad"])}),
    max_size=3,
)


@FUZZ
@given(KNOWN, st.booleans(), st.sampled_from([2, 4, 7]), st.sampled_from(["", "# end\n", "data: {size: 96}\n", "\n\n"]))
def test_units_are_added_to_any_params_or_the_file_is_left_alone(
    tmp_path: Path, units: dict[str, dict[str, str]], flow: bool, indent: int, rest: str
) -> None:
    path = tmp_path / "params.yaml"
    text = yaml.safe_dump({"units": units}, default_flow_style=flow, indent=indent, allow_unicode=True) + rest
    path.write_bytes(text.encode())
    params = in_words(path, load_params)
    if params is None:
        return
    if in_words(path, lambda p: add_units(params, p, UNIT) or True):  # type: ignore[arg-type,func-returns-value]
        assert load_params(path).units == {**parse_params(yaml.safe_load(text)).units, **UNIT}
        assert rest.strip() in path.read_text()
    else:
        assert path.read_bytes() == text.encode()


CALIBRATION = Calibration({"text": 0.0}, {"text": 1.0}, {"a/b": 0.5}, 2.0, 0.05, (1.0, 2.0))


@FUZZ
@given(
    st.dictionaries(st.sampled_from([*vars(CALIBRATION), "x"]), VALUES, max_size=3),
    st.binary(max_size=30),
    st.booleans(),
)
def test_artifacts_in_json(tmp_path: Path, changes: dict[str, object], raw: bytes, whole: bool) -> None:
    for name in ("problems.csv", "metrics.json"):
        (tmp_path / name).unlink(missing_ok=True)
    CALIBRATION.save(tmp_path / "calibration.json")
    content = json.loads((tmp_path / "calibration.json").read_text()) | changes
    write(tmp_path / "calibration.json", json.dumps(content, default=str).encode() if whole else raw)
    in_words(tmp_path / "calibration.json", load_calibration)
    write(tmp_path / "classes.json", json.dumps(changes, default=str).encode() if whole else raw)
    in_words(tmp_path / "classes.json", load_classes)
    write(tmp_path / "metrics.json", raw)
    in_words(tmp_path / "metrics.json", lambda path: load_result("kit", path, tmp_path / "problems.csv"))
    write(tmp_path / "problems.csv", raw)
    (tmp_path / "metrics.json").unlink()
    in_words(tmp_path / "problems.csv", lambda path: load_result("kit", tmp_path / "metrics.json", path))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small picture in each format, and the rarer ways to write it."""
    place = tmp_path_factory.mktemp("files")
    pixels = kit(0, size=96)[:32, :40]
    Image.fromarray(pixels).save(place / "a.png")
    Image.fromarray(pixels).quantize(16).save(place / "p.png")
    Image.fromarray(pixels).save(place / "a.bmp")
    Image.fromarray(pixels).save(place / "a.jpg", quality=80)
    Image.fromarray(pixels).save(place / "z.tif", compression="tiff_deflate")
    tifffile.imwrite(place / "deep.tif", (pixels.astype(np.uint16) * 257), photometric="rgb")
    tifffile.imwrite(place / "tiled.tif", pixels, photometric="rgb", tile=(16, 16), compression="zlib")
    tifffile.imwrite(place / "big.tif", pixels[..., 0], bigtiff=True)
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks; the command line hides them
@settings(settings.get_profile("fuzz"), max_examples=250)
@given(
    st.sampled_from(["a.png", "p.png", "a.bmp", "a.jpg", "z.tif", "deep.tif", "tiled.tif", "big.tif"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_pictures_with_damaged_headers(
    tmp_path: Path, files: dict[str, bytes], name: str, changes: list[tuple[int, int]], kept: float
) -> None:
    content = bytearray(files[name])
    for place, value in changes:
        content[place % len(content)] = value
    path = write(tmp_path / name, bytes(content[: max(1, int(len(content) * max(kept, 0.5)))]))
    shape = in_words(path, lambda p: image_shape(p, max_pixels=100_000))
    picture = in_words(path, lambda p: read_image(p, max_pixels=100_000))
    if isinstance(picture, np.ndarray):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert shape is None or tuple(picture.shape[:2]) == shape
