"""Fuzzy position of an object in words: the cell of a three by three grid that holds its centre."""

CELLS = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
READING_ORDER = {name: i for i, name in enumerate(name for row in CELLS for name in row)}


def cell(x: float, y: float) -> str:
    """The cell that holds the point (x, y), in shares of the image's sides, from the upper left corner."""
    return CELLS[_third(y)][_third(x)]


def cells(x: float, y: float, fuzz: float) -> list[str]:
    """All cells the point may be said to be in: those it would reach by moving `fuzz` of a side, in reading order."""
    columns = {_third(x - fuzz), _third(x), _third(x + fuzz)}
    rows = {_third(y - fuzz), _third(y), _third(y + fuzz)}
    return [CELLS[row][column] for row in sorted(rows) for column in sorted(columns)]


def _third(value: float) -> int:
    return min(2, max(0, int(value * 3)))
