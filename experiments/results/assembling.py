"""Puts the tables of a run together from those of its finished cells."""

from __future__ import annotations

from pathlib import Path

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.identity import is_of_version_0_1
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results import labels
from duelenv.experiments.results.cell_states import unfinished_cells, unfinished_sentence
from duelenv.ground.errors import UserError

__all__ = ["assemble"]


def assemble(config: RunConfig, directory: Path | str) -> Path:
    """Put `results.parquet` and `labels.parquet` together from the finished cells.

    Args:
        config: The run.
        directory: Its run directory.

    Returns:
        Path of `results.parquet`.

    Raises:
        UserError: No cell is finished.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = RunFolder(Path(directory))
    if is_of_version_0_1(folder) and folder.results.is_file():
        return folder.results  # put together then, and looked at as it is
    # By agent first: the order of the table, which need not be the order of running.
    order = {agent.label: number for number, agent in enumerate(config.agents)}
    done = sorted(
        (cell for cell in cells(config) if folder.cell(cell.name).finished),
        key=lambda cell: (order[cell.label], cell.seeds),
    )
    if not done:
        left = unfinished_sentence(unfinished_cells(folder, config), len(cells(config)))
        raise UserError(f"No cell is finished in {str(directory)!r} ({left}): run it first, or wait for one")
    tables = [pq.read_table(folder.cell(cell.name).result) for cell in done]
    with files.atomic(folder.results) as stream:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), stream)
    labels.assemble(folder, done)
    return folder.results
