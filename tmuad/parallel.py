"""A function over many items in forked processes, for work that is no per-image record of the engine's.

The function and the items are inherited, not sent: only results travel, so the items may be as large as they like.
"""

import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

from tmuad.errors import WorkerError

T = TypeVar("T")
Result = TypeVar("Result")

_work: tuple[Callable[[Any], Any], Sequence[Any]] | None = None  # of this process's pool; its children inherit it


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> AbstractContextManager[object]:
    """Inside, the numerical libraries that were loaded at the first call use one thread: a sum's order, and so its last
    bits, may depend on their number. Looking for the libraries each time would cost as much as a small map."""
    limit: AbstractContextManager[object] = _pools().limit(limits=1)
    return limit


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def fork_map(
    function: Callable[[T], Result], items: Sequence[T], workers: int | None = None, chunk: int = 4
) -> Iterator[Result]:
    """`function` of each item, in order, by `workers` processes (default: one per core that this process may use).

    In this process where it cannot fork, has one core, or is a worker itself. The results are the same.

    Raises:
        WorkerError: a worker process was killed.
    """
    global _work  # noqa: PLW0603  (what a forked child is to do must be in place before the fork)
    count = min(workers or cores(), -(-len(items) // chunk)) if sys.platform == "linux" else 1
    if count <= 1 or _work is not None or multiprocessing.current_process().daemon:
        yield from map(function, items)
        return
    _work = (function, items)
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(count, context, initializer=end_with_parent) as pool:
            yield from pool.map(_run, range(len(items)), chunksize=chunk)
    except BrokenProcessPool:
        raise WorkerError(
            f"one of {count} worker processes was killed, most likely for want of memory; set data.workers below {count} "
            "and run again"
        ) from None
    finally:
        _work = None


def _run(index: int) -> Any:
    assert _work is not None
    function, items = _work
    return function(items[index])


def end_with_parent() -> None:
    """In a worker: end when the parent does. One whose parent was killed would wait for work, and keep its memory."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
