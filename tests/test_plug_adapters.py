"""Which file is a map of which image: folders of maps, PBAS, UniVAD, tables of scores, anomalib's predictions."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from plugging import Pbas

from tmuad.errors import DataError
from tmuad.plug.adapters import Images, read_results
from tmuad.plug.adapters.anomalib import from_predictions, save_predictions
from tmuad.plug.adapters.pbas import read_picture
from tmuad.plug.maps import to_map
from tmuad.plug.scores import find_image, read_scores

TEST = [
    "test/bad-1/000.png",
    "test/bad/000.png",
    "test/bad/001.png",
    "test/good/000.png",
    "test/good/10.png",
    "test/good/9.png",
]
SPLITS = {path: path.partition("/")[0] for path in ("train/good/000.png", "validation/good/000.png", *TEST)}
MAP = np.random.default_rng(0).random((8, 8)).astype(np.float32)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return photographed(tmp_path / "my_kit", (32, 32))


def photographed(root: Path, shape: tuple[int, int]) -> Images:
    """A unit whose test images lie in `root`, each (H, W)."""
    for number, path in enumerate(TEST):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (*shape, 3), np.uint8)
        Image.fromarray(noise).save(root / path)
    return Images("kit", root, SPLITS, 10**6)


def put(folder: Path, *names: str, values: NDArray[np.float32] = MAP) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, values)
    return folder


def refused(source: str, folder: Path, images: Images, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_results(source, folder, images)


# ---- folders


def test_maps_are_matched_by_path_with_or_without_the_images_suffix(tmp_path: Path, images: Images) -> None:
    folder = put(tmp_path / "maps", "test/bad/000.npy", "test/good/000.png.npy", "validation/good/000.npy")
    (folder / "readme.txt").write_text("passed over")
    (folder / ".hidden").mkdir()
    put(folder, ".hidden/x.npy")
    results = read_results("folder", folder, images)
    assert results.maps.files == {
        "test/bad/000.png": folder / "test/bad/000.npy",
        "test/good/000.png": folder / "test/good/000.png.npy",
        "validation/good/000.png": folder / "validation/good/000.npy",
    }
    assert results.scores is None and results.remarks == ()
    np.testing.assert_array_equal(results.maps["test/bad/000.png"], MAP)


def test_an_image_whose_name_another_one_shares_but_for_the_suffix(tmp_path: Path) -> None:
    images = Images("kit", tmp_path, {"a.png": "test", "a.jpg": "test"}, 10**6)
    assert list(read_results("folder", put(tmp_path / "m", "a.jpg.npy"), images).maps.files) == ["a.jpg"]
    refused(
        "folder", put(tmp_path / "n", "a.npy"), images, r"a\.npy: could belong to a\.png or a\.jpg; name it a\.png\.npy"
    )


def test_unknown_maps_and_two_of_one_image(tmp_path: Path, images: Images) -> None:
    folder = put(tmp_path / "maps", "test/bad/000.npy", *(f"other/{i}.npy" for i in range(5)))
    refused(
        "folder", folder, images, r"5 maps belong to no image of kit: other/0\.npy, .* and 2 more; .*--skip-unknown"
    )
    assert list(read_results("folder", folder, images, skip_unknown=True).maps) == ["test/bad/000.png"]
    refused(
        "folder", put(tmp_path / "two", "test/bad/000.npy", "test/bad/000.png.npy"), images, "two maps of the image"
    )
    refused(
        "folder", put(tmp_path / "none", "kit/test/bad/000.npy"), images, r"no map .* there is kit/test/bad/000\.npy"
    )
    refused("folder", tmp_path / "nowhere", images, "no such folder; give the one that holds the maps")
    (tmp_path / "empty").mkdir()
    refused("folder", tmp_path / "empty", images, r"no map .* expected files such as test/bad-1/000\.npy")


def test_links_out_of_the_folder_are_refused(tmp_path: Path, images: Images) -> None:
    folder = put(tmp_path / "maps", "test/bad/000.npy")
    secret = put(tmp_path / "elsewhere", "secret.npy") / "secret.npy"
    (folder / "test/bad/001.npy").symlink_to(secret)
    refused("folder", folder, images, r"bad/001\.npy: a symbolic link out of the folder, to .*secret\.npy")
    (folder / "test/bad/001.npy").unlink()
    (folder / "test/bad/001.npy").symlink_to(folder / "test/bad/000.npy")  # within: a method's way to save space
    assert "test/bad/001.png" in read_results("folder", folder, images).maps


# ---- scores


def test_scores_by_relative_absolute_and_stemmed_path(tmp_path: Path, images: Images) -> None:
    file = tmp_path / "scores.csv"
    absolute = images.root / "test/good/9.png"
    file.write_text(f"score,path,other\n1.5,test/bad/000.png,x\n-2e-3,{absolute},y\n7,./test/bad/001,z\n")
    found = {"test/bad/000.png": 1.5, "test/good/9.png": -0.002, "test/bad/001.png": 7.0}
    assert read_scores(file, images.splits, images.root) == found
    file.write_bytes(b"\xef\xbb\xbfimage_path,pred_score\r\ntest/bad/000.png,1.5\r\n")  # as a spreadsheet saves it
    assert read_scores(file, images.splits, images.root) == {"test/bad/000.png": 1.5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "needs the columns path and score in its first line, has no row"),
        ("name,value\na,1\n", "has name, value"),
        ("path,score\ntest/bad/002.png,1\n", r"line 2: 'test/bad/002\.png' is no image of the unit"),
        ("path,score\n../my_kit/test/bad/000.png,1\n", r"line 2: '\.\./my_kit/test/bad/000\.png' is no image"),
        ("path,score\n/etc/passwd,1\n", "line 2: '/etc/passwd' is no image"),
        ("path,score\ntest/bad/000.png,1\ntest/bad/000,2\n", r"line 3: a second score for test/bad/000\.png"),
        ("path,score\ntest/bad/000.png,high\n", "line 2: 'high' is no number"),
        ("path,score\ntest/bad/000.png,\n", "line 2: '' is no number"),
        ("path,score\ntest/bad/000.png,nan\n", r"line 2: the score of test/bad/000\.png is nan; it must be finite"),
        ("path,score\ntest/bad/000.png,inf\n", "must be finite"),
    ],
)
def test_a_table_of_scores_that_is_none(tmp_path: Path, images: Images, content: str, words: str) -> None:
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(DataError, match=words):
        read_scores(tmp_path / "s.csv", images.splits, images.root)


def test_scores_that_cannot_be_read(tmp_path: Path, images: Images) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "none.csv", images.splits, images.root)
    (tmp_path / "s.csv").write_bytes(b"path,score\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="no CSV in UTF-8"):
        read_scores(tmp_path / "s.csv", images.splits, images.root)
    assert find_image("a", {"a.png": 0, "a.jpg": 0}, tmp_path) is None  # which of the two?


# ---- PBAS


def pbas_picture(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Photograph, ground truth and map side by side, made by OpenCV as PBAS does."""
    cv2 = pytest.importorskip("cv2")
    tile = np.full((288, 288, 3), 90, np.uint8)
    level = (cv2.resize(values, (288, 288)) * 255).astype(np.uint8)
    picture = np.hstack([tile, 0 * tile, cv2.applyColorMap(level, cv2.COLORMAP_JET)])
    return np.asarray(cv2.resize(picture, (768, 256))[:, :, ::-1])


