"""Where things lie: the files of one unit, relative to the folder that holds params.yaml."""

from dataclasses import dataclass
from pathlib import Path

ARTIFACTS = Path("artifacts")
REPORTS = Path("reports")
NAMES = Path("data/names")  # <unit>.yaml: what a person calls the object classes
CATALOG = Path("data/catalog")  # <data set>.yaml: object names per category, for a segmenter that finds them by name
CORRECTIONS = Path("data/corrections")  # <unit>.yaml: positions that a person has put right
MODELS = Path("models/classifiers")  # object classifiers that several units share
CURVES = Path("models/curves")  # how their training went
SETTINGS = ARTIFACTS / "params.yaml"  # what is in force; see tmuad/stages/settings.py
DEMO = Path("data/demo")
ARRIVALS = Path("data/arrivals")  # <unit>.csv with the columns path and arrived: when images came in, where known
QUERIES = Path("data/queries")  # saved questions, checked on every run
WAREHOUSE = REPORTS / "tmuad.duckdb"


def shipped(path: Path) -> Path:
    """`path` of the working folder, else the copy that tmuad came with."""
    return path if path.exists() else Path(__file__).parent.parent / path


@dataclass(frozen=True)
class UnitPaths:
    """Artifacts of one unit, one property per file; the stage that writes it stands behind it."""

    unit: str
    base: Path = ARTIFACTS

    @property
    def folder(self) -> Path:
        return self.base / self.unit

    @property
    def manifest(self) -> Path:  # prepare
        return self.folder / "manifest.parquet"

    @property
    def problems(self) -> Path:  # prepare
        return self.folder / "problems.csv"

    @property
    def classes(self) -> Path:  # segment
        return self.folder / "classes.json"

    @property
    def segments(self) -> Path:  # segment
        return self.folder / "segments.parquet"

    @property
    def classifier(self) -> Path:  # finetune
        return self.folder / "classifier.safetensors"

    @property
    def training_curve(self) -> Path:  # finetune
        return self.folder / "finetune.csv"

    @property
    def accuracy_curve(self) -> Path:  # finetune
        return self.folder / "finetune_accuracy.csv"

    @property
    def descriptions(self) -> Path:  # describe
        return self.folder / "descriptions.parquet"

    @property
    def positions(self) -> Path:  # describe: where each position is from, if not all are from the grid
        return self.folder / "positions.csv"

    @property
    def text_bank(self) -> Path:  # text_bank: what is normal, per class
        return self.folder / "text_bank.parquet"

    @property
    def text_entries(self) -> Path:  # text_bank: T_img of each normal image
        return self.folder / "text_entries.parquet"

    @property
    def patch_bank(self) -> Path:  # feature_banks
        return self.folder / "patch_bank.safetensors"

    @property
    def object_bank(self) -> Path:  # feature_banks
        return self.folder / "object_bank.safetensors"

    @property
    def bank_scores(self) -> Path:  # score: what each bank says, before fusion
        return self.folder / "bank_scores.parquet"

    @property
    def bank_findings(self) -> Path:  # score
        return self.folder / "bank_findings.parquet"

    @property
    def calibration(self) -> Path:  # fuse
        return self.folder / "calibration.json"

    @property
    def scores(self) -> Path:  # fuse
        return self.folder / "scores.parquet"

    @property
    def verdicts(self) -> Path:  # fuse
        return self.folder / "verdicts.parquet"

    @property
    def findings(self) -> Path:  # fuse
        return self.folder / "findings.parquet"

    @property
    def metrics(self) -> Path:  # evaluate
        return self.folder / "metrics.json"

    @property
    def replicates(self) -> Path:  # evaluate: every figure in every bootstrap resample
        return self.folder / "replicates.parquet"

    @property
    def curves(self) -> Path:  # evaluate
        return self.folder / "roc.csv"

    @property
    def likeness(self) -> Path:  # context: signatures of the training images
        return self.folder / "likeness.safetensors"

    @property
    def context(self) -> Path:  # context: arrival and nearest normal image of each image
        return self.folder / "context.parquet"
