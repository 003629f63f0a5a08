"""Maps as files, read back as MVTec's evaluation scripts read them."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile

from tmuad.errors import ArtifactError
from tmuad.evaluate.export import export_maps, map_path

ROWS = [
    ("a", "test/good/000.png", "good"),
    ("b", "test/logical_anomalies/000.png", "logical"),
    ("c", "test/structural_anomalies/007.bmp", "structural"),
]
MAPS = {name: np.random.default_rng(i).random((16, 16)).astype(np.float32) for i, name in enumerate("abc")}


def write(folder: Path, rows=ROWS, **options) -> int:
    return export_maps(rows, MAPS.__getitem__, lambda path: (48, 32), folder, **options)


def test_the_layout_of_mvtecs_scripts(tmp_path: Path) -> None:
    assert write(tmp_path / "kit") == 3
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "kit/test/good/000.tiff", "kit/test/logical_anomalies/000.tiff", "kit/test/structural_anomalies/007.tiff",
    ]  # fmt: skip
    values = tifffile.imread(tmp_path / files[1])
    assert values.shape == (48, 32) and values.dtype == np.float32
    assert values.mean() == pytest.approx(MAPS["b"].mean(), abs=0.01)
    assert np.abs(values[1::3, 0::2][:16] - MAPS["b"]).max() < 0.35  # neighbours are mixed in, nothing is moved


def test_a_map_in_the_size_of_its_image_is_left_as_it_is(tmp_path: Path) -> None:
    export_maps(ROWS[:1], MAPS.__getitem__, lambda path: (16, 16), tmp_path)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "test/good/000.tiff"), MAPS["a"])
    export_maps(ROWS[:1], MAPS.__getitem__, lambda path: (16, 16), tmp_path, half=True, overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "test/good/000.tiff"), MAPS["a"].astype(np.float16))


def test_equal_bytes_and_no_old_maps_beside_new_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name)
    for row in ROWS:
        assert (tmp_path / "a" / map_path(*row[1:])).read_bytes() == (tmp_path / "b" / map_path(*row[1:])).read_bytes()
    with pytest.raises(ArtifactError, match=r"holds 3 maps, such as 000\.tiff; name another folder, or overwrite"):
        write(tmp_path / "a")
    assert write(tmp_path / "a", ROWS[1:], overwrite=True) == 2
    assert not (tmp_path / "a/test/good/000.tiff").exists()


def test_paths_of_other_layouts() -> None:
    assert map_path("test/Ungood/img/00002_60.png", "structural") == PurePosixPath("test/Ungood/00002_60.tiff")
    assert map_path("Data/Images/Anomaly/000.JPG", "structural") == PurePosixPath("test/bad/000.tiff")
    assert map_path("Data/Images/Normal/0001.JPG", "good") == PurePosixPath("test/good/0001.tiff")


def test_two_images_of_one_name_and_maps_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"000\.bmp and test/good/000\.png: both would be test/good/000\.tiff"):
        write(tmp_path / "a", [ROWS[0], ("b", "test/good/000.bmp", "good")])
    with pytest.raises(ArtifactError, match=r"test/good/000\.png: its map is not finite"):
        export_maps(ROWS[:1], lambda i: np.full((4, 4), np.nan), lambda path: (4, 4), tmp_path / "b")
