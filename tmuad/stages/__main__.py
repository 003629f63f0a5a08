"""`python -m tmuad.stages STAGE [UNIT]`: run one stage, as dvc.yaml does."""

import os

# One thread in the numerical libraries: the stages use processes instead, and bytes must not depend on the machine's
# cores. It has to be said before numpy is first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

if __name__ == "__main__":
    import sys

    from tmuad.stages.remote import serve_elsewhere

    if (_status := serve_elsewhere("tmuad.stages.__main__")) is not None:
        sys.exit(_status)

import argparse  # noqa: E402
import importlib  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from tmuad.config import load_params  # noqa: E402
from tmuad.errors import ends_in_words  # noqa: E402
from tmuad.executors import executing  # noqa: E402

PER_UNIT = (
    "prepare", "segment", "finetune", "describe", "text_bank", "feature_banks", "score", "fuse", "evaluate", "context",
)  # fmt: skip
PER_GROUP = ("finetune_group",)
GLOBAL = ("settings", "demo", "tables", "report", "warehouse", "checks", "gallery")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tmuad.stages", description=__doc__)
    parser.add_argument("stage", choices=PER_UNIT + PER_GROUP + GLOBAL)
    parser.add_argument("unit", nargs="?", help="a key of `units` in params.yaml; not for " + ", ".join(GLOBAL))
    options = parser.parse_args(arguments)
    if (options.stage in GLOBAL) == (options.unit is not None):
        parser.error(f"stage {options.stage} takes {'a unit' if options.unit is None else 'no unit'}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it reports which of its builds it tries
    with ends_in_words() as ended:
        params = load_params(Path("params.yaml"))
        stage = importlib.import_module(f"tmuad.stages.{options.stage}")
        if options.stage in PER_UNIT:
            params.unit(options.unit)
        with executing(params):
            stage.run(params, *([] if options.unit is None else [options.unit]))
    return ended.status


if __name__ == "__main__":
    sys.exit(main())
