"""Per-image results on disk, addressed by content: what was computed once for an image is never computed again.

An entry is the SHA-256 of its payload followed by the payload (safetensors). A truncated or altered entry fails its
digest and counts as absent, so the folder can be copied, cut short or deleted at any time; results come out the same.
"""

import contextlib
import hashlib
import inspect
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as unpack
from safetensors.numpy import save as pack

Record = dict[str, NDArray[Any]]  # what a backend says of one image


def fingerprint(*parts: object) -> str:
    """One digest of everything a result depends on besides the image: names, parameters, weight digests, source code.

    A module stands for its source text, so that a changed backend never meets the results of its former self.
    """
    digest = hashlib.sha256()
    for part in parts:
        text = inspect.getsource(part) if isinstance(part, ModuleType) else repr(part)
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


class Cache:
    """A folder of records; every operation is safe beside other processes doing the same."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, image_id: str, kind: str) -> Path:
        key = hashlib.sha256(f"{image_id}\0{kind}".encode()).hexdigest()
        return self.root / key[:2] / key[2:]

    def has(self, image_id: str, kind: str) -> bool:
        """Whether there is an entry; only `get` tells whether it is whole."""
        return self._path(image_id, kind).exists()

    def get(self, image_id: str, kind: str) -> Record | None:
        """The record of `image_id` under the fingerprint `kind`; None if there is none that is whole."""
        try:
            blob = self._path(image_id, kind).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(blob[32:]).digest() != blob[:32]:
            return None
        try:
            return unpack(blob[32:])
        except SafetensorError:
            return None

    def writable(self) -> bool:
        """Whether entries can be kept."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                return True
        except OSError:
            return False

    def put(self, image_id: str, kind: str, record: Record) -> None:
        """Keep `record`. A full or read-only disk costs the entry, never the run: the result is in hand already."""
        payload = pack({name: np.ascontiguousarray(array) for name, array in record.items()})
        path = self._path(image_id, kind)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, hashlib.sha256(payload).digest() + payload)


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
