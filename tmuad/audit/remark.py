"""What the audit has to say of one image or a few."""

from dataclasses import dataclass

ADVICE = {
    "near-duplicates": "Keep one of them. Copies teach nothing new, and one on each side of the hold-out makes the threshold "
    "too low.",
    "odd one out": "Look at it: if it is no good part, remove it, or whatever is wrong in it will count as normal. If it is "
    "good, add more images like it.",
    "look first": "Of all normal images these look most like defective ones. Most will be fine: look at them before any other, "
    "and remove what is scratched, dented or dirty.",
    "class in one image": "Is it a part that belongs there? Then add images that show it; a single one sets no range. Else "
    "remove the image.",
    "range of one image": "Look whether the object is whole and well segmented. If it is good, add images like it; else remove "
    "the image, for it widens what counts as normal for all.",
}


@dataclass(frozen=True)
class Remark:
    """One remark. Images are told by their image_id, the one to look at first."""

    kind: str  # a key of ADVICE
    images: tuple[str, ...]
    what: str  # one sentence
    weight: float  # more is more urgent, within its kind
    box: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 on the first image, shares of its sides

    @property
    def advice(self) -> str:
        return ADVICE[self.kind]
