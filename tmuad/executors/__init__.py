"""Who computes what the cache lacks: this machine's processes, or a Ray cluster. The stages know nothing of it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tmuad.cache import Record
from tmuad.config import Params
from tmuad.executors.local import LocalExecutor
from tmuad.executors.work import ImageRef, Mapper, Work


class Executor(Protocol):
    """Computes; what comes of it is the same for all executors, byte for byte."""

    def fill(self, mapper: Mapper, missing: Sequence[ImageRef]) -> None:
        """Put what `missing` (each image once) lacks into the mapper's cache; stops early where the cache cannot keep it."""
        ...

    def records(self, mapper: Mapper, refs: Sequence[ImageRef]) -> dict[str, Record]:
        """The record of at least the first of `refs`, by image id, whether or not the cache can keep it."""
        ...

    def run(self, work: Work, batches: Iterable[Sequence[ImageRef]]) -> Iterator[tuple[Sequence[ImageRef], list[Any]]]:
        """Each batch with what `work` says of its images, in the order in which they are done."""
        ...

    def close(self) -> None: ...


_current: list[Executor] = [LocalExecutor()]


def executor() -> Executor:
    """The one in force."""
    return _current[-1]


@contextmanager
def executing(params: Params) -> Iterator[None]:
    """Let the executor of `params` do what is computed within the block."""
    if params.executor == "ray":
        from tmuad.executors.ray import RayExecutor

        _current.append(RayExecutor(params.ray))
    else:
        _current.append(LocalExecutor())
    try:
        yield
    finally:
        _current.pop().close()
