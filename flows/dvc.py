"""Calls to DVC, and to the stage server beside it. DVC's locks are waited for; nothing that computes is tried twice."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows import helper
from tmuad.errors import TmuadError

Log = Callable[[str], None]
ENDS = ("evaluate", "context")  # the stages of a unit that no other stage of it follows
PAUSE = 0.5  # s between two attempts at a lock
RWLOCK = Path(".dvc/tmp/rwlock")
HINTS = ("To track the changes", "\tgit add", "To enable auto staging", "\tdvc config", "Use `dvc push`")


def unit_ends(unit: str) -> list[str]:
    """What to ask DVC for so that every stage of the unit is up to date."""
    return [f"{stage}@{unit}" for stage in ENDS]


class DvcError(TmuadError):
    """DVC could not do it; `kind` as in `dvc_worker.kind_of`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Dvc:
    """A DVC worker, started when it is first asked, and with it a stage server that saves the stages their start-up."""

    def __init__(self, log: Log, lock_wait: float = 60.0, lock: int | None = None, stage_server: bool = True) -> None:
        self.log, self.lock_wait = log, lock_wait
        self._pass = () if lock is None else (lock,)
        self._folder = Path(tempfile.mkdtemp(prefix="tmuad-"))  # short: a socket's path has 100 characters
        self._socket = self._folder / "stages"
        self._server = None
        if stage_server and hasattr(os, "pidfd_open"):
            self._server = helper.start(["-m", "tmuad.stages.server", str(self._socket)], pass_fds=self._pass)
            self._follow(self._server.stdout)
        self._worker: Any = None
        self._tail: list[str] = []

    def __enter__(self) -> "Dvc":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for process in (self._worker, self._server):
            if process is not None:
                helper.stop(process)
        self._worker = self._server = None
        self._socket.unlink(missing_ok=True)
        if self._folder.exists():
            self._folder.rmdir()

    def call(self, name: str, **arguments: Any) -> Any:
        """The result of the worker's function `name`.

        Raises:
            DvcError: it failed; a lock that another process holds only after `lock_wait` seconds.
        """
        if name == "reproduce":
            alive = self._server is not None and self._server.poll() is None
            arguments["server"] = str(self._socket) if alive else ""
        deadline = time.monotonic() + self.lock_wait
        waiting = False
        while True:
            answer = self._ask(name, arguments)
            if "error" not in answer:
                return answer["result"]
            kind, message = answer["error"]["kind"], answer["error"]["message"]
            if kind == "rwlock" and RWLOCK.exists():
                self.log(f"{RWLOCK}: damaged by a DVC process that was killed while writing it; removed")
                RWLOCK.unlink(missing_ok=True)
                continue
            if kind != "lock" or time.monotonic() >= deadline:
                if kind == "lock":
                    message = f"another DVC process has kept its lock for {self.lock_wait:.0f} s; {message}"
                raise DvcError(kind, self._explain(kind, message))
            if not waiting:
                self.log(f"waiting for another DVC process: {message.splitlines()[0]}")
                waiting = True
            time.sleep(PAUSE)

    def run_library(self, module: str, *arguments: str) -> None:
        """`python -m MODULE ARGUMENTS` at the stage server, or in a process of its own; its output is logged.

        Raises:
            TmuadError: it ended with an error; the message is its own.
        """
        code = "import sys; from tmuad.stages.remote import ask; sys.exit(ask(*sys.argv[1:3], sys.argv[3:]))"
        local = ["-m", module, *arguments]
        socket = self._ready_socket()
        served = ["-c", code, socket, f"{module}.__main__", *arguments]
        process = helper.start(served if socket else local, pass_fds=self._pass)
        lines = [line.decode(errors="replace").rstrip() for line in process.stdout or ()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        for line in lines:
            if line:
                self.log(line)
        code_ = process.wait()
        if code_:
            raise TmuadError("\n".join(errors) or f"{module} {' '.join(arguments)}: exit status {code_}; see the log")

    def _explain(self, kind: str, message: str) -> str:
        """What a stage printed as its error says more than DVC's "failed to run"."""
        said = [line.removeprefix("error: ") for line in self._tail if line.startswith("error: ")]
        if kind == "stage" and said:
            return f"{message}: {said[-1]}"
        full = next((line for line in reversed(self._tail) if "No space left on device" in line), "")
        return f"{message}: {full}" if full and full not in message else message

    def _ask(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            self._start()
        self._tail.clear()
        try:
            self._requests.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line:
            self._worker = None
            raise DvcError("other", f"the DVC process ended during '{name}'; {' '.join(self._tail[-3:])}")
        self._settle()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> None:
        their_requests, our_requests = os.pipe()
        our_answers, their_answers = os.pipe()
        self._worker = helper.start(
            ["-m", "flows.dvc_worker", str(their_requests), str(their_answers), "0"],
            pass_fds=(their_requests, their_answers, *self._pass),
        )
        os.close(their_requests)
        os.close(their_answers)
        self._requests = os.fdopen(our_requests, "w", buffering=1)
        self._answers = os.fdopen(our_answers)
        self._follow(self._worker.stdout)

    def _ready_socket(self) -> str:
        """The stage server's address once it listens; empty without one."""
        while self._server is not None and not self._socket.exists():
            if self._server.poll() is not None:
                self.log("the stage server did not start; the stages run in processes of their own")
                self._server = None
                return ""
            time.sleep(0.02)
        return str(self._socket) if self._server is not None else ""

    def _follow(self, stream: Any) -> None:
        def follow() -> None:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                if line and not line.startswith(HINTS):
                    self._tail.append(line)
                    self.log(line)

        threading.Thread(target=follow, daemon=True).start()

    def _settle(self) -> None:
        """What was printed before the answer has been read a moment later."""
        time.sleep(0.01)


def unit_stages(unit: str, stages: Sequence[str]) -> list[str]:
    return [f"{stage}@{unit}" for stage in stages]
