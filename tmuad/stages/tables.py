"""The paper's tables and figures, its numbers beside those of the units at hand."""

import pandas as pd

from tmuad.config import Params
from tmuad.parquet import read_parquet
from tmuad.report.paper import figures
from tmuad.report.paper.collect import collect
from tmuad.report.paper.write import write_claims, write_table
from tmuad.stages.paper_pictures import pictures
from tmuad.workspace import REPORTS, UnitPaths

TABLES, FIGURES = REPORTS / "tables", REPORTS / "figures"
DATASETS = {7: "mvtec_loco", 8: "mvtec_ad", 9: "visa", 10: "mpdd", 11: "brainmri"}  # of the figures with anomaly maps


def run(params: Params) -> None:
    paper = collect(params)
    for number, reference in paper.references.items():
        write_table(TABLES, reference, paper.lines[number])
    write_claims(TABLES, paper.claims)
    loco = paper.scopes.dataset("mvtec_loco")
    scopes = [loco, *paper.hand]
    shares = {unit: _shares(unit) for scope in scopes for unit in scope.units}
    found = figures.contributions(FIGURES, scopes, shares)
    found += figures.positions(FIGURES, scopes, paper.sources)
    found += figures.clusters(FIGURES, scopes, paper.sources)
    datasets = [(number, paper.scopes.dataset(name)) for number, name in DATASETS.items()]
    found += pictures(FIGURES, params, datasets, paper.hand)
    figures.write_index(FIGURES, found)


def _shares(unit: str) -> pd.DataFrame:
    """Kind and banks' shares of the anomalous test images."""
    paths = UnitPaths(unit)
    manifest = read_parquet(paths.manifest, ["image_id", "split", "kind"]).to_pandas()
    test = manifest[(manifest["split"] == "test") & (manifest["kind"] != "good")]
    shares: pd.DataFrame = test.merge(read_parquet(paths.verdicts).to_pandas(), on="image_id")
    return shares
