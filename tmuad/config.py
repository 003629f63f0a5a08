"""Typed parameters, built once from `params.yaml` and the profile it names. An unknown key is an error that names it and
its neighbours.
"""

import difflib
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import yaml
from pydantic import BaseModel, Discriminator, Field, StringConstraints, Tag, ValidationError, model_validator

from tmuad.config_models import (
    ClipFinetuneParams,
    ComputeParams,
    EncodeParams,
    GroundedSamParams,
    RayParams,
    SamParams,
    TextsParams,
    VlmParams,
)
from tmuad.errors import ParameterError
from tmuad.section import Section

Layout = Literal["mvtec_ad", "mvtec_loco", "visa", "bmad", "folder"]
DemoCategory = Literal["hardware_kit", "electronics_tray"]
UnitName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class UnitParams(Section):
    """One unit of the product: a category of a data set, fitted on its own."""

    root: str  # folder of the category, relative to the repository or absolute
    layout: Layout


class DataParams(Section):
    on_bad_image: Literal["stop", "skip"] = "stop"  # an unreadable image stops the run, or is skipped and reported
    size: int = Field(448, ge=64, le=2048, multiple_of=2)  # every image becomes size x size pixels (paper, IV-B)
    max_pixels: int = Field(200_000_000, ge=1)  # a larger image is refused before it is decoded
    bits: int = Field(16, ge=8, le=16)  # significant bits of 16-bit images: 12 for a camera that writes 12 bits into 16
    holdout: float = Field(
        0.2, gt=0, lt=1
    )  # share of the normal images kept for calibration where no validation split exists
    shots: int | None = Field(None, ge=1)  # few-shot: use this many of the normal images, calibration included
    shots_seed: int = Field(0, ge=0)  # which ones
    workers: int = Field(0, ge=0)  # processes that map over images; 0: one per core
    cache: str = ".tmuad-cache"  # per-image results; may be deleted at any time


class DemoParams(Section):
    """The generated data set; see tmuad/data/demo/generate.py."""

    categories: tuple[DemoCategory, ...] = Field(("hardware_kit", "electronics_tray"), min_length=1)
    seed: int = Field(7, ge=0)
    size: int = Field(384, ge=96, le=1024)
    train: int = Field(90, ge=1)
    validation: int = Field(20, ge=1)
    test_good: int = Field(24, ge=1)
    per_fault: int = Field(4, ge=1)  # test images of each kind of fault


class ComponentsParams(Section):
    """Grounded segmenter of the embedded profile; see tmuad/segment/components.py."""

    backend: Literal["components"] = "components"
    min_area: float = Field(0.0015, gt=0, lt=1)  # smallest object, as a share of the image
    sensitivity: float = Field(1.0, gt=0)  # below 1 only what differs more from the background counts as an object
    max_classes: int = Field(12, ge=1)


class RegionsParams(Section):
    """Open segmenter of the embedded profile; see tmuad/segment/regions.py."""

    backend: Literal["regions"] = "regions"
    scales: tuple[float, ...] = (10.0, 40.0, 160.0)  # of the graph segmentation: larger means larger regions
    min_area: float = Field(0.0015, gt=0, lt=1)  # smallest region, as a share of the image
    max_regions: int = Field(40, ge=1)


def _backend(default: str) -> Discriminator:
    """Which section a slot's parameters are of: what its key `backend` says, or `default`."""

    def choose(value: Any) -> Any:
        return value.get("backend", default) if isinstance(value, dict) else getattr(value, "backend", default)

    return Discriminator(choose)


GroundedSlot = Annotated[
    Annotated[ComponentsParams, Tag("components")] | Annotated[GroundedSamParams, Tag("grounded_sam")],
    _backend("components"),
]
OpenSlot = Annotated[Annotated[RegionsParams, Tag("regions")] | Annotated[SamParams, Tag("sam")], _backend("regions")]


class SegmentParams(Section):
    grounded: GroundedSlot = ComponentsParams()
    open: OpenSlot = RegionsParams()


class FinetuneParams(Section):
    """Object classifier of the embedded profile; see tmuad/describe/finetune.py."""

    backend: Literal["scratch"] = Field("scratch", exclude=True)  # not part of what a trained model keeps
    share: float = Field(0.2, gt=0, le=1)  # of the normal images teaches it; of each class at least and at most:
    least_crops: int = Field(16, ge=1)
    crops_per_class: int = Field(200, ge=1)  # paper, IV-B
    crop_size: int = Field(32, ge=32, multiple_of=32)  # px
    epochs: int = Field(20, ge=1)  # at most
    patience: int = Field(4, ge=1)  # epochs without a lower held-out loss after which training stops
    batch_size: int = Field(64, ge=8, le=512)
    learning_rate: float = Field(3e-3, gt=0)
    seed: int = Field(0, ge=0)


