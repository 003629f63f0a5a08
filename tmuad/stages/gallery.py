"""The gallery of all units: every scored image with its maps, its ground truth, its reasons and its nearest normals."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tmuad.banks.text import TextBank
from tmuad.cards.card import Card, make_card
from tmuad.config import Params
from tmuad.describe.table import read_descriptions
from tmuad.engine import ImageRef, map_images
from tmuad.gallery.page import Gallery
from tmuad.gallery.pictures import PictureTask, map_png, truth_png
from tmuad.gallery.records import Item
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet
from tmuad.score.banks import BankResult
from tmuad.score.fuse import load_calibration
from tmuad.score.judge import Verdict, judge
from tmuad.score.sentences import load_names
from tmuad.score.table import read_results
from tmuad.stages.common import shape_of
from tmuad.stages.maps import truth_masks
from tmuad.workspace import NAMES, REPORTS, UnitPaths

STEM = 20  # hex digits of an image id that name its files


def run(params: Params) -> None:
    gallery = Gallery(REPORTS / "gallery")
    for unit in sorted(params.units):  # one unit's cards are in memory at a time
        for item in sorted(_items(params, unit, gallery), key=lambda item: item.card.image):
            gallery.add(item)
    gallery.finish()


def _items(params: Params, unit: str, gallery: Gallery) -> Iterator[Item]:
    paths, root = UnitPaths(unit), Path(params.unit(unit).root)
    rows = {row["image_id"]: row for row in read_parquet(paths.manifest).to_pylist()}
    masks, card_of = truth_masks(params, unit), _judging(params, unit)

    def look(result: BankResult) -> tuple[Item, bytes, bytes]:
        """With the pictures of its map and of its ground truth; none where nothing is marked."""
        card, verdict = card_of(result)
        row, stem = rows[card.image_id], card.image_id[:STEM]
        truth = truth_png(masks(row["path"])) if row["kind"] != "good" and row["masks"] else b""
        text, patch = ((n.image_id[:STEM] if n else "") for n in (card.nearest_by_text, card.nearest_by_patch))
        item = Item(card, row["kind"], row["defect"], row["split"], stem, stem if truth else "", text, patch)
        return item, map_png(verdict.maps["fused"], verdict.threshold), truth

    used: set[str] = set()
    results = read_results(read_parquet(paths.bank_scores), read_parquet(paths.bank_findings))
    for item, heat, truth in fork_map(look, results, params.data.workers):
        card = item.card
        used |= {n.image_id for n in (card.nearest_by_text, card.nearest_by_patch) if n} | {card.image_id}
        gallery.put("maps", f"{item.picture}.png", heat)
        if truth:
            gallery.put("truth", f"{item.truth}.png", truth)
        yield item
    images = [ImageRef(image_id, root / row["path"]) for image_id, row in rows.items() if image_id in used]
    for ref, record in zip(images, map_images(PictureTask(), images, params.data), strict=True):
        for kind in ("image", "thumb"):
            gallery.put(f"{kind}s", f"{ref.image_id[:STEM]}.jpg", record[kind].tobytes())


def _judging(params: Params, unit: str) -> Callable[[BankResult], tuple[Card, Verdict]]:
    """What judges an image of the unit anew from what the banks said, with its maps."""
    paths, shape = UnitPaths(unit), shape_of(params)
    calibration, names = load_calibration(paths.calibration), load_names(NAMES / f"{unit}.yaml")
    descriptions = {d.image_id: d for d in read_descriptions(read_parquet(paths.descriptions))}
    bank = TextBank(read_descriptions(read_parquet(paths.text_entries)), shape)
    columns = read_parquet(paths.manifest, ["image_id", "path"]).to_pydict()
    files = dict(zip(columns["image_id"], columns["path"], strict=True))
    near = read_parquet(paths.context, ["image_id", "nearest_by_patch", "patch_distance"]).to_pylist()
    nearest = {row["image_id"]: (row["nearest_by_patch"], row["patch_distance"] or 0.0) for row in near}

    def judged(result: BankResult) -> tuple[Card, Verdict]:
        description = descriptions[result.image_id]
        verdict = judge(result, description, shape, calibration, params.fuse)
        card = make_card(
            unit, files[result.image_id], verdict, description, bank, calibration, names,
            nearest_text=result.nearest, nearest_patch=nearest.get(result.image_id, ("", 0.0)), paths=files, shape=shape,
        )  # fmt: skip
        return card, verdict

    return judged
