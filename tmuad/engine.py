"""The one place where a backend meets many images: cache look-up, processes, progress, order.

Every stage that looks at pixels goes through `map_images`, so that another way to run (more machines, a GPU) is a change
in this file alone.
"""

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Cache, Record, fingerprint
from tmuad.config import DataParams
from tmuad.data import decode, images, pixels, tiff
from tmuad.data.images import read_image, resize
from tmuad.progress import track

log = logging.getLogger(__name__)


class Task(Protocol):
    """What a backend does to one image. Picklable, because it travels to the worker processes once."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> "Task | None":
        """The task whose record of the same image this one builds on, if any."""
        ...

    @property
    def fingerprint(self) -> str:
        """Digest of everything but the image that the record depends on, the prior task's fingerprint included."""
        ...

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        """The record of one image (S, S, 3) uint8 RGB; `prior` is the record of `after`, empty without one."""
        ...


@dataclass(frozen=True)
class ImageRef:
    image_id: str  # sha256 of the file
    path: Path


def load_image(path: Path, data: DataParams) -> NDArray[np.uint8]:
    """The image as every backend sees it: (S, S, 3) uint8 RGB.

    Raises:
        ImageError: the file cannot be used as an image.
    """
    return resize(read_image(path, max_pixels=data.max_pixels, bits=data.bits, at_least=2 * data.size), data.size)


def map_images(task: Task, images: Sequence[ImageRef], data: DataParams) -> Iterator[Record]:
    """The record of each image, in the order of `images`; only what the cache lacks is computed.

    Raises:
        ImageError: an image cannot be read any more. Results so far are in the cache: the next run goes on from there.
    """
    mapper = _Mapper(task, data)
    missing = [ref for ref in images if not mapper.cache.has(ref.image_id, mapper.kinds[task.name])]
    if missing and mapper.cache.writable():
        _fill(mapper, missing)
    elif missing:  # results could not come back from other processes, and nothing would be gained
        log.warning("%s: cannot be written, so nothing is kept for the next run; set data.cache", data.cache)
    for ref in images:
        yield mapper.record(ref)


def run_once(task: Task, image: NDArray[np.uint8]) -> Record:
    """The record of an image that has no place in the cache, (S, S, 3) uint8 RGB."""
    return task(image, run_once(task.after, image) if task.after else {})


class _Mapper:
    """A task, its cache and its settings: what a worker process needs."""

    def __init__(self, task: Task, data: DataParams) -> None:
        self.task, self.data, self.cache = task, data, Cache(Path(data.cache))
        reading = fingerprint(decode, images, pixels, tiff)  # what turns a file into pixels
        self.kinds: dict[str, str] = {}
        step: Task | None = task
        while step is not None:
            self.kinds[step.name] = f"{step.name}:{data.size}:{data.bits}:{reading}:{step.fingerprint}"
            step = step.after

    def record(self, ref: ImageRef, task: Task | None = None) -> Record:
        """From the cache, or computed and kept there."""
        task = task or self.task
        kind = self.kinds[task.name]
        record = self.cache.get(ref.image_id, kind)
        if record is None:
            prior = self.record(ref, task.after) if task.after else {}
            record = task(load_image(ref.path, self.data), prior)
            self.cache.put(ref.image_id, kind, record)
        return record


def _fill(mapper: _Mapper, missing: list[ImageRef]) -> None:
    workers = min(mapper.data.workers or os.cpu_count() or 1, len(missing))
    if workers <= 1:
        for ref in track(missing, mapper.task.name, len(missing)):
            mapper.record(ref)
        return
    # Fork where it is safe: it takes 10 ms where spawn takes a second of imports per worker.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(mapper,)) as pool:
        for _ in track(pool.map(_run, missing, chunksize=4), mapper.task.name, len(missing)):
            pass


_worker: _Mapper


def _start(mapper: _Mapper) -> None:
    global _worker  # noqa: PLW0603  (one per worker process: the task travels once, not with every image)
    _worker = mapper
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next image for ever, and keep its memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(ref: ImageRef) -> None:
    _worker.record(ref)
