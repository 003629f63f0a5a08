"""Draw the demo data set."""

from tmuad.config import Params
from tmuad.data.demo.generate import generate
from tmuad.workspace import DEMO


def run(params: Params) -> None:
    generate(DEMO, params.demo)
