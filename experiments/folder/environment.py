"""What a run ran on and with: versions, processor, commit, command. Decides nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.folder import files

__all__ = ["add_start", "describe", "starts"]

#: Packages whose versions are written down.
_PACKAGES: Final = ("duelenv", "numpy", "scipy", "torch", "transformers", "gymnasium", "joblib", "pyarrow")


def describe(*, with_torch: bool) -> dict[str, Any]:
    """Return versions of the packages that matter, the machine, the commit and the command.

    Args:
        with_torch: Ask torch for its accelerator, which loads it.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if with_torch:
        import torch

        found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found


def add_start(path: Path, found: dict[str, Any]) -> None:
    """Write down a start of the run, with the command and the commit of the directory it was given in.

    The file holds the last start, and in it the list of the `earlier` ones.
    """
    files.write_json(path, {**found, "command": shlex.join(sys.argv), **_commit(), "earlier": starts(path)})


def starts(path: Path) -> list[dict[str, Any]]:
    """Return what was written of each start, the first one first; nothing where the file is missing or damaged."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        last = json.loads(path.read_bytes())
        earlier = last.pop("earlier", [])
        if all(isinstance(start, dict) for start in earlier):
            return [*earlier, last]
    return []


def _commit() -> dict[str, Any]:
    """Find the commit of the current directory's repository, and whether anything in it was changed since.

    A repository may come from a stranger, and its own settings may name programs that `git status` starts: a monitor of
    files, which is switched off here, and filters, where changes are not looked for.
    """
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    filters = _git("config", "--show-scope", "--get-regexp", r"^filter\.") or ""
    if any(line.startswith(("local", "worktree")) for line in filters.splitlines()):
        return {"commit": commit, "dirty": None}
    changes = _git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*words: str) -> str | None:
    quiet = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(["git", *quiet, *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """Find the processor's name, where the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
