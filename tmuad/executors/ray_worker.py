"""The other end of `tmuad.executors.ray`: an actor on some node, with the models it has loaded."""

import hashlib
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tmuad.cache import Entry, MemoryCache
from tmuad.errors import TmuadError, WorkerError
from tmuad.executors.work import ImageRef, Work

# Whose versions decide the last bits of a result.
NUMERICAL = (
    "numpy", "scipy", "scikit-image", "pillow", "tifffile", "torch", "torchvision", "open_clip_torch", "transformers",
    "segment-anything", "groundingdino-py",
)  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """How a worker sees whether it has the driver's folders: a file with a secret name, and an image."""

    folder: str  # the driver's working folder
    token: str  # a file of one run in the cache, absolute
    image: str  # relative to `folder`, or absolute


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself when it starts."""

    node: str  # id of the Ray node
    host: str
    pid: int
    gpus: tuple[str, ...]  # ids of the GPUs it was given
    environment: dict[str, str]
    shares: bool  # our folders

    def __str__(self) -> str:
        return (
            f"{self.host} (node {self.node[:8]}, process {self.pid}{', GPU ' * bool(self.gpus)}{' '.join(self.gpus)})"
        )


@dataclass(frozen=True)
class Parcel:
    """A batch, and what a worker without our folders needs for it."""

    work: Work
    identity: str  # of the work, as the driver has it
    refs: Sequence[ImageRef]
    carried: bool = False  # whether files and entries travel
    files: dict[str, bytes] = field(default_factory=dict)  # by path
    entries: Sequence[Entry] = ()  # records that the work builds on, where there are any


@dataclass(frozen=True)
class Outcome:
    """What came of a batch, also of one that failed half-way."""

    values: list[Any]
    entries: list[Entry]  # of a carried batch
    refused: str = ""  # why the worker could not keep an entry
    error: TmuadError | None = None


class Worker:
    """The actor. One batch at a time; models stay loaded from one to the next."""

    def __init__(self, sight: Sight) -> None:
        from threadpoolctl import threadpool_limits

        import tmuad.encode.slots  # noqa: F401  (numpy and its libraries are loaded now)

        self._limits = threadpool_limits(1)  # as in every stage: Ray would allow as many threads as CPUs
        folder = Path(sight.folder)
        self._shares = Path(sight.token).is_file() and (folder / sight.image).is_file()
        if self._shares:
            os.chdir(folder)
        self._trusted: set[str] = set()

    def hello(self) -> Hello:
        import ray

        context = ray.get_runtime_context()
        gpus = tuple(map(str, context.get_accelerator_ids().get("GPU", ())))
        return Hello(context.get_node_id(), socket.gethostname(), os.getpid(), gpus, environment(), self._shares)

    def run(self, parcel: Parcel) -> Outcome:
        work = parcel.work
        try:
            self._check(parcel)
            if not parcel.carried:
                values = work(parcel.refs)
                return Outcome(values, [], getattr(work, "cache", MemoryCache()).refused)
            cache = MemoryCache(parcel.entries)
            with _unpacked(parcel) as refs:
                try:
                    return Outcome(work.within(cache)(refs), cache.made)
                except TmuadError as error:
                    told = str(error)
                    for here, there in zip(refs, parcel.refs, strict=True):
                        told = told.replace(str(here.path), str(there.path))
                    return Outcome([], cache.made, "", type(error)(told))
        except TmuadError as error:
            return Outcome([], [], "", error)

    def _check(self, parcel: Parcel) -> None:
        """The same version can still mean another thing: other weights in its folder, another precision on its device."""
        if parcel.identity in self._trusted:
            return
        if (mine := parcel.work.identity()) != parcel.identity:
            raise WorkerError(
                f"{parcel.work.name}: {socket.gethostname()} would compute something else than this machine (key {mine!r} "
                f"instead of {parcel.identity!r}); install the same weights there and set compute.precision to other than auto"
            )
        self._trusted.add(parcel.identity)


@contextmanager
def _unpacked(parcel: Parcel) -> Iterator[list[ImageRef]]:
    """The carried files under their own names in a folder of this node, for as long as the batch takes."""
    folder = tempfile.mkdtemp(prefix="tmuad-")
    try:
        refs = []
        for number, ref in enumerate(parcel.refs):
            path = Path(folder, str(number), *(p for p in ref.path.parts if p not in ("..", ref.path.anchor)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(parcel.files[str(ref.path)])
            refs.append(replace(ref, path=path))
        yield refs
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment() -> dict[str, str]:
    """Versions of what decides a result; "tmuad" stands for its source text."""
    import tmuad

    digest, home = hashlib.sha256(), Path(tmuad.__file__).parent
    for path in sorted(home.rglob("*.py")):
        digest.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    versions = {"tmuad": digest.hexdigest()[:12], "python": platform.python_version()}
    for name in NUMERICAL:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
