"""DVC in a process of its own: `python -m flows.dvc_worker REQUESTS ANSWERS LIFE`, three file descriptors.

DVC takes a second to import; a run asks it five to thirty times. Each request is a line of JSON with the name of a
function below and its arguments, each answer a line of JSON. What DVC and the stages print goes to standard output.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.helper import die_with_input
from tmuad.stages.remote import VARIABLE


def reproduce(targets: list[str], single: bool = False, server: str = "") -> list[str]:
    """`dvc repro TARGETS`, stages at the stage server `server` if given; those that were run, or restored from the cache."""
    os.environ[VARIABLE] = server
    with _repo() as repo:
        stages = repo.reproduce(targets=targets, single_item=single)
        return [stage.addressing for stage in stages]


def order(targets: list[str] | None = None) -> list[dict[str, Any]]:
    """The stages of dvc.yaml that `targets` (default: all) need, in an order that runs each after what it needs."""
    import networkx as nx

    with _repo() as repo:
        graph = repo.index.graph  # from a stage to what it depends on
        wanted = {stage for target in targets or () for stage in repo.stage.collect(target)} or set(graph)
        needed = wanted.union(*(nx.descendants(graph, stage) for stage in wanted))
        names = {stage: stage.addressing for stage in needed}
        ordered = nx.lexicographical_topological_sort(graph.subgraph(needed).reverse(), key=lambda stage: names[stage])
        return [
            {"name": names[stage], "needs": sorted(names[other] for other in graph.successors(stage))}
            for stage in ordered
        ]


def status(targets: list[str]) -> dict[str, Any]:
    """What differs between the workspace and the .dvc and lock files; empty where nothing does."""
    with _repo() as repo:
        return json.loads(json.dumps(repo.status(targets=targets), default=str))


def add(path: str) -> None:
    with _repo() as repo:
        repo.add(path)


def checkout(targets: list[str]) -> None:
    """`dvc checkout --force`, after a fetch of what the cache lacks where there is a remote."""
    from dvc.exceptions import CheckoutError

    with _repo() as repo:
        try:
            repo.checkout(targets=targets, force=True)
        except CheckoutError:
            repo.fetch(targets=targets)
            repo.checkout(targets=targets, force=True)


def push(targets: list[str], remote: str = "") -> int:
    """Objects sent to the remote."""
    with _repo() as repo:
        return int(repo.push(targets=targets, remote=remote or None))


def remotes() -> dict[str, Any]:
    """Names of the remotes, and the default one."""
    with _repo() as repo:
        return {"names": sorted(repo.config["remote"]), "default": repo.config["core"].get("remote") or ""}


def tracked(path: str) -> dict[str, str]:
    """The .dvc file ("file") that tracks `path` or a folder above it ("path"), or the "stage" that makes it; or nothing."""
    with _repo() as repo:
        absolute = str(Path(path).resolve())
        for stage in repo.index.stages:
            for out in stage.outs:
                if absolute == out.fs_path or absolute.startswith(out.fs_path + os.sep):
                    if not stage.is_data_source:
                        return {"stage": stage.addressing}
                    return {"file": os.path.relpath(stage.path), "path": os.path.relpath(out.fs_path)}
        return {}


def uncached(targets: list[str]) -> list[str]:
    """Files of the stages `targets` that DVC does not keep, because git is to (cache: false)."""
    with _repo() as repo:
        stages = [stage for target in targets for stage in repo.stage.collect(target)]
        return sorted(os.path.relpath(out.fs_path) for s in stages for out in s.outs if not out.use_cache)


CALLS = {f.__name__: f for f in (reproduce, order, status, add, checkout, push, remotes, tracked, uncached)}


def _repo() -> Any:
    from dvc.repo import Repo

    return Repo(str(Path.cwd()))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def kind_of(error: BaseException) -> str:
    """lock: another DVC process is at work; rwlock: a killed one left a damaged file; config; stage; other."""
    from dvc.config import ConfigError
    from dvc.exceptions import ReproductionError
    from dvc.lock import LockError
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError

    kinds = (
        (LockError, "lock"),
        ((RWLockFileCorruptedError, RWLockFileFormatError), "rwlock"),
        (ReproductionError, "stage"),
        (ConfigError, "config"),
    )
    chain = list(_chain(error))
    return next((kind for types, kind in kinds if any(isinstance(e, types) for e in chain)), "other")


def main() -> None:
    requests, answers, life = (int(argument) for argument in sys.argv[1:4])
    die_with_input(life)
    import dvc  # sets its logging up: what it says goes to standard output and error

    logging.getLogger(dvc.__name__).setLevel(logging.INFO)
    with os.fdopen(requests) as source, os.fdopen(answers, "w", buffering=1) as sink:
        for line in source:
            request = json.loads(line)
            try:
                answer = {"result": CALLS[request["call"]](**request["arguments"])}
            except Exception as error:  # told to the flow, which decides
                texts = [str(e).strip() or type(e).__name__ for e in _chain(error)]
                answer = {"error": {"kind": kind_of(error), "message": ": ".join(dict.fromkeys(texts))}}
            sys.stdout.flush()
            sink.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
