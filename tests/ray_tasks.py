"""Tasks for the tests of the Ray executor, in a module that the cluster's processes can import."""

import json
import os
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmuad.cache import Record


@dataclass(frozen=True)
class Look:
    """Mean colour and a few products. Each call leaves a file in `log` that says who did what, and where."""

    log: Path
    name: str = "look"
    after: "Look | BatchLook | None" = None
    seconds: float = 0.0  # each image takes
    deadly: int = -1  # grey level that ends the process, `times` times
    times: int = 10**6
    crowd: int = 1  # processes that must have begun before one goes on: a fast one would do all the work

    @property
    def fingerprint(self) -> str:
        return f"{self.name}:{self.after.fingerprint if self.after else ''}"

    def __call__(self, image: NDArray[np.uint8], prior: Record) -> Record:
        level = int(image[0, 0, 0])
        note(self.log, self.name, level)
        if level == self.deadly and len(list(self.log.glob(f"died-{level}-*"))) < self.times:
            (self.log / f"died-{level}-{uuid.uuid4().hex}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        while self.crowd > 1 and len({json.loads(text)["pid"] for text in noted(self.log)}) < self.crowd:
            time.sleep(0.02)
        time.sleep(self.seconds)
        values = image.reshape(-1, 3).astype(np.float32)
        return {"mean": values.mean(axis=0) + prior.get("mean", np.float32(0)), "gram": values.T @ values}


@dataclass(frozen=True)
class BatchLook(Look):
    """The same, for a model that takes four images at once."""

    batch: int = field(default=4)

    def many(self, images: Sequence[NDArray[np.uint8]], priors: Sequence[Record]) -> list[Record]:
        return [self(image, prior) for image, prior in zip(images, priors, strict=True)]


def note(log: Path, name: str, level: int) -> None:
    import ray

    where = {"task": name, "level": level, "pid": os.getpid(), "time": time.time(), "node": "", "gpus": []}
    if ray.is_initialized():
        context = ray.get_runtime_context()
        where |= {"node": context.get_node_id(), "gpus": context.get_accelerator_ids().get("GPU", [])}
    name = uuid.uuid4().hex
    (log / f"draft-{name}").write_text(json.dumps(where))
    (log / f"draft-{name}").rename(log / f"call-{name}")


def noted(log: Path) -> list[str]:
    return [path.read_text() for path in log.glob("call-*")]


def calls(log: Path) -> list[dict[str, Any]]:
    """What has been noted so far, and is then forgotten."""
    found = []
    for path in log.glob("call-*"):
        found.append(json.loads(path.read_text()))
        path.unlink()
    return sorted(found, key=lambda call: call["time"])
