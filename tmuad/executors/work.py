"""What is done to images, whoever does it and wherever: tasks, and their records' way through the cache."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Cache, Entry, Record, fingerprint, open_cache
from tmuad.config import DataParams
from tmuad.data import decode, images, pixels, tiff
from tmuad.data.images import read_image, resize

READERS = 4  # threads that decode images for a task in batches; Pillow releases the lock
AHEAD = 3  # batches in hand: the one at work and the next two
CHUNK = 4  # images that a worker is handed at once by a task that takes them one by one


class Task(Protocol):
    """What a backend does to one image. Picklable, because it travels to the worker processes."""

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


class BatchTask(Task, Protocol):
    """A task that wants many images at once, because a model on a GPU does. Its model is loaded once per process."""

    @property
    def batch(self) -> int:
        """How many images at once, at least 1. How memory is shared out within is the task's own affair."""
        ...

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        """The record of each image; the same as one call each."""
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


class Work(Protocol):
    """What the workers of an executor do with images. Picklable."""

    @property
    def name(self) -> str:
        """As in the parameters of an executor that places work."""
        ...

    @property
    def batch(self) -> int:
        """How many images one worker takes at once."""
        ...

    @property
    def data(self) -> DataParams: ...

    def identity(self) -> str:
        """All that the results depend on besides the images, as the process that is asked would have it."""
        ...

    def within(self, cache: Cache) -> "Work":
        """The same with its records in `cache`."""
        ...

    def given(self, refs: Sequence[ImageRef]) -> list[Entry]:
        """Entries that a worker without our cache can build on."""
        ...

    def __call__(self, refs: Sequence[ImageRef]) -> list[Any]:
        """What comes back from the worker for each image, besides what is in the cache."""
        ...


class Mapper:
    """A task, its cache and its settings: the `Work` of filling the cache."""

    def __init__(self, task: Task, data: DataParams, cache: Cache | None = None) -> None:
        self.task, self.data = task, data
        self.cache = open_cache(data.cache) if cache is None else cache
        reading = fingerprint(decode, images, pixels, tiff)  # what turns a file into pixels
        self.kinds: dict[str, str] = {}
        step: Task | None = task
        while step is not None:
            self.kinds[step.name] = f"{step.name}:{data.size}:{data.bits}:{reading}:{step.fingerprint}"
            step = step.after

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def kind(self) -> str:
        """Of the task's own records, in the cache."""
        return self.kinds[self.task.name]

    @property
    def batch(self) -> int:
        return self.task.batch if is_batched(self.task) else CHUNK

    def identity(self) -> str:
        return Mapper(self.task, self.data).kind

    def within(self, cache: Cache) -> "Mapper":
        other = copy(self)
        other.cache = cache
        return other

    def given(self, refs: Sequence[ImageRef]) -> list[Entry]:
        """The record of the task before, or of the one before that."""
        found: list[Entry] = []
        for ref in refs:
            step = self.task.after
            while step and (entry := self.cache.read(ref.image_id, self.kinds[step.name])) is None:
                step = step.after
            if step and entry:
                found.append((ref.image_id, self.kinds[step.name], entry))
        return found

    def prior(self) -> "Mapper | None":
        """The mapper of the task before where one of the two takes images in batches: it cannot be part of the other."""
        before = self.task.after
        if before and (is_batched(self.task) or is_batched(before)):
            return Mapper(before, self.data, self.cache)
        return None

    def lacking(self, refs: Sequence[ImageRef]) -> list[ImageRef]:
        """Those without an entry, each image once."""
        unique = {ref.image_id: ref for ref in refs}
        return [unique[image_id] for image_id in self.cache.lacking(list(unique), self.kind)]

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

    def __call__(self, refs: Sequence[ImageRef], done: Callable[[], object] = lambda: None) -> list[Any]:
        """Compute in this process what is to be in the cache; `done` hears of every image. It stops where the cache is full."""
        many = self._batches(self.task, refs) if is_batched(self.task) else (self.record(ref) for ref in refs)
        for _ in many:
            done()
            if self.cache.refused:  # what follows would be computed for nothing
                break
        return []

    def _batches(self, task: BatchTask, refs: Sequence[ImageRef]) -> Iterator[object]:
        """One loaded model sees batch after batch, while threads decode and resize the images of the next two."""
        batches = [refs[i : i + task.batch] for i in range(0, len(refs), task.batch)]
        with ThreadPoolExecutor(READERS) as readers:
            ahead: deque[list[Future[NDArray[np.uint8]]]] = deque()
            for i in range(len(batches)):
                while len(ahead) < AHEAD and i + len(ahead) < len(batches):
                    coming = batches[i + len(ahead)]
                    ahead.append([readers.submit(load_image, ref.path, self.data) for ref in coming])
                priors = [self.record(ref, task.after) if task.after else {} for ref in batches[i]]
                records = task.many([image.result() for image in ahead.popleft()], priors)
                for ref, record in zip(batches[i], records, strict=True):
                    self.cache.put(ref.image_id, self.kind, record)
                    yield None


def is_batched(task: Task) -> TypeGuard[BatchTask]:
    return getattr(task, "batch", 0) > 0