ClassifierSlot = Annotated[
    Annotated[FinetuneParams, Tag("scratch")] | Annotated[ClipFinetuneParams, Tag("clip")], _backend("scratch")
]


class DescribeParams(Section):
    position: Literal["nine_grid", "vlm"] = "nine_grid"  # vlm: see VlmParams
    confident: float = Field(0.9, ge=0, le=1)  # less sure than this of a class, the segmenter's label stands; 0: never
    fuzz: float = Field(
        0.06, ge=0, lt=0.17
    )  # an object this close to a cell's edge counts as in both cells (share of the side)


class ObjectBankParams(Section):
    encoder: Literal["filters", "clip", "dinov2"] = "filters"
    distance: Literal["whitened", "cosine"] = "whitened"  # cosine: Eq. 3 as printed
    clusters: int = Field(1000, ge=1)  # K for M_O per class (paper, IV-B)
    segments: Literal["auto", "open", "named"] = (
        "auto"  # named: the objects of the classes, where there are some; open: regions; auto: named, with cosine open
    )
    channels: Literal["all", "colour"] = "all"  # of the filters' descriptor; colour: with the outline, without texture
    dimensions: int = Field(40, ge=1)  # principal axes kept
    ridge: float = Field(0.3, ge=0)  # share of the mean variance added to each axis before whitening
    index: Literal["flat", "pq", "ivfpq"] = "flat"  # how centroids are kept and searched; see tmuad/banks/index.py
    portrait_weight: float = Field(0.67, ge=0, le=1)  # of portraits in the distance of an object of a class; 0: none
    max_memory: int = Field(24, ge=1)  # MB of features that a fit holds; of more, a sample drawn from their digests
    seed: int = Field(0, ge=0)


class PatchBankParams(Section):
    encoders: tuple[Literal["filters", "clip", "dinov2"], ...] = Field(("filters",), min_length=1)
    distance: Literal["whitened", "cosine"] = "whitened"  # cosine: Eq. 4 as printed (with the nearest patch)
    clusters: int = Field(100, ge=1)  # K for M_P per encoder and layer (paper, IV-B)
    layers: tuple[str, ...] = ()  # of the encoders, by name; empty: all of them
    detector: bool = True  # of simulated defects, beside the filters' whitened distances
    dimensions: int = Field(24, ge=1)  # principal axes kept per layer
    whitening: float = Field(0.5, ge=0, le=1)  # 0 keeps the variances of the principal axes, 1 makes them equal
    share: float = Field(
        1 / 3, gt=0, le=1
    )  # of the normal images teaches centroids and detector, at least and at most:
    least_images: int = Field(64, ge=1)
    most_images: int = Field(256, ge=1)
    max_patches: int = Field(40_000, ge=1)  # normal patches that a layer's fit looks at, drawn from these images
    distance_weight: float = Field(0.2, ge=0)  # of the bank's distances beside the detector's excess
    index: Literal["flat", "pq", "ivfpq"] = "flat"  # how centroids are kept and searched; see tmuad/banks/index.py
    seed: int = Field(0, ge=0)


class TextScoreParams(Section):
    similar: Literal["text", "counts"] = (
        "counts"  # T_sim: the most similar text (paper), or that among the nearest in counts
    )
    undercount: Literal["paper", "released"] = "released"  # where a missing object is marked: design, section 6
    position: Literal["places", "words"] = (
        "places"  # compare with all normal places, or O_pos with that of T_sim (paper)
    )
    matching: Literal["auto", "strict", "relaxed"] = "auto"  # relaxed: object classes alone, no count, position or size
    strict_from: int = Field(5, ge=1)  # `auto` is strict from this many normal images in the text bank on

    def strict(self, normals: int) -> bool:
        """Whether counts, positions and sizes are compared, given the number of normal images in the text bank."""
        return self.matching == "strict" or (self.matching == "auto" and normals >= self.strict_from)


class BankWeights(Section):
    text: float = Field(1.0, ge=0)
    objects: float = Field(1.0, ge=0)
    patches: float = Field(1.0, ge=0)


