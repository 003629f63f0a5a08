"""The audit of a unit as a whole: run, in words for a terminal, and as one page with pictures."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tmuad.audit.looks import SmallTask, near_duplicates, odd_places
from tmuad.audit.remark import ADVICE, Remark
from tmuad.audit.surface import odd_surfaces, unusual_maps
from tmuad.audit.words import driven_ranges, leave_one_out, lone_classes, odd_descriptions
from tmuad.banks.learn import learn_patches
from tmuad.banks.likeness import Likeness
from tmuad.banks.patch_model import PatchImage
from tmuad.cards.pictures import jpeg
from tmuad.config import Params
from tmuad.describe.table import read_descriptions
from tmuad.encode import PatchFeatures
from tmuad.encode.features import patch_features, patch_image
from tmuad.encode.slots import feature_task
from tmuad.engine import ImageRef, load_image, map_images
from tmuad.errors import ArtifactError, DataError
from tmuad.parallel import fork_map
from tmuad.parquet import read_parquet
from tmuad.report.overlay import Picture
from tmuad.score.sentences import load_names
from tmuad.workspace import NAMES, UnitPaths

PICTURE = 300  # px
SHOWN = 4  # pictures of one remark
LIMIT = 60  # remarks with pictures; the most urgent come first


@dataclass(frozen=True)
class Audit:
    """What was found in the normal images of a unit."""

    unit: str
    images: int  # normal images that were looked at
    remarks: tuple[Remark, ...]  # by kind, in the order of ADVICE; the most urgent first
    paths: dict[str, str]  # image_id -> path in the unit


def audit_unit(unit: str, params: Params) -> Audit:
    """Look at the training and held-out normal images of a unit that is described; no bank is needed.

    Raises:
        ParameterError: the unit is unknown, or its names cannot be understood.
        ArtifactError: the stage 'describe' has not run.
        DataError: there is no normal image.
        ImageError: an image cannot be read any more.
    """
    root, paths, shape = Path(params.unit(unit).root), UnitPaths(unit), (params.data.size, params.data.size)
    if not paths.descriptions.exists():
        raise ArtifactError(
            f"{unit}: not described yet ({paths.descriptions} is missing); run: dvc repro describe@{unit}"
        )
    manifest = read_parquet(paths.manifest, ["image_id", "path", "split", "kind"]).to_pandas()
    normal = manifest[(manifest["kind"] == "good") & manifest["split"].isin(["train", "validation"])]
    if normal.empty:
        raise DataError(f"{unit}: no normal image to audit; add some and run: dvc repro describe@{unit}")
    refs = [ImageRef(row.image_id, root / row.path) for row in normal.itertuples()]
    ids = [ref.image_id for ref in refs]
    names = load_names(NAMES / f"{unit}.yaml")
    small = np.stack([record["small"] for record in map_images(SmallTask(), refs, params.data)])
    task = feature_task(params, unit)

    def features() -> Iterator[PatchFeatures]:
        return (patch_features(record) for record in map_images(task, refs, params.data))

    known = set(ids)
    entries = [e for e in read_descriptions(read_parquet(paths.descriptions)) if e.image_id in known]
    odd = odd_descriptions(leave_one_out(entries, shape, params.text_score), names, shape)
    described = {entry.image_id: entry for entry in entries}

    def patches_of(images: list[ImageRef]) -> Iterator[PatchImage]:
        for ref, record in zip(images, map_images(task, images, params.data), strict=True):
            yield patch_image(record, described[ref.image_id], params.data.size)

    surfaces: list[Remark] = []
    shown = [ref for ref in refs if ref.image_id in described]
    in_training = set(normal.loc[normal["split"] == "train", "image_id"])
    train = [ref for ref in shown if ref.image_id in in_training]
    if params.patch_bank.distance == "whitened" and train:
        learnt = learn_patches(params, task, train, patches_of)
        maps = list(fork_map(learnt.maps_of, shown, params.data.workers))
        unusual = unusual_maps(learnt.model, maps, params.patch_bank.distance_weight)
        surfaces = odd_surfaces([ref.image_id for ref in shown], unusual)
    remarks = [
        *near_duplicates(ids, small),
        *odd,
        *surfaces,
        *odd_places(Likeness.fit(ids, features)),
        *lone_classes(entries, names, shape),
        *driven_ranges(entries, names, shape),
    ]
    return Audit(unit, len(ids), tuple(remarks), dict(zip(normal["image_id"], normal["path"], strict=True)))


def audit_text(audit: Audit) -> str:
    """The audit in words."""
    lines = [
        f"{audit.unit}: {len(audit.remarks)} remark{'' if len(audit.remarks) == 1 else 's'} on {_images(audit.images)}"
    ]
    for kind, remarks in _by_kind(audit.remarks):
        lines += ["", f"{kind} ({len(remarks)}). {ADVICE[kind]}"]
        for remark in remarks:
            lines.append(f"  - {', '.join(audit.paths[image] for image in remark.images)}: {remark.what}")
    if not audit.remarks:
        lines.append("Nothing stands out: no near-duplicates, no odd images, no class or size range of a single image.")
    return "\n".join(lines) + "\n"


def audit_page(audit: Audit, root: Path, params: Params) -> str:
    """The audit as one HTML file that holds its pictures. Raises ImageError where one cannot be read any more."""
    parts = []
    left = LIMIT
    for kind, remarks in _by_kind(audit.remarks):
        title = f"<h2>{escape(kind)} <small>{len(remarks)}</small></h2>\n"
        parts.append(f"{title}<p>{escape(ADVICE[kind])}</p>\n<div class=remarks>\n")
        for remark in remarks:
            pictures = ""
            if left > 0:
                pictures = "".join(
                    _figure(audit, remark, i, root, params) for i in range(min(SHOWN, len(remark.images)))
                )
                left -= 1
            listed = (
                "" if len(remark.images) <= SHOWN else "<br>" + escape(", ".join(audit.paths[i] for i in remark.images))
            )
            parts.append(f"<section><div class=row>{pictures}</div><p>{escape(remark.what)}{listed}</p></section>\n")
        parts.append("</div>\n")
    if not audit.remarks:
        parts.append("<p>Nothing stands out.</p>\n")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {escape(audit.unit)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Audit of {escape(audit.unit)}</h1>\n<p class=faint>{len(audit.remarks)} remarks on {_images(audit.images)}</p>\n"
        f"{''.join(parts)}</body>\n</html>\n"
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --paper: #f6f6f3; --card: #fff; --ink: #1c2026; --faint: #69717b; --line: #e2e3de; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --card: #1d2126; --ink: #e6e8ea; --faint: #98a1ab;
  --line: #31373e; } }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 0.2rem; } p { max-width: 46rem; margin: 0.3rem 0; }
h2 small, .faint, figcaption { color: var(--faint); font-weight: 400; font-size: 0.9rem; }
.remarks { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 0.8rem; align-items: flex-start; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.7rem; max-width: 100%;
  display: flex; flex-wrap: wrap; gap: 0.4rem 1rem; }
section p { flex: 1 1 17rem; max-width: 34rem; } .row { display: flex; flex-wrap: wrap; gap: 0.6rem; }
figure { margin: 0; } img { display: block; width: 220px; height: 220px; border-radius: 4px; }
"""


