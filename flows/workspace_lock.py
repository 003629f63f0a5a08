"""One run at a time per workspace. The kernel gives the lock back when its holder and all its helpers are gone."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from tmuad.arrivals.journal import FOLDER
from tmuad.errors import TmuadError

PATH = FOLDER / "lock"


class BusyError(TmuadError):
    """Another run is at work in this workspace."""


@contextlib.contextmanager
def workspace_lock(what: str, wait: float, log: Callable[[str], None]) -> Iterator[int]:
    """Hold the workspace, waiting up to `wait` seconds; the descriptor, for helpers to inherit.

    Raises:
        BusyError: another run has it; the message says which, and since when.
    """
    PATH.parent.mkdir(exist_ok=True)
    descriptor = os.open(PATH, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError(f"another run is at work here: {_holder()}; {_hint(wait)}") from None
                if not told:
                    log(f"waiting up to {wait:.0f} s for another run: {_holder()}")
                    told = True
                time.sleep(0.1)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"what": what, "pid": os.getpid(), "since": now}).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _holder() -> str:
    try:
        holder = json.loads(PATH.read_text(encoding="utf-8"))
        return f"{holder['what']} (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return "a run that has just begun"


def _hint(wait: float) -> str:
    return f"waited {wait:.0f} s; try again when it is done" if wait else "try again when it is done"
