"""Files of a run folder that the page leads to, as addresses relative to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from duelenv.experiments.folder.layout import RunFolder

__all__ = ["Download", "downloads"]


class Download(NamedTuple):
    """A file.

    Attributes:
        address: Relative to the page, quoted.
        name: As people read it.
        about: What it holds.
    """

    address: str
    name: str
    about: str


def downloads(folder: RunFolder, tables: Sequence[str], figures: Sequence[str]) -> list[Download]:
    """Say what there is of a run's files.

    Args:
        folder: The run's.
        tables: Names of tables.
        figures: Names of figures.
    """

    def within(path: Path) -> str:
        return path.relative_to(folder.root).as_posix()

    own = {
        folder.results.name: "every measurement: a row for each agent, seed and evaluation",
        folder.labels.name: "every duel with its label",
        **{folder.table(name, "csv").name: "the numbers behind a table, with intervals" for name in tables},
        **{folder.table(name, "md").name: "the same as Markdown" for name in tables},
        **{within(folder.figure(name, "svg")): "a figure" for name in figures},
        **{within(folder.figure(name, "png")): "the same as pixels" for name in figures},
        folder.config.name: "the resolved config",
        folder.environment.name: "what each start ran on",
        folder.marker.name: "what the run is, and digests of the files that it reads",
        folder.spending.name: "what oracles had spent",
    }
    return [Download(quote(name), name, about) for name, about in own.items() if (folder.root / name).is_file()]
