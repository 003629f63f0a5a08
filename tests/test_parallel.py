"""Forked maps: the same results in the same order, errors come through, and a killed worker is said."""

import os
import signal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmuad.errors import DataError, WorkerError
from tmuad.parallel import fork_map


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-9, 9), max_size=12), st.integers(1, 3), st.integers(1, 5))
def test_results_come_in_order_whatever_the_processes(items: list[int], workers: int, chunk: int) -> None:
    shift = np.arange(3)  # inherited by the workers, not sent to them
    found = fork_map(lambda item: shift + item, items, workers, chunk)
    np.testing.assert_array_equal(np.array(list(found)).reshape(-1, 3), np.add.outer(items, shift).reshape(-1, 3))


def test_the_work_is_done_by_others_and_a_map_within_a_map_by_the_same() -> None:
    def within(_: int) -> set[int]:
        return set(fork_map(lambda _: os.getpid(), range(4), 2, 1)) | {os.getpid()}

    seen = list(fork_map(within, range(4), 2, 1))
    assert all(len(pids) == 1 for pids in seen) and os.getpid() not in set().union(*seen)


def test_an_error_of_the_function_is_raised_here_and_the_next_map_works() -> None:
    def refuse(item: int) -> int:
        if item == 2:
            raise DataError("item 2 is no good")
        return item

    with pytest.raises(DataError, match="item 2 is no good"):
        list(fork_map(refuse, range(8), 2, 1))
    assert list(fork_map(abs, [-1, -2], 2, 1)) == [1, 2]


def test_a_killed_worker_is_said_with_a_remedy() -> None:
    def die(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"data\.workers below 2"):
        list(fork_map(die, range(8), 2, 1))
