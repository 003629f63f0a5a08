"""The demo data set: two kits of parts, rendered from a seed in the MVTec LOCO layout."""

from tmuad.data.demo.generate import generate

__all__ = ["generate"]
