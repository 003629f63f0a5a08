"""The steps of a run, each of which can be repeated. Plain Python: Prefect calls them, and so does the command line.

A run changes the unit in place, so what it changes is kept aside first: artifacts, lock file and .dvc file, in
.refit/<unit>/before. To complete a run and to roll it back are both a matter of repeating steps.
"""

import json
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from flows import git
from flows.dvc import Dvc, DvcError, unit_ends, unit_stages
from flows.preflight import check_disk, check_whole, tag_name
from tmuad.arrivals import history, quarantine
from tmuad.arrivals.files import move, place_tree
from tmuad.arrivals.journal import GONE, ROLL_BACK, Journal, Run, UnitState
from tmuad.cache import write_atomic
from tmuad.config import Params
from tmuad.data.arrivals import log_path, update_log
from tmuad.errors import DataError, TmuadError
from tmuad.parquet import read_parquet
from tmuad.stages.__main__ import PER_UNIT
from tmuad.workspace import UnitPaths

LOCK_FILE = Path("dvc.lock")
PENDING_PUSH = Path(".refit/push.json")  # units whose last version did not reach the remote


@dataclass
class Context:
    """What the steps of a run share."""

    unit: str
    params: Params
    dvc: Dvc
    journal: Journal
    log: Callable[[str], None]

    @property
    def run(self) -> Run:
        return self.journal.run

    @property
    def state(self) -> UnitState:
        return UnitState(self.unit)

    @property
    def incoming(self) -> Path:
        return Path(self.params.refit.incoming) / self.unit

    @property
    def root(self) -> Path:
        return Path(self.params.unit(self.unit).root)


def inspect(context: Context) -> None:
    """1: look at what arrived; move what cannot be used to data/rejected."""
    from tmuad.arrivals.inspect import inspect as look

    if not context.run.listed:
        arrivals = look(context.unit, context.params, quarantine.kept_out(context.unit, context.params))
        context.journal.update(arrivals=arrivals, listed=True)
    for arrival in context.run.with_decision("reject"):
        target = quarantine.rejected_path(context.unit, arrival.name, arrival.image_id, context.params)
        if move(context.incoming / arrival.name, target, arrival.image_id):
            write_atomic(target.with_name(f"{target.name}.txt"), f"{arrival.reason}\n".encode())
        context.log(f"rejected {arrival.name}: {arrival.reason}")
    for arrival in context.run.with_decision("leave"):
        context.log(f"left for the next run: {arrival.name}: {arrival.reason}")
    context.log(f"{len(context.run.with_decision('new'))} new images of {len(context.run.arrivals)} files")


def guard(context: Context) -> None:
    """2: ask the present banks; move what looks anomalous to data/quarantine."""
    if not context.run.guarded:
        context.dvc.run_library("tmuad.arrivals", "guard", context.unit)
        _reload(context)
        _log_gone(context)
    for arrival in context.run.with_decision("quarantine"):
        folder = quarantine.case_folder(context.unit, arrival.image_id, context.params)
        move(context.incoming / arrival.name, folder / Path(arrival.name).name, arrival.image_id)
        context.log(f"quarantined {arrival.name}: {arrival.reason}")
    if not context.run.with_decision("admit"):
        context.journal.update(outcome="nothing admitted")


def admit(context: Context) -> None:
    """3: keep the present state aside, change the data set, and give it a new version in DVC."""
    keep_aside(context)
    run = context.run
    _check_whole(context)
    if run.kind == "refit":
        check_disk(context.params, sum(_size(context.incoming / a.name) for a in run.with_decision("admit")))
        chosen = run.with_decision("admit")
        gone = {a for a in chosen if not move(context.incoming / a.name, context.root / a.target, a.image_id)}
        if gone:
            told = tuple(replace(a, decision="leave", reason=GONE) if a in gone else a for a in run.arrivals)
            context.journal.update(
                arrivals=told, **({"outcome": "nothing admitted"} if len(gone) == len(chosen) else {})
            )
            _log_gone(context)
    elif run.kind == "forget":
        for image in run.removed:
            folder = quarantine.case_folder(context.unit, image["image_id"], context.params)
            verdict = {"reason": "taken out of the unit by a person", "verdict": "forgotten"}
            card = f"FORGOTTEN  {image['path']}\n           taken out of the unit by a person"
            quarantine.write_card(context.unit, image["image_id"], context.params, verdict, card, b"")
            move(context.root / image["path"], folder / Path(image["path"]).name, image["image_id"])
            quarantine.rule(context.unit, image["image_id"], "forgotten", context.params)
    else:
        content = git.show(tag_name(context.unit, run.goal), run.data_file)
        write_atomic(Path(run.data_file), content)
        context.dvc.call("checkout", targets=[run.data_file])
        return
    context.dvc.call("add", path=run.data_path)
    _check_whole(context)


