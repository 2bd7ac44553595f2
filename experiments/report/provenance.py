"""Where the numbers of a run come from: command, commit, contents of its files, versions, processor. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.environment import starts
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.provenance import provenance_of

__all__ = ["provenance"]

#: What is written down of a start and has a line of its own form, or is a list of other starts.
_SPECIAL: Final = ("command", "commit", "dirty", "versions", "earlier")


def provenance(folder: RunFolder, config: RunConfig) -> list[tuple[str, str]]:
    """List names and texts, of the last start of a run; nothing of what was not written down.

    Args:
        folder: The run's.
        config: The run.
    """
    every = starts(folder.environment)
    last: Mapping[str, Any] = every[-1] if every else {}
    behind = provenance_of(folder, config)
    lines = [
        *_told(last),
        *(("cells played on", f"{count:,}: {machine.text()}") for machine, count in behind.machines),
        *(("caution", caution) for caution in behind.cautions()),
        ("threads of a cell", str(config.threads)),
        ("SHA-256 of the settings", config.identity()),
        *_contents(folder),
    ]
    if len(every) > 1:
        commits = dict.fromkeys(str(start.get("commit"))[:12] for start in every)
        lines.append(
            ("starts", f"{len(every)}, of commits {', '.join(commits)}" if len(commits) > 1 else str(len(every)))
        )
    return lines


def _told(start: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "command" in start:
        yield "command", str(start["command"])
    if "commit" in start:
        yield "commit", _commit(start)
    for key, value in start.items():
        if key not in _SPECIAL:
            yield key, str(value)
    versions = start.get("versions")
    if isinstance(versions, Mapping):
        yield "packages", ", ".join(f"{name} {version}" for name, version in versions.items())


def _commit(start: Mapping[str, Any]) -> str:
    """Which commit, and whether anything was changed since."""
    commit, dirty = start["commit"], start.get("dirty")
    if commit is None:
        return "not in a repository"
    if dirty is None:
        return f"{commit}, changes not known"
    state = "with changes that are not committed" if dirty else "nothing changed since"
    return f"{commit}, {state}"


def _contents(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """SHA-256 of the files that the config names, and of what was measured."""
    marker = files.read_sealed(folder.marker) or {}
    contents = marker.get("contents", {})
    if isinstance(contents, Mapping):
        for key, digest in contents.items():
            yield f"SHA-256 of {key}", str(digest)
    digest = files.digest_of(folder.results)
    if digest is not None:
        yield f"SHA-256 of {folder.results.name}", digest
