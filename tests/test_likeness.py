"""Nearest normal image by patch, against a slow reference; and when an image arrived."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tmuad.banks.likeness import GRID, Likeness, Projection, _directions, _pool
from tmuad.data.arrivals import Arrival, arrival, read_log, update_log
from tmuad.errors import ArtifactError, DataError

IDS = tuple(f"{i:064x}" for i in range(9))


def features(seed, shape=(16, 20), channels=24):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.normal(size=(*shape, channels)).astype(np.float16),
        "b": rng.normal(size=(11, 9, 7)).astype(np.float16),
    }


@pytest.fixture(scope="module")
def likeness():
    return Likeness.fit(IDS, lambda: (features(i) for i in range(9)))


def test_pooling_is_the_mean_of_each_cell():
    values = np.random.default_rng(0).normal(size=(19, 16, 3))
    pooled = _pool(values).reshape(GRID, GRID, 3)
    rows = np.arange(GRID + 1) * 19 // GRID
    for i in range(GRID):
        for j in range(GRID):
            cell = values[rows[i] : rows[i + 1], 2 * j : 2 * j + 2]
            np.testing.assert_allclose(pooled[i, j], cell.mean(axis=(0, 1)), rtol=1e-5)
    coarse = _pool(np.arange(4.0).reshape(2, 2, 1)).reshape(GRID, GRID)
    assert (coarse[:4, :4] == 0).all() and (coarse[4:, 4:] == 3).all()


def test_nearest_is_that_of_all_pairwise_distances(likeness):
    signatures = likeness.signatures.astype(np.float32)
    for seed in range(9, 14):
        query = likeness.projection(features(seed))
        slow = [np.sqrt(np.mean([np.sum((s[p] - query[p]) ** 2) for p in range(GRID**2)])) for s in signatures]
        image_id, distance = likeness.nearest(features(seed))
        assert image_id == IDS[int(np.argmin(slow))] and distance == pytest.approx(min(slow), rel=1e-4)


def test_an_image_finds_itself_unless_it_is_ignored(likeness):
    image_id, distance = likeness.nearest(features(4))
    assert image_id == IDS[4] and distance < 0.01
    other, away = likeness.nearest(features(4), ignore=IDS[4])
    assert other != IDS[4] and away > 0.1


def test_projection_keeps_distances_on_average():
    directions = _directions(500, 0)
    rows = np.random.default_rng(1).normal(size=(200, 500))
    projected = ((rows @ directions) ** 2).sum(axis=1)
    assert projected.mean() == pytest.approx((rows**2).mean(), rel=0.1)


def test_place_distances_are_those_to_the_nearest_other(likeness):
    rows, found = likeness.signatures.astype(np.float32), likeness.place_distances()
    for i in (0, 5):
        for place in (0, 13, 63):
            slow = min(np.linalg.norm(rows[i, place] - rows[j, place]) for j in range(9) if j != i)
            assert found[i, place] == pytest.approx(slow, rel=1e-3)


def test_saved_and_loaded_and_equal_in_bytes(likeness, tmp_path):
    likeness.save(tmp_path / "x.safetensors")
    loaded = Likeness.load(tmp_path / "x.safetensors")
    assert loaded.image_ids == IDS and loaded.nearest(features(11)) == likeness.nearest(features(11))
    loaded.save(tmp_path / "y.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()


def test_no_image_or_a_single_one(tmp_path):
    none = Likeness.fit((), lambda: iter(()))
    assert none.nearest({})[0] == ""
    one = Likeness.fit(IDS[:1], lambda: iter([features(0)]))
    assert one.nearest(features(1))[0] == IDS[0] and one.nearest(features(0), ignore=IDS[0])[0] == ""


def test_missing_or_foreign_files_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="dvc repro context@u"):
        Likeness.load(tmp_path / "u/likeness.safetensors")
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="x: no usable"):
        Likeness.load(tmp_path / "x")


def test_a_channel_that_never_varies_does_not_explode():
    flat = [{"a": np.ones((8, 8, 4), np.float16)} for _ in range(3)]
    assert np.isfinite(Projection.fit(flat)(flat[0])).all()


# --- arrivals


def test_the_photograph_comes_first_then_the_name(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:03:04 05:06:07"
    Image.new("RGB", (8, 8)).save(tmp_path / "shot 2020-01-01.jpg", exif=exif)
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    assert arrival(tmp_path, "plain.png") == Arrival()
    taken = arrival(tmp_path, "shot 2020-01-01.jpg")
    assert (taken.source, str(taken.when)) == ("photograph", "2026-03-04 05:06:07")


def test_the_date_of_a_png_may_stand_behind_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0132] = "2026:03:04 05:06:07"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", exif=exif)
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"eXIf") - 4
    chunk = content[at : at + 12 + int.from_bytes(content[at : at + 4])]
    end = content.index(b"IEND") - 4
    (tmp_path / "b.png").write_bytes(content[:at] + content[at + len(chunk) : end] + chunk + content[end:])
    for name in ("a.png", "b.png"):
        assert str(arrival(tmp_path, name).when) == "2026-03-04 05:06:07"


@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("line3/20260131_081500_cam.png", "2026-01-31 08:15:00"),
        ("2026-02-30/2026-02-28.png", "2026-02-28 00:00:00"),
        ("IMG_2026.11.24.png", "2026-11-24 00:00:00"),
        ("part-120260131.png", None),
        ("2026-13-01.png", None),
        ("0012026.png", None),
    ],
)
def test_dates_in_names(tmp_path, name, when):
    found = arrival(tmp_path, name)
    assert (str(found.when) if found.when else None) == when and found.source == ("name" if when else "")


@pytest.mark.parametrize("text", ["when\nx\n", "path,arrived\na.png,soon\n", "path,arrived\na.png\n", "\x00"])
def test_a_log_that_is_none_is_named(tmp_path, text):
    (tmp_path / "u.csv").write_text(text)
    with pytest.raises(DataError, match=r"u\.csv: no list of arrivals"):
        read_log(tmp_path / "u.csv")
    assert read_log(tmp_path / "missing.csv") == {}


BY_HAND = '\ufeffshift,path,arrived\r\nB,"a, ""1"".png",2026-01-05T08:00:00\r\nA,b.png,2026-01-06 09:30\r\n'


def test_a_log_is_added_to_and_its_other_lines_stay_as_they_were(tmp_path):
    path, noon = tmp_path / "logs/u.csv", datetime(2026, 2, 1, 12)
    update_log(path, {"x.png": None})
    assert not path.exists()
    update_log(path, {"x.png": noon, 'y, "2".png': noon})
    update_log(path, {"x.png": noon})
    assert read_log(path) == {"x.png": noon, 'y, "2".png': noon}
    update_log(path, {"x.png": None, 'y, "2".png': None})
    assert path.read_text() == "path,arrived\n"
    path.write_bytes(BY_HAND.encode())
    before = read_log(path)
    update_log(path, {"x.png": noon, "b.png": noon})
    assert read_log(path) == before | {"x.png": noon, "b.png": noon} and len(before) == 2
    path.write_bytes(BY_HAND.encode())
    update_log(path, {"x.png": noon})
    assert path.read_bytes().startswith(BY_HAND.encode())
    update_log(path, {"x.png": None})
    assert path.read_bytes() == BY_HAND.encode()
    path.write_text("path,arrived\nlast.png,2026-01-06")  # no end of line
    update_log(path, {"x.png": noon})
    assert len(read_log(path)) == 2


@example({"a\u2028b.png": datetime(2026, 1, 1)})
@given(
    st.dictionaries(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1), st.datetimes(), max_size=5)
)
def test_whatever_images_are_called_the_log_tells_them(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("log") / "u.csv"
    images = {name: when.replace(microsecond=0) for name, when in images.items()}
    update_log(path, images)
    assert read_log(path) == images