def refit(context: Context) -> None:
    """4: `dvc repro` of the unit; the per-image cache makes it pay only for the new images."""
    try:
        ran = context.dvc.call("reproduce", targets=unit_ends(context.unit))
    except DvcError:
        _check_whole(context)  # says more of a folder that went away than DVC does
        raise
    context.log(f"{len(ran)} stages ran: {', '.join(ran) or 'none, nothing had changed'}")
    _check_whole(context)


def gate(context: Context) -> None:
    """5: hold the new banks against the ones kept aside, and ask the saved questions."""
    context.dvc.run_library("tmuad.arrivals", "gate", context.unit)
    _reload(context)
    for check in context.run.gate["checks"]:
        context.log(f"gate: {check['name']}: {check['detail']} ({'passed' if check['passed'] else 'FAILED'})")


def promote(context: Context) -> None:
    """6: record, commit and tag the version, then push it to the remote."""
    run = context.run
    if not git.commit_of(run.trailer):
        version = run.version or _next_version(context)
        run = context.journal.update(version=version, outcome="promoted")
        if not history.read(context.unit):
            history.append(context.unit, _baseline(context))
        history.append(context.unit, _record(context, "promoted"))
        paths = [run.data_file, str(LOCK_FILE), str(history.path_of(context.unit)), *_log_arrivals(context)]
        stages = unit_stages(context.unit, PER_UNIT)
        if context.params.refit.report:
            stages += _refresh_reports(context)
        paths += context.dvc.call("uncached", targets=stages)
        title = {"refit": "Re-fit", "forget": "Forget an image of", "rollback": f"Roll back to {run.goal}:"}[run.kind]
        git.commit(paths, f"{title} {context.unit}: {version}\n\n{run.trailer}")
    commit = git.commit_of(run.trailer)
    git.tag(tag_name(context.unit, "v0"), run.base, f"{context.unit} before its first re-fit")
    git.tag(tag_name(context.unit, run.version), commit, f"{context.unit} {run.version} ({run.kind} {run.run})")
    context.log(f"promoted {context.unit} {run.version}: commit {commit[:10]}")
    push(context)


def push(context: Context) -> None:
    """Send what the unit's version needs to the DVC remote; what could not be sent is sent by a later run."""
    settings = context.params.refit
    if not settings.push:
        return
    remotes = context.dvc.call("remotes")
    if not settings.remote and not remotes["default"]:
        context.log("no DVC remote: the version exists on this machine alone")
        return
    waiting = set(json.loads(PENDING_PUSH.read_text())) if PENDING_PUSH.exists() else set()
    write_atomic(PENDING_PUSH, json.dumps(sorted(waiting | {context.unit})).encode())
    try:
        targets = [context.run.data_file, "settings", *unit_stages(context.unit, PER_UNIT)]
        sent = context.dvc.call("push", targets=targets, remote=settings.remote)
    except DvcError as error:
        name = settings.remote or remotes["default"]
        message = (
            f"{context.unit} {context.run.version} is in force here but not on the remote '{name}' ({error}); "
            "the next run pushes again"
        )
        context.journal.warn(message)
        context.log(message)
        return
    write_atomic(PENDING_PUSH, json.dumps(sorted(waiting - {context.unit})).encode())
    context.log(f"pushed {sent} objects")


def push_is_pending(unit: str) -> bool:
    return PENDING_PUSH.exists() and unit in json.loads(PENDING_PUSH.read_text())


