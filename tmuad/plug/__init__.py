"""The text memory bank M_T for any anomaly detector: plug its maps in, and logical anomalies are found as well.

Three calls, in the folder that holds params.yaml:

    bank = TextBank.load("kit")                       # a fitted unit
    fusion = bank.calibrate({"validation/good/000.png": map_of_a_good_image, ...})
    result = fusion({"test/good/000.png": map_of_a_test_image, ...})

`result.images` holds a score, a verdict and reasons for each image, `result.map_of(path)` the fused map, and
`result.compare("my detector")` the figures with and without M_T. `tmuad plug` does the same with files.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmuad.plug.bank import TextBank
    from tmuad.plug.fusion import FusedImage, Fusion, Result

__all__ = ["FusedImage", "Fusion", "Result", "TextBank"]
_HOMES = {"TextBank": "bank", "FusedImage": "fusion", "Fusion": "fusion", "Result": "fusion"}


def __getattr__(name: str) -> Any:
    """Looked up when asked for: the command line imports this package before it knows what to do."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"tmuad.plug.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tmuad.plug' has no attribute '{name}'")
