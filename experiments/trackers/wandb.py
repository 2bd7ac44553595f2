"""Weights & Biases: one of its runs a cell, grouped by the run; offline unless the config says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from duelenv.experiments.trackers.base import TrackedCell, needing, variable_set
from duelenv.ground import checks

__all__ = ["WeightsAndBiases"]

_MODES: Final = ("online", "offline", "disabled")


class WeightsAndBiases:
    """Logs figures by step.

    Offline, its files lie in the run folder, and `wandb sync --append` sends them: a cell that went on has several
    folders of one id. Online, the key comes from `wandb login` or WANDB_API_KEY, never from a config.

    Args:
        project: Its project.
        entity: Whose, where it is not the user's own.
        mode: "offline", "online" or "disabled".
    """

    def __init__(self, project: str = "duelenv", entity: str | None = None, mode: str = "offline") -> None:
        self.project = checks.text("'project' of the tracker 'wandb'", project)
        self.entity = None if entity is None else checks.text("'entity' of the tracker 'wandb'", entity)
        self.mode = checks.one_of("'mode' of the tracker 'wandb'", mode, _MODES)
        with needing("wandb", "wandb"):
            import wandb
        self._client: Any = wandb

    def start(self, cell: TrackedCell, config: Mapping[str, Any]) -> None:
        quiet = self._client.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        # Its log lies in a cache for which it leaves a link: no link of a run folder may lead out of it, nor break when
        # it is moved.
        with variable_set("WANDB_CACHE_DIR", str(cell.folder / "cache")):
            self._run = self._client.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                dir=str(cell.folder),
                id=cell.id,
                resume="allow" if self.mode == "online" else None,
                name=cell.name,
                group=cell.run,
                tags=[cell.agent[:64]],
                config=dict(config),
                reinit="create_new",
                settings=quiet,
            )
        for path in cell.folder.joinpath("wandb").rglob("*"):
            if path.is_symlink() and path.readlink().is_absolute():
                path.unlink(missing_ok=True)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
        self._client.teardown()  # its service is a process of its own
