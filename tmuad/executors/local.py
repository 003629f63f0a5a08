"""This machine's processes: one per core, or this one alone for a task whose model takes images in batches."""

import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tmuad.cache import Record
from tmuad.errors import WorkerError
from tmuad.executors.work import CHUNK, ImageRef, Mapper, Work, is_batched
from tmuad.parallel import cores, end_with_parent
from tmuad.progress import track


class LocalExecutor:
    """See `tmuad.executors.Executor`."""

    def fill(self, mapper: Mapper, missing: Sequence[ImageRef]) -> None:
        if (prior := mapper.prior()) and (lacking := prior.lacking(missing)):
            self.fill(prior, lacking)
        workers = min(mapper.data.workers or cores(), len(missing))
        if workers <= 1 or is_batched(mapper.task):
            bar = track(missing, mapper.name, len(missing))
            mapper(missing, lambda: next(bar, None))
        else:
            _fill_in_processes(mapper, missing, workers)

    def records(self, mapper: Mapper, refs: Sequence[ImageRef]) -> dict[str, Record]:
        return {refs[0].image_id: mapper.record(refs[0])}

    def run(self, work: Work, batches: Iterable[Sequence[ImageRef]]) -> Iterator[tuple[Sequence[ImageRef], list[Any]]]:
        return ((batch, work(batch)) for batch in batches)

    def close(self) -> None:
        pass


def _fill_in_processes(mapper: Mapper, missing: Sequence[ImageRef], workers: int) -> None:
    # Fork where it is safe: it takes 10 ms where spawn takes a second of imports per worker.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(mapper,)) as pool:
            results = pool.map(_run, missing, chunksize=CHUNK)
            for refused in track(results, mapper.name, len(missing)):
                if refused:  # a full disk: what the others compute would be lost
                    mapper.cache.refused = refused
                    pool.shutdown(cancel_futures=True)
                    return
    except BrokenProcessPool:
        raise WorkerError(
            f"{mapper.name}: a worker process was killed, most likely for want of memory; set data.workers below "
            f"{workers} and run again, what is done is kept"
        ) from None


_worker: Mapper


def _start(mapper: Mapper) -> None:
    global _worker  # noqa: PLW0603  (one per worker process: the task travels once, not with every image)
    _worker = mapper
    end_with_parent()


def _run(ref: ImageRef) -> str:
    """Fill the cache; why it could not be kept."""
    _worker.record(ref)
    return _worker.cache.refused
