"""Where the maps and scores of a method come from: one module per way in which methods leave their results on disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tmuad.errors import DataError
from tmuad.plug.maps import FileMaps

SHOWN = 3


@dataclass(frozen=True)
class Images:
    """The images of a unit that maps may belong to, as paths relative to its root."""

    unit: str
    root: Path
    splits: Mapping[str, str]  # path -> train, validation or test
    max_pixels: int

    def of(self, *splits: str) -> list[str]:
        """Those of the given splits, sorted."""
        return sorted(path for path, split in self.splits.items() if split in splits)


@dataclass(frozen=True)
class MethodResults:
    """What a method says of images, by their paths."""

    maps: FileMaps
    scores: dict[str, float] | None = None  # where the method has a score of its own for whole images
    remarks: tuple[str, ...] = ()  # what a reader of the figures should know


def read_results(source: str, folder: Path, images: Images, skip_unknown: bool = False) -> MethodResults:
    """The results of a method in `folder`, as the adapter `source` (a key of `ADAPTERS`) finds them.

    Raises:
        DataError: the folder is not what the adapter knows, or a file in it belongs to no image of the unit.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the one that holds the maps")
    return ADAPTERS[source](folder, images, skip_unknown)


def some(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _folder(folder: Path, images: Images, skip_unknown: bool) -> MethodResults:
    from tmuad.plug.adapters.folder import read

    return read(folder, images, skip_unknown)


def _anomalib(folder: Path, images: Images, skip_unknown: bool) -> MethodResults:
    """What `save_predictions` of tmuad.plug.adapters.anomalib writes: maps as in `_folder`, and scores.csv."""
    from tmuad.plug.adapters.folder import read
    from tmuad.plug.scores import read_scores

    table = folder / "scores.csv"
    if not table.is_file():
        raise DataError(f"{folder}: no scores.csv; write the folder with save_predictions, or use --from folder")
    results = read(folder, images, skip_unknown)
    return replace(results, scores=read_scores(table, images.splits, images.root))


def _pbas(folder: Path, images: Images, skip_unknown: bool) -> MethodResults:
    from tmuad.plug.adapters.pbas import read

    return read(folder, images)


def _univad(folder: Path, images: Images, skip_unknown: bool) -> MethodResults:
    from tmuad.plug.adapters.univad import read

    return read(folder, images, skip_unknown)


ADAPTERS: dict[str, Callable[[Path, Images, bool], MethodResults]] = {
    "folder": _folder,
    "anomalib": _anomalib,
    "pbas": _pbas,
    "univad": _univad,
}
