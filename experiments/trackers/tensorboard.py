"""TensorBoard: one folder of event files a cell; `tensorboard --logdir RUN_DIR/trackers/tensorboard` shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from duelenv.experiments.trackers.base import TrackedCell, needing

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes figures as scalars, and the config as a text."""

    def __init__(self) -> None:
        with needing("tensorboard", "tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._make = SummaryWriter

    def start(self, cell: TrackedCell, config: Mapping[str, Any]) -> None:
        # What a process wrote that died before it was noted down is measured again: readers drop it.
        purged = None if cell.logged is None else cell.logged + 1
        self._writer = self._make(log_dir=str(cell.folder / cell.name), purge_step=purged)
        if cell.logged is None:
            plain = json.dumps(dict(config), indent=2, default=str, ensure_ascii=False)
            self._writer.add_text("config", "".join(f"    {line}\n" for line in plain.splitlines()), 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, failed: bool) -> None:
        self._writer.close()
