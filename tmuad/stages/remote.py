"""The other end of `tmuad.stages.server`. Imports nothing heavy: that is its whole point.

A flow names its server in TMUAD_STAGES. Under a plain `dvc repro` the first stage starts one for those that follow, which
lives as long as that dvc process; TMUAD_STAGES=off keeps every stage in a process of its own.
"""

import json
import os
import socket
import sys
import time

VARIABLE = "TMUAD_STAGES"
PATIENCE = 10.0  # s for a server that was started to listen
BUSY = 0.15  # s after which a server that is still importing is left to it: there is another core
TORCH = ("finetune",)  # stages that would take as long to import torch themselves as to wait for it


def serve_elsewhere(module: str) -> int | None:
    """The exit status of `module` with this process's arguments, run by the server; None where there is none to run it."""
    named = os.environ.get(VARIABLE)
    path = named or _of_dvc()
    if not path or path == "off" or not _listening(path):
        return None
    if not named:
        patience = PATIENCE if sys.argv[1:2] and sys.argv[1] in TORCH else BUSY
        return ask(path, module, sys.argv[1:], patience)
    return ask(path, module, sys.argv[1:])


def _of_dvc() -> str:
    """The server's address for the stages of the dvc process above; empty where there is none yet, or none possible."""
    if "DVC_STAGE" not in os.environ or not hasattr(os, "pidfd_open") or not (owner := _dvc_process()):
        return ""
    number, started = owner
    folder = f"{os.environ.get('TMPDIR', '/tmp')}/tmuad-{os.getuid()}-{number}-{started}"
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102  (whoever makes it starts the server)
    except FileExistsError:
        mine = os.lstat(folder)
        return f"{folder}/stages" if mine.st_uid == os.getuid() and not mine.st_mode & 0o077 else ""
    except OSError:
        return ""
    import subprocess

    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", "tmuad.stages.server", f"{folder}/stages", number]
    subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    return ""  # it will be of use to the next stage; this one need not wait


def _dvc_process() -> tuple[str, str] | None:
    """Number and start time of the dvc process that runs this stage, directly or through a shell."""
    number = str(os.getppid())
    for _ in range(2):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:  # noqa: PTH123
                command = file.read().split(b"\0")
            with open(f"/proc/{number}/stat") as file:  # noqa: PTH123
                status = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        if any(os.path.basename(word) == b"dvc" for word in command[:3]):  # noqa: PTH119
            return number, status[19]
        number = status[1]
    return None


def ask(path: str, module: str, arguments: list[str], patience: float | None = None) -> int | None:
    """Run `module` with `arguments` at the server, its output going to ours: the exit status.

    None if the server has gone (a killed one leaves its socket behind), or has not answered after `patience` seconds;
    without a `patience` it is waited for, and that it has gone is an error.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            if patience is not None:
                return None
            print(f"error: {path}: the stage server has gone ({error.strerror}); run this again", file=sys.stderr)
            return 1
        connection.settimeout(patience)
        try:
            ready = connection.recv(1)
        except TimeoutError:
            return None
        connection.settimeout(None)
        answer = b""
        if ready:
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
