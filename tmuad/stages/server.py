"""Stages without their start-up: one process imports the numerical libraries, and forks a child for each stage.

A stage of a re-fit computes for a second and imports for two or three. `python -m tmuad.stages.server SOCKET` imports once;
a stage whose environment names the socket in TMUAD_STAGES hands its arguments and its output over and waits. The child
runs the very same code on the same bytes, so the artifacts are the same.

The server ends, with all it runs, when its standard input is closed: it never outlives the flow that started it.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import contextlib  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

MODULES = ("tmuad.stages.__main__", "tmuad.arrivals.__main__")  # what it runs: each has `main(arguments) -> status`
PRELOADED = (
    *(
        f"tmuad.stages.{name}"
        for name in (
            "prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse", "evaluate",
        )
    ),
    "tmuad.arrivals.guard", "tmuad.arrivals.gate", "scipy.stats", "skimage.measure", "skimage.segmentation", "faiss",
)  # fmt: skip


def main() -> NoReturn:
    """Import, listen, fork; ends when standard input does."""
    path = sys.argv[1]
    sys.path.insert(0, "")  # the workspace's own code, as `python -m` has it
    for name in (*PRELOADED, *MODULES):
        importlib.import_module(name)
    from tmuad.describe.classifier import import_open_clip

    import_open_clip()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{path}.new")
        listener.listen()
        os.rename(f"{path}.new", path)  # noqa: PTH104  (who sees the name finds somebody listening)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's to wait for
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready and not os.read(0, 1):
                os._exit(0)  # at once: torch takes a second to say goodbye
            if listener.fileno() in ready:
                connection, _ = listener.accept()
                if os.fork() == 0:
                    listener.close()
                    _keep(connection)
                connection.close()


def _keep(connection: socket.socket) -> NoReturn:
    """In a process of its own: run one request, and end it early if nobody waits for it any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(connection, 65536, 2)
    if not message:
        os._exit(0)
    request = json.loads(message)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        _work(request["module"], request["arguments"], descriptors)
    watched = os.pidfd_open(worker)
    ready, _, _ = select.select([watched, connection.fileno(), 0], [], [])
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
