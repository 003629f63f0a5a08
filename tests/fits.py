"""Small data sets of drawn parts, and their way through the real stages, in this process: a fit takes two seconds."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import BLUE, RED, STEEL, bar, board, disc, photographed
from numpy.typing import NDArray
from PIL import Image
from workspaces import TINY, set_params

from tmuad.stages.__main__ import PER_UNIT, main

SIZE = 96
SMALL = {"data": {"size": SIZE, "workers": 1}, "finetune": {"epochs": 1}}


def kit(seed: int, discs: int = 2, size: int = SIZE) -> NDArray[np.uint8]:
    """A plate, a bar and two discs on a grey board, each time a little elsewhere."""
    jitter = np.random.default_rng(seed).uniform(-2, 2, 8)
    image = bar(board(size), 28 + jitter[0], 26 + jitter[1], 34, 18, STEEL)
    image = bar(image, 64 + jitter[2], 66 + jitter[3], 34, 10, BLUE)
    for i in range(discs):
        image = disc(image, 22 + 52 * (i % 2) + jitter[4 + i % 4], 70 - 44 * (i % 2) + jitter[5], 9, RED)
    return photographed(image, seed)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, count: int = 8) -> Path:
    for i in range(count):
        save(root / f"{i:02}.png", kit(i))
    return root


def data_set(root: Path, train: int = 8, validation: int = 4) -> Path:
    """In the MVTec LOCO layout: two good test images, one with a disc too few, one with a scratch."""
    for split, first, count in (("train", 0, train), ("validation", 100, validation), ("test", 200, 2)):
        for i in range(count):
            save(root / split / "good" / f"{i:02}.png", kit(first + i))
    save(root / "test/logical_anomalies/00.png", kit(300, discs=1))
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[16:36, 64:84] = 255
    save(root / "ground_truth/logical_anomalies/00/000.png", mask)
    scratched = kit(301)
    scratched[50:53, 8:60] = 20
    save(root / "test/structural_anomalies/00.png", scratched)
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[50:53, 8:60] = 255
    save(root / "ground_truth/structural_anomalies/00/000.png", mask)
    (root / "defects_config.json").write_text("[]")
    return root


class Bench:
    """A folder with params.yaml, in which stages run as dvc would run them."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str] | None) -> None:
        self.place, self.capsys = place, capsys

    def params(self, units: Mapping[str, Mapping[str, Any]], *changes: Mapping[str, Any]) -> None:
        set_params(self.place, TINY, SMALL, {"units": units}, *changes)

    def stage(self, *arguments: str) -> tuple[int, str, str]:
        """(exit status, standard output, standard error)"""
        assert self.capsys is not None
        self.capsys.readouterr()
        status = main(list(arguments))
        said = self.capsys.readouterr()
        return status, said.out, said.err

    def fit(self, unit: str = "kit", stages: Sequence[str] = PER_UNIT) -> str:
        """Runs the stages of a unit, and says what they said; each must succeed."""
        words = ""
        for stage in stages:
            status, out, err = self.stage(stage, unit)
            assert status == 0, f"{stage}: {err}"
            words += out + err
        return words

    def report(self) -> str:
        for stage in ("report", "warehouse"):
            status, _, err = self.stage(stage)
            assert status == 0, f"{stage}: {err}"
        return (self.place / "reports/results.md").read_text()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` without the right to write, also for root, who goes without the power to ignore modes for as long."""
    was = folder.stat().st_mode
    folder.chmod(0o555)
    try:
        with modes_count():
            if os.access(folder, os.W_OK, effective_ids=True):
                pytest.skip("no folder can be made read-only here")
            yield
    finally:
        folder.chmod(was)


@contextmanager
def modes_count() -> Iterator[None]:
    """Takes the capabilities DAC_OVERRIDE and DAC_READ_SEARCH (Linux) out of effect in this thread."""
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert libc.capget(header, before) == 0
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~0b110
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of `size`, as mount has it (12k: three entries of a page), at `folder`: real ENOSPC."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False).returncode:
        pytest.skip("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
