"""`tmuad data check`: is a data set on disk what its authors published? Every difference is named."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tmuad.cache import Cache
from tmuad.data.catalog import GROUPS, DatasetEntry, dataset_names, load_dataset
from tmuad.data.layouts import Category, find_categories, read
from tmuad.data.layouts.mvtec_loco import saturations
from tmuad.data.mask_values import odd_masks
from tmuad.data.verify import Verified, verify
from tmuad.errors import DataError, ImageError

BY_DESIGN = "ignored: only normal images"  # decisions on files that a data set has and the product has no use for


@dataclass(frozen=True)
class CategoryCheck:
    """One category of the catalogue, or a folder that it does not know."""

    name: str
    expected: dict[str, int]  # group of `GROUPS` -> images
    found: dict[str, int]
    differences: tuple[str, ...]


@dataclass(frozen=True)
class DatasetCheck:
    dataset: str
    entry: DatasetEntry
    categories: tuple[CategoryCheck, ...]
    differences: tuple[str, ...] = field(default=())  # of the data set as a whole

    @property
    def all_differences(self) -> list[str]:
        return [*self.differences, *(f"{c.name}: {line}" for c in self.categories for line in c.differences)]


def check_dataset(
    directory: Path, dataset: str | None = None, *, max_pixels: int = 200_000_000, cache: Cache | None = None
) -> DatasetCheck:
    """Compare the data set or the category in `directory` with the catalogue; every file is read in full.

    Args:
        dataset: entry of the catalogue; by default that whose categories the folders are called after.

    Raises:
        DataError: there is no category, or the catalogue has none of that name; see also `find_categories`.
        ParameterError: the catalogue has no entry `dataset`.
    """
    categories, problems = find_categories(directory)
    single = len(categories) == 1 and categories[0][0] == ""
    folders = [directory.resolve().name] if single else [name for name, _, _ in categories]
    dataset = dataset or _recognise(directory, folders)
    entry = load_dataset(dataset)
    differences = [f"{p.path}: {p.problem}" for p in problems]
    checks: dict[str, CategoryCheck] = {}
    for folder, category in zip(folders, categories, strict=True):
        name = entry.category_of(folder) or (next(iter(entry.categories)) if _only(entry, single) else None)
        if name is None:
            differences.append(f"{folder}: a category that {entry.name} does not have")
        elif name in checks:
            differences.append(f"{folder}: the category {name} for a second time")
        else:
            checks[name] = _check(name, category, entry, max_pixels, cache)
    if not single:
        differences += [f"{name}: missing" for name in entry.categories if name not in checks]
    ordered = tuple(checks[name] for name in entry.categories if name in checks)
    return DatasetCheck(dataset, entry, ordered, tuple(differences))


def check_report(check: DatasetCheck) -> str:
    """The result in Markdown: counts of each category, all differences, and what is known of the data set."""
    from tmuad.report.markdown import markdown_table

    groups = [g for g in GROUPS if any(g in c.expected or c.found.get(g) for c in check.categories)]
    rows = [[c.name, *(_count(c, group) for group in groups)] for c in check.categories]
    differences = check.all_differences
    lines = [f"# {check.entry.name}\n", markdown_table(["category", *(g.replace("_", ", ") for g in groups)], rows)]
    lines += [f"{len(differences)} differences:\n" if differences else "No difference from what was published.\n"]
    lines += ["".join(f"- {line}\n" for line in differences)] if differences else []
    entry = check.entry
    lines += [
        f"Against the paper: {entry.notes}\n",
        f"Licence: {entry.licence}. {entry.homepage}\n",
        f"Cite: {entry.citation}",
    ]
    return "\n".join(lines)


def _recognise(directory: Path, folders: Sequence[str]) -> str:
    """The data set that has most of the categories."""
    hits = {name: sum(load_dataset(name).category_of(f) is not None for f in folders) for name in dataset_names()}
    best = max(hits, key=lambda name: hits[name], default="")
    if not best or hits[best] == 0:
        raise DataError(
            f"{directory}: the catalogue has no data set with the categories {', '.join(folders[:5])}; "
            f"give --dataset with one of {', '.join(hits)}"
        )
    return best


def _only(entry: DatasetEntry, single: bool) -> bool:
    """Whether a folder of any name can only be the data set's one category."""
    return single and len(entry.categories) == 1


def _check(name: str, category: Category, entry: DatasetEntry, max_pixels: int, cache: Cache | None) -> CategoryCheck:
    _, root, layout = category
    expected = dict(entry.categories[name].images)
    if layout not in entry.layouts:
        line = f"has the layout {layout}, published is {' or '.join(entry.layouts)}"
        return CategoryCheck(name, expected, {}, (line,))
    try:
        listing = read(root, layout)
        config = saturations(root) if layout == "mvtec_loco" else None
    except DataError as error:
        return CategoryCheck(name, expected, {}, (str(error),))
    found = Counter(e.split if e.split != "test" else f"test_{e.kind}" for e in listing.entries)
    differences = [
        f"{group.replace('_', ', ')}: {expected[group]} images expected, {found.get(group, 0)} found"
        for group in GROUPS
        if group in expected and expected[group] != found.get(group, 0)
    ]
    differences += [f"{p.path}: {p.problem}" for p in listing.problems if not p.decision.startswith(BY_DESIGN)]
    results = verify(root, listing.entries, max_pixels=max_pixels, cache=cache)
    differences += [str(result) for result in results if isinstance(result, ImageError)]
    images = [result for result in results if not isinstance(result, ImageError)]
    differences += _duplicates(images)
    differences += [f"{mask}: marks nothing" for image in images for mask in image.unmarked]
    differences += [f"{p.path}: {p.problem}" for p in odd_masks(images, layout, config)]
    return CategoryCheck(name, expected, dict(found), tuple(differences))


def _duplicates(images: Sequence[Verified]) -> list[str]:
    """Images of equal content."""
    groups: dict[str, list[Verified]] = defaultdict(list)
    for image in images:
        groups[image.image_id].append(image)
    lines = []
    for first, *others in groups.values():
        for other in others:
            places = {(v.entry.split, v.entry.kind) for v in (first, other)}
            where = "the same image in two splits or under two labels" if len(places) > 1 else "the same image twice"
            lines.append(f"{first.entry.path} = {other.entry.path}: {where}")
    return sorted(lines)


def _count(check: CategoryCheck, group: str) -> str:
    found, expected = check.found.get(group, 0), check.expected.get(group)
    return str(found) if expected in (None, found) else f"{found} of {expected}"