def roll_back(context: Context) -> None:
    """6, where the gate or an error said no: data, lock file and artifacts as they were, the images aside."""
    run = context.run
    if context.state.before.is_dir():
        _take_out(context)
        before = context.state.before
        shutil.copyfile(before / "data.dvc", run.data_file)
        shutil.copyfile(before / "dvc.lock", LOCK_FILE)
        if run.kind == "rollback":
            context.dvc.call("checkout", targets=[run.data_file])
        folder = UnitPaths(context.unit).folder
        shutil.rmtree(folder, ignore_errors=True)
        place_tree(before / "artifacts" / context.unit, folder)
        update_log(log_path(context.unit), {arrival.target: None for arrival in run.with_decision("admit")})
        _record_rollback(context)
    context.journal.update(outcome="rolled back", version="")
    context.log(f"rolled back: {run.reason}")


def publish(context: Context) -> None:
    """7: tell the webhook. What Prefect shows is made by the flow itself."""
    address = context.params.refit.webhook
    if not address:
        return
    content = json.dumps(summary(context.run)).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            context.log(f"webhook: {answer.status}")
    except (OSError, ValueError) as error:
        context.journal.warn(f"refit.webhook: {address} cannot be reached ({error})")
        context.log(context.run.warnings[-1])


STEP = {f.__name__: f for f in (inspect, guard, admit, refit, gate, promote, roll_back, publish)}


def summary(run: Run) -> dict[str, Any]:
    """The run for other programs."""
    counts = {d: len(run.with_decision(d)) for d in ("admit", "quarantine", "reject", "leave")}
    fields = ("run", "unit", "kind", "trigger", "outcome", "version", "reason", "gate", "warnings", "seconds")
    return {name: getattr(run, name) for name in fields} | {
        "counts": counts,
        "arrivals": [asdict(arrival) for arrival in run.arrivals],
    }


