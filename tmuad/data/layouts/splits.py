"""What the two MVTec layouts share: train/good, validation/good, test/<defect> and ground_truth/<defect>."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from tmuad.data.layouts.entries import JUNK_FOLDERS, Entry, Kind, Listing, Problem, Split, is_image, strays, walk
from tmuad.errors import DataError

UNMASKED = "used for the image-level figures, left out of the pixel-level ones"
Masks = dict[tuple[str, str], list[str]]  # (defect, stem of the image) -> mask files
Place = tuple[str, Split, str, Kind]  # path, split, defect, kind


def read_category(
    root: Path,
    layout: str,
    kind_of: Callable[[str], Kind | None],
    owner_of: Callable[[PurePosixPath], tuple[str, str] | None],
    extra: Iterable[str] = (),
) -> Listing:
    """The category in `root`.

    Args:
        kind_of: the kind of anomaly in test/<defect>; None where the layout has no such folder.
        owner_of: (defect, stem) of the image that a file below ground_truth/ belongs to; None where it is no mask.
        extra: names of further files that belong to the layout.

    Raises:
        DataError: no training image, or two images that would share a mask; see also `walk`.
    """
    files, problems = walk(root)
    masks: Masks = defaultdict(list)
    places: list[Place] = []
    unknown: list[str] = []
    for file in files:
        path = PurePosixPath(file)
        match path.parts if is_image(file) else ():
            case "train" | "validation" as split, "good", _:
                places.append((file, split, "", "good"))
            case "test", "good", _:
                places.append((file, "test", "", "good"))
            case "test", defect, _ if kind := kind_of(defect):
                places.append((file, "test", defect, kind))
            case "ground_truth", *_ if owner := owner_of(path):
                masks[owner].append(file)
            case _ if file not in extra:
                unknown.append(file)
    return assemble(root, layout, places, masks, unknown, problems)


def assemble(
    root: Path, layout: str, places: list[Place], masks: Masks, unknown: Iterable[str], problems: list[Problem]
) -> Listing:
    """The listing of `places`, each anomalous one with its masks.

    Args:
        unknown: files that the layout has no place for.
        problems: what was found so far.

    Raises:
        DataError: no training image, or two images that would share a mask.
    """
    if not any(split == "train" for _, split, _, _ in places):
        raise DataError(f"{root / 'train' / 'good'}: no training image; put photographs of good parts there")
    entries, unmasked = _attach(root, places, masks)
    problems = problems + unmasked + _orphans(masks) + _empty(root, entries) + strays(unknown, layout)
    return Listing(tuple(sorted(entries, key=lambda entry: (entry.split, entry.path))), tuple(sorted(problems)))


def _attach(root: Path, places: list[Place], masks: Masks) -> tuple[list[Entry], list[Problem]]:
    """Entries with their masks, which are taken out of `masks`."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    owners: dict[tuple[str, str], str] = {}
    if not masks and any(kind != "good" for _, _, _, kind in places):
        problems.append(Problem("ground_truth", "no mask at all", UNMASKED))
    for file, split, defect, kind in places:
        owner = (defect, PurePosixPath(file).stem)
        if kind == "good":
            entries.append(Entry(file, split, kind, ""))
            continue
        if owner in owners and owner in masks:
            raise DataError(
                f"{root / owners[owner]} and {root / file} share one mask by their name; rename one image and its mask"
            )
        owners[owner] = file
        found = tuple(masks.get(owner, ()))
        entries.append(Entry(file, split, kind, defect, found))
        if not found and masks:
            problems.append(Problem(file, "an image of a defect without a mask", UNMASKED))
    for owner in owners:
        masks.pop(owner, None)
    return entries, problems


def _orphans(masks: Masks) -> list[Problem]:
    problems: list[Problem] = []
    for (defect, stem), files in masks.items():
        reason = f"a mask without an image: there is no test/{defect}/{stem} with the suffix of an image"
        if defect == "good":
            reason = "a mask of a good image"
        problems.extend(Problem(file, reason, "ignored") for file in files)
    return problems


def _empty(root: Path, entries: list[Entry]) -> list[Problem]:
    """Splits that are not there, or are folders with no image in them."""
    problems = []
    if (root / "validation").is_dir() and not any(entry.split == "validation" for entry in entries):
        problems.append(Problem("validation", "an empty split", "part of train is held out in its place"))
    test = [entry for entry in entries if entry.split == "test"]
    if not test:
        problems.append(Problem("test", "an empty split", "the unit is fitted; nothing can be evaluated"))
        return problems
    good = [entry.kind == "good" for entry in test]
    if all(good) or not any(good):
        missing = "bad" if all(good) else "good"
        problems.append(Problem("test", f"no {missing} image", "scored; AUROC needs good and bad ones"))
    used = {"good" if entry.kind == "good" else entry.defect for entry in test}
    for folder in sorted(path.name for path in (root / "test").iterdir() if path.is_dir()):
        if folder not in used and folder.lower() not in JUNK_FOLDERS and not folder.startswith("."):
            problems.append(Problem(f"test/{folder}", "no image in it that the layout knows", "ignored"))
    return problems
