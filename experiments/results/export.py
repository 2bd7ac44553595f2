"""The model that an agent trained in a run, handed over as a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from duelenv.experiments.config.cell import Cell, cells
from duelenv.experiments.config.identity import settings_of
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import CellFolder, RunFolder
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["export_model"]


def export_model(run: Path, agent: str, seed: int, target: Path, *, merge: bool = False) -> None:
    """Copy the model of a finished cell.

    Args:
        run: The run folder.
        agent: The agent's label.
        seed: The seed.
        target: Where to; made, must not exist or be empty.
        merge: Of an adapter, write the base model with the adapter merged into it.

    Raises:
        UserError: No such cell, one that is not finished or left no model, a damaged file, a target that holds
            something, or nothing to merge.
    """
    folder = RunFolder(run)
    config = settings_of(folder)
    cell = _cell(config, agent, seed)
    place = folder.cell(cell.name)
    _check(config, cell, place)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{str(target)!r} holds something already: name a folder that does not exist yet")
    with files.atomic_folder(target.absolute()) as written:
        if merge:
            from duelenv.policies.export import merge_adapter

            merge_adapter(place.model, written)
        else:
            shutil.copytree(place.model, written, dirs_exist_ok=True)


def _cell(config: RunConfig, agent: str, seed: int) -> Cell:
    labels = [known.label for known in config.agents]
    if config.policy is None:
        raise UserError(f"the world {config.env.id!r} of this run has no policy, so that there is no model to export")
    checks.one_of("agent", agent, labels)
    if seed not in config.seeds:
        raise UserError(f"seed is {seed}, expected one of {', '.join(map(str, config.seeds))}")
    return next(cell for cell in cells(config) if cell.label == agent and seed in cell.seeds)


def _check(config: RunConfig, cell: Cell, place: CellFolder) -> None:
    """Refuse a cell that has no model to give, with the reason."""
    if not place.finished:
        raise UserError(
            f"{cell.name!r} is not finished, or something of it is damaged: run the same command again, which goes on"
        )
    if not place.model_files:
        why = (
            "'save_models' was none"
            if config.save_models == "none"
            else "it trained no policy, or 'save_models' was none when it was played"
        )
        raise UserError(
            f"{cell.name!r} left no model: {why}; remove its {place.done.name!r} and run again with save_models=last, "
            "which plays its last rounds again with the answers that are there"
        )
    damaged = place.damaged_model()
    if damaged is not None:
        raise UserError(
            f"{str(place.model / damaged)!r} is damaged: remove the folder {str(place.model)!r} and run the same "
            "command again, which plays the last rounds again with the answers that are there"
        )
