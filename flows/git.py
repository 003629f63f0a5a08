"""The few things that are asked of git, as its own command."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tmuad.errors import TmuadError

STALE = 2.0  # s after which a lock file of git's that nobody removes was left by a killed process


class GitError(TmuadError):
    """git refused; the message is its own, with what to do."""


def git(*arguments: str, check: bool = True) -> str:
    """Standard output of `git ARGUMENTS`. Raises GitError."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise GitError(f"git {arguments[0]}: {message}")
    return done.stdout.strip() if done.returncode == 0 else ""


def check_repository() -> None:
    """Raises GitError unless a run could commit here: a work tree, a commit, nothing under way, an identity."""
    if git("rev-parse", "--is-inside-work-tree", check=False) != "true":
        raise GitError("this folder is no git work tree; versions are git commits: run `git init` and commit first")
    if not git("rev-parse", "--verify", "-q", "HEAD", check=False):
        raise GitError("the git repository has no commit; commit params.yaml, dvc.yaml, dvc.lock and the .dvc files")
    folder = Path(git("rev-parse", "--git-dir"))
    for mark in ("MERGE_HEAD", "rebase-merge", "rebase-apply", "CHERRY_PICK_HEAD", "REVERT_HEAD"):
        if (folder / mark).exists():
            raise GitError(f"git is in the middle of something ({mark}); finish or abort it first")
    identity()
    changed = [line[3:] for line in git_lines("status", "--porcelain", "--untracked-files=no")]
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise GitError(
            f"uncommitted changes in {shown}: a version must be what its commit says; commit or stash them first"
        )


def git_lines(*arguments: str) -> list[str]:
    """As `git`, its lines as they are: `status --porcelain` begins them with spaces."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.splitlines()


def identity() -> str:
    """Who commits: "name <address>". Raises GitError where git does not know."""
    name = os.environ.get("GIT_COMMITTER_NAME") or git("config", "user.name", check=False)
    mail = os.environ.get("GIT_COMMITTER_EMAIL") or git("config", "user.email", check=False)
    if not name or not mail:
        raise GitError(
            "git does not know who you are, and a version names who promoted it; run: "
            "git config user.name 'Line 1' and git config user.email line1@example.com"
        )
    return f"{name} <{mail}>"


def head() -> str:
    return git("rev-parse", "HEAD")


def show(revision: str, path: str) -> bytes:
    """The content of `path` in `revision`. Raises GitError if it has none."""
    done = subprocess.run(["git", "show", f"{revision}:./{path}"], capture_output=True, check=False)
    if done.returncode:
        raise GitError(f"{revision} has no {path}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def commit_of(trailer: str) -> str:
    """The commit whose message holds the line `trailer`; empty if there is none."""
    return git("log", "-1", "--format=%H", "--fixed-strings", f"--grep={trailer}", check=False)


def commit(paths: Sequence[str], message: str) -> str:
    """Commit these paths and nothing else, ignored ones too; the commit, the present one where nothing changed."""
    git("add", "--force", "--", *paths)
    if git_lines("status", "--porcelain", "--untracked-files=no", "--", *paths):
        git("commit", "--quiet", "--no-verify", "-m", message, "--", *paths)
    return head()


def tag(name: str, commit_id: str, message: str) -> None:
    """An annotated tag, unless it is there."""
    if not git("rev-parse", "-q", "--verify", f"refs/tags/{name}", check=False):
        git("tag", "--annotate", "-m", message, name, commit_id)


def check_tag_name(name: str) -> None:
    if subprocess.run(["git", "check-ref-format", f"refs/tags/{name}"], capture_output=True, check=False).returncode:
        raise GitError(f"'{name}' cannot be a git tag; rename the unit in params.yaml")


def clear_stale_locks() -> list[str]:
    """Remove the lock files that a killed git left behind, once they have stood still for a while; their names."""
    folder = Path(git("rev-parse", "--git-common-dir"))
    removed = []
    for lock in [*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")]:
        try:
            wait = STALE - (time.time() - lock.stat().st_mtime)
            time.sleep(max(0.0, min(wait, STALE)))
            lock.unlink()
            removed.append(lock.as_posix())
        except OSError:  # its owner was alive and has removed it
            continue
    return removed
