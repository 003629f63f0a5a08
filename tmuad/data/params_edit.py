"""Editing params.yaml as a person would: new lines, and every other byte of the file left as it is.

A YAML library that writes the file again moves comments that stand after the units, and changes indentation and quotes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tmuad.cache import write_atomic
from tmuad.config import Params, UnitParams, parse_params
from tmuad.errors import ParameterError


def add_units(params: Params, path: Path, units: Mapping[str, UnitParams]) -> None:
    """Add `units` to the file `path`, which `params` was read from.

    Raises:
        ParameterError: the file cannot be written, or is laid out in a way that new lines would damage.
    """
    if not units:
        return
    text = path.read_bytes().decode()
    try:
        edited = _insert(text, units)
        again = parse_params(yaml.safe_load(edited), folder=path.parent)
        sound = again == params.model_copy(update={"units": params.units | dict(units)})
    except (yaml.YAMLError, ParameterError):
        sound = False
    if not sound:
        lines = "".join(f"\n  {_flow(name, unit)}" for name, unit in units.items())
        raise ParameterError(f"{path}: units cannot be added without harm to other lines; add under 'units:'{lines}")
    try:
        write_atomic(path.resolve(), edited.encode())  # resolved: a linked file is changed, not its link replaced
    except OSError as error:
        raise ParameterError(f"{path}: cannot be written ({error.strerror}); make its folder writable") from None


def set_rate(params: Params, path: Path, unit: str, rate: float) -> None:
    """Set the promised false-alarm rate of one unit (`decide.unit_rates`) in the file `path`, which `params` was read from.

    Raises:
        ParameterError: the file cannot be written, or is laid out in a way that another line would damage.
    """
    rates = params.decide.unit_rates | {unit: rate}
    flow = "{" + ", ".join(f"{_scalar(name)}: {value:g}" for name, value in rates.items()) + "}"
    text = path.read_bytes().decode()
    wanted = params.model_copy(update={"decide": params.decide.model_copy(update={"unit_rates": rates})})
    try:
        edited = _with_rates(text, flow)
        sound = parse_params(yaml.safe_load(edited)) == wanted
    except (yaml.YAMLError, ParameterError):
        sound = False
    if not sound:
        raise ParameterError(
            f"{path}: the rate cannot be set without harm to other lines; set decide.unit_rates: {flow}"
        )
    try:
        write_atomic(path.resolve(), edited.encode())
    except OSError as error:
        raise ParameterError(f"{path}: cannot be written ({error.strerror}); make its folder writable") from None


def _with_rates(text: str, flow: str) -> str:
    """`text` with `flow` as decide.unit_rates, on the line after the section's head where there was none."""
    newline = "\r\n" if "\r\n" in text else "\n"
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    decide = next((value for key, value in root.value if key.value == "decide"), None)
    if decide is None:
        return text.rstrip("\r\n") + f"{newline}{newline}decide:{newline}  unit_rates: {flow}{newline}"
    old = next((value for key, value in decide.value if key.value == "unit_rates"), None)
    if old is not None and old.flow_style:
        return text[: old.start_mark.index] + flow + text[old.end_mark.index :]
    if old is not None or decide.flow_style or not decide.value:
        return text  # another layout, which the caller refuses
    start = decide.value[0][0].start_mark
    return text[: start.index] + f"unit_rates: {flow}{newline}{' ' * start.column}" + text[start.index :]


def _insert(text: str, units: Mapping[str, UnitParams]) -> str:
    """`text` with `units` after the last unit in it."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    node = next(value for key, value in root.value if key.value == "units")
    empty = isinstance(node, yaml.ScalarNode) or not node.value  # null, nothing at all, or {}
    if not empty and node.flow_style:
        end = node.end_mark.index - 1
        return text[:end] + "".join(f", {_flow(name, unit)}" for name, unit in units.items()) + text[end:]
    indent, last = "  ", node
    if not empty:
        indent = " " * node.value[0][0].start_mark.column
        while last.value and not isinstance(last.value, str):  # down to the last thing that was written
            last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    line = last.end_mark.line
    if empty:
        text = text[: node.start_mark.index].rstrip(" ") + text[node.end_mark.index :]
        line = node.start_mark.line
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if not lines[line].endswith(newline):
        lines[line] += newline
    added = [f"{indent}{part}{newline}" for name, unit in units.items() for part in _block(name, unit)]
    return "".join([*lines[: line + 1], *added, *lines[line + 1 :]])


def _block(name: str, unit: UnitParams) -> list[str]:
    return [f"{_scalar(name)}:", f"  root: {_scalar(unit.root)}", f"  layout: {unit.layout}"]


def _flow(name: str, unit: UnitParams) -> str:
    return f"{_scalar(name)}: {{root: {_scalar(unit.root)}, layout: {unit.layout}}}"


def _scalar(text: str) -> str:
    """`text` as YAML: in quotes unless it is plainly a string to any reader, which no, 1e3 and 2024-01-01 are not."""
    plain = re.fullmatch(r"[\w./-]([\w./ -]*[\w./-])?", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
