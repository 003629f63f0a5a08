"""Progress of long work on the terminal; silent where nobody looks (a log, a pipe)."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """`items`, with a bar on standard error while they last."""
    if total == 0:
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, desc=label, total=total, unit="img", disable=None, leave=False))
