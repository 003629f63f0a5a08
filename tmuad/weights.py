"""Weight files: what weights.yaml lists, where they lie, whether they are whole, and their digests.

Nothing here reaches the network but `pull`. A name `random:SEED` stands for weights drawn from that seed, which tests and
benchmarks use in the real classes of every library.
"""

import contextlib
import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from tmuad.cache import write_atomic
from tmuad.config_models import ComputeParams
from tmuad.errors import WeightsError
from tmuad.section import Section

if TYPE_CHECKING:
    import torch

REGISTRY = Path("weights.yaml")
VARIABLE = "TMUAD_WEIGHTS"
RANDOM = "random:"
CHUNK = 1 << 22
SLACK = 0.03  # an `about` size may be off by this share


class WeightFile(Section):
    file: str
    bytes: int
    about: bool = False  # the publisher does not state the exact size
    sha256: str = ""  # empty: the publisher does not state it


class Weights(Section):
    """One entry of weights.yaml."""

    source: str
    url: str
    revision: str
    licence: str
    files: tuple[WeightFile, ...]

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.files)


@dataclass(frozen=True)
class Status:
    """One file as `verify` found it."""

    name: str
    file: WeightFile
    path: Path
    state: str  # ok | missing | size | damaged | unstated: there, of the right size, and no digest to compare with
    digest: str = ""


def folder(compute: ComputeParams) -> Path:
    """The folder of weight files: TMUAD_WEIGHTS, else `compute.weights`."""
    return Path(os.environ.get(VARIABLE) or compute.weights)


