"""Cards of files: what `tmuad explain` does, and what a guard that sets images aside writes beside them."""

import difflib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from tmuad.banks.likeness import Likeness
from tmuad.cache import write_atomic
from tmuad.cards.card import Card, make_card
from tmuad.cards.page import card_page
from tmuad.cards.pictures import CardPictures, card_pictures
from tmuad.config import Params
from tmuad.encode.features import patch_features
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, load_image, map_images
from tmuad.errors import ArtifactError, DataError, ImageError
from tmuad.inspector import Inspector
from tmuad.parquet import read_parquet
from tmuad.report.overlay import Picture
from tmuad.score.judge import Verdict
from tmuad.score.text import find_differences
from tmuad.workspace import UnitPaths

FEWEST_DIGITS = 6  # of an image id that is given by its beginning


@dataclass(frozen=True)
class Explainer:
    """A fitted unit that explains images. Loading takes longer than explaining: keep it for many."""

    inspector: Inspector
    likeness: Likeness | None  # None where the stage 'context' has not run
    manifest: pd.DataFrame  # image_id, path, split, kind
    root: Path

    @classmethod
    def load(cls, unit: str, params: Params) -> "Explainer":
        """Raises ParameterError for an unknown unit, ArtifactError for one that is not fitted."""
        inspector, paths = Inspector.load(unit, params), UnitPaths(unit)
        columns = ["image_id", "path", "split", "kind"]
        manifest: pd.DataFrame = read_parquet(paths.manifest, columns).to_pandas()
        likeness = Likeness.load(paths.likeness) if paths.likeness.exists() else None
        return cls(inspector, likeness, manifest, Path(params.unit(unit).root))

    def find(self, image: str) -> tuple[Path, str]:
        """File and name of `image`: a file, a path within the unit, or the beginning of an image id.

        Raises:
            DataError: it is none of these, or several images have such an id.
        """
        if Path(image).is_file():
            return Path(image), image
        if image in set(self.manifest["path"]):
            return self.root / image, image
        if len(image) >= FEWEST_DIGITS and set(image) <= set("0123456789abcdef"):
            paths = self.manifest.loc[self.manifest["image_id"].str.startswith(image), "path"].tolist()
            if len(paths) == 1:
                return self.root / paths[0], paths[0]
            if paths:
                raise DataError(
                    f"{image}: {len(paths)} images of {self.inspector.unit} have such an id; give more digits"
                )
        near = difflib.get_close_matches(image, self.manifest["path"].tolist(), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise DataError(
            f"{image}: neither a file nor an image of {self.inspector.unit}, by its path in {self.root} or by the first "
            f"{FEWEST_DIGITS} or more digits of its id.{hint}"
        )

    def explain(self, image: str) -> tuple[Card, CardPictures]:
        """The card of `image`, which is judged now, and its pictures.

        Raises:
            DataError: as `find`.
            ImageError: the file cannot be used as an image.
        """
        path, name = self.find(image)
        inspector, data = self.inspector, self.inspector.params.data
        pixels = load_image(path, data)
        shape = (pixels.shape[0], pixels.shape[1])
        try:
            image_id = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
        verdict, description = inspector.inspect(pixels, image_id)
        bank = inspector.text_bank
        _, index = find_differences(description, bank, inspector.params.text_score)
        nearest_text = bank.entries[index].image_id if index >= 0 else ""
        nearest_patch = ("", float("nan"))
        if self.likeness is not None:
            [record] = map_images(feature_task(inspector.params, inspector.unit), [ImageRef(image_id, path)], data)
            nearest_patch = self.likeness.nearest(patch_features(record), ignore=image_id)
        card = make_card(
            inspector.unit, name, replace(verdict, image_id=image_id), description, bank, inspector.calibration,
            inspector.names, nearest_text=nearest_text, nearest_patch=nearest_patch,
            paths=dict(zip(self.manifest["image_id"], self.manifest["path"], strict=True)), shape=shape,
            notes=self._notes(image_id),
        )  # fmt: skip
        return card, self._pictures(card, verdict, pixels)

    def _pictures(self, card: Card, verdict: Verdict, pixels: Picture) -> CardPictures:
        twins = []
        for neighbour in (card.nearest_by_text, card.nearest_by_patch):
            try:
                there = load_image(self.root / neighbour.path, self.inspector.params.data) if neighbour else None
            except ImageError:  # a normal image that has left the disk since the fit: the card comes without it
                there = None
            twins.append(there)
        return card_pictures(card, pixels, verdict.maps["fused"], twins[0], twins[1])

    def _notes(self, image_id: str) -> tuple[str, ...]:
        notes = []
        row = self.manifest[self.manifest["image_id"] == image_id]
        if len(row) and row["split"].item() == "train":
            notes.append(
                "The banks have learnt from this image: they find it more normal than it would be to them as new."
            )
        elif len(row) and row["split"].item() == "validation":
            notes.append("This is one of the held-out normal images that set the threshold.")
        if self.likeness is None:
            paths = UnitPaths(self.inspector.unit)
            notes.append(f"No nearest image by patch: {paths.likeness} is missing; run: dvc repro context@{paths.unit}")
        return tuple(notes)


def write_card(card: Card, pictures: CardPictures, folder: Path) -> tuple[Path, Path]:
    """Write the card as HTML, which holds its pictures, and as JSON; the paths of both.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    # Names of files may clash, hold anything, or be too long: the id tells cards apart.
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(card.image).stem)[:40]
    html, data = (folder / f"{stem}-{card.image_id[:12]}.{suffix}" for suffix in ("html", "json"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(html, card_page(card, pictures).encode())
        content = json.dumps(card.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(data, (content + "\n").encode())
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror}); make the folder writable") from None
    return html, data
