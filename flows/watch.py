"""The folder watcher: says that images have arrived once it has been quiet for a while. No run depends on it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

EVENT = "tmuad.images.arrived"
RESOURCE = "tmuad.incoming"


def watch(folder: Path, debounce: float, announce: Callable[[set[str]], None], stop: threading.Event) -> None:
    """Call `announce` with the units that something arrived for, after `debounce` seconds without a further change.

    A folder that goes away is waited for; what lies there at the start is announced too.
    """
    from watchfiles import watch as changes

    pending = {path.parent.name for path in folder.glob("*/*") if path.is_file()}
    last = time.monotonic()
    while not stop.is_set():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for batch in changes(folder, stop_event=stop, yield_on_timeout=True, rust_timeout=500, step=100):
                here = {_unit_of(Path(name), folder) for _, name in batch} - {""}
                if here:
                    pending, last = pending | here, time.monotonic()
                if pending and time.monotonic() - last >= debounce:
                    announce(pending)
                    pending = set()
                if not folder.is_dir():
                    break
        except (FileNotFoundError, OSError):
            stop.wait(1.0)


def _unit_of(path: Path, folder: Path) -> str:
    try:
        parts = path.relative_to(folder.resolve()).parts
    except ValueError:
        return ""
    return parts[0] if len(parts) > 1 and path.exists() else ""
