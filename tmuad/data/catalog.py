"""What is known of the public data sets: categories, objects, licence, counts. One YAML file each in data/catalog."""

import difflib
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from tmuad.config import Layout, read_yaml
from tmuad.errors import ParameterError
from tmuad.section import Section

CATALOG = Path(__file__).resolve().parents[2] / "data" / "catalog"
GROUPS = ("train", "validation", "test_good", "test_logical", "test_structural")
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=0)]


class Category(Section):
    """One category as its authors publish it."""

    objects: tuple[Text, ...] = Field(min_length=1)  # what the pictures show, as prompts
    images: dict[Text, Count]  # group of `GROUPS` -> images; a group that is not named is not compared


class PaperCounts(Section):
    """Images that the TMUAD paper states (section IV-A)."""

    train: Count
    test_good: Count | None = None
    test_anomalous: Count


class DatasetEntry(Section):
    """One data set."""

    name: Text
    layouts: tuple[Layout, ...] = Field(min_length=1)
    homepage: Text
    licence: Text
    citation: Text
    categories: dict[Text, Category] = Field(min_length=1)
    aliases: dict[Text, tuple[Text, ...]] = Field(default_factory=dict)  # category -> other names of its folder
    paper: PaperCounts
    notes: Text  # where the paper and the published data set differ

    def category_of(self, folder: str) -> str | None:
        """The category that a folder of this name holds; None if none does."""
        for category in self.categories:
            if folder.lower() in {name.lower() for name in (category, *self.aliases.get(category, ()))}:
                return category
        return None

    def total(self, group: str) -> int:
        """Images of a group of `GROUPS` over all categories."""
        return sum(category.images.get(group, 0) for category in self.categories.values())


def dataset_names(folder: Path = CATALOG) -> list[str]:
    """Names of the public data sets in the catalogue, without those of which only a user's object names are known."""
    return sorted(path.stem for path in folder.glob("*.yaml") if not _names_alone(path))


def _names_alone(path: Path) -> bool:
    """Whether `tmuad init --classes` wrote the file: it holds object names and nothing else."""
    try:
        raw = read_yaml(path)
    except ParameterError:
        return False  # whoever asks for it gets the reason
    return isinstance(raw, dict) and set(raw) == {"categories"}


def load_dataset(name: str, folder: Path = CATALOG) -> DatasetEntry:
    """The entry `name`.

    Raises:
        ParameterError: there is no such entry, or its file is not as it should be.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file() or path.parent != folder or _names_alone(path):
        known = dataset_names(folder)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ParameterError(f"unknown data set '{name}'; the catalogue has: {', '.join(known) or 'none'}.{hint}")
    try:
        entry = DatasetEntry.model_validate(read_yaml(path))
    except ValidationError as error:
        details = error.errors()[0]
        place = ".".join(str(part) for part in details["loc"])
        raise ParameterError(f"{path}: {place}: {details['msg']}, found {details['input']!r}") from None
    for category, found in entry.categories.items():
        unknown = sorted(set(found.images) - set(GROUPS))
        if unknown:
            raise ParameterError(
                f"{path}: categories.{category}.images: unknown {unknown[0]}; known: {', '.join(GROUPS)}"
            )
    return entry