def registry() -> dict[str, Weights]:
    """The entries of weights.yaml: that of the working folder, else the one that tmuad came with.

    Raises:
        WeightsError: there is none, or it cannot be understood.
    """
    from tmuad.config import read_yaml

    path = REGISTRY if REGISTRY.exists() else Path(__file__).parent.parent / REGISTRY
    if not path.exists():
        raise WeightsError(f"{REGISTRY}: no such file; it lists the weights, and tmuad's repository has it")
    try:
        raw = read_yaml(path)
        return TypeAdapter(dict[str, Weights]).validate_python(raw["weights"] if isinstance(raw, dict) else raw)
    except (ValidationError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a list of weights ({error})") from None


def entry(name: str) -> Weights:
    """Raises WeightsError if weights.yaml does not list `name`."""
    known = registry()
    if name not in known:
        raise WeightsError(f"weights '{name}': not listed in {REGISTRY}, which has: {', '.join(known)}")
    return known[name]


def paths(name: str, compute: ComputeParams) -> list[Path]:
    """The files of `name`.

    Raises:
        WeightsError: one is missing or of the wrong size; it says which, how large it is, and the command that gets it.
    """
    home, listed = folder(compute) / name, entry(name)
    for file in listed.files:
        path = home / file.file
        if not path.exists():
            raise WeightsError(
                f"{path}: no such weight file ({size(file.bytes)}). Runs are offline: get it with "
                f"`tmuad weights pull {name}` ({size(listed.bytes)} in all), or set {VARIABLE} to a folder that has {name}/"
            )
        if not _fits(path.stat().st_size, file):
            raise WeightsError(
                f"{path}: {path.stat().st_size:,} bytes where {file.bytes:,} are expected; it was cut short or is "
                f"another file. Delete it and run `tmuad weights pull {name}`"
            )
    return [home / file.file for file in listed.files]


def random_seed(name: str) -> int | None:
    """The seed of `random:SEED`; None for the name of weights."""
    if not name.startswith(RANDOM):
        return None
    seed = name.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise WeightsError(f"weights '{name}': expected {RANDOM} and a whole number, as in {RANDOM}0")
    return int(seed)


def digest(name: str, compute: ComputeParams) -> str:
    """Hex digest of all files of `name`, part of every cache key; remembered by path, size and time of change."""
    if random_seed(name) is not None:
        return name
    total = hashlib.sha256()
    for path in paths(name, compute):
        total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()


def sha256_of(path: Path) -> str:
    """Hex digest of the file's bytes: about 1 s for a gigabyte that is in memory."""
    total = hashlib.sha256()
    for chunk in _chunks(path):
        total.update(chunk)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """`sha256_of` a weight file, remembered beside it by size and time of change."""
    stat = path.stat()
    memory = path.parent / ".digests.json"
    mark = f"{stat.st_size}:{stat.st_mtime_ns}"
    known = _remembered(memory)
    if known.get(path.name, {}).get("mark") == mark:
        return str(known[path.name]["sha256"])
    known[path.name] = {"mark": mark, "sha256": sha256_of(path)}
    with contextlib.suppress(OSError):  # a read-only folder: it is computed again next time
        write_atomic(memory, json.dumps(known, indent=1, sort_keys=True).encode())
    return str(known[path.name]["sha256"])


def verify(names: list[str], compute: ComputeParams) -> list[Status]:
    """The state of every file of `names`; each is read once more, whatever is remembered of it."""
    found = []
    for name in names:
        for file in entry(name).files:
            path = folder(compute) / name / file.file
            if not path.exists():
                found.append(Status(name, file, path, "missing"))
                continue
            if not _fits(path.stat().st_size, file):
                found.append(Status(name, file, path, "size"))
                continue
            actual = sha256_of(path)
            state = "unstated" if not file.sha256 else "ok" if actual == file.sha256 else "damaged"
            found.append(Status(name, file, path, state, actual))
    return found


def pull(name: str, compute: ComputeParams) -> Iterator[Status]:
    """Download what is missing of `name`, file by file; a file counts only once it is whole and has its digest.

    Raises:
        WeightsError: the network, the disk or the digest says no.
    """
    listed = entry(name)
    for file in listed.files:
        path = folder(compute) / name / file.file
        if path.exists() and _fits(path.stat().st_size, file):
            yield Status(name, file, path, "ok", file_digest(path))
            continue
        url = listed.url.format(revision=listed.revision, file=file.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        total = hashlib.sha256()
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as stream:
                while chunk := answer.read(CHUNK):
                    total.update(chunk)
                    stream.write(chunk)
        except (OSError, urllib.error.URLError, ValueError) as error:
            part.unlink(missing_ok=True)
            raise WeightsError(
                f"{path}: cannot be fetched from {url} ({error}); without a network, copy the file to {path.parent} from a "
                f"machine that has it, or set {VARIABLE}"
            ) from None
        if file.sha256 and total.hexdigest() != file.sha256:
            part.unlink()
            raise WeightsError(f"{url}: sha256 {total.hexdigest()}, but {REGISTRY} states {file.sha256}; not kept")
        if not _fits(part.stat().st_size, file):
            got = part.stat().st_size
            part.unlink()
            raise WeightsError(f"{url}: {got:,} bytes where {REGISTRY} states {file.bytes:,}; not kept")
        part.replace(path)
        yield Status(name, file, path, "ok" if file.sha256 else "unstated", total.hexdigest())


def read_state(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors in a safetensors or PyTorch file. No code in the file is run.

    Raises:
        WeightsError: it is neither, or damaged.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not readable as weights ({reason}); run `tmuad weights verify`") from None
    if isinstance(state, dict) and "model" in state and isinstance(state["model"], dict):
        state = state["model"]  # as Grounding DINO's file has it
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors; it is not the weights of a model")
    return state


def load_into(model: Any, state: "dict[str, torch.Tensor]", path: Path, ignored: tuple[str, ...] = ()) -> None:
    """Give `model` the weights `state`; what the file has too much or too little is an error but for `ignored` prefixes.

    Raises:
        WeightsError: the file is of another architecture.
    """
    own = model.state_dict()
    state = {name: value for name, value in state.items() if name in own or not name.startswith(ignored)}
    lacking = [n for n in own if n not in state and not n.startswith(ignored)]
    surplus = [n for n in state if n not in own]
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if lacking or surplus or shapes:
        words = [f"{len(lacking)} tensors missing", f"{len(surplus)} unknown", f"{len(shapes)} of another shape"]
        example = (shapes or lacking or surplus)[0]
        raise WeightsError(
            f"{path}: the weights of another architecture than {type(model).__name__} as configured "
            f"({', '.join(words)}; for instance '{example}'); choose the model that fits, or other weights"
        )
    model.load_state_dict(state, strict=False)


def size(count: int) -> str:
    """Bytes for people: 694 MB, 2.6 GB."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}" if unit == "GB" else f"{count / step:.0f} {unit}"
    return f"{count} bytes"


def _fits(actual: int, file: WeightFile) -> bool:
    if not file.about:
        return actual == file.bytes
    if file.bytes < 1 << 20:  # small text files change with the publisher's formatting
        return actual > 0
    return abs(actual - file.bytes) <= SLACK * file.bytes


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _remembered(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
