"""Batches that shrink, GPUs that fail, tasks that want many images at once."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tmuad.cache import Record
from tmuad.config import DataParams
from tmuad.config_models import ComputeParams
from tmuad.engine import ImageRef, map_images, run_once
from tmuad.errors import DeviceError, ImageError, ParameterError
from tmuad.models import runtime
from tmuad.models.meta import on_meta, parameters
from tmuad.models.runtime import device_errors, device_of, free_models, in_batches, loaded

Save = Callable[[str, NDArray[np.uint8]], Path]


class Memory:
    """Stands for a GPU that can hold `room` items: more of them, and it is out of memory as torch says it."""

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, list[int]()

    def __call__(self, batch: Sequence[int]) -> list[int]:
        self.calls.append(len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return [10 * x for x in batch]


@given(st.lists(st.integers(), max_size=40), st.integers(1, 16), st.integers(1, 16))
def test_whatever_memory_there_is_the_results_are_the_same(items: list[int], size: int, room: int) -> None:
    assert in_batches(Memory(room), items, size, "test") == [10 * x for x in items]


def test_a_batch_is_halved_with_one_line_each_and_stays_small(caplog: pytest.LogCaptureFixture) -> None:
    free_models()
    memory = Memory(3)
    with caplog.at_level(logging.WARNING):
        in_batches(memory, range(8), 8, "SAM")
    assert memory.calls == [8, 4, 2, 2, 2, 2]
    assert [r.message for r in caplog.records] == [
        "SAM: out of memory with 8 at once; going on with 4",
        "SAM: out of memory with 4 at once; going on with 2",
    ]
    in_batches(memory, range(4), 8, "SAM")
    assert memory.calls[6:] == [2, 2]  # remembered: the failure is not paid for again
    free_models()


def test_no_room_for_one_is_an_error_with_a_remedy() -> None:
    with pytest.raises(DeviceError, match=r"SAM: not enough memory for one image.*precision"):
        in_batches(Memory(0), [1, 2], 2, "SAM")


def test_other_errors_are_not_swallowed() -> None:
    def broken(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        in_batches(broken, [1], 1, "test")


@pytest.mark.parametrize(
    "text",
    ["CUDA error: unspecified launch failure", "CUDA error: device-side assert", "No NVIDIA driver: NVIDIA driver"],
)
def test_a_gpu_that_disappears_is_an_error_that_says_what_is_kept(text: str) -> None:
    with pytest.raises(DeviceError, match="results so far are kept"), device_errors():
        raise RuntimeError(text + "\nmore lines")


def test_out_of_memory_and_bugs_are_no_lost_gpus() -> None:
    with pytest.raises(torch.OutOfMemoryError), device_errors():
        raise torch.OutOfMemoryError("CUDA error: out of memory")
    with pytest.raises(RuntimeError, match="shapes"), device_errors():
        raise RuntimeError("shapes differ")


def test_devices_that_do_not_exist() -> None:
    with pytest.raises(ParameterError, match="'gpu' is no device"):
        device_of(ComputeParams(device="gpu"))
    with pytest.raises(ParameterError, match=r"'cuda:99', but this machine has \d+ GPUs"):
        device_of(ComputeParams(device="cuda:99"))
    assert device_of(ComputeParams(device="cpu")).type == "cpu"


def test_precision_of_a_cpu_is_full_unless_asked_otherwise() -> None:
    assert runtime.precision_of(ComputeParams(device="cpu")) == "float32"
    assert runtime.precision_of(ComputeParams(device="cpu", precision="bf16")) == "bfloat16"


def test_a_model_is_built_once_until_it_is_freed() -> None:
    built: list[int] = []
    key = ("a test's own model",)
    for _ in range(2):
        loaded(key, lambda: built.append(1) or len(built))
    assert built == [1]
    free_models()
    loaded(key, lambda: built.append(1) or len(built))
    assert built == [1, 1]
    free_models()


def test_parameters_are_counted_without_memory() -> None:
    assert parameters(lambda: torch.nn.Linear(10**5, 10**5, bias=False)) == 10**10  # 40 GB, were it real
    with on_meta():
        assert torch.empty(3).device.type == "meta"
        assert torch.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    assert torch.empty(3).device.type == "cpu"


# ---- tasks in batches


@dataclass(frozen=True)
class Brightness:
    """A task that takes four images at once and remembers how many it got."""

    name: str = "brightness"
    after: "Brightness | None" = None
    batch: int = 4
    seen: list[int] = field(default_factory=list, compare=False, repr=False)
    fingerprint: str = "1"

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return self.many([image], [prior])[0]

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        self.seen.append(len(images))
        return [
            {"mean": i.mean(dtype=np.float64) + p.get("mean", np.zeros(1))} for i, p in zip(images, priors, strict=True)
        ]


def refs(save_image: Save, number: int) -> list[ImageRef]:
    paths = [save_image(f"{i:02}.png", np.full((64, 64, 3), 10 * i, dtype=np.uint8)) for i in range(number)]
    return [ImageRef(f"id-{i}", path) for i, path in enumerate(paths)]


def settings(tmp_path: Path) -> DataParams:
    return DataParams(size=64, workers=2, cache=str(tmp_path / "cache"))


def values(records: Sequence[Record]) -> list[float]:
    return [float(np.ravel(r["mean"])[0]) for r in records]


def test_batches_keep_the_order_and_compute_only_what_is_new(tmp_path: Path, save_image: Save) -> None:
    task, images = Brightness(), refs(save_image, 10)
    assert values(list(map_images(task, images[:6], settings(tmp_path)))) == [10.0 * i for i in range(6)]
    assert task.seen == [4, 2]
    assert values(list(map_images(task, images[::-1], settings(tmp_path)))) == [10.0 * i for i in range(10)][::-1]
    assert task.seen == [4, 2, 4]


def test_a_batched_task_after_another(tmp_path: Path, save_image: Save) -> None:
    first = Brightness()
    second = Brightness("twice", first, 3)
    images = refs(save_image, 7)
    assert values(list(map_images(second, images, settings(tmp_path)))) == [20.0 * i for i in range(7)]
    assert (first.seen, second.seen) == ([4, 3], [3, 3, 1])
    assert values([run_once(second, np.full((64, 64, 3), 3, np.uint8))]) == [6.0]


@dataclass(frozen=True)
class Plain:
    """A task of the process pool, after one in batches."""

    after: Brightness
    name: str = "plain"
    fingerprint: str = "p"

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        return {"mean": prior["mean"] + 1}


def test_a_task_in_processes_after_one_in_batches(tmp_path: Path, save_image: Save) -> None:
    first = Brightness()
    assert values(list(map_images(Plain(first), refs(save_image, 5), settings(tmp_path)))) == [
        10.0 * i + 1 for i in range(5)
    ]
    assert first.seen == [4, 1]  # here, not in the workers


def test_the_same_image_twice_is_computed_once(tmp_path: Path, save_image: Save) -> None:
    task, (image,) = Brightness(), refs(save_image, 1)
    assert len(list(map_images(task, [image, image], settings(tmp_path)))) == 2
    assert task.seen == [1]


def test_a_lost_file_is_named_and_the_batches_before_are_kept(tmp_path: Path, save_image: Save) -> None:
    task, images = Brightness(), refs(save_image, 9)
    images[8].path.unlink()
    with pytest.raises(ImageError, match=r"08\.png"):
        list(map_images(task, images, settings(tmp_path)))
    assert task.seen == [4, 4]
    assert len(list(map_images(task, images[:8], settings(tmp_path)))) == 8
    assert task.seen == [4, 4]


@dataclass(frozen=True)
class Unplugged(Brightness):
    """On a GPU that is gone after the first batch, as CUDA tells it."""

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        with runtime.inference(ComputeParams(device="cpu")):
            if self.seen:
                raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")
            return super().many(images, priors)


def test_what_a_lost_gpu_had_done_is_not_done_again(tmp_path: Path, save_image: Save) -> None:
    images = refs(save_image, 10)
    with pytest.raises(DeviceError, match=r"the GPU failed \(CUDA error: unspecified launch failure\).*run again"):
        list(map_images(Unplugged(), images, settings(tmp_path)))
    again = Brightness()
    assert values(list(map_images(again, images, settings(tmp_path)))) == [10.0 * i for i in range(10)]
    assert again.seen == [4, 2]  # of ten, the first four were kept


def test_a_cache_that_cannot_be_written_costs_batches_but_no_result(tmp_path: Path, save_image: Save) -> None:
    (tmp_path / "cache").write_text("a file")
    assert values(list(map_images(Brightness(), refs(save_image, 3), settings(tmp_path)))) == [0.0, 10.0, 20.0]
