"""`python -m tmuad.ablate GROUP UNIT`: run the variants of one group on one unit, as ablations/dvc.yaml does."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # as for the stages
    os.environ[_name] = "1"

if __name__ == "__main__":
    import sys

    from tmuad.stages.remote import serve_elsewhere

    # The group `cost` measures the memory of its process, which must not be that of a server.
    if sys.argv[1:2] != ["cost"] and (_status := serve_elsewhere("tmuad.ablate.__main__")) is not None:
        sys.exit(_status)

import argparse  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from tmuad.ablate.variants import GROUPS  # noqa: E402
from tmuad.config import load_params  # noqa: E402
from tmuad.errors import ends_in_words  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tmuad.ablate", description=__doc__)
    parser.add_argument("group", choices=(*GROUPS, "publish"), help="publish: hand all results to the stage `tables`")
    parser.add_argument("unit", nargs="?", help="a key of `units` in params.yaml; not for publish")
    options = parser.parse_args(arguments)
    if (options.group == "publish") == (options.unit is not None):
        parser.error(f"{options.group} takes {'a unit' if options.unit is None else 'no unit'}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    with ends_in_words() as ended:
        params = load_params(Path("params.yaml"))
        if options.unit is None:
            from tmuad.ablate.publish import publish

            publish(params.units)
        else:
            from tmuad.ablate.run import run_group

            params.unit(options.unit)
            run_group(params, options.unit, options.group)
    return ended.status


if __name__ == "__main__":
    sys.exit(main())