class FuseParams(Section):
    """How the three banks become one score; see tmuad/score/fuse.py."""

    method: Literal["calibrated", "paper"] = "calibrated"
    paper: BankWeights = BankWeights(text=0.05, objects=0.30, patches=0.65)  # lambda_1 to lambda_3 of Eq. 5
    regions: float = Field(0.175, ge=0)  # of the object bank's weight, in a unit without object classes
    calibrated: BankWeights = BankWeights(text=2.0, patches=0.7)  # weights of the standardised maps


Rate = Annotated[float, Field(gt=0, lt=1)]


class DecideParams(Section):
    false_alarm_rate: Rate = 0.05  # promised on normal images
    unit_rates: dict[UnitName, Rate] = Field({})  # the same for single units, instead: kit: 0.01

    def of(self, unit: str) -> "DecideParams":
        """The decision of one unit."""
        return DecideParams(false_alarm_rate=self.unit_rates.get(unit, self.false_alarm_rate))


class EvaluateParams(Section):
    """Intervals of the figures; see tmuad/evaluate/bootstrap.py."""

    resamples: int = Field(500, ge=0, le=10_000)  # of the test images; 0: no intervals
    seed: int = Field(0, ge=0)


class GateParams(Section):
    """What a re-fit may change before it is rolled back; see tmuad/arrivals/gate.py."""

    false_alarm_rate: float = Field(0.15, gt=0, lt=1)  # on normal images, of the new banks
    auroc_drop: float = Field(0.03, ge=0, le=1)  # image AUROC on the labelled images, below that of the present banks
    shift: float = Field(1.0, gt=0)  # of the held-out normal images' scores, in their present standard deviations
    flips: float = Field(0.1, gt=0, lt=1)  # share of the compared images whose verdict changes


class RefitParams(Section):
    """Re-fitting when new normal images arrive; see docs/operations.md."""

    incoming: str = "data/incoming"  # <incoming>/<unit>/: new images are put here
    quarantine: str = "data/quarantine"  # what looks anomalous waits here for a person
    rejected: str = "data/rejected"  # what cannot be used, with the reason
    settle: float = Field(2.0, ge=0)  # s without a change after which a file counts as written
    near_duplicate: float = Field(2.0, ge=0)  # grey levels (RMS at 32 x 32 px) below which two images are one; 0: off
    guard: float = Field(0.08, ge=0, lt=1)  # share of normal images that may be quarantined
    labelled: dict[UnitName, str] = Field({})  # folders with good/ and at least one further folder of anomalous images
    gate: GateParams = GateParams()
    cron: str = "0 2 * * *"  # schedule of the deployment
    timezone: str = "UTC"
    debounce: float = Field(5.0, gt=0)  # s of silence in the folder after which an arrival is announced
    lock_wait: float = Field(600.0, ge=0)  # s that a run waits for another one in the same workspace
    dvc_wait: float = Field(60.0, ge=0)  # s of new attempts while another DVC process holds a lock
    min_free: int = Field(200_000_000, ge=0)  # bytes that must be free on the disk beside three times the arrivals
    push: bool = True  # to the DVC remote, where there is one
    remote: str = ""  # its name; empty: DVC's default
    report: bool = False  # whether a promoted run also brings reports/ up to date
    webhook: str = ""  # address that gets a JSON summary of every run; empty: none


