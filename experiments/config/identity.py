"""What a run folder belongs to: the settings that decide its results, and the contents of the files that it reads.

A folder is taken on by the same run, by one that adds seeds or agents to it, and by any where its own failed before it
did anything. Anything else is refused with the values that differ. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.contents import (
    digest_of_function,
    digest_of_modules,
    digest_of_path,
    functions_named,
    names_a_file,
)
from duelenv.experiments.config.loading import parse_yaml
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.enclosure import check_enclosed
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.vacancy import is_vacant, vacate
from duelenv.ground.errors import UserError

__all__ = [
    "Identity",
    "cell_identity",
    "check_owner",
    "claim",
    "identify",
    "is_of_version_0_1",
    "no_run_in",
    "open_run",
    "settings_of",
]

#: Written into `run.json`; a folder without it is of version 0.1.
_FORM: Final = 2

Identity = dict[str, Any]
"""`settings`: what decides the results, as `RunConfig.deciding` says; `contents`: a digest by setting."""


def identify(config: RunConfig) -> Identity:
    """Return what a run is: its settings, and digests of the files that they name.

    Raises:
        UserError: A file that cannot be read.
    """
    settings = config.deciding()
    return {"settings": settings, "contents": dict(_contents(settings))}


def cell_identity(identity: Identity, cell: Cell) -> str:
    """Return what a cell is, as a digest: all of the run but for its name and its other agents and seeds.

    Files count by what they hold, wherever they lie.
    """
    shared, agents = _split(identity["settings"])
    contents: dict[str, str] = identity["contents"]
    settings = {**shared, **agents[cell.label]}
    plain = {key: contents.get(key, value) for key, value in settings.items() if key not in ("name", "seeds")}
    return hashlib.sha256(json.dumps([plain, cell.label, cell.seeds], sort_keys=True).encode()).hexdigest()


def check_owner(folder: RunFolder, config: RunConfig, identity: Identity) -> None:
    """Refuse a folder that is not this run's, unless nothing is lost with what it holds. Writes nothing.

    Raises:
        UserError: It belongs to another run, or to something else altogether, or a link leads out of it.
    """
    root = folder.root
    if not root.exists():
        return
    if not root.is_dir():
        raise UserError(f"{str(root)!r} is a file, expected a directory: choose another one with --output")
    if any(os.path.lexists(path) for path in (folder.marker, folder.lock, folder.cells)):  # no home of somebody's
        check_enclosed(root)
    marker = files.read_sealed(folder.marker)
    if marker is not None:
        differences = list(_differences(marker, identity, replicated=config.replicated))
        if differences and not is_vacant(folder):
            more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise UserError(
                f"The run directory {str(root)!r} belongs to another config ({'; '.join(differences[:3])}{more}): "
                f"choose another one with --output NEW, which with '--answers {root}' begins with the answers in here"
            )
        return
    if is_of_version_0_1(folder):
        raise UserError(
            f"The run directory {str(root)!r} was written by version 0.1, whose runs cannot be continued: look at it "
            "with 'duelenv report', and choose another one with --output"
        )
    own = (folder.lock.name, folder.marker.name)
    others = [path.name for path in root.iterdir() if path.name not in own and path not in _half_written(root)]
    if others and not _is_left_of(folder, config, identity):
        if not folder.cells.is_dir() and not folder.marker.exists():
            raise UserError(f"{str(root)!r} is not a run directory and not empty: choose another one with --output")
        raise UserError(
            f"{str(folder.marker)!r} is missing or damaged, and nothing else says that the cells beside it are of this "
            "config: put it back from a backup, or choose another directory with --output"
        )


def claim(folder: RunFolder, config: RunConfig, identity: Identity) -> None:
    """Write what a folder is, which `check_owner` has let pass; one of another run that did nothing is cleared.

    Raises:
        UserError: Such a run has done something meanwhile.
    """
    for leftover in _half_written(folder.root):
        leftover.unlink(missing_ok=True)
    marker = {"form": _FORM, **identity, "config": json.loads(json.dumps(config.to_dict()))}
    before = files.read_sealed(folder.marker)
    if before is not None and any(_differences(before, identity, replicated=config.replicated)):
        vacate(folder)
    if before != marker:
        files.write_sealed(folder.marker, marker)
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    if not folder.config.is_file() or folder.config.read_bytes() != text.encode("utf-8"):
        files.write_text(folder.config, text)


def _half_written(root: Path) -> list[Path]:
    """Find files that a process was writing when it was killed."""
    return list(root.glob(".*.tmp"))


def settings_of(folder: RunFolder) -> RunConfig:
    """Return the config of a run folder, from whichever of its files can be read.

    Raises:
        UserError: It is not a run folder, none can, or a link leads out of it.
    """
    if not folder.config.is_file() and not folder.marker.is_file():
        raise no_run_in(folder)
    check_enclosed(folder.root)
    marker = files.read_sealed(folder.marker)
    try:
        read = parse_yaml(folder.config.read_text(encoding="utf-8"))
        written = RunConfig.from_dict(read)
        if marker is None or written.deciding() == marker["settings"]:
            return written
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        if marker is None:
            raise UserError(
                f"{str(folder.config)!r} cannot be read ({_first_line(error)}), and {folder.marker.name} is missing or "
                "damaged too: put one of them back, or run the same command again, which writes them"
            ) from error
    return RunConfig.from_dict(marker["config"])


def no_run_in(folder: RunFolder) -> UserError:
    """Make the error about a path at which there is no run: one shape for whatever looks at runs."""
    why = f"it has no {folder.config.name}; name the folder that 'duelenv run' wrote"
    if folder.root.is_file():
        why = "it is a file; name the folder that 'duelenv run' wrote"
    elif not folder.root.is_dir():
        why = "nothing is there; 'duelenv run CONFIG' makes one, and says with --output where"
    return UserError(f"{str(folder.root)!r} is not a run directory: {why}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_of_version_0_1(folder: RunFolder) -> bool:
    """Tell whether a folder was written by version 0.1."""
    try:
        found = json.loads(folder.marker.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and set(found) == {"identity", "name"}


def _is_left_of(folder: RunFolder, config: RunConfig, identity: Identity) -> bool:
    """Tell whether a folder without a readable marker is what is left of this very run."""
    stamps = []
    for cell in cells(config):
        stamp = files.read_sealed(folder.cell(cell.name).owner)
        if stamp is not None:
            stamps.append(stamp.get("cell") == cell_identity(identity, cell))
    if stamps:
        return all(stamps)
    try:
        written = RunConfig.from_dict(parse_yaml(folder.config.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        return False
    return written.deciding() == config.deciding() and not (folder.cells.is_dir() and any(folder.cells.iterdir()))


# Differences ---------------------------------------------------------------------------------------------------------


def _differences(before: Identity, now: Identity, *, replicated: bool) -> Iterator[str]:
    """Say what keeps a run from going on in a folder, each with both values."""
    was, agents_before = _split(before["settings"])
    own, agents_now = _split(now["settings"])
    seeds, wanted = was.pop("seeds"), own.pop("seeds")
    if not set(seeds) <= set(wanted) or (replicated and wanted[0] != seeds[0]):
        yield f"'seeds' is {seeds} there and {wanted} here, and seeds can only be added"
    for label in agents_before:
        if label in agents_now:
            was |= agents_before[label]
            own |= agents_now[label]
        else:
            yield f"the agent {label!r} is there and not here, and agents can only be added"
    for key in [*was, *(key for key in own if key not in was)]:
        there, here = was.get(key, "unset"), own.get(key, "unset")
        digests = before["contents"].get(key), now["contents"].get(key)
        if None in digests:
            if there != here:
                yield f"{key!r} is {there!r} there and {here!r} here"
        elif digests[0] != digests[1]:
            yield f"{key!r} holds something else ({here!r}: SHA-256 {digests[0][:12]} there and {digests[1][:12]} here)"


def _split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split the settings of all agents together by dotted keys from those of each agent by its label."""
    shared = _flat({key: value for key, value in settings.items() if key != "agents"})
    return shared, {label: _flat(own, _of_agent(label)) for label, own in settings["agents"].items()}


def _of_agent(label: str) -> str:
    return f"agents[{label}]."  # a label may hold dots


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat


# Contents ------------------------------------------------------------------------------------------------------------


def _contents(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings that name files or folders, by dotted keys, and digests of what these hold."""
    shared, agents = _split(settings)
    for key, value in {name: item for part in (shared, *agents.values()) for name, item in part.items()}.items():
        functions = functions_named(key, value)
        if functions:
            yield key, " ".join(digest_of_function(*function) for function in functions)
        elif names_a_file(key, value):
            yield key, digest_of_path(Path(value))
    if settings["modules"]:
        yield "modules", digest_of_modules(settings["modules"])


def open_run(directory: Path | str) -> RunConfig:
    """Read the config of a run directory.

    Raises:
        UserError: It is not a run directory, or its config is damaged.
    """
    return settings_of(RunFolder(Path(directory)))
