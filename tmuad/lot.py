"""Drawing by lot that anybody can repeat: an image's digest is its lot, so neither order nor other images matter."""

from collections.abc import Sequence


def drawn(image_ids: Sequence[str], share: float, least: int, most: int) -> int:
    """How many of `image_ids` (sha256 hex, ascending) take part: those in the lowest `share` of all digests, within bounds."""
    low = sum(int(image_id[:16], 16) < share * 2**64 for image_id in image_ids)
    return min(max(low, least), most)
