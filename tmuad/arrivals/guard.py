"""The guard in front of the banks: what looks anomalous to the present ones must not become what is normal."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from tmuad.arrivals.journal import GONE, Arrival
from tmuad.arrivals.quarantine import rulings, write_card
from tmuad.config import Params
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, load_image, map_images
from tmuad.inspector import Inspector
from tmuad.report.overlay import heat_overlay
from tmuad.score.tail import rarity
from tmuad.scoring import card, outcome

Look = tuple[dict[str, Any], bytes]  # outcome, heat map as PNG


@dataclass(frozen=True)
class Guard:
    """The unit's present banks. What they compute lands in the per-image cache, where the re-fit finds it."""

    inspector: Inspector

    @classmethod
    def load(cls, unit: str, params: Params) -> "Guard":
        return cls(Inspector.load(unit, params))

    def look(self, images: Sequence[ImageRef]) -> list[Look]:
        """What the banks say of each image; the heat map is drawn only for what is suspicious."""
        params = self.inspector.params
        task = feature_task(params, self.inspector.unit)
        features = list(map_images(task, images, params.data))
        looks = []
        for ref, scene, record in zip(images, map_images(task.after, images, params.data), features, strict=True):
            image = load_image(ref.path, params.data)
            verdict, description = self.inspector.judge_records(scene, record, image, ref.image_id)
            said = outcome(ref.path.name, verdict, description, self.inspector)
            png = b""
            if self.suspicious(said):
                buffer = io.BytesIO()
                overlay = heat_overlay(image, verdict.maps["fused"], verdict.threshold)
                Image.fromarray(overlay).save(buffer, "PNG")
                png = buffer.getvalue()
            looks.append((said, png))
        return looks

    def suspicious(self, said: dict[str, Any]) -> bool:
        """Anomalous by its verdict, or among the scores that only a share `refit.guard` of normal images reaches.

        A wrong suspicion costs a person a look, a wrong admission spoils the bank: hence the second, stricter limit.
        """
        return bool(said["verdict"] == "anomalous" or self.rarity(said) <= self.inspector.params.refit.guard)

    def rarity(self, said: dict[str, Any]) -> float:
        """Share of normal images that score as high."""
        return rarity(said["score"], self.inspector.calibration)


def guard(unit: str, params: Params, arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    """`arrivals` with every "new" decided: admit, or quarantine with its card written. No image is moved.

    An image that a person released is admitted, whatever the banks say; one that is not there any more is left alone.
    """
    trusted = {image_id for image_id, ruling in rulings(unit, params).items() if ruling == "released"}
    folder = Path(params.refit.incoming) / unit
    arrivals = [
        replace(a, decision="leave", reason=GONE) if a.decision == "new" and not (folder / a.name).is_file() else a
        for a in arrivals
    ]
    new = [arrival for arrival in arrivals if arrival.decision == "new"]
    refs = [ImageRef(arrival.image_id, folder / arrival.name) for arrival in new]
    decided = {arrival.name: arrival for arrival in arrivals}
    if refs:
        watch = Guard.load(unit, params)
        for arrival, (said, png) in zip(new, watch.look(refs), strict=True):
            rare = watch.rarity(said)
            seen = replace(arrival, score=said["score"], p_value=round(rare, 6))
            if arrival.image_id in trusted:
                decided[arrival.name] = replace(seen, decision="admit", reason="released by a person")
            elif watch.suspicious(said):
                reasons = "; ".join(reason["sentence"] for reason in said["reasons"])
                reason = reasons or f"only {rare:.1%} of normal images score as high"
                shown = card(said | {"heat_map": "heat_map.png"})
                write_card(unit, arrival.image_id, params, said | {"reason": reason}, shown, png)
                decided[arrival.name] = replace(seen, decision="quarantine", reason=reason)
            else:
                decided[arrival.name] = replace(seen, decision="admit")
    return tuple(decided[arrival.name] for arrival in arrivals)
