"""The one place where a backend meets many images: cache look-up, whoever computes what is missing, order.

Every stage that looks at pixels goes through `map_images` or `records_of`. Who computes is the executor's affair
(tmuad/executors): this machine's processes, or a Ray cluster.
"""

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Record
from tmuad.config import DataParams
from tmuad.executors import executing, executor
from tmuad.executors.work import BatchTask, ImageRef, Mapper, Task, Work, load_image

__all__ = [
    "BatchTask",
    "ImageRef",
    "Task",
    "Work",
    "executing",
    "executor",
    "fill",
    "load_image",
    "map_images",
    "records_of",
    "run_once",
]

log = logging.getLogger(__name__)

WINDOW = 64  # images ahead of which an executor may compute where the cache keeps nothing: bounds memory


def map_images(task: Task, images: Sequence[ImageRef], data: DataParams) -> Iterator[Record]:
    """The record of each image, in the order of `images`; only what the cache lacks is computed.

    Raises:
        ImageError: an image cannot be read any more. Results so far are in the cache: the next run goes on from there.
        WorkerError: a worker was killed, again and again, or is not of this version.
        ClusterError: there is no cluster, or no room on it.
    """
    read = records_of(task, images, data)
    return map(read, images)


def records_of(task: Task, images: Sequence[ImageRef], data: DataParams) -> "Records":
    """What gives the record of any of `images`, in any order, also in forked processes. Raises what `map_images` does."""
    return Records(fill(task, images, data), images)


def fill(task: Task, images: Sequence[ImageRef], data: DataParams) -> Mapper:
    """Have the cache hold the records of `images`, if it can be written; the task's mapper. Raises what `map_images` does."""
    mapper = Mapper(task, data)
    cache = mapper.cache
    missing = mapper.lacking(images)
    if missing and cache.writable():
        executor().fill(mapper, missing)
    if cache.refused:  # results could not come back through it, and nothing would be gained
        log.warning(
            "%s: cannot be written (%s), so nothing more is kept for the next run; free space there or set data.cache",
            data.cache, cache.refused,
        )  # fmt: skip
    return mapper


class Records:
    """The records of a task's images, from the cache; those that it lacks are asked of the executor."""

    def __init__(self, mapper: Mapper, images: Sequence[ImageRef]) -> None:
        self._mapper, self._images = mapper, images
        self._ahead: dict[str, Record] = {}  # what an executor said beyond what it was asked for

    @cached_property
    def workers(self) -> int:
        """How many processes may ask: one where the cache lacks records, because only this one has the executor."""
        return 1 if self._mapper.lacking(self._images) else self._mapper.data.workers

    @cached_property
    def _places(self) -> dict[str, int]:
        return {ref.image_id: i for i, ref in enumerate(self._images)}

    def __call__(self, ref: ImageRef) -> Record:
        record = self._ahead.pop(ref.image_id, None) or self._mapper.cache.get(ref.image_id, self._mapper.kind)
        if record is None and multiprocessing.parent_process():  # damaged meanwhile; a fork has no executor
            return self._mapper.record(ref)
        if record is None:  # the entry is damaged or has gone, or the cache cannot be written
            place = self._places[ref.image_id] + 1
            following = self._mapper.lacking(self._images[place : place + WINDOW])
            self._ahead = executor().records(self._mapper, [ref, *following])
            record = self._ahead.pop(ref.image_id)
        return record


def run_once(task: Task, image: NDArray[np.uint8]) -> Record:
    """The record of an image that has no place in the cache, (S, S, 3) uint8 RGB."""
    return task(image, run_once(task.after, image) if task.after else {})