class Params(Section):
    units: dict[UnitName, UnitParams]
    profile: str = "embedded"  # overrides on top of this file: profiles/<profile>.yaml
    compute: ComputeParams = ComputeParams()
    executor: Literal["local", "ray"] = "local"  # who maps backends over images; docs/scaling.md
    ray: RayParams = RayParams()
    data: DataParams = DataParams()
    demo: DemoParams = DemoParams()
    segment: SegmentParams = SegmentParams()
    finetune: ClassifierSlot = FinetuneParams()
    describe: DescribeParams = DescribeParams()
    encode: EncodeParams = EncodeParams()
    vlm: VlmParams = VlmParams()
    texts: TextsParams = TextsParams()
    object_bank: ObjectBankParams = ObjectBankParams()
    patch_bank: PatchBankParams = PatchBankParams()
    text_score: TextScoreParams = TextScoreParams()
    fuse: FuseParams = FuseParams()
    decide: DecideParams = DecideParams()
    evaluate: EvaluateParams = EvaluateParams()
    refit: RefitParams = RefitParams()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, raw: Any) -> Any:
        """A section with nothing under its name, as when all its lines are commented out, has its defaults."""
        return {key: {} if value is None else value for key, value in raw.items()} if isinstance(raw, dict) else raw

    def unit(self, name: str) -> UnitParams:
        """The unit `name`, or an error that lists the units there are."""
        if name not in self.units:
            near = difflib.get_close_matches(name, self.units, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ParameterError(f"unknown unit '{name}'; params.yaml has: {', '.join(self.units) or 'none'}.{hint}")
        return self.units[name]


DEEPEST = 64  # levels of a YAML file: libyaml, ten times as fast as PyYAML's own parser, crashes some thousand deep
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeyLoader(_Loader):  # type: ignore[misc,valid-type]
    """Two units of one name would silently become one; here they are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # <<: may stand for several mappings, and is no key
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise ParameterError(
                    f"{node.start_mark.name}: line {key_node.start_mark.line + 1}: the key '{key}' stands twice; "
                    "rename or remove one of the two"
                )
            seen.add(key)
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def load_params(path: Path) -> Params:
    """The parameters in the YAML file `path`.

    Raises:
        ParameterError: the file is missing or not YAML, a key is unknown or stands twice, or a value is out of range.
    """
    if not path.exists():
        raise ParameterError(f"{path}: no such file; run this in the folder that holds params.yaml")
    return parse_params(read_yaml(path), source=str(path), folder=path.parent)


def read_yaml(path: Path) -> object:
    """What the YAML file `path` holds; None for an empty one.

    Raises:
        ParameterError: the file cannot be read, is not YAML, or a key of it stands twice.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            _refuse_depth(stream)
            stream.seek(0)
            return yaml.load(stream, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read ({error.strerror}); give a readable file") from None
    # PyYAML lets values that only look right (the date 2024-13-01) and bottomless nesting escape as other exceptions.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        raise ParameterError(f"{path}: not readable as YAML: {error}") from None


def _refuse_depth(stream: TextIO) -> None:
    depth = 0
    for event in yaml.parse(stream, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise yaml.YAMLError(f"nested more than {DEEPEST} deep; set it out flat\n{event.start_mark}")


def parse_params(raw: object, source: str = "params", folder: Path = Path()) -> Params:
    """`raw` (nested dicts), with the profile it names (see tmuad/profiles.py) from `folder`, as typed parameters."""
    from tmuad.profiles import apply_profile

    if not isinstance(raw, dict):
        raise ParameterError(f"{source}: expected a mapping of sections at the top, found {type(raw).__name__}")
    raw, source = apply_profile(raw, source, folder)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParameterError("\n".join(f"{source}: {_explain(detail)}" for detail in error.errors())) from None


def _explain(detail: Any) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(_without_tags(location))
    if detail["type"] == "missing":
        return f"{key}: required, but not given"
    if detail["type"] == "union_tag_invalid":
        return f"{key}.backend: {detail['ctx']['tag']!r} is not one of {', '.join(SLOTS[tuple(location)])}"
    if detail["type"] != "extra_forbidden":
        return f"{key}: {detail['msg']}, found {detail['input']!r}"
    known = _keys_at(location[:-1])
    near = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown parameter '{key}'; {hint}Known here: {', '.join(known)}"


SLOTS: dict[tuple[str, ...], dict[str, type[Section]]] = {  # where one of several sections stands, by its backend
    ("segment", "grounded"): {"components": ComponentsParams, "grounded_sam": GroundedSamParams},
    ("segment", "open"): {"regions": RegionsParams, "sam": SamParams},
    ("finetune",): {"scratch": FinetuneParams, "clip": ClipFinetuneParams},
}


def _without_tags(location: list[str]) -> list[str]:
    """Pydantic's path without the backend, which it names after a slot."""
    for slot, backends in SLOTS.items():
        depth = len(slot)
        if tuple(location[:depth]) == slot and location[depth : depth + 1] and location[depth] in backends:
            return location[:depth] + location[depth + 1 :]
    return location


def _keys_at(location: list[str]) -> list[str]:
    section: Any = Params
    for depth, part in enumerate(location):
        if part in (backends := SLOTS.get(tuple(location[:depth]), {})):
            section = backends[part]
        elif isinstance(section, type) and issubclass(section, BaseModel) and part in section.model_fields:
            section = section.model_fields[part].annotation
        else:
            section = UnitParams  # the only nested sections under free names are units
    return list(section.model_fields)
