"""A helper process that lives exactly as long as the flow that started it.

Its standard input is a pipe whose other end only the flow holds: when the flow ends, in whatever way, the helper reads
the end of the pipe and takes everything it runs with it. It also inherits the workspace's lock, so that no other run
can start while a helper is still about.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path


def environment() -> dict[str, str]:
    """As ours, with this very Python first on the path: the stages' commands say `python`."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH")))),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def start(
    command: Sequence[str], extra: dict[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> "subprocess.Popen[bytes]":
    """`python COMMAND` in a session of its own, output in one pipe."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment() | (extra or {}),
        pass_fds=pass_fds,
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[bytes]", seconds: float = 5.0) -> None:
    """Ask by closing its input, then end its whole session."""
    if process.stdin and not process.stdin.closed:
        process.stdin.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def die_with_input(stream: int) -> None:
    """In a helper: end this session when the pipe `stream`, which nobody writes to, is closed at the other end."""

    def watch() -> None:
        while os.read(stream, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
