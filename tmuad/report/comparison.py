"""Two runs side by side: which figures changed by more than noise."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmuad.errors import ArtifactError
from tmuad.evaluate.cells import Key
from tmuad.evaluate.compare import Difference, paired_difference
from tmuad.evaluate.replicates import read_replicates
from tmuad.report.markdown import markdown_table, percent

SHOWN: tuple[Key, ...] = (
    ("image", "auroc"), ("image", "auroc_logical"), ("image", "auroc_structural"), ("image", "average"), ("image", "ap"),
    ("image", "f1_max"), ("pixel", "auroc"), ("pixel", "average"), ("pixel", "ap"), ("pixel", "aupro"),
    ("pixel", "spro_5_average"), ("decision", "false_alarm_rate_observed"), ("decision", "detection_rate"),
)  # fmt: skip
NOTE = """\
Figures and differences in per cent. In brackets: the 95 % interval of the difference, from resamples of the test images
that are the same ones for both runs. p: how often resampling alone turns the sign round, both ways. A difference with p
above 0.05 is within noise. Of many figures that are equal, one in twenty looks different all the same.
"""


@dataclass(frozen=True)
class Compared:
    """One figure of one unit in two runs."""

    unit: str
    before: float
    after: float
    difference: Difference

    @property
    def verdict(self) -> str:
        if self.difference.difference == 0:
            return "equal"
        return (
            "within noise"
            if self.difference.within_noise
            else ("higher" if self.difference.difference > 0 else "lower")
        )


def compare_runs(before: Path, after: Path, units: Sequence[str] = (), everything: bool = False) -> list[Compared]:
    """The figures that both runs have, by unit and in the order of `SHOWN`, or all of them.

    Args:
        before: folder of artifacts of a run, with <unit>/metrics.json and <unit>/replicates.parquet.
        units: to look at; by default those that both runs have.

    Raises:
        ArtifactError: no unit is in both runs, a file is missing or damaged, or the runs cannot be paired because they
            looked at other test images or resampled them in another way.
    """
    there = [{path.parent.name for path in run.glob("*/replicates.parquet")} for run in (before, after)]
    chosen = list(units) or sorted(there[0] & there[1])
    if not chosen:
        raise ArtifactError(
            f"{before} and {after}: no unit was evaluated in both; each needs <unit>/metrics.json and "
            "<unit>/replicates.parquet, as the stage evaluate writes them"
        )
    compared: list[Compared] = []
    for unit in chosen:
        _check_pair(before / unit / "metrics.json", after / unit / "metrics.json")
        old, new = (read_replicates(run / unit / "replicates.parquet") for run in (before, after))
        for key in [key for key in old if key in new] if everything else [k for k in SHOWN if k in old and k in new]:
            a, b = old[key], new[key]
            found = paired_difference(".".join(key), a.value, b.value, a.replicates, b.replicates)
            if found is not None:
                compared.append(Compared(unit, a.value, b.value, found))
    return compared


def comparison_markdown(compared: Sequence[Compared]) -> str:
    """`compared` as a report."""
    rows = [
        [
            c.unit,
            c.difference.metric,
            percent(c.before),
            percent(c.after),
            f"{100 * c.difference.difference:+.1f} [{100 * c.difference.low:+.1f}, {100 * c.difference.high:+.1f}]",
            f"{c.difference.p:.3f}",
            c.verdict,
        ]
        for c in compared
    ]
    return "\n".join(
        [
            "# Two runs\n",
            NOTE,
            markdown_table(["unit", "figure", "before", "after", "difference", "p", "verdict"], rows),
        ]
    )


def _check_pair(before: Path, after: Path) -> None:
    one, other = _bootstrap_of(before), _bootstrap_of(after)
    if one["images"] != other["images"]:
        raise ArtifactError(f"{before} and {after}: other test images; a paired test needs the same ones in both runs")
    if (one["resamples"], one["seed"]) != (other["resamples"], other["seed"]):
        raise ArtifactError(
            f"{before} and {after}: resampled in another way (evaluate.resamples {one['resamples']} and "
            f"{other['resamples']}, evaluate.seed {one['seed']} and {other['seed']}); evaluate both with the same"
        )


def _bootstrap_of(metrics: Path) -> dict[str, Any]:
    try:
        content = json.loads(metrics.read_text(encoding="utf-8"))
        entry: dict[str, Any] = content["bootstrap"][0]
        return {key: entry[key] for key in ("images", "resamples", "seed")}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ArtifactError(
            f"{metrics}: no evaluation with intervals ({error}); run: dvc repro evaluate@{metrics.parent.name}"
        ) from None
