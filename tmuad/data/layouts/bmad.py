"""BMAD (BrainMRI, LiverCT, RESC): train/good, valid/good, test/good and test/Ungood, each with img/ and label/.

The benchmark's authors and those who packed it anew agree neither on img/ (images may lie one folder higher) nor on the
name of the masks' folder (label, anomaly_mask): all of it is read. A mask has the name of its image. Every anomaly is
structural. valid/Ungood is not used: the product learns and calibrates on normal images alone.
"""

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from tmuad.data.layouts.entries import Listing, Problem, Split, is_image, walk
from tmuad.data.layouts.splits import Masks, Place, assemble

SPLITS: dict[str, Split] = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}
BAD = "Ungood"
MASKS = ("label", "anomaly_mask")


def read(root: Path) -> Listing:
    """The category in `root`. Raises DataError where no training image is there; see also `walk`."""
    files, problems = walk(root)
    masks: Masks = defaultdict(list)
    places: list[Place] = []
    unused: Counter[tuple[str, str]] = Counter()
    unknown: list[str] = []
    for file in files:
        match PurePosixPath(file).parts if is_image(file) else ():
            case split, "good", *inner, _ if split in SPLITS and inner in ([], ["img"]):
                places.append((file, SPLITS[split], "", "good"))
            case "test", folder, *inner, _ if folder == BAD and inner in ([], ["img"]):
                places.append((file, "test", BAD, "structural"))
            case "test", folder, inner, _ if folder == BAD and inner in MASKS:
                masks[BAD, PurePosixPath(file).stem].append(file)
            case split, "good", inner, _ if split in SPLITS and inner in MASKS:
                unused[f"{split}/good/{inner}", "masks of good images"] += 1
            case split, folder, *_ if SPLITS.get(split) in ("train", "validation") and folder == BAD:
                unused[f"{split}/{BAD}", "images of defects, or their masks, outside of test"] += 1
            case _:
                unknown.append(file)
    problems += [
        Problem(path, f"{count} {what}", "ignored: only normal images are learnt from and calibrated on")
        for (path, what), count in unused.items()
    ]
    return assemble(root, "bmad", places, masks, unknown, problems)
