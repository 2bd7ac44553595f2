"""Reads the measurements of a run from its directory: values by agent, seed and step. No tables, no plots.

Which metric agents are compared by, and which regret is shown, is decided here where the config leaves it open.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.identity import open_run
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.metrics import (
    ANY_REGRET,
    BOOKKEEPING,
    KEYS,
    Direction,
    better,
    check_better,
    check_measured,
    check_name,
)
from duelenv.experiments.results.update_figures import agents_columns
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["Results"]

#: Metrics in the order in which one of them is chosen to compare agents.
_PRIMARY = ("win_rate", "simple_regret", "win_rate_best_of_n", "utility")

#: Columns that the runner writes in every world.
_COUNTED = ("queries", "gradient_steps", "seconds")

#: Notions of regret in the order in which one is chosen for the cumulative column and figure.
_NOTIONS = ("average", "utility", "sum", "von_neumann", "borda", "copeland")
#: The same where a policy starts far from the best response: there, probabilities are close to 1 and hardly move.
_POLICY_NOTIONS = ("utility", *_NOTIONS)
#: Regret below this per duel is rounding noise of the losses that it is the sum of, and is read as 0.
_NOISE = 1e-12


class Results:
    """The results of one run directory.

    Args:
        directory: A run directory with at least one finished cell.

    Raises:
        UserError: It is not a run directory, nothing is finished in it, or its results are not as a run writes them.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.config = open_run(directory)
        table = RunFolder(self.directory).results
        if not table.is_file():
            raise UserError(f"{str(directory)!r} has no {table.name}: no cell is finished, so run it first")
        columns = _read(table)
        self._agent = np.array(columns["agent"].to_numpy(), dtype=object)
        self._columns: dict[str, NDArray[np.float64]] = {
            name: np.array(columns[name].to_numpy(), dtype=np.float64)  # missing values become NaN
            for name in columns.column_names
            if name != "agent"
        }
        self._own = agents_columns(columns.schema)
        # Nothing is regretted before the first duel.
        start = self._columns["step"] == 0
        noise = _NOISE * self._columns["step"] * (self.config.env.batch or self.config.env.num_envs or 1)
        for name, values in self._columns.items():
            if name.startswith("regret_"):
                values[start & np.isnan(values)] = 0.0
                values[np.abs(values) <= noise] = 0.0

    @cached_property
    def agents(self) -> list[str]:
        """Labels of the agents with at least one finished cell, in the config's order."""
        present = set(self._agent)
        return [agent.label for agent in self.config.agents if agent.label in present]

    @property
    def metrics(self) -> list[str]:
        """All columns but those that say what a row is about."""
        return [name for name in self._columns if name not in KEYS]

    @cached_property
    def primary(self) -> str:
        """The metric that agents are compared by: one that was measured, unless the config names an agent's figure."""
        chosen = self.config.metric
        if chosen == ANY_REGRET and self._known_regret is not None:
            return self._known_regret
        if chosen is not None:
            check_measured(chosen, self.metrics)
            return chosen
        measured = [name for name in self.metrics if name not in self._own]
        for name in (*_PRIMARY, *(name for name in measured if name not in BOOKKEEPING)):
            if name in measured:
                return name
        return measured[0]

    def better(self, metric: str) -> Direction | None:
        """Find which way of a metric is better, or None where nobody said."""
        chosen = self.config.metric
        declared = check_better(chosen, self.config.better)
        return better(metric, declared if metric == chosen else None)

    @cached_property
    def regret(self) -> str | None:
        """The column of cumulative regret that is shown, or None if the truth is unknown."""
        return self.primary if self.primary.startswith("regret_") else self._known_regret

    @cached_property
    def _known_regret(self) -> str | None:
        known = [name for name in self._columns if name.startswith("regret_") and name not in self._own]
        for notion in _NOTIONS if self.config.replicated else _POLICY_NOTIONS:
            if f"regret_{notion}" in known:
                return f"regret_{notion}"
        return known[0] if known else None

    def seeds(self, agent: str) -> list[int]:
        """List the seeds with results."""
        return sorted({int(seed) for seed in self._columns["seed"][self._agent == agent]})

    def curve(self, agent: str, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read learning curves of an agent.

        Args:
            agent: Its label.
            metric: A column.

        Returns:
            Steps [T] and values [S, T], one row per seed; NaN where a value was not measured.
        """
        rows = self._agent == agent
        steps = np.unique(self._columns["step"][rows])
        seeds = self.seeds(agent)
        values = np.full((len(seeds), len(steps)), np.nan)
        row = np.searchsorted(seeds, self._columns["seed"][rows])
        column = np.searchsorted(steps, self._columns["step"][rows])
        values[row, column] = self._columns[metric][rows]
        return steps, values

    def final(self, agent: str, metric: str) -> dict[int, float]:
        """Find the last value by seed, without the missing ones."""
        _, values = self.curve(agent, metric)
        return {
            seed: float(value)
            for seed, value in zip(self.seeds(agent), values[:, -1], strict=True)
            if not np.isnan(value)
        }

    def at_labels(self, agent: str, metric: str, labels: int | None) -> dict[int, float]:
        """Find the value by seed at the first evaluation with at least so many labels, without the missing ones.

        Args:
            agent: Its label.
            metric: A column.
            labels: Of each seed; None is as `final`.
        """
        if labels is None:
            return self.final(agent, metric)
        (_, counts), (_, values) = self.curve(agent, "queries"), self.curve(agent, metric)
        found = {}
        for seed, had, row in zip(self.seeds(agent), counts, values, strict=True):
            reached = np.flatnonzero(had >= labels)  # a NaN is no number of labels
            if reached.size and not np.isnan(row[reached[0]]):
                found[seed] = float(row[reached[0]])
        return found

    def references(self, agents: Collection[str]) -> dict[str, dict[int, float]]:
        """Find the simple regret by seed of rules that ask for no duel, where the world knows some.

        Args:
            agents: Labels of agents of one world, which is the rules' too.
        """
        found: dict[str, dict[int, float]] = {}
        for cell in cells(self.config):
            if cell.label not in agents:
                continue
            path = RunFolder(self.directory).cell(cell.name).references
            if not path.exists():
                continue
            for name, values in json.loads(path.read_text(encoding="utf-8")).items():
                if not re.fullmatch(r"[\w .+-]+", name):
                    raise UserError(
                        f"{str(path)!r} has a rule named {name!a}, expected letters, digits, blanks, '.', '_', "
                        "'+' and '-': rename it"
                    )
                found.setdefault(name, {}).update(zip(cell.seeds, values, strict=True))
        return found

    def only(self, agents: Collection[str]) -> Results:
        """Keep the results of some agents alone.

        Args:
            agents: Their labels, in any order.

        Raises:
            UserError: A label without results, or none at all.
        """
        for label in agents:
            if label not in self.agents:
                raise UserError(f"No agent {label!r} has results: {choices(label, self.agents)}")
        if not agents:
            raise UserError("'agents' is empty: name at least one agent")
        some = copy.copy(self)
        some.__dict__["agents"] = [label for label in self.agents if label in agents]
        return some

    def table(self) -> Any:
        """Put all measurements in an Arrow table: `agent`, `seed`, `step`, and a column for each metric.

        A row for each agent, seed and evaluation; null where a value was not measured.
        """
        import pyarrow as pa

        columns: dict[str, Any] = {"agent": pa.array(self._agent, pa.string())}
        for name, values in self._columns.items():
            whole = name in KEYS or name == "queries"
            columns[name] = pa.array(values, pa.int64() if whole else pa.float64(), from_pandas=True)
        first = (*KEYS, "queries")
        return pa.table(columns).select([*first, *(name for name in columns if name not in first)])

    def has(self, metric: str) -> bool:
        """Tell whether the metric was measured for any agent."""
        return metric in self._columns and not bool(np.isnan(self._columns[metric]).all())


def _read(path: Path) -> Any:
    """Read results and check them: a run directory may come from anybody, and figures have the names of columns.

    Raises:
        UserError: It is no table of results.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{str(path)!r} cannot be read as Parquet: run again to have it remade") from error
    names = table.column_names
    for name in names:
        check_name(name, f"A column of {str(path)!r}")
    missing = [name for name in (*KEYS, *_COUNTED) if name not in names]
    if missing:
        raise UserError(f"{str(path)!r} has no column {missing[0]!r}: run again to have it remade")
    for field in table.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_null(field.type)
        words = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if not (words if field.name == "agent" else numeric):
            raise UserError(
                f"The column {field.name!r} of {str(path)!r} is of {field.type}, expected "
                f"{'text' if field.name == 'agent' else 'numbers'}: run again to have it remade"
            )
    if table.num_rows == 0 or any(table[name].null_count for name in KEYS):
        raise UserError(f"{str(path)!r} has no rows, or rows without agent, seed or step: run again to have it remade")
    return table
