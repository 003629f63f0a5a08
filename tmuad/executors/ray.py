"""A Ray cluster maps: actors hold the models, take batches, and fill the same cache as this machine's processes would.

A worker that sees our images (a shared file system) reads them itself, and one that sees our cache (there, or in a bucket)
writes it itself. To any other, images travel as files and records come back. Batches whose worker is lost are done again.
"""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tmuad.cache import Cache, Record, anchored, open_cache, unseal
from tmuad.config_models import PlacementParams, RayParams
from tmuad.executors.local import LocalExecutor
from tmuad.executors.ray_connect import connect
from tmuad.executors.ray_pool import Batch, Pool
from tmuad.executors.ray_worker import SEEN, Outcome, Sight
from tmuad.executors.work import ImageRef, Mapper, Work
from tmuad.progress import track

SLOTS = {"segment", "describe", "features"}  # names of work that may have a placement of its own


class RayExecutor:
    """See `tmuad.executors.Executor`. Connects when something is to be computed."""

    def __init__(self, params: RayParams) -> None:
        self.params = params
        self._named = SLOTS & params.model_fields_set
        self._ray: Any = None
        self._pid = 0  # of the process that is connected
        self._pools: dict[str, Pool] = {}
        self._cache = Cache(Path())  # that workers see, or do not see
        self._place = ""  # of it
        self._token = secrets.token_hex(16)

    def fill(self, mapper: Mapper, missing: Sequence[ImageRef]) -> None:
        """As declared. Where models are to see the images in the task before, a batch goes on to this task as soon as it is
        through that one: the two are at work at once, on the devices of their placements."""
        self._connect(mapper)
        batches = [Batch(missing[i : i + mapper.batch]) for i in range(0, len(missing), mapper.batch)]
        source: Iterable[Batch] = batches
        if prior := mapper.prior():
            if self._slot(prior) != self._slot(mapper):
                source = self._through(prior, batches)
            elif lacking := prior.lacking(missing):
                self.fill(prior, lacking)
        bar = track(missing, mapper.name, len(missing))
        for batch, outcome in self._pool(mapper, batches).run(mapper, source, self._carries(mapper)):
            _keep(mapper, outcome)
            for _ in batch.refs:
                next(bar, None)
            if mapper.cache.refused:
                return

    def records(self, mapper: Mapper, refs: Sequence[ImageRef]) -> dict[str, Record]:
        if self._pid not in (0, os.getpid()):  # forked from the process that is connected: the connection is not ours
            return LocalExecutor().records(mapper, refs)
        unique = list({ref.image_id: ref for ref in refs}.values())
        self._connect(mapper)
        batches = [Batch(unique[i : i + mapper.batch]) for i in range(0, len(unique), mapper.batch)]
        found: dict[str, Record] = {}
        for _, outcome in self._pool(mapper, batches).run(mapper, batches, carry=True):
            _keep(mapper, outcome)
            for image_id, kind, entry in outcome.entries:
                if kind == mapper.kind and (record := unseal(entry)) is not None:
                    found[image_id] = record
        return found

    def run(self, work: Work, batches: Iterable[Sequence[ImageRef]]) -> Iterator[tuple[Sequence[ImageRef], list[Any]]]:
        listed = [Batch(refs) for refs in batches]
        if listed:
            self._connect(work)
            for batch, outcome in self._pool(work, listed).run(work, listed, self._carries(work)):
                yield batch.refs, outcome.values

    def close(self) -> None:
        if self._ray is None:
            return
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._cache.remove(self._token, SEEN)
        self._ray.shutdown()
        self._ray, self._pid = None, 0

    def _connect(self, work: Work) -> None:
        if self._ray is None:
            self._ray, self._pid = connect(self.params), os.getpid()
            self._place = anchored(work.data.cache, Path.cwd())
            self._cache = open_cache(self._place)
            self._cache.write(self._token, SEEN, b"")

    def _carries(self, work: Work) -> bool:
        return self.params.carry == "always" or anchored(work.data.cache, Path.cwd()) != self._place

    def _through(self, prior: Mapper, batches: Sequence[Batch]) -> Iterator[Batch]:
        """`batches`, each once all of it is through `prior`. Their images stay together: the same batches, the same bits."""
        first = []
        for batch in batches:
            if lacking := prior.lacking(batch.refs):
                first.append(Batch(lacking, then=batch.refs))
            else:
                yield batch
        for batch, outcome in self._pool(prior, first).run(prior, first, self._carries(prior)):
            _keep(prior, outcome)
            yield Batch(batch.then)

    def _slot(self, work: Work) -> str:
        return work.name if work.name in self._named else "default"

    def _pool(self, work: Work, batches: Sequence[Batch]) -> Pool:
        """The workers for `work`, as many as there is use and room for."""
        slot = self._slot(work)
        placement: PlacementParams = getattr(self.params, slot)
        if slot not in self._pools:
            sight = Sight(str(Path.cwd()), self._place, self._token, str(batches[0].refs[0].path))
            self._pools[slot] = Pool(self._ray, slot, placement, self.params, sight)
        pool = self._pools[slot]
        share = max(1, pool.room() // (len(self._named) + (slot == "default")))
        pool.grow(min(placement.workers or share, max(1, len(batches))))
        return pool


def _keep(mapper: Mapper, outcome: Outcome) -> None:
    for image_id, kind, entry in outcome.entries:
        mapper.cache.write(image_id, kind, entry)
    mapper.cache.refused = mapper.cache.refused or outcome.refused
