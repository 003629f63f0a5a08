"""The engine: order, cache, workers and lost files."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fits import small_disk
from numpy.typing import NDArray

from tmuad.cache import Record
from tmuad.config import DataParams
from tmuad.engine import ImageRef, map_images, records_of, run_once
from tmuad.errors import ImageError, WorkerError
from tmuad.executors.work import CHUNK
from tmuad.parallel import fork_map


@dataclass(frozen=True)
class Mean:
    """Mean colour; each call leaves a file in `log`, which other processes can count."""

    log: Path
    factor: float = 1.0
    name: str = "mean"
    after: "Mean | None" = None

    @property
    def fingerprint(self) -> str:
        return f"{self.factor}:{self.after.fingerprint if self.after else ''}"

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        value = image.reshape(-1, 3).mean(axis=0) * self.factor + prior.get("mean", 0)
        digest = hashlib.sha256(image.tobytes()).hexdigest()[:12]
        (self.log / f"{self.name}-{digest}-{len(list(self.log.iterdir()))}").touch()
        return {"mean": value}

    def calls(self) -> int:
        number = len(list(self.log.glob(f"{self.name}-*")))
        for path in self.log.glob(f"{self.name}-*"):
            path.unlink()
        return number


@pytest.fixture
def refs(save_image: Callable[[str, NDArray[np.uint8]], Path]) -> list[ImageRef]:
    return [ref(save_image, i) for i in range(9)]


def ref(save_image: Callable[[str, NDArray[np.uint8]], Path], number: int) -> ImageRef:
    path = save_image(f"images/{number:02}.png", np.full((64, 64, 3), 10 * number, dtype=np.uint8))
    return ImageRef(hashlib.sha256(path.read_bytes()).hexdigest(), path)


@pytest.fixture
def task(tmp_path: Path) -> Mean:
    (tmp_path / "log").mkdir()
    return Mean(tmp_path / "log")


def data(tmp_path: Path, workers: int = 1, **other: object) -> DataParams:
    return DataParams.model_validate({"size": 64, "workers": workers, "cache": str(tmp_path / "cache"), **other})


def means(records: list[Record]) -> list[float]:
    return [float(record["mean"][0]) for record in records]


@pytest.mark.parametrize("workers", [1, 2, 0])
def test_records_come_in_the_order_of_the_images(
    tmp_path: Path, refs: list[ImageRef], task: Mean, workers: int
) -> None:
    backwards = refs[::-1]
    assert means(list(map_images(task, backwards, data(tmp_path, workers)))) == [10.0 * i for i in range(9)][::-1]
    assert task.calls() == 9


def test_one_worker_and_two_give_the_same_bytes(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    results = []
    for workers in (1, 2):
        settings = data(tmp_path, workers, cache=str(tmp_path / f"cache-{workers}"))
        results.append([record["mean"].tobytes() for record in map_images(task, refs, settings)])
    assert results[0] == results[1]
    assert task.calls() == 18


def test_a_second_run_computes_only_what_is_new(
    tmp_path: Path, refs: list[ImageRef], task: Mean, save_image: Callable[[str, NDArray[np.uint8]], Path]
) -> None:
    list(map_images(task, refs, data(tmp_path)))
    assert task.calls() == 9
    new = [*refs[:4], ref(save_image, 20), *refs[4:]]
    assert means(list(map_images(task, new, data(tmp_path))))[4] == 200.0
    assert task.calls() == 1


def test_cached_images_are_not_even_opened(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    first = means(list(map_images(task, refs, data(tmp_path))))
    shutil.rmtree(refs[0].path.parent)
    assert means(list(map_images(task, refs, data(tmp_path)))) == first


def test_the_cache_can_go_at_any_time(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    records = map_images(task, refs, data(tmp_path))
    first = [next(records)]
    shutil.rmtree(tmp_path / "cache")
    assert means(first + list(records)) == [10.0 * i for i in range(9)]


def test_a_broken_entry_is_computed_again_and_mended(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    list(map_images(task, refs, data(tmp_path)))
    task.calls()
    broken = next(path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    broken.write_bytes(broken.read_bytes()[:40])
    for expected in (1, 0):
        assert means(list(map_images(task, refs, data(tmp_path)))) == [10.0 * i for i in range(9)]
        assert task.calls() == expected


@pytest.mark.parametrize("change", [{"size": 66}, {"bits": 12}])
def test_other_pixels_are_other_entries(
    tmp_path: Path, refs: list[ImageRef], task: Mean, change: dict[str, int]
) -> None:
    list(map_images(task, refs, data(tmp_path)))
    list(map_images(task, refs, data(tmp_path, **change)))
    assert task.calls() == 18


def test_another_fingerprint_is_another_entry(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    list(map_images(task, refs, data(tmp_path)))
    assert means(list(map_images(Mean(task.log, 2.0), refs, data(tmp_path)))) == [20.0 * i for i in range(9)]
    assert task.calls() == 18


def test_a_task_builds_on_the_record_of_another(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    second = Mean(task.log, 100.0, "second", task)
    list(map_images(task, refs[:5], data(tmp_path)))
    assert task.calls() == 5
    assert means(list(map_images(second, refs, data(tmp_path, workers=2)))) == [1010.0 * i for i in range(9)]
    assert (task.calls(), second.calls()) == (4, 9)
    image = np.full((64, 64, 3), 10, dtype=np.uint8)
    assert means([run_once(second, image)]) == [1010.0]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_deleted_meanwhile_is_an_error_that_names_it(
    tmp_path: Path, refs: list[ImageRef], task: Mean, workers: int
) -> None:
    refs[6].path.unlink()
    with pytest.raises(ImageError, match=r"06\.png"):
        list(map_images(task, refs, data(tmp_path, workers)))
    assert task.calls() >= 4  # what was done before stays in the cache
    del refs[6]
    assert len(list(map_images(task, refs, data(tmp_path, workers)))) == 8
    assert task.calls() <= 4


def test_a_cache_that_cannot_be_written_is_reported_and_costs_no_second_pass(
    tmp_path: Path, refs: list[ImageRef], task: Mean, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("here lies a file")
    with caplog.at_level(logging.WARNING):
        records = list(map_images(task, refs, data(tmp_path, workers=2)))
    assert means(records) == [10.0 * i for i in range(9)]
    assert task.calls() == 9
    assert "cannot be written" in caplog.text


def test_records_are_given_in_any_order_and_process(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    read = records_of(task, refs, data(tmp_path, workers=2))
    assert task.calls() == 9 and read.workers == 2
    assert means(list(fork_map(read, refs[::-1], read.workers, chunk=1))) == [10.0 * i for i in range(9)][::-1]
    broken = next(path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    broken.write_bytes(broken.read_bytes()[:40])
    assert means(list(fork_map(read, refs, read.workers, chunk=1))) == [10.0 * i for i in range(9)]
    assert task.calls() == 1


def test_without_a_cache_only_this_process_gives_records(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    """Another would have no executor: no cluster, and no GPU that this one holds."""
    (tmp_path / "cache").write_text("here lies a file")
    read = records_of(task, refs, data(tmp_path, workers=2))
    assert read.workers == 1 and task.calls() == 0
    assert means(list(map(read, refs))) == [10.0 * i for i in range(9)]
    assert task.calls() == 9
    assert means([read(refs[5]), read(refs[2])]) == [50.0, 20.0]


def test_no_images_no_records(tmp_path: Path, task: Mean) -> None:
    assert list(map_images(task, [], data(tmp_path))) == []


def test_the_same_image_twice_gives_its_record_twice(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    assert means(list(map_images(task, [refs[2], refs[2]], data(tmp_path)))) == [20.0, 20.0]
    assert task.calls() == 1


@dataclass(frozen=True)
class Dies(Mean):
    """Is killed at the image of grey 50, as the kernel does where memory runs out."""

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        if image[0, 0, 0] == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image, prior)


def test_a_killed_worker_is_an_error_in_words_and_what_is_done_is_kept(tmp_path: Path, refs: list[ImageRef]) -> None:
    (tmp_path / "log").mkdir()
    task, whole = Dies(tmp_path / "log"), Mean(tmp_path / "log")
    with pytest.raises(WorkerError, match=r"mean: a worker process was killed.*set data\.workers below 2"):
        list(map_images(task, refs, data(tmp_path, workers=2)))
    done = task.calls()
    assert done >= 1
    assert means(list(map_images(whole, refs, data(tmp_path, workers=2)))) == [10.0 * i for i in range(9)]
    assert whole.calls() <= 9 - done + 1  # one may have been computed, and not kept any more


# ---- a full disk, and two runs at once


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fills_up_is_reported_and_costs_the_rest_of_the_entries_alone(
    tmp_path: Path, refs: list[ImageRef], task: Mean, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    with small_disk(tmp_path / "cache", "12k"):
        with caplog.at_level(logging.WARNING):
            assert means(list(map_images(task, refs, data(tmp_path, workers)))) == [10.0 * i for i in range(9)]
        assert "cache: cannot be written (No space left on device), so nothing more is kept" in caplog.text
        assert (
            task.calls() <= 9 + 2 * CHUNK
        )  # what the workers had begun is lost with the disk; nothing is done three times
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert len(kept) == 3 and not [path for path in kept if path.name.startswith(".")]
        assert means(list(map_images(task, refs, data(tmp_path, workers)))) == [10.0 * i for i in range(9)]
    assert means(list(map_images(task, refs, data(tmp_path, workers)))) == [10.0 * i for i in range(9)]


def test_two_runs_share_a_cache(tmp_path: Path, refs: list[ImageRef], task: Mean) -> None:
    context = multiprocessing.get_context("fork")
    runs = [
        context.Process(target=lambda order: list(map_images(task, order, data(tmp_path, 2))), args=(order,))
        for order in (refs, refs[::-1])
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    assert 9 <= task.calls() <= 18
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 9 and not [path for path in files if path.name.startswith(".")]
    assert means(list(map_images(task, refs, data(tmp_path)))) == [10.0 * i for i in range(9)]
    assert task.calls() == 0
