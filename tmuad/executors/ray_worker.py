"""The other end of `tmuad.executors.ray`: an actor on some node, with the models it has loaded."""

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tmuad.cache import Entry, MemoryCache, open_cache
from tmuad.errors import ImageError, TmuadError, WorkerError
from tmuad.executors.work import ImageRef, Work

SEEN = "seen"  # kind of the entry that a driver leaves in the cache for as long as it runs

# Whose versions decide the last bits of a result.
NUMERICAL = (
    "numpy", "scipy", "scikit-image", "pillow", "tifffile", "torch", "torchvision", "open_clip_torch", "transformers",
    "segment-anything", "groundingdino-py",
)  # fmt: skip


@dataclass(frozen=True)
class Sight:
    """How a worker finds out what it shares with the driver: an entry that one run put into the cache, and an image."""

    folder: str  # the driver's working folder
    cache: str  # absolute, or in a bucket
    token: str  # image id of the entry
    image: str  # relative to `folder`, or absolute


@dataclass(frozen=True)
class Hello:
    """What a worker says of itself when it starts."""

    node: str  # id of the Ray node
    host: str
    pid: int
    gpus: tuple[str, ...]  # ids of the GPUs it was given
    environment: dict[str, str]
    images: bool  # whether it sees ours
    cache: bool

    def __str__(self) -> str:
        return (
            f"{self.host} (node {self.node[:8]}, process {self.pid}{', GPU ' * bool(self.gpus)}{' '.join(self.gpus)})"
        )


@dataclass(frozen=True)
class Parcel:
    """A batch, and what travels with it."""

    work: Work
    identity: str  # of the work, as the driver has it
    refs: Sequence[ImageRef]
    files: dict[str, bytes] | None = None  # by path; None: the worker sees them
    entries: Sequence[Entry] | None = None  # records that the work builds on; None: the worker sees the cache


@dataclass(frozen=True)
class Outcome:
    """What came of a batch, also of one that failed half-way."""

    values: list[Any]
    entries: list[Entry]  # for a cache that the worker does not see
    refused: str = ""  # why the worker could not keep an entry
    error: TmuadError | None = None


class Worker:
    """The actor. One batch at a time; models stay loaded from one to the next."""

    def __init__(self, sight: Sight) -> None:
        from threadpoolctl import threadpool_limits

        import tmuad.encode.slots  # noqa: F401  (numpy and its libraries are loaded now)

        self._limits = threadpool_limits(1)  # as in every stage: Ray would allow as many threads as CPUs
        folder = Path(sight.folder)
        self._cache = False
        self._images = (folder / sight.image).is_file()
        with contextlib.suppress(TmuadError):  # a bucket that this node may not read
            self._cache = open_cache(sight.cache).has(sight.token, SEEN)
        if folder.is_dir():
            os.chdir(folder)
        self._trusted: set[str] = set()

    def hello(self) -> Hello:
        import ray

        context = ray.get_runtime_context()
        gpus = tuple(map(str, context.get_accelerator_ids().get("GPU", ())))
        return Hello(
            context.get_node_id(), socket.gethostname(), os.getpid(), gpus, environment(), self._images, self._cache
        )

    def run(self, parcel: Parcel) -> Outcome:
        """A batch. What was done before an error is kept, here or by the driver."""
        carried = MemoryCache(parcel.entries or ())
        work = parcel.work if parcel.entries is None else parcel.work.within(carried)
        values, failure = [], None
        try:
            self._check(parcel)
            with _unpacked(parcel) as refs:
                values = work(refs)
        except TmuadError as error:
            failure = error
        refused = "" if parcel.entries is not None else getattr(work, "cache", carried).refused
        return Outcome(values, carried.made, refused, failure)

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


@contextlib.contextmanager
def _unpacked(parcel: Parcel) -> Iterator[Sequence[ImageRef]]:
    """The images as files of this node, under their own names; an error names them as the driver knows them."""
    if parcel.files is None:
        for ref in parcel.refs:
            _verify(ref)
        yield parcel.refs
        return
    folder, refs = tempfile.mkdtemp(prefix="tmuad-"), []
    try:
        for number, ref in enumerate(parcel.refs):
            path = Path(folder, str(number), ref.path.name)
            path.parent.mkdir()
            path.write_bytes(parcel.files[str(ref.path)])
            refs.append(replace(ref, path=path))
        yield refs
    except TmuadError as error:
        told = str(error)
        for here, there in zip(refs, parcel.refs, strict=True):
            told = told.replace(str(here.path), str(there.path))
        raise type(error)(told) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verify(ref: ImageRef) -> None:
    """A node with a copy of the data in place of the data could have another version of it."""
    with contextlib.suppress(OSError):  # a missing file is the task's to report
        with ref.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != ref.image_id:
            raise ImageError(
                f"{ref.path}: another image on {socket.gethostname()} than in the manifest; bring the node's copy of the "
                "data up to date, or set ray.carry: always"
            )


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
