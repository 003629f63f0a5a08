"""Per-image results on disk, addressed by content: what was computed once for an image is never computed again.

An entry is the SHA-256 of its payload followed by the payload (safetensors). A truncated or altered entry fails its
digest and counts as absent, so the folder can be copied, cut short or deleted at any time; results come out the same.
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as unpack
from safetensors.numpy import save as pack

Record = dict[str, NDArray[Any]]  # what a backend says of one image
Entry = tuple[str, str, bytes]  # image id, kind, and the sealed record


def fingerprint(*parts: object) -> str:
    """One digest of everything a result depends on besides the image: names, parameters, weight digests, source code.

    A module stands for its source text, so that a changed backend never meets the results of its former self.
    """
    digest = hashlib.sha256()
    for part in parts:
        text = inspect.getsource(part) if isinstance(part, ModuleType) else repr(part)
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def seal(record: Record) -> bytes:
    """The bytes of an entry."""
    payload = pack({name: np.ascontiguousarray(array) for name, array in record.items()})
    return hashlib.sha256(payload).digest() + payload


def unseal(entry: bytes) -> Record | None:
    """The inverse of `seal`; None if the entry is truncated or altered."""
    if hashlib.sha256(memoryview(entry)[32:]).digest() != entry[:32]:
        return None
    try:
        return unpack(entry[32:])
    except SafetensorError:
        return None


def packed_text(text: str) -> NDArray[np.uint8]:
    """Text as one entry of a record."""
    return np.frombuffer(text.encode(), dtype=np.uint8)


def unpacked_text(entry: NDArray[Any]) -> str:
    """The inverse of `packed_text`."""
    return entry.tobytes().decode()


class Cache:
    """A folder of records; every operation is safe beside other processes doing the same."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused = ""  # why an entry could not be kept: a full disk, a read-only one; empty while all could

    def _path(self, image_id: str, kind: str) -> Path:
        key = hashlib.sha256(f"{image_id}\0{kind}".encode()).hexdigest()
        return self.root / key[:2] / key[2:]

    def has(self, image_id: str, kind: str) -> bool:
        """Whether there is an entry; only `get` tells whether it is whole."""
        return self._path(image_id, kind).exists()

    def lacking(self, image_ids: Sequence[str], kind: str) -> list[str]:
        """Those that have no entry."""
        return [image_id for image_id in image_ids if not self.has(image_id, kind)]

    def get(self, image_id: str, kind: str) -> Record | None:
        """The record of `image_id` under the fingerprint `kind`; None if there is none that is whole."""
        entry = self.read(image_id, kind)
        return None if entry is None else unseal(entry)

    def put(self, image_id: str, kind: str, record: Record) -> None:
        """Keep `record`. A full or read-only disk costs the entry, never the run: the result is in hand already."""
        self.write(image_id, kind, seal(record))

    def read(self, image_id: str, kind: str) -> bytes | None:
        """The entry as it is, whole or not."""
        try:
            return self._path(image_id, kind).read_bytes()
        except OSError:
            return None

    def write(self, image_id: str, kind: str, entry: bytes) -> None:
        """Keep a sealed record; why it cannot be kept is in `refused`."""
        path = self._path(image_id, kind)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, entry)
        except OSError as error:
            self.refused = error.strerror or str(error)

    def remove(self, image_id: str, kind: str) -> None:
        """Forget an entry."""
        self._path(image_id, kind).unlink(missing_ok=True)

    def writable(self) -> bool:
        """Whether entries can be kept."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return True
        except OSError as error:
            self.refused = error.strerror or str(error)
            return False


def open_cache(place: str, workspace: Path = Path()) -> Cache:
    """The cache at `place`, as `data.cache` names it: a folder, relative to the workspace, or s3://BUCKET/PREFIX."""
    if place.startswith("s3://"):
        from tmuad.cache_s3 import S3Cache

        return S3Cache(place)
    return Cache(workspace / place)


def anchored(place: str, workspace: Path) -> str:
    """`place` as any working folder may name it."""
    return place if "://" in place else str(workspace / place)


def scratch_folder(place: str) -> Path:
    """For what may be lost and is no record: in the cache where that is a folder."""
    return Path(".tmuad-cache" if "://" in place else place)


class MemoryCache(Cache):
    """Entries that travel: those a worker is given, and those it made."""

    def __init__(self, given: Iterable[Entry] = ()) -> None:
        super().__init__(Path())
        self._entries = {(image_id, kind): entry for image_id, kind, entry in given}
        self.made: list[Entry] = []

    def has(self, image_id: str, kind: str) -> bool:
        return (image_id, kind) in self._entries

    def read(self, image_id: str, kind: str) -> bytes | None:
        return self._entries.get((image_id, kind))

    def write(self, image_id: str, kind: str, entry: bytes) -> None:
        self._entries[image_id, kind] = entry
        self.made.append((image_id, kind, entry))

    def writable(self) -> bool:
        return True


def write_atomic(path: Path, content: bytes) -> None:
    """Write through a temporary file beside `path`, so that a reader sees the old bytes or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
