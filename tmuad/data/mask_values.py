"""Masks whose values are not what their layout promises: reported, because a figure may hang on them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tmuad.config import Layout
from tmuad.data.layouts import Problem
from tmuad.data.layouts.mvtec_loco import CONFIG, Saturation
from tmuad.data.verify import Verified

SHOWN = 3  # files of one folder that are named one by one
_NOISY = (".jpg", ".jpeg")  # what these hold between black and white is no label


def odd_masks(
    images: Sequence[Verified], layout: Layout, config: Mapping[int, Saturation] | None = None
) -> list[Problem]:
    """A problem for each mask with values other than 0 and 255, or in MVTec LOCO without an entry in `config`.

    VisA numbers the types of defects in its masks; every value above zero is marked there, and nothing is odd.
    """
    if layout == "visa" or (layout == "mvtec_loco" and config is None):
        return []
    expected = set(config) if config is not None else {255}
    odd: dict[str, list[tuple[str, list[int]]]] = defaultdict(list)
    for image in images:
        for mask, values in zip(image.entry.masks, image.values, strict=True):
            strange = sorted(set(values) - expected)
            if strange and not mask.lower().endswith(_NOISY):
                odd[mask.rpartition("/")[0]].append((mask, strange))
    problems: list[Problem] = []
    for folder, found in odd.items():
        if len(found) <= SHOWN:
            problems += [_problem(mask, values, config) for mask, values in found]
        else:
            every = sorted({value for _, strange in found for value in strange})
            one = _problem(folder, every, config)
            problems.append(Problem(folder, f"{len(found)} masks: {one.problem}", one.decision))
    return problems


def _problem(path: str, values: Sequence[int], config: Mapping[int, Saturation] | None) -> Problem:
    shown = ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
    if config is None:
        return Problem(path, f"values other than 0 and 255: {shown}", "every value above 0 counts as marked")
    return Problem(path, f"no entry in {CONFIG} for the pixel values {shown}", "marked; sPRO is not computed")