def _figure(audit: Audit, remark: Remark, index: int, root: Path, params: Params) -> str:
    path = audit.paths[remark.images[index]]
    picture = _marked(load_image(root / path, params.data), remark.box if index == 0 else None)
    content = base64.b64encode(jpeg(picture, 82)).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{content}" alt="{escape(path)}" loading=lazy>'
        f"<figcaption>{escape(path)}</figcaption></figure>"
    )


def _marked(image: Picture, box: tuple[float, float, float, float] | None) -> Picture:
    canvas = Image.fromarray(image).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    if box is not None:
        x0, y0, x1, y1 = (value * PICTURE for value in box)
        draw = ImageDraw.Draw(canvas)
        draw.rectangle((x0 - 5, y0 - 5, x1 + 5, y1 + 5), outline=(20, 20, 20), width=1)
        draw.rectangle((x0 - 4, y0 - 4, x1 + 4, y1 + 4), outline=(0, 220, 255), width=3)
    return np.asarray(canvas)


def _by_kind(remarks: Sequence[Remark]) -> list[tuple[str, list[Remark]]]:
    grouped = [(kind, [remark for remark in remarks if remark.kind == kind]) for kind in ADVICE]
    return [(kind, found) for kind, found in grouped if found]


def _images(count: int) -> str:
    return f"{count} normal image{'' if count == 1 else 's'}"
