"""Profiles: named sets of overrides on top of params.yaml.

`profile: paper` in params.yaml puts profiles/paper.yaml over it: what the profile says wins, everything else stays. A slot
whose `backend` the profile changes is replaced as a whole, because one backend's parameters mean nothing to another. With
`extends: NAME` a profile builds on another. `profile: embedded` needs no file.
"""

import difflib
from pathlib import Path
from typing import Any

from tmuad.errors import ParameterError

FOLDER = "profiles"
DEFAULT = "embedded"


def apply_profile(raw: dict[Any, Any], source: str, folder: Path) -> tuple[dict[Any, Any], str]:
    """`raw` under the overrides of the profile it names, and where the result is from, for error messages.

    Raises:
        ParameterError: there is no such profile, it cannot be read, or it extends itself.
    """
    name = raw.get("profile", DEFAULT)
    overrides = load_profile(name, folder)
    return (overlay(raw, overrides), f"{source} with profile {name}") if overrides else (raw, source)


def load_profile(name: object, folder: Path) -> dict[Any, Any]:
    """The overrides of the profile `name` in `folder`/profiles, those it extends included."""
    merged: dict[Any, Any] = {}
    chain: list[str] = []
    current: object = name
    while current is not None:
        if not isinstance(current, str) or not current or "/" in current:
            raise ParameterError(f"profile: expected the name of a file in {FOLDER}/, found {current!r}")
        if current in chain:
            raise ParameterError(f"{FOLDER}/{current}.yaml: extends itself by way of {' -> '.join([*chain, current])}")
        chain.append(current)
        raw = dict(_read(current, folder))
        current = raw.pop("extends", None)
        merged = overlay(raw, merged)
    for key in ("units", "profile"):
        if key in merged:
            raise ParameterError(f"{FOLDER}/{chain[0]}.yaml: '{key}' belongs into params.yaml, not into a profile")
    return merged


def overlay(base: dict[Any, Any], over: dict[Any, Any]) -> dict[Any, Any]:
    """A copy of `base` in which the values of `over` stand; mappings are merged, those of another backend replaced."""
    if "backend" in over and base.get("backend") != over["backend"]:
        return dict(over)
    merged = dict(base)
    for key, value in over.items():
        below = base.get(key)
        merged[key] = overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _read(name: str, folder: Path) -> dict[Any, Any]:
    from tmuad.config import read_yaml

    path = folder / FOLDER / f"{name}.yaml"
    if not path.exists():
        if name == DEFAULT:
            return {}
        known = sorted({DEFAULT, *(p.stem for p in (folder / FOLDER).glob("*.yaml"))})
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ParameterError(f"{path}: no such profile; there are: {', '.join(known)}.{hint}")
    raw = read_yaml(path)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ParameterError(f"{path}: expected a mapping of sections at the top, found {type(raw).__name__}")
    return raw
