"""Several annotators' labels of a pair made into one, with what each annotator is worth, by crowd-kit.

For labels of real annotators whose abilities nobody knows; the oracle `crowd` draws its own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.data.columns import named_column
from duelenv.data.tables import Table, read_table
from duelenv.ground import checks
from duelenv.ground.errors import UserError

METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "majority": "MajorityVote",
        "dawid_skene": "DawidSkene",
        "one_coin": "OneCoinDawidSkene",
        "glad": "GLAD",
    }
)
"""crowd-kit's classes by our names: a vote each; a confusion matrix each (Dawid and Skene 1979); one probability of
being right each, its special case; and ability against the difficulty of the pair (Whitehill et al. 2009)."""

COLUMNS: Final = ("prompt", "first", "second", "annotator", "label")

_VALUES: Final = {"first": 1.0, "tie": 0.5, "second": 0.0}
_TURNED: Final = {"first": "second", "tie": "tie", "second": "first"}
_CLOSE: Final = 1e-9


@dataclass(frozen=True)
class Aggregated:
    """One label a pair, and one figure an annotator.

    Attributes:
        pairs: Columns `prompt`, `first`, `second` as they were first seen, `label` (1, 0, or 0.5 for a tie or where
            nothing speaks for either), `probability` (expected label: P(first) + P(tie) / 2) and `votes`.
        annotators: Columns `annotator`, `labels`, and `ability`: the mean probability that a label of theirs is the
            true one, given everybody's labels. For `majority`, the mean share of a pair's votes that agree with
            theirs, their own among them.
        skipped: Rows without a label.
    """

    pairs: Mapping[str, list[Any]]
    annotators: Mapping[str, list[Any]]
    skipped: int


def aggregate(source: Any, method: str = "dawid_skene") -> Aggregated:
    """Make one label of all labels of a pair.

    A pair is a prompt and two responses in either order. What an annotator says of it twice counts twice.

    Args:
        source: A table as `read_table` takes it, with the columns `prompt`, `first`, `second`, `annotator` and `label`:
            1 if the first is preferred, 0 if not, 0.5 a tie, empty or NaN where they skipped.
        method: One of `METHODS`.

    Raises:
        UserError: A column is missing, a label is none, nobody labelled anything, or crowd-kit is not installed.
    """
    checks.one_of("method", method, METHODS)
    table = read_table(source)
    columns = {meaning: table[named_column(table, meaning, meaning)] for meaning in COLUMNS}
    numbers: dict[tuple[str, ...], int] = {}  # of pairs, by their texts in one order
    seen: list[_Seen] = []
    said: list[_Said] = []
    for row, label in enumerate(columns["label"]):
        kind = _kind(table, row, label)
        if kind is None:
            continue
        prompt, first, second = (str(columns[name][row]) for name in COLUMNS[:3])
        turned = second < first
        number = numbers.setdefault((prompt, min(first, second), max(first, second)), len(numbers))
        if number == len(seen):
            seen.append(_Seen(row, turned))
        said.append(_Said(number, str(columns["annotator"][row]), _TURNED[kind] if turned else kind))
    if not said:
        raise UserError(f"{table.path} holds no label: give 1, 0 or 0.5 in the column 'label'")
    chances = _chances(method, said, len(seen))
    return Aggregated(
        _of_pairs(columns, seen, said, chances), _of_annotators(said, chances), table.num_rows - len(said)
    )


class _Seen(NamedTuple):
    """Where a pair was first seen, and whether its texts stand in the other order there."""

    row: int
    turned: bool


class _Said(NamedTuple):
    """What somebody said of a pair, its texts in order."""

    pair: int
    annotator: str
    kind: str


def _kind(table: Table, row: int, label: Any) -> str | None:
    """Tell what a label says; None where they skipped."""
    if label is None or label == "":
        return None
    try:
        value = float(label)
    except (TypeError, ValueError):
        value = -1.0
    if math.isnan(value):
        return None
    if value not in _VALUES.values():
        raise UserError(f"{table.place(row)} has the label {label!r}, expected 1, 0, 0.5 for a tie, or nothing")
    return next(kind for kind, known in _VALUES.items() if known == value)


def _chances(method: str, said: Sequence[_Said], count: int) -> NDArray[np.float64]:
    """Compute the probability of each kind as the true one, float64 [pairs, 3]."""
    try:
        import pandas as pd
        from crowdkit import aggregation
    except ImportError as error:
        raise UserError("aggregating labels takes crowd-kit: pip install 'duelenv[web]'") from error
    frame = pd.DataFrame(
        {
            "task": [one.pair for one in said],
            "worker": [one.annotator for one in said],
            "label": [one.kind for one in said],
        }
    )
    with warnings.catch_warnings():
        # crowd-kit 1.4 uses what pandas 3.1 will drop one day.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = getattr(aggregation, METHODS[method])().fit_predict_proba(frame)
    found = found.reindex(index=range(count), columns=list(_VALUES), fill_value=0.0)
    chances: NDArray[np.float64] = found.to_numpy(np.float64, na_value=0.0)
    return chances


def _of_pairs(
    columns: Mapping[str, Sequence[Any]], seen: Sequence[_Seen], said: Sequence[_Said], chances: NDArray[np.float64]
) -> dict[str, list[Any]]:
    turned = np.array([one.turned for one in seen])
    first = np.where(turned, chances[:, 2], chances[:, 0])
    tie, second = chances[:, 1], np.where(turned, chances[:, 0], chances[:, 2])
    # Equal votes for both are a tie, whichever a library would name.
    label = np.where(
        np.maximum(first, second) <= tie,
        0.5,
        np.where(first > second + _CLOSE, 1.0, np.where(second > first + _CLOSE, 0.0, 0.5)),
    )
    return {
        **{name: [columns[name][one.row] for one in seen] for name in COLUMNS[:3]},
        "label": label.tolist(),
        "probability": (first + tie / 2.0).tolist(),
        "votes": np.bincount([one.pair for one in said], minlength=len(seen)).tolist(),
    }


def _of_annotators(said: Sequence[_Said], chances: NDArray[np.float64]) -> dict[str, list[Any]]:
    places = {kind: place for place, kind in enumerate(_VALUES)}
    right: dict[str, list[float]] = {}
    for one in said:
        right.setdefault(one.annotator, []).append(float(chances[one.pair, places[one.kind]]))
    names = sorted(right)
    return {
        "annotator": names,
        "labels": [len(right[name]) for name in names],
        "ability": [float(np.mean(right[name])) for name in names],
    }
