"""The declared variants: variants.yaml as typed records, and the parameters each of them is run with."""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, ValidationError

from tmuad.config import Params, parse_params, read_yaml
from tmuad.errors import ParameterError, WeightsError
from tmuad.profiles import DEFAULT, overlay
from tmuad.section import Section

if TYPE_CHECKING:
    from tmuad.models.slots import ModelSlot

VARIANTS = Path("variants.yaml")
Group = Literal["banks", "text", "objects", "patches", "clusters", "shots", "cost"]
GROUPS: tuple[str, ...] = get_args(Group)
BANK = Literal["text", "objects", "patches"]
# What the variants of a group may change: the DVC stage of a group depends on no more than these need.
MAY_CHANGE: dict[str, tuple[str, ...]] = {
    "banks": ("fuse",),
    "text": ("text_score", "describe"),
    "objects": ("object_bank",),
    "patches": ("patch_bank",),
    "clusters": ("patch_bank",),
    "cost": (),
}
BY_GRID = {"position": "nine_grid"}  # all that a variant of texts may change of `describe`
NAME = r"[a-z0-9][a-z0-9-]*"


class Encoded(Section):
    """Texts compared as vectors, and not class by class; see tmuad/ablate/encoded.py."""

    of: Literal["image", "segments", "classes"]  # what the text describes
    by: Literal["words", "phrases", "clip", "t5"]  # what makes its vector
    told_by: Literal["looks", "vlm"] = "looks"  # who describes images and segments; classes are described by Alg. 1

    @property
    def by_vlm(self) -> bool:
        """Whether a language model writes the texts."""
        return self.told_by == "vlm" and self.of != "classes"


class Variant(Section):
    """One entry of variants.yaml, whose head says what the keys mean."""

    group: Group  # the key at the file's top under which it stands
    profile: Literal["any", "embedded", "paper"] = "any"
    table: int | None = Field(None, ge=1, le=11)
    figure: int | None = Field(None, ge=7, le=18)
    shown_as: str | None = Field(None, alias="as")
    banks: tuple[BANK, ...] = Field(("text", "objects", "patches"), min_length=1)
    change: dict[str, Any] = Field(default_factory=dict)
    encoded: Encoded | None = None
    seeds: tuple[int, ...] = ()
    about: Annotated[str, StringConstraints(min_length=1)]

    @cached_property
    def changes(self) -> list[str]:
        """The sections of params.yaml that it changes."""
        return sorted(self.change)


def load_variants(path: Path = VARIANTS) -> dict[str, Variant]:
    """Every variant of `path` by name, in the file's order.

    Raises:
        ParameterError: the file is missing or not as it should be; the message names the variant, the key and its
            neighbours.
    """
    if not path.is_file():
        raise ParameterError(f"{path}: no such file; it lists the variants that `make tables` runs")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ParameterError(f"{path}: expected groups of variants at the top: {', '.join(GROUPS)}")
    variants: dict[str, Variant] = {}
    for group, entries in raw.items():
        if group not in GROUPS:
            raise ParameterError(
                f"{path}: unknown group '{group}'{_near(str(group), GROUPS)}; known: {', '.join(GROUPS)}"
            )
        if not isinstance(entries, dict | None):
            raise ParameterError(f"{path}: {group}: expected variants by name, found {entries!r}")
        for name, entry in (entries or {}).items():
            if name in variants:
                raise ParameterError(f"{path}: variant '{name}' stands twice, in {variants[name].group} and in {group}")
            variants[str(name)] = _parsed(path, group, name, entry)
    return variants


def _parsed(path: Path, group: str, name: object, entry: object) -> Variant:
    where = f"{path}: variant '{name}'"
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ParameterError(f"{where}: a name has lower-case letters, digits and hyphens")
    if not isinstance(entry, dict):
        raise ParameterError(f"{where}: expected a mapping, found {entry!r}")
    if "group" in entry:
        raise ParameterError(f"{where}: its group is the key above it, '{group}'; leave `group` out")
    try:
        variant = Variant.model_validate({**entry, "group": group})
    except ValidationError as error:
        told = sorted(
            error.errors(), key=lambda detail: detail["type"] != "extra_forbidden"
        )  # a misspelt key comes first
        raise ParameterError(f"{where}: {_explain(told[0])}") from None
    if variant.group in MAY_CHANGE:
        allowed = MAY_CHANGE[variant.group]
        for section in variant.changes:
            if section not in allowed:
                may = ", ".join(allowed) or "nothing"
                raise ParameterError(
                    f"{where}: changes '{section}', but a variant of the group '{variant.group}' may change {may}; "
                    "choose another group (shots: anything)"
                )
    if variant.group == "text" and variant.change.get("describe", BY_GRID) != BY_GRID:
        raise ParameterError(
            f"{where}: change.describe: a variant of the group 'text' may take the grid's positions, {BY_GRID}, and "
            "nothing besides: objects are not classified again"
        )
    if variant.encoded and (variant.group != "text" or variant.banks != ("text",)):
        raise ParameterError(f"{where}: `encoded` compares texts; it needs `group: text` and `banks: [text]`")
    if variant.seeds and variant.group != "shots":
        raise ParameterError(f"{where}: `seeds` choose the images of a few-shot fit; they need `group: shots`")
    return variant


