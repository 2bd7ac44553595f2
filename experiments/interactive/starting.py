"""Starting and opening runs from Python: what a caller hands over becomes a config, and a folder.

What is played and how is in `duelenv.experiments.running`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from duelenv.experiments.config.identity import open_run
from duelenv.experiments.config.loading import apply_setting, read_settings
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.interactive.frames import check_frame
from duelenv.experiments.interactive.run import Run
from duelenv.experiments.interactive.session import check_known_to_workers
from duelenv.experiments.results.assembling import assemble
from duelenv.ground.errors import UserError

__all__ = ["open", "run"]


def run(
    source: str | Path | Mapping[str, Any] | RunConfig | None = None,
    *,
    output: str | Path | None = None,
    progress: bool | None = None,
    frame: str = "arrow",
    **settings: Any,
) -> Run:
    """Play a run and return its results.

    Args:
        source: A config file, the name of a suite, settings, or a config; None where keywords say everything.
        output: The run folder, in which the same call goes on and finds what is finished. Without it, a temporary
            folder that lasts as long as the returned object; that of a run which failed or was interrupted stays, and
            a note of the exception names it.
        progress: Bars (True), or only what is not to be missed, such as a cell that failed (False); by default bars on
            a terminal and in a notebook, a line per finished cell elsewhere.
        frame: Tables are "arrow" tables, or "pandas" data frames.
        **settings: Settings of a config, as on the command line: each replaces what `source` says, and dotted keys,
            `**{"env.horizon": 20}`, reach inside. `backend="threading"` plays in this process, which knows agents and
            oracles that were registered here; worker processes know those of `modules`.

    Raises:
        UserError: A setting that is refused, or a folder of another run.
        CellFailed: An oracle, an agent or a world raised an exception.

    Example:
        >>> import duelenv
        >>> done = duelenv.experiments.run(
        ...     env={"id": "FeatureDuel", "dim": 3, "horizon": 20},
        ...     agents=["passive", "thompson"], seeds=4, jobs=1, progress=False,
        ... )
        >>> done.comparisons.column_names[4:7]
        ['difference', 'difference_low', 'difference_high']
    """
    from duelenv.experiments.running.runner import run as play

    config = _config_of(source, settings)
    check_frame(frame)
    check_known_to_workers(config)
    output = None if output is None else _path("output", output)
    if output is not None:
        play(config, output, progress=progress)
        return Run(output, frame=frame)
    place = Path(mkdtemp(prefix="duelenv-"))
    folder = place / config.name
    try:
        play(config, folder, progress=progress)
        return Run(folder, frame=frame, temporary=place)
    except BaseException as error:
        if folder.exists():  # the sentence may name a traceback in it, or answers to begin anew with
            error.add_note(f"What was played is kept in {str(folder)!r}: give output={str(folder)!r} to go on there")
        else:
            place.rmdir()
        raise


def open(folder: str | Path, *, frame: str = "arrow") -> Run:
    """Return the results of a run folder, as far as its cells are finished.

    Args:
        folder: A run folder.
        frame: Tables are "arrow" tables, or "pandas" data frames.

    Raises:
        UserError: It is no run folder, or nothing is finished in it.
    """
    folder = _path("folder", folder)
    assemble(open_run(folder), folder)
    return Run(folder, frame=frame)


def _path(name: str, value: object, expected: str = "the path of a run folder") -> Path:
    """Read a path.

    Raises:
        UserError: It is none.
    """
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{name} is {value!r}, expected {expected}; change {name}")
    return Path(value)


def _config_of(source: str | Path | Mapping[str, Any] | RunConfig | None, settings: Mapping[str, Any]) -> RunConfig:
    if isinstance(source, RunConfig):
        raw = source.to_dict()
    elif source is None or isinstance(source, Mapping):
        raw = dict(source or {})
    else:
        raw = read_settings(_path("source", source, "the path of a config, the name of a suite, or settings"))
    for key, value in settings.items():
        apply_setting(raw, key, value)
    return RunConfig.from_dict({"name": "run", **raw})
