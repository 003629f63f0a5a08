"""The other end of `tmuad.stages.server`. Imports nothing heavy: that is its whole point."""

import json
import os
import socket
import sys
import time

VARIABLE = "TMUAD_STAGES"
PATIENCE = 120.0  # s for the server to have imported what it serves


def serve_elsewhere(module: str) -> int | None:
    """The exit status of `module` with this process's arguments, run by the server; None where there is none to run it."""
    path = os.environ.get(VARIABLE)
    if not path or not _listening(path):
        return None
    return ask(path, module, sys.argv[1:])


def ask(path: str, module: str, arguments: list[str]) -> int:
    """Run `module` with `arguments` at the server, its output going to ours."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            print(f"error: {path}: the stage server has gone ({error.strerror}); run this again", file=sys.stderr)
            return 1
        sys.stdout.flush()
        sys.stderr.flush()
        message = json.dumps({"module": module, "arguments": arguments}).encode()
        socket.send_fds(connection, [message], [sys.stdout.fileno(), sys.stderr.fileno()])
        answer = connection.recv(64)
    if not answer:
        print(f"error: {module} {' '.join(arguments)}: its process died", file=sys.stderr)
        return 1
    status = json.loads(answer)
    return int(status) if status >= 0 else 128 - int(status)


def _listening(path: str) -> bool:
    """Whether the server is there, or comes while its folder exists: it imports while others get ready."""
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):  # noqa: PTH110  (pathlib takes longer to import than this takes to run)
        if not os.path.exists(os.path.dirname(path)) or time.monotonic() > deadline:  # noqa: PTH110, PTH120
            return False
        time.sleep(0.01)
    return True
