"""The starts of a run: on which machine, from which commits, by which command. Decides nothing."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from duelenv.experiments.folder import files
from duelenv.experiments.folder.machine import describe_machine

__all__ = ["add_start", "describe", "starts"]


def describe(*, with_torch: bool) -> dict[str, Any]:
    """Return versions of the packages that matter, the machine and the time.

    Args:
        with_torch: Ask torch for its threads and its accelerator, which loads it.
    """
    accelerator: dict[str, Any] = {}
    if with_torch:
        import torch

        accelerator["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        **describe_machine(),
        "platform": platform.platform(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **accelerator,
    }


def add_start(path: Path, found: dict[str, Any]) -> None:
    """Write down a start of the run, with the command and with two commits.

    These are `commit` of the directory it was given in, and `source_commit` of this package, where it is used from its
    repository and not installed. `dirty` and `source_dirty` say whether anything was changed since.

    The file holds the last start, and in it the list of the `earlier` ones.
    """
    source = {f"source_{name}": value for name, value in _commit_of_source().items()}
    started = {**found, "command": shlex.join(sys.argv), **_commit(Path.cwd()), **source}
    files.write_json(path, {**started, "earlier": starts(path)})


def starts(path: Path) -> list[dict[str, Any]]:
    """Return what was written of each start, the first one first; nothing where the file is missing or damaged."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        last = json.loads(path.read_bytes())
        earlier = last.pop("earlier", [])
        if all(isinstance(start, dict) for start in earlier):
            return [*earlier, last]
    return []


def _commit_of_source() -> dict[str, Any]:
    """Find the commit of the repository that this file is in; none where it is a copy that lies below another."""
    here = Path(__file__)
    tracked = _git(here.parent, "ls-files", "--error-unmatch", here.name)
    return {"commit": None, "dirty": None} if tracked is None else _commit(here.parent)


def _commit(folder: Path) -> dict[str, Any]:
    """Find the commit of a folder's repository, and whether anything in it was changed since.

    A repository may come from a stranger, and its own settings may name programs that `git status` starts: a monitor of
    files, which is switched off here, and filters, where changes are not looked for.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    filters = _git(folder, "config", "--show-scope", "--get-regexp", r"^filter\.") or ""
    if any(line.startswith(("local", "worktree")) for line in filters.splitlines()):
        return {"commit": commit, "dirty": None}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    quiet = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(
            ["git", *quiet, *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
