"""The one place where a backend meets many images: cache look-up, whoever computes what is missing, order.

Every stage that looks at pixels goes through `map_images`. Who computes is the executor's affair (tmuad/executors): this
machine's processes, or a Ray cluster.
"""

import logging
from collections.abc import Callable, Iterator, Sequence

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
    mapper = _filled(task, images, data)
    cache = mapper.cache
    ahead: dict[str, Record] = {}  # what an executor said beyond what it was asked for
    for i, ref in enumerate(images):
        record = ahead.pop(ref.image_id, None) or cache.get(ref.image_id, mapper.kind)
        if record is None:  # the entry is damaged or has gone, or the cache cannot be written
            ahead |= executor().records(mapper, [ref, *mapper.lacking(images[i + 1 : i + WINDOW])])
            record = ahead.pop(ref.image_id)
        yield record


def records_of(task: Task, images: Sequence[ImageRef], data: DataParams) -> Callable[[ImageRef], Record]:
    """What gives the record of any of `images` at a time, in whatever process and order. Raises what `map_images` does."""
    return _filled(task, images, data).record


def _filled(task: Task, images: Sequence[ImageRef], data: DataParams) -> Mapper:
    """The task's mapper, whose cache now holds the records of `images`, if it could be written."""
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


def run_once(task: Task, image: NDArray[np.uint8]) -> Record:
    """The record of an image that has no place in the cache, (S, S, 3) uint8 RGB."""
    return task(image, run_once(task.after, image) if task.after else {})