def _explain(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        section: type[Section] = Encoded if detail["loc"][0] == "encoded" else Variant
        known = [f.alias or field_name for field_name, f in section.model_fields.items() if field_name != "group"]
        return f"unknown key '{key}'{_near(last, known)}; known here: {', '.join(known)}"
    if detail["type"] == "missing":
        return f"{key}: required, but not given"
    expected = detail.get("ctx", {}).get("expected", "")
    near = _near(str(detail["input"]), [w.strip("' ") for w in expected.replace(" or ", ",").split(",")])
    return f"{key}: {detail['msg']}, found {detail['input']!r}{near}"


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def named(variants: Mapping[str, Variant], name: str) -> Variant:
    """The variant `name`, or a ParameterError that lists its neighbours."""
    if name not in variants:
        raise ParameterError(
            f"unknown variant '{name}'{_near(name, variants)}; {VARIANTS} has: {', '.join(variants) or 'none'}"
        )
    return variants[name]


def selected(variants: Mapping[str, Variant], params: Params, group: str | None = None) -> dict[str, Variant]:
    """The variants that the profile in force has, of one group or of all."""
    family = "embedded" if params.profile == DEFAULT else "paper"
    speechless = params.describe.position != "vlm"  # a profile without a language model has no need of its weights
    return {
        name: variant
        for name, variant in variants.items()
        if variant.profile in ("any", family)
        and group in (None, variant.group)
        and not (speechless and variant.encoded and variant.encoded.by_vlm)
    }


def params_of(name: str, variant: Variant, params: Params, seed: int | None = None) -> Params:
    """The parameters in force with the variant's changes above them.

    Raises:
        ParameterError: a change names a parameter that does not exist, or a value out of range.
    """
    raw = params.model_dump(mode="json")
    raw["finetune"]["backend"] = params.finetune.backend  # which its own dump leaves out
    over: dict[str, Any] = {"profile": DEFAULT, **variant.change}  # the profile is part of `raw` already
    merged = overlay(raw, over)
    if seed is not None:
        merged = overlay(merged, {"data": {"shots_seed": seed}})
    changed = parse_params(merged, source=f"{VARIANTS}: variant '{name}'")
    return changed.model_copy(update={"profile": params.profile})


def weights_of(variant: Variant, params: Params) -> dict[str, str]:
    """Weight name -> digest, of the models that the variant uses under its own parameters.

    Raises:
        WeightsError: a file is missing or of the wrong size.
    """
    from tmuad import weights

    return {name: weights.digest(name, params.compute) for slot in slots_of(variant, params) for name in slot.names}


def slots_of(variant: Variant, params: Params) -> "list[ModelSlot]":
    """The models that the variant uses under its own parameters: those of the stages, and text encoders."""
    from tmuad.models.slots import model_slots, text_slots

    if variant.encoded is None:
        return model_slots(params)
    return [*model_slots(params), *text_slots(params, variant.encoded.by, variant.encoded.by_vlm)]


def check_weights(name: str, variant: Variant, params: Params) -> None:
    """Raises WeightsError if the variant asks for a model whose weights are not there."""
    from tmuad import weights
    from tmuad.models.slots import weight_names

    try:
        for weight in weight_names(slots_of(variant, params)):
            weights.paths(weight, params.compute)
    except WeightsError as error:
        raise WeightsError(f"{VARIANTS}: variant '{name}' asks for a model that is not there: {error}") from None


def check_all(variants: Mapping[str, Variant], params: Params) -> None:
    """Every selected variant has parameters that exist, weights that are there, and a place in the paper's tables.

    Raises:
        ParameterError, WeightsError: of the first that has not.
    """
    for name, variant in selected(variants, params).items():
        check_weights(name, variant, params_of(name, variant, params))
