"""The figures that agents return from `update`, as means from one evaluation to the next, and as columns of results.

Not for what the runner counts or a world measures: those names are theirs, and an agent's figure may have none of them.
In the schema of a Parquet file, columns that agents gave are marked, so that no reader takes them for measured ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.experiments.results.metrics import check_name, is_reserved
from duelenv.ground.checks import real_array
from duelenv.ground.errors import UserError

__all__ = ["Figures", "agents_columns", "arrow_field"]

#: Metadata of a column that agents gave.
_FROM_AGENT = {b"source": b"agent"}

#: How a figure comes: not known yet, as one number of the whole cell, or as one number per replicate.
_UNKNOWN, _WHOLE, _BY_REPLICATE = 0, 1, 2


class _Means:
    """Sums and counts by name, of values by replicate; NaN is no value."""

    def __init__(self, replicates: int) -> None:
        self._replicates = replicates
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}

    def add(self, name: str, values: NDArray[np.float64]) -> None:
        """Add one value per replicate, [R]."""
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # a figure that diverges both ways has no mean, which NaN says
            self._sums[name] = self._sums.get(name, 0.0) + np.where(known, values, 0.0)
        self._counts[name] = self._counts.get(name, 0) + known.astype(np.int64)

    def take(self) -> dict[str, NDArray[np.float64]]:
        """Take the means by name, float64 [R], NaN where there was no value; start anew."""
        nothing = np.full(self._replicates, np.nan)
        means = {
            name: np.divide(total, self._counts[name], out=nothing.copy(), where=self._counts[name] > 0)
            for name, total in self._sums.items()
        }
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


class Figures:
    """What `update` of a cell's agent returned since the last evaluation, and the runner's own figures of each duel.

    Args:
        replicates: Replicates R of the cell.
        agent: Label of the agent, for sentences.
    """

    def __init__(self, replicates: int, agent: str) -> None:
        self.replicates = replicates
        self.agent = agent
        self._forms: dict[str, int] = {}
        self._own = _Means(replicates)
        self._runner = _Means(replicates)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all figures that the agent has given so far, in the order in which they came."""
        return tuple(self._forms)

    def add(self, metrics: object, measured: Collection[str] = ()) -> None:
        """Add what a call of `update` returned.

        A number is the figure of the whole cell. Where a cell has several replicates, it counts for the first alone:
        written beside each of them, it would pass for as many equal measurements, with an interval of width 0.

        Args:
            metrics: Figures by name, or None; each a number, or one per replicate, [R]. NaN is passed over.
            measured: Names that the world of this cell measures.

        Raises:
            UserError: Not figures by name, a name that is not the agent's to give, or a value that is no such figure.
        """
        if metrics is None:
            return
        if not isinstance(metrics, Mapping):
            raise UserError(
                f"'update' of the agent {self.agent!r} returned {_shown(metrics)}, expected its figures as a mapping "
                "from names to numbers, or None; return {} if there are none"
            )
        for name, value in metrics.items():
            if name not in self._forms or name in measured:
                self._check_name(name, measured)
            self._own.add(name, self._by_replicate(name, value))

    def add_rows(self, name: str, rows: ArrayLike) -> None:
        """Add a figure of the runner's own that every row of the cell has.

        Args:
            name: Its column.
            rows: [R * B], those of a replicate adjacent; their mean counts, and NaN, as of a row that was not asked, is
                no value.
        """
        values = np.asarray(rows, dtype=np.float64).reshape(self.replicates, -1)
        known = ~np.isnan(values)
        total = np.where(known, values, 0.0).sum(axis=1)
        nothing = np.full(self.replicates, np.nan)
        self._runner.add(name, np.divide(total, known.sum(axis=1), out=nothing, where=known.any(axis=1)))

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Take each figure's mean since the last call, float64 [R]; NaN where it had no value. Start anew."""
        return {**self._own.take(), **self._runner.take()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs, as nested dicts of numbers and arrays."""
        return {"forms": dict(self._forms), "own": self._own.state_dict(), "runner": self._runner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict` of a cell of the same shape."""
        self._forms = {name: int(form) for name, form in state["forms"].items()}
        self._own.load_state_dict(state["own"])
        self._runner.load_state_dict(state["runner"])

    def _check_name(self, name: object, measured: Collection[str]) -> None:
        text = check_name(name, f"A figure that 'update' of the agent {self.agent!r} returned")
        if is_reserved(text) or text in measured:
            raise UserError(
                f"'update' of the agent {self.agent!r} returned a figure named {text!r}, which is what the runner or "
                "the world measures: choose another name for it"
            )

    def _by_replicate(self, name: str, value: object) -> NDArray[np.float64]:
        """Read a figure as one value per replicate, [R]."""
        if type(value) is np.ndarray and value.dtype.kind in "biuf":
            values = value.astype(np.float64)
        elif isinstance(value, float):
            values = np.array(value, dtype=np.float64)
        else:  # many times slower, and this is done in every round
            values = real_array(value, lambda what: self._refused(name, what))
        if values.shape == (self.replicates,):
            form = _BY_REPLICATE
        elif values.shape == ():
            form = _WHOLE
            values = np.concatenate([values[np.newaxis], np.full(self.replicates - 1, np.nan)])
        else:
            raise self._refused(name, f"an array of shape {values.shape}")
        before = self._forms.setdefault(name, _UNKNOWN)
        if self.replicates > 1 and not np.isnan(values).all():
            # The first replicate's mean would be of both.
            if before not in (_UNKNOWN, form):
                raise UserError(
                    f"The figure {name!r} that 'update' of the agent {self.agent!r} returns is sometimes one number "
                    f"and sometimes {self.replicates} by replicate, expected one of the two: always return it in the "
                    "same form"
                )
            self._forms[name] = form
        return values

    def _refused(self, name: str, what: str) -> UserError:
        several = f", or {self.replicates} numbers, one per replicate" if self.replicates > 1 else ""
        return UserError(
            f"'update' of the agent {self.agent!r} returned {what} as its figure {name!r}, expected a number{several}; "
            "return that, or NaN where there is none"
        )


def arrow_field(name: str, kind: Any, *, from_agent: bool = False) -> Any:
    """Make the field of a column in the schema of a Parquet file.

    Args:
        name: Of the column.
        kind: Its pyarrow type.
        from_agent: Whether agents gave it, rather than the runner or a world.
    """
    import pyarrow as pa

    return pa.field(name, kind, metadata=_FROM_AGENT if from_agent else None)


def agents_columns(schema: Any) -> set[str]:
    """Name the columns that agents gave, in the schema of a Parquet file."""
    (mark, agent), *_ = _FROM_AGENT.items()
    return {field.name for field in schema if (field.metadata or {}).get(mark) == agent}


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
