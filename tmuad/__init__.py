"""Unified structural and logical anomaly detection with text, object and patch memory banks.

For a notebook: `tmuad.open_warehouse()` gives a read-only DuckDB connection to everything that was learnt and decided.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tmuad.warehouse import open_warehouse

__all__ = ["open_warehouse"]


def __getattr__(name: str) -> Any:
    """Looked up when asked for: `import tmuad` loads nothing heavy."""
    if name == "open_warehouse":
        from tmuad.warehouse import open_warehouse

        return open_warehouse
    raise AttributeError(f"module 'tmuad' has no attribute '{name}'")
