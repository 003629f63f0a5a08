"""A bare folder of photographs of good parts, with sub-folders or without: all of it is training data."""

from pathlib import Path, PurePosixPath

from tmuad.data.layouts.entries import Entry, Listing, Problem, is_image, strays, walk
from tmuad.errors import DataError

# Names of sub-folders that hardly hold good parts. The folder layout has no place for defects, so it says so.
SUSPICIOUS = ("anomal", "bad", "broken", "defect", "fail", "fault", "ground_truth", "mask", "nok", "reject", "test")


def read(root: Path) -> Listing:
    """The images in `root`. Raises DataError where there is none; see also `walk`."""
    files, problems = walk(root)
    images = [file for file in files if is_image(file)]
    if not images:
        raise DataError(f"{root}: no training image; put photographs of good parts there (png, jpg, bmp, tif)")
    for folder in sorted({parent.as_posix() for image in images for parent in PurePosixPath(image).parents}):
        name = PurePosixPath(folder).name.lower()
        if name == "ng" or any(word in name for word in SUSPICIOUS):
            decision = "its images are taken as good; move them out if they are not"
            problems.append(Problem(folder, "by its name it does not hold good parts", decision))
    problems += strays((file for file in files if not is_image(file)), "folder")
    return Listing(tuple(Entry(image, "train", "good", "") for image in images), tuple(sorted(problems)))
