"""Stages without their start-up: one process imports the numerical libraries, and forks a child for each stage.

A stage of a re-fit computes for a second and imports for two or three. `python -m tmuad.stages.server SOCKET` imports once;
a stage that finds the socket (see `remote`) hands its arguments and its output over and waits. The child runs the very
same code on the same bytes, so the artifacts are the same.

The server ends, with all it runs, when its standard input is closed, or with the process OWNER if its number is given
after the socket: it never outlives the flow or the `dvc repro` that it serves.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import contextlib  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import select  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

# What it runs: each has `main(arguments) -> status`.
MODULES = ("tmuad.stages.__main__", "tmuad.arrivals.__main__", "tmuad.ablate.__main__")
PRELOADED = (  # in the order in which a run needs them
    "tmuad.stages.__main__",
    "tmuad.stages.prepare",
    "tmuad.stages.segment",
    "skimage.measure", "skimage.segmentation", "multiprocessing.popen_fork", "multiprocessing.synchronize",
    "pyarrow.pandas_compat", "pandas.io.formats.csvs",
    *(
        f"tmuad.stages.{name}"
        for name in ("finetune", "describe", "text_bank", "feature_banks", "score", "fuse", "evaluate", "context")
    ),
    "faiss",
    "tmuad.arrivals.__main__", "tmuad.arrivals.guard", "tmuad.arrivals.gate",
    *(f"tmuad.stages.{name}" for name in ("report", "warehouse", "checks", "gallery")),
)  # fmt: skip
TORCH = "tmuad.describe.finetune"  # and open_clip: three seconds that a run which trains no classifier never needs
QUIET = 5.0  # s without a request, because a long stage is at work, after which there is time for it


def main() -> NoReturn:
    """Listen and fork, and import between requests what later ones need; ends when standard input or the owner does."""
    path, *owner = sys.argv[1:]
    end = os.pidfd_open(int(owner[0])) if owner else 0
    sys.path.insert(0, "")  # the workspace's own code, as `python -m` has it
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{path}.new")
        listener.listen()
        os.rename(f"{path}.new", path)  # noqa: PTH104  (who sees the name finds somebody listening)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's to wait for
        missing = [TORCH, *reversed(PRELOADED)]
        while True:
            patience = None if not missing else QUIET if missing[-1] == TORCH else 0
            ready, _, _ = select.select([listener.fileno(), end], [], [], patience)
            if end in ready and (owner or not os.read(0, 1)):
                if owner:  # a standard input's closer tidies up itself
                    shutil.rmtree(os.path.dirname(path), ignore_errors=True)  # noqa: PTH120
                os._exit(0)  # at once: torch takes a second to say goodbye
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _keep(connection, end)
                connection.close()
            elif missing:
                _import(missing.pop())


def _import(name: str) -> None:
    """One that fails will say why to the stage that asks for it."""
    with contextlib.suppress(Exception):
        if name == TORCH:
            from tmuad.describe.classifier import import_open_clip

            import_open_clip()
        importlib.import_module(name)


def _keep(connection: socket.socket, end: int) -> NoReturn:
    """In a process of its own: run one request, and end it early if nobody waits for it any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message = b""
    with contextlib.suppress(OSError):  # whoever found the server busy has gone
        connection.sendall(b"+")
        message, descriptors, _, _ = socket.recv_fds(connection, 65536, 2)
    if not message:
        os._exit(0)
    request = json.loads(message)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        _work(request["module"], request["arguments"], descriptors)
    watched = os.pidfd_open(worker)
    ready, _, _ = select.select([watched, connection.fileno(), end], [], [])
    if watched not in ready:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    with contextlib.suppress(OSError):
        connection.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _work(module: str, arguments: list[str], descriptors: list[int]) -> NoReturn:
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    status = 1
    try:
        if module not in MODULES:
            raise ValueError(f"{module}: not served here")
        status = importlib.import_module(module).main(arguments)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
