"""Workers of one placement: started, greeted, kept busy, and replaced when they are lost."""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tmuad.config_models import PlacementParams, RayParams
from tmuad.data.decode import reporting
from tmuad.errors import ClusterError, TmuadError, WorkerError
from tmuad.executors.ray_worker import Hello, Outcome, Parcel, Sight, Worker, environment
from tmuad.executors.work import ImageRef, Work

log = logging.getLogger(__name__)

IN_HAND = 2  # batches of a worker: the one at work and the next, so that it never waits for us
BEAT = 1.0  # s between two looks at what is late


@dataclass(eq=False)
class Batch:
    refs: Sequence[ImageRef]
    then: Sequence[ImageRef] = ()  # what is to follow once these are done
    lost: int = 0  # times that a worker was lost over it


@dataclass(eq=False)
class _Actor:
    handle: Any
    greeting: Any  # reference to its Hello, once it has got its place and started
    hello: Hello | None = None
    blamed: bool = False


class Pool:
    """Actors that take batches of any work. `ray` is the connected module."""

    def __init__(self, ray: Any, slot: str, placement: PlacementParams, params: RayParams, sight: Sight) -> None:
        self.ray, self.slot, self.placement, self.params, self.sight = ray, slot, placement, params, sight
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        self._environment = environment()

    def room(self) -> int:
        """How many workers an empty cluster would take."""
        need = self._need()
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not need:
            return len(nodes)
        return sum(int(min(node.get(name, 0) / amount for name, amount in need.items())) for node in nodes)

    def grow(self, size: int) -> None:
        """Have at least `size` workers; what has no place yet waits for one."""
        while len(self._actors) < size:
            self._actors.append(self._start())

    def run(self, work: Work, batches: Iterable[Batch], carry: bool) -> Iterator[tuple[Batch, Outcome]]:
        """Every batch with its outcome, as they come. After an error the batches at work are still waited for.

        Raises:
            WorkerError: a batch has lost one worker after another, or the workers are of another version.
            ClusterError: no worker has got a place in time.
        """
        identity, source, again = work.identity(), iter(batches), deque[Batch]()
        running: dict[Any, tuple[_Actor, Batch]] = {}
        failure: TmuadError | None = None
        exhausted, heard = False, time.monotonic()
        while True:
            while not failure and (actor := self._idlest(running)) is not None:
                batch = again.popleft() if again else next(source, None)
                if batch is None:
                    exhausted = True
                    break
                running[actor.handle.run.remote(self._parcel(actor, work, identity, batch, carry))] = (actor, batch)
                heard = time.monotonic()
            if not running and (failure or (exhausted and not again)):
                break
            greetings = {actor.greeting: actor for actor in self._actors if actor.hello is None}
            done, _ = self.ray.wait([*running, *greetings], num_returns=1, timeout=BEAT)
            if not done and not running and time.monotonic() - heard > self.params.timeout:
                raise ClusterError(self._no_room())
            for ref in done:
                heard = time.monotonic()
                if ref in greetings:
                    self._greet(greetings[ref])
                    continue
                actor, batch = running[ref]
                outcome = self._fetch(ref, actor)
                if outcome is None:
                    again.append(batch)
                    failure = failure or self._blame(work, actor, batch, [b for a, b in running.values() if a is actor])
                running.pop(ref)
                if outcome is not None:
                    failure = failure or outcome.error
                    yield batch, outcome
        if failure:
            raise failure

    def close(self) -> None:
        for actor in self._actors:
            self.ray.kill(actor.handle)
        self._actors.clear()

    def _need(self) -> dict[str, float]:
        take = self.placement
        need = {"CPU": take.num_cpus, "GPU": take.num_gpus, **take.resources}
        return {name: amount for name, amount in need.items() if amount}

    def _start(self) -> _Actor:
        take = self.placement
        actor = self.ray.remote(Worker).options(
            num_cpus=take.num_cpus, num_gpus=take.num_gpus, resources=take.resources, scheduling_strategy="SPREAD",
            max_restarts=0, max_task_retries=0,
        )  # fmt: skip
        handle = actor.remote(self.sight)
        return _Actor(handle, handle.hello.remote())

    def _greet(self, actor: _Actor) -> None:
        """Let a worker in that has started, if it is like us."""
        try:
            hello = self.ray.get(actor.greeting)
        except self.ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= self.params.attempts:
                reason = str(error).strip().splitlines()[-1]
                raise WorkerError(
                    f"{self.slot}: no worker can be started ({reason}); install tmuad as it is here on every node "
                    f"({_said(self._environment)})"
                ) from None
            self._replace(actor)
            return
        if other := {k: v for k, v in self._environment.items() if hello.environment.get(k) != v}:
            theirs = {name: hello.environment.get(name, "missing") for name in other}
            raise WorkerError(
                f"{self.slot}: the worker on {hello} has {_said(theirs)}, this machine has {_said(other)}; results could "
                "differ: install the same on every node"
            )
        actor.hello, self._failed_starts = hello, 0
        unseen = [what for what, seen in (("images", hello.images), ("cache", hello.cache)) if not seen]
        log.info(
            "%s: worker on %s%s%s", self.slot, hello, ", which does not see our " * bool(unseen), " and ".join(unseen)
        )

    def _idlest(self, running: dict[Any, tuple[_Actor, Batch]]) -> _Actor | None:
        """The worker that has the fewest batches in hand, if any has room for another."""
        hands = {actor: 0 for actor in self._actors if actor.hello is not None}
        for actor, _ in running.values():
            if actor in hands:
                hands[actor] += 1
        idlest = min(hands, key=lambda actor: hands[actor], default=None)
        return idlest if idlest is not None and hands[idlest] < IN_HAND else None

    def _parcel(self, actor: _Actor, work: Work, identity: str, batch: Batch, carry: bool) -> Parcel:
        assert actor.hello is not None
        files, entries = None, None
        if carry or not actor.hello.images:
            files = {}
            for ref in batch.refs:
                with reporting(ref.path):
                    files[str(ref.path)] = ref.path.read_bytes()
        if carry or not actor.hello.cache:
            entries = work.given(batch.refs)
        return Parcel(work, identity, batch.refs, files, entries)

    def _fetch(self, ref: Any, actor: _Actor) -> Outcome | None:
        """None if the worker was lost."""
        try:
            outcome: Outcome = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError:
            raise  # a bug, with its traceback
        except self.ray.exceptions.RayError as error:
            if actor in self._actors:
                reason = str(error).strip().splitlines()[0]
                log.warning("%s: lost the worker on %s (%s); its batch is done again", self.slot, actor.hello, reason)
                self._replace(actor)
            return None
        return outcome

    def _replace(self, actor: _Actor) -> None:
        self.ray.kill(actor.handle)
        self._actors[self._actors.index(actor)] = self._start()

    def _blame(self, work: Work, actor: _Actor, batch: Batch, at_hand: list[Batch]) -> WorkerError | None:
        """The batch that was at work when its worker was lost may be the reason; those behind it are not."""
        if actor.blamed or at_hand[0] is not batch:
            return None
        actor.blamed, batch.lost = True, batch.lost + 1
        if batch.lost < self.params.attempts:
            return None
        names = ", ".join(str(ref.path) for ref in batch.refs)
        return WorkerError(
            f"{work.name}: {batch.lost} workers in a row were lost over {names}, most likely for want of memory; give "
            f"workers more room (ray.{self.slot}.num_cpus) and run again, what is done is kept"
        )

    def _no_room(self) -> str:
        has = {k: v for k, v in self.ray.cluster_resources().items() if k in {"CPU", "GPU", *self.placement.resources}}
        free = self.ray.available_resources()
        return (
            f"ray.{self.slot}: no worker has got a place within {self.params.timeout:g} s; one takes {_said(self._need())}, "
            f"the cluster has {_said(has)}, free {_said({k: free.get(k, 0) for k in has})}; change the placement, start "
            "nodes, or wait for other runs"
        )


def _said(amounts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in amounts.items()
    )