def test_pbas_pictures_give_back_their_maps_in_the_order_of_its_test_images(tmp_path: Path, images: Images) -> None:
    x, y = np.meshgrid(np.linspace(0, 1, 288, dtype=np.float32), np.linspace(0, 1, 288, dtype=np.float32))
    folder = tmp_path / "mvtec_kit"
    folder.mkdir()
    for number in range(1, 7):
        values = (x + y) / 2 * number / 6
        Image.fromarray(pbas_picture(values)).save(folder / f"{number:03}.png")
    results = read_results("pbas", folder, images)
    order = ["bad/000", "bad/001", "bad-1/000", "good/000", "good/10", "good/9"]  # by folder, then by name: not by path
    assert list(results.maps) == [f"test/{name}.png" for name in order]
    for number, path in enumerate(results.maps, start=1):
        found = results.maps[path]
        rows = (np.arange(256) + 0.5) / 256
        expected = (rows[None] + rows[:, None]) / 2 * number / 6 * 255
        assert found.shape == (256, 256) and np.abs(found - expected).max() < 4
    assert results.scores is None and "256 levels" in results.remarks[0]


def fields(shape: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """A smooth hill for each test image, somewhere else and of another height each time."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    found = {}
    for number, path in enumerate(TEST):
        y, x = shape[0] * (0.3 + 0.06 * number), shape[1] * (0.7 - 0.06 * number)
        hill = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * (0.15 * min(shape)) ** 2))
        found[path] = (0.1 + (0.4 + 0.1 * number) * hill).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("category", "shape", "resize"),
    [("kit", (300, 300), 288), ("kit", (240, 400), 288), ("kit", (400, 240), 288), ("wood", (300, 300), 329)],
)
def test_pbas_maps_come_back_to_where_they_were_on_the_photographs(
    tmp_path: Path, category: str, shape: tuple[int, int], resize: int
) -> None:
    images = photographed(tmp_path / category, shape)
    said = fields(shape)
    results = read_results("pbas", Pbas(resize).evaluate(tmp_path / "eval", images.root, said), images)
    crops = [Pbas(resize).cropped(Image.fromarray(f)).numpy() for f in said.values()]
    low, high = np.min(crops), np.max(crops)
    side = min(shape) * 288 / resize
    for path, field in said.items():
        found = to_map(results.maps[path], path, shape, 128) / 255
        expected = (to_map(field, path, shape, 128) - low) / (high - low)
        # Pixels of the map whose whole surroundings lie in the square that PBAS looked at.
        inside = [np.abs((np.arange(128) + 0.5) / 128 - 0.5) * n < side / 2 - n / 64 for n in shape]
        looked = inside[0][:, None] & inside[1][None, :]
        assert np.abs(found - expected)[looked].max() < 0.04, path
        outside = [np.abs((np.arange(128) + 0.5) / 128 - 0.5) * n > side / 2 + n / 64 for n in shape]
        beyond = outside[0][:, None] | outside[1][None, :]
        assert not beyond.any() or (np.ptp(found[beyond]) < 1e-6 and found[beyond].max() <= found[looked].min() + 1e-6)
    cut = category == "wood" or shape[0] != shape[1]
    assert any("centre square" in remark for remark in results.remarks) == cut


def documented(after: str) -> str:
    """The block of Python that stands in docs/plug.md below the words `after`."""
    text = (Path(__file__).parent.parent / "docs/plug.md").read_text(encoding="utf-8")
    return text.partition(after)[2].partition("```python\n")[2].partition("```")[0]


def test_the_lines_for_pbas_keep_its_numbers(tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = {path: values + 0.5 for path, values in fields((288, 288)).items()}
    names = {
        "img_paths": [f"{images.root}/{path}" for path in TEST],
        "masks": list(known.values()),
    }  # as `predict` has them
    exec(documented("Better, keep its numbers"), {"Path": Path, "np": np, "category_folder": images.root, **names})
    results = read_results("folder", tmp_path / "maps", images)
    assert sorted(results.maps) == sorted(TEST)
    for path in TEST:
        np.testing.assert_array_equal(results.maps[path], known[path])


def test_what_is_not_of_pbas(tmp_path: Path, images: Images) -> None:
    folder = tmp_path / "eval"
    folder.mkdir()
    for number in range(1, 6):
        Image.fromarray(np.zeros((256, 768, 3), np.uint8)).save(folder / f"{number:03}.png")
    refused("pbas", folder, images, r"5 numbered pictures for 6 test images of kit; expected 001\.png to 006\.png")
    with pytest.raises(DataError, match="no map in the colours of jet"):
        read_picture(folder / "001.png", 10**6)
    Image.fromarray(np.zeros((256, 256, 3), np.uint8)).save(folder / "006.png")
    with pytest.raises(DataError, match="256 x 256; PBAS writes three square panels"):
        read_picture(folder / "006.png", 10**6)
    (folder / "006.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="not readable as PNG"):
        read_picture(folder / "006.png", 10**6)
    other = Images("kit", tmp_path, {"a.png": "train"}, 10**6)
    refused("pbas", folder, other, "numbers the images of test/DEFECT/, and this unit has no such folders")


# ---- UniVAD


def univad_run(folder: Path, category: str, rows: dict[str, float]) -> Path:
    home = folder / category / "anomaly_maps"
    put(home, *(f"{path.split('/')[1]}_{Path(path).stem}.npy" for path in TEST))
    with (folder / "detailed_results.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["class_name", "subfolder", "filename", "anomaly_score", "gt_label"])
        for path, score in rows.items():
            _, defect, name = path.split("/")
            writer.writerow(["my kit", defect, name, score, 0])
        writer.writerow(["another kit", "good", "000.png", 99, 0])
    return folder


def test_univads_maps_and_scores(tmp_path: Path, images: Images) -> None:
    scores = {path: i / 7 for i, path in enumerate(TEST)}
    folder = univad_run(tmp_path / "run", "my kit", scores)
    for place in (folder, folder / "my kit"):  # the run, or the category in it
        results = read_results("univad", place, images)
        assert sorted(results.maps) == sorted(TEST) and results.scores == pytest.approx(scores)
        assert results.remarks == ()


def test_the_lines_for_univad_keep_its_maps_and_scores(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its script has a tensor of four axes for each image, a score of its own, and the path as its loader joined it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/scores.csv").write_text("path,score\n")
    lines = documented("these lines keep everything")
    said = {path: torch.rand(1, 1, 28, 28) for path in TEST}
    for path, anomaly_map in said.items():
        names = {"anomaly_map": anomaly_map, "overall_anomaly_score": torch.tensor(float(anomaly_map.max())).item()}
        exec(lines, {"Path": Path, "np": np, "category_folder": "./my_kit", "image_path": f"./my_kit/{path}", **names})
    results = read_results("folder", tmp_path / "maps", images)
    scores = read_scores(tmp_path / "maps/scores.csv", images.splits, images.root)
    for path, anomaly_map in said.items():
        assert scores[path] == pytest.approx(float(anomaly_map.max()))
        found = to_map(results.maps[path], path, (32, 32), 28)
        np.testing.assert_allclose(found, anomaly_map[0, 0].numpy(), atol=1e-6)


def test_a_row_whose_suffix_was_lost_is_still_of_its_image(tmp_path: Path, images: Images) -> None:
    """Where a copy of the script drew an example of an image, its table has the name without suffix."""
    scores = {path: i / 7 for i, path in enumerate(TEST)}
    folder = univad_run(tmp_path / "run", "my kit", scores)
    table = folder / "detailed_results.csv"
    head, *rows = list(csv.reader(table.read_text().splitlines()))
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*head, "predicted_anomaly", "example_saved", "anomaly_map_saved"])
        for number, row in enumerate(rows):
            drawn = number % 2 == 0
            writer.writerow([*row[:2], Path(row[2]).stem if drawn else row[2], *row[3:], 1, drawn, True])
    assert read_results("univad", folder, images).scores == pytest.approx(scores)


def test_univads_maps_that_were_stretched_one_by_one(tmp_path: Path, images: Images) -> None:
    home = tmp_path / "run/my_kit/anomaly_maps"
    home.mkdir(parents=True)
    for path in TEST:
        values = (MAP / MAP.max() * 255).astype(np.uint8)
        Image.fromarray(values).save(home / f"{path.split('/')[1]}_{Path(path).stem}.png")
    refused("univad", tmp_path / "run", images, "every map reaches 255, so each was stretched by itself")
    univad_run(tmp_path / "table", "my kit", dict.fromkeys(TEST, 0.5))
    (tmp_path / "table/detailed_results.csv").rename(tmp_path / "run/detailed_results.csv")
    assert "compare within images alone" in read_results("univad", tmp_path / "run", images).remarks[0]


def test_what_is_not_of_univad(tmp_path: Path, images: Images) -> None:
    (tmp_path / "empty").mkdir()
    refused("univad", tmp_path / "empty", images, "no folder anomaly_maps, nor my_kit/anomaly_maps")
    folder = univad_run(tmp_path / "few", "my_kit", dict.fromkeys(TEST[1:], 0.5))
    refused("univad", folder, images, r"no score of test/bad-1/000\.png")
    refused(
        "univad",
        univad_run(tmp_path / "nan", "my_kit", dict.fromkeys(TEST, np.nan)),
        images,
        "score that is not finite",
    )
    (folder / "detailed_results.csv").write_text("a,b\n1,2\n")
    refused("univad", folder, images, "not UniVAD's table of scores")
    put(folder / "my_kit/anomaly_maps", "bad_777.npy")
    refused("univad", folder, images, r"1 maps belong to no image of kit: bad_777\.npy")
    twins = {"test/a/b_c.png": "test", "test/a_b/c.png": "test"}
    refused("univad", folder, Images("kit", images.root, twins, 10**6), "a_b_c could be a map of .* or of")


# ---- anomalib's predictions (the real ones: test_plug_anomalib.py)


@dataclass
class Batch:
    image_path: list[str] | str
    anomaly_map: torch.Tensor
    pred_score: torch.Tensor | None


def batch(*paths: Path, top: float = 0.7) -> Batch:
    maps = torch.rand(len(paths), 1, 6, 6)
    return Batch([str(path) for path in paths], maps, torch.full((len(paths),), top))


def test_predictions_become_files_that_plug_reads(tmp_path: Path, images: Images) -> None:
    batches = [batch(*(images.root / path for path in TEST[:4])), batch(images.root / TEST[4])]
    assert save_predictions(batches, images.root, tmp_path / "maps") == 5
    results = read_results("anomalib", tmp_path / "maps", images)
    assert sorted(results.maps) == sorted(TEST[:5])
    np.testing.assert_array_equal(results.maps[TEST[0]], batches[0].anomaly_map[0, 0].numpy())
    assert results.scores == pytest.approx(dict.fromkeys(TEST[:5], 0.7))


def test_a_folder_without_anomalibs_scores(tmp_path: Path, images: Images) -> None:
    refused("anomalib", put(tmp_path / "maps", "test/bad/000.npy"), images, r"no scores\.csv; write the folder with")


def test_a_single_item_is_taken_too(tmp_path: Path) -> None:
    item = Batch("a.png", torch.ones(1, 4, 6), torch.tensor(0.5))
    maps, scores = from_predictions([item])
    assert maps["a.png"].shape == (4, 6) and scores == {"a.png": 0.5}


def test_predictions_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no predictions; call Engine\.predict"):
        from_predictions([])
    with pytest.raises(DataError, match="without image_path, anomaly_map or pred_score"):
        from_predictions([Batch("a.png", torch.ones(4, 4), None)])
    with pytest.raises(DataError, match="predicted twice"):
        from_predictions([batch(Path("a.png")), batch(Path("a.png"))])
    with pytest.raises(DataError, match="many scores are exactly 1: anomalib normalised and clamped them"):
        from_predictions([batch(*(Path(f"{i}.png") for i in range(5)), top=1.0)])
    with pytest.raises(DataError, match="not below"):
        save_predictions([batch(tmp_path / "other/a.png")], tmp_path / "root", tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
