"""Bars and lines as SVG, drawn by hand: equal numbers give equal bytes, and text takes the page's own colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 58, 34, 56
COLOURS = ("#0b6e8f", "#d9822b", "#7a5195", "#4c9a5b", "#c43428", "#5b6b7b")  # told apart by colour-blind eyes too
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
    'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">\n<title>{title}</title>\n'
)


@dataclass(frozen=True)
class Series:
    """One colour of a chart. Values, one per group, may be missing; `ends` are their intervals."""

    name: str
    values: Sequence[float | None]
    ends: Sequence[tuple[float, float] | None] = ()


def bar_chart(title: str, groups: Sequence[str], series: Sequence[Series], low: float, high: float, label: str) -> str:
    """Groups of bars side by side on an axis from `low` to `high`, with whiskers where an interval is known."""
    frame = _Frame(low, high)
    parts = [_head(title), _axis(frame, label)]
    slot = frame.width / max(1, len(groups))
    bar = 0.76 * slot / max(1, len(series))
    for g, group in enumerate(groups):
        start = LEFT + g * slot + 0.12 * slot
        for s, one in enumerate(series):
            value = one.values[g]
            if value is None:
                continue
            x, y = start + s * bar, frame.y(value)
            height = frame.y(low) - y
            tip = f"<title>{escape(group)}, {escape(one.name)}: {value:.1f}</title>"
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{0.9 * bar:.1f}" height="{height:.1f}" fill="{_colour(s)}">{tip}'
                "</rect>\n"
            )
            ends = one.ends[g] if g < len(one.ends) else None
            top = y
            if ends is not None:
                middle = x + 0.45 * bar
                top = frame.y(ends[1])
                parts.append(
                    f'<path d="M{middle:.1f} {frame.y(ends[0]):.1f}V{top:.1f}" stroke="currentColor" opacity="0.6"/>\n'
                )
            parts.append(_text(x + 0.45 * bar, top - 4, f"{value:.1f}", "middle", 11))
        parts.append(_text(LEFT + (g + 0.5) * slot, HEIGHT - BOTTOM + 18, group, "middle"))
    return "".join([*parts, _legend([one.name for one in series]), "</svg>\n"])


def line_chart(
    title: str,
    places: Sequence[float],
    series: Sequence[Series],
    other: Sequence[Series],
    labels: tuple[str, str, str],
) -> str:
    """Lines over evenly spaced `places`: `series` on the left axis, `other`, dashed, on the right one, if there are any.

    `labels` are those of the places, of the left axis and of the right one.
    """
    left, right = _Frame(*_limits(series)), _Frame(0.0, 1.15 * _limits(other)[1])
    parts = [_head(title), _axis(left, labels[1])]
    step = left.width / max(1, len(places) - 1) if len(places) > 1 else 0.0
    xs = (
        [LEFT + 14 + i * (left.width - 28) / max(1, len(places) - 1) for i in range(len(places))]
        if step
        else [LEFT + 14]
    )
    for tick in _ticks(right.low, right.high) if other else ():
        parts.append(_text(WIDTH - RIGHT + 8, right.y(tick) + 4, f"{tick:.3g}", "start", 11))
    parts.append(_text(WIDTH - 4, TOP - 12, labels[2], "end", 11))
    for number, (frame, one, dash) in enumerate([(left, s, "") for s in series] + [(right, s, "5 4") for s in other]):
        points = [(x, frame.y(v)) for x, v in zip(xs, one.values, strict=True) if v is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = f'fill="none" stroke="{_colour(number)}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" {style}/>\n')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}"/>\n' for x, y in points]
    parts += [_text(x, HEIGHT - BOTTOM + 18, f"{place:g}", "middle") for x, place in zip(xs, places, strict=True)]
    parts.append(_text(LEFT + left.width / 2, HEIGHT - BOTTOM + 34, labels[0], "middle", 11))
    return "".join([*parts, _legend([s.name for s in (*series, *other)]), "</svg>\n"])


@dataclass(frozen=True)
class _Frame:
    low: float
    high: float

    @property
    def width(self) -> float:
        return WIDTH - LEFT - RIGHT

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / max(self.high - self.low, 1e-9)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _limits(series: Sequence[Series]) -> tuple[float, float]:
    values = [v for one in series for v in one.values if v is not None] or [0.0, 1.0]
    margin = max(0.1 * (max(values) - min(values)), 1e-9 + 0.005 * abs(max(values)))
    return min(values) - margin, max(values) + margin


def _ticks(low: float, high: float) -> list[float]:
    """Some four round numbers within."""
    span = max(high - low, 1e-9)
    size = 10.0 ** len(str(int(span))) / 10 if span >= 1 else 1.0
    while span / size > 6:
        size *= 2
    while span / size < 3:
        size /= 2
    first = -(-low // size)
    return [(first + i) * size for i in range(8) if (first + i) * size <= high + 1e-9]


def _head(title: str) -> str:
    return _HEAD.format(w=WIDTH, h=HEIGHT, title=escape(title))


def _axis(frame: _Frame, label: str) -> str:
    parts = []
    for tick in _ticks(frame.low, frame.high):
        y = frame.y(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" opacity="0.15"/>\n')
        parts.append(_text(LEFT - 8, y + 4, f"{tick:g}", "end", 11))
    return "".join([*parts, _text(4, TOP - 12, label, "start", 11)])


def _legend(names: Sequence[str]) -> str:
    parts, x = [], float(LEFT)
    for number, name in enumerate(names):
        parts.append(f'<rect x="{x:.1f}" y="{HEIGHT - 18}" width="11" height="11" fill="{_colour(number)}"/>\n')
        parts.append(_text(x + 16, HEIGHT - 8, name, "start"))
        x += 34 + 6.6 * len(name)
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>\n'


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