def keep_aside(context: Context) -> None:
    """A copy of what the run will change, whole or not at all."""
    before = context.state.before
    if before.is_dir():
        return
    draft = before.with_name("before.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        place_tree(UnitPaths(context.unit).folder, draft / "artifacts" / context.unit)
        shutil.copyfile(LOCK_FILE, draft / "dvc.lock")
        shutil.copyfile(context.run.data_file, draft / "data.dvc")
        draft.rename(before)
    except OSError as error:
        raise DataError(f"{before}: cannot be written ({error.strerror}); free some space") from None


def _take_out(context: Context) -> None:
    """Admitted images out of the data set again, forgotten ones back into it."""
    run = context.run
    for arrival in run.with_decision("admit"):
        source = context.root / arrival.target
        if run.failed:  # nothing is wrong with the images: the next run tries again
            if not move(source, context.incoming / arrival.name, arrival.image_id):
                context.journal.warn(f"{arrival.name}: neither in {context.incoming} nor at {source} any more")
                context.log(context.run.warnings[-1])
            continue
        folder = quarantine.case_folder(context.unit, arrival.image_id, context.params)
        reason = f"the re-fit with it was rolled back: {run.reason}"
        verdict = {"reason": reason, "score": arrival.score, "p_value": arrival.p_value, "verdict": "rolled back"}
        card = f"ROLLED BACK  {arrival.name}\n           {reason}"
        quarantine.write_card(context.unit, arrival.image_id, context.params, verdict, card, b"")
        move(source, folder / Path(arrival.name).name, arrival.image_id)
    for image in run.removed:
        folder = quarantine.case_folder(context.unit, image["image_id"], context.params)
        move(folder / Path(image["path"]).name, context.root / image["path"], image["image_id"])
        shutil.rmtree(folder, ignore_errors=True)


def _check_whole(context: Context) -> None:
    """The data set still has every image of the version before. To roll back is to change that."""
    if context.run.kind != "rollback":
        before = UnitPaths(context.unit, context.state.before / "artifacts")
        check_whole(context.root, before.manifest, {image["path"] for image in context.run.removed})


def _log_gone(context: Context) -> None:
    for arrival in context.run.with_decision("leave"):
        if arrival.reason == GONE:
            context.log(f"{arrival.name}: {GONE}")


def _record_rollback(context: Context) -> None:
    try:
        history.append(context.unit, _record(context, "rolled back"))
        path = str(history.path_of(context.unit))
        git.commit([path], f"{context.unit}: re-fit rolled back\n\n{context.run.trailer}")
    except TmuadError as error:
        context.journal.warn(f"the roll-back is not in the history: {error}")
        context.log(context.run.warnings[-1])


def _record(context: Context, outcome: str) -> history.Record:
    run = context.run
    records = history.read(context.unit)
    present = next((r.version for r in reversed(records) if r.run != run.run), "v0")
    before, after = (
        _normal_images(UnitPaths(context.unit, base))
        for base in (context.state.before / "artifacts", Path("artifacts"))
    )
    promoted = outcome == "promoted"
    return history.Record(
        run=run.run,
        action=run.kind,
        outcome=outcome,
        version=run.version if promoted else present,
        time=run.started,
        by=f"{git.identity()}, by {run.trigger}",
        added=tuple(sorted(after - before)) if promoted else (),
        removed=tuple(sorted(before - after)) if promoted else (),
        quarantined=tuple(sorted(a.image_id for a in run.with_decision("quarantine"))),
        metrics=run.gate.get("metrics") or (_metrics(context) if promoted else {}),
        reason=run.reason or (f"back to {run.goal}" if run.goal else ""),
    )


def _log_arrivals(context: Context) -> list[str]:
    """Write when the admitted images came in, for the counts by week; the file, where that changed it."""
    when = datetime.fromisoformat(context.run.started)
    if admitted := context.run.with_decision("admit"):
        update_log(log_path(context.unit), {arrival.target: when for arrival in admitted})
    return [str(log_path(context.unit))] if admitted else []


def _baseline(context: Context) -> history.Record:
    manifest = _normal_images(UnitPaths(context.unit, context.state.before / "artifacts"))
    return history.Record(
        run="baseline",
        action="baseline",
        outcome="promoted",
        version="v0",
        time=context.run.started,
        by=git.identity(),
        added=tuple(sorted(manifest)),
    )


def _normal_images(paths: UnitPaths) -> set[str]:
    rows = read_parquet(paths.manifest, ["image_id", "split"]).to_pydict()
    return {i for i, split in zip(rows["image_id"], rows["split"], strict=True) if split != "test"}


def _metrics(context: Context) -> dict[str, float | None]:
    content = json.loads(UnitPaths(context.unit).metrics.read_text(encoding="utf-8"))
    image, decision = content.get("image", {}), content.get("decision", {})
    return {
        "false_alarm_rate": decision.get("false_alarm_rate_observed"),
        "detection_rate": decision.get("detection_rate"),
        "auroc": image.get("auroc"),
    }


def _next_version(context: Context) -> str:
    return history.next_version(context.unit) if history.read(context.unit) else "v1"  # v0 is the state before


def _refresh_reports(context: Context) -> list[str]:
    """Bring reports/ up to date; the stages whose files git is to keep. A failure is told, and stops no promotion."""
    done = []
    for stage in ("tables", "report", "warehouse", "checks", "gallery"):
        try:
            context.dvc.call("reproduce", targets=[stage], single=True)
            done.append(stage)
        except DvcError as error:
            context.journal.warn(f"{stage} is not up to date: {error}")
    return [stage for stage in done if stage != "gallery"]  # its pictures are nobody's to keep, and the page needs them


def _reload(context: Context) -> None:
    context.journal.run = Journal.load(context.journal.path).run


def mend(context: Context) -> None:
    """DVC writes its files in place: those that a killed process left damaged are put back as they were before the run."""
    for path, kept in ((LOCK_FILE, "dvc.lock"), (Path(context.run.data_file), "data.dvc")):
        try:
            sound = isinstance(yaml.safe_load(path.read_bytes()), dict)
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            sound = False
        if not sound and (context.state.before / kept).exists():
            context.log(f"{path}: damaged by a killed process; as before the run again")
            write_atomic(path, (context.state.before / kept).read_bytes())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def is_final(step: str) -> bool:
    """Steps whose failure cannot be answered by rolling back."""
    return step in (ROLL_BACK, "publish")
