"""Logs of duels out of files: tables with a propensity a row, and runs whose agent chose at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.data import Table, read_table
from duelenv.data.columns import is_blank
from duelenv.experiments.offline.log import DuelLog
from duelenv.ground.errors import UserError
from duelenv.text_features import TextFeatures

__all__ = ["read_log"]

_PROPENSITIES: Final = ("propensity", "ordered_propensity")


def read_log(path: str | Path, logger: str | None = None) -> DuelLog:
    """Read logged duels.

    Args:
        path: A run's folder, see `duelenv.experiments.offline.runs`; or a table with `first_arm` and `second_arm`, the
            places of the two that were played, counted from 0; `label`; `propensity`, the probability with which these
            two were played in either order, or `ordered_propensity`, of this order, where both orders were possible;
            and `features`, a list of K lists of d numbers, or `responses`, K texts, with `prompt`, whose default
            features (`duelenv.text_features`) are then taken.
        logger: Of a run with several agents, the label of the one whose duels are read.

    Raises:
        UserError: A column is missing, a cell is not as expected, or a run whose propensities are not known.
    """
    if Path(path).is_dir():
        from duelenv.experiments.offline.runs import log_of_run

        return log_of_run(Path(path), logger)
    if logger is not None:
        raise UserError(f"logger={logger} is for a run's folder, and {str(path)!r} is a table; leave it out")
    return _of_table(read_table(path))


def _of_table(table: Table) -> DuelLog:
    for name in ("first_arm", "second_arm", "label"):
        if name not in table:
            raise UserError(
                f"{table.path} has no column {name!r}, expected first_arm, second_arm, label, a propensity and "
                "features or responses; add it"
            )
    given = [name for name in _PROPENSITIES if name in table]
    if len(given) != 1:
        what = "both propensity and ordered_propensity" if given else "no column 'propensity'"
        raise UserError(
            f"{table.path} has {what}: give one, the probability with which the logging policy played the two in "
            "either order (propensity), or in this order (ordered_propensity); without it nothing "
            "can be told of other pairs"
        )
    propensities = _numbers(table, given[0])
    pairs = np.stack([_numbers(table, name) for name in ("first_arm", "second_arm")], axis=1)
    if given[0] == "ordered_propensity":
        # Both orders must be possible: the mean of the two labels' weights is then that of twice the propensity.
        distinct = pairs[:, 0] != pairs[:, 1]
        if (propensities[distinct] > 0.5).any():
            place = int(np.flatnonzero(distinct & (propensities > 0.5))[0])
            raise UserError(
                f"{table.place(place)} has the ordered_propensity {propensities[place]:g}, expected at most 1/2, as "
                "where both orders are as likely; give the propensity of the two in either order as propensity"
            )
        propensities = np.where(distinct, 2.0 * propensities, propensities)
    if not (pairs == pairs.round()).all():
        raise UserError(f"{table.path} has arms that are not whole numbers; count the candidates from 0")
    prompts, responses, features = _candidates(table)
    labels = _numbers(table, "label", blank=float("nan"))
    return DuelLog(features, pairs.astype(np.int64), labels, propensities, None, prompts, responses)


def _candidates(table: Table) -> tuple[NDArray[np.object_] | None, NDArray[np.object_] | None, NDArray[np.float32]]:
    prompts = responses = None
    if "responses" in table:
        if "prompt" not in table:
            raise UserError(f"{table.path} has responses without a column 'prompt'; add it")
        responses = np.empty((table.num_rows, len(_listed(table, "responses", 0))), object)
        prompts = np.array(list(map(str, table["prompt"])), object)
        for row in range(table.num_rows):
            texts = _listed(table, "responses", row)
            if len(texts) != responses.shape[1] or not all(isinstance(text, str) for text in texts):
                raise UserError(
                    f"{table.place(row)} has {len(texts)} responses, expected {responses.shape[1]} texts as in row 0; "
                    "give every round as many"
                )
            responses[row] = texts
    if "features" in table:
        try:
            features = np.array([_listed(table, "features", row) for row in range(table.num_rows)], np.float32)
        except ValueError:
            raise UserError(
                f"{table.path} has features of unequal shapes, expected K lists of d numbers a row"
            ) from None
        return prompts, responses, features
    if prompts is None or responses is None:
        raise UserError(f"{table.path} has neither a column 'features' nor 'responses'; add what the candidates were")
    return prompts, responses, TextFeatures()(list(prompts), responses)


def _listed(table: Table, name: str, row: int) -> list[Any]:
    value = table[name][row]
    if not isinstance(value, list) or not value:
        raise UserError(
            f"{table.place(row)} has {str(value)[:40]!r} as {name}, expected a list; give .jsonl or .parquet"
        )
    return value


def _numbers(table: Table, name: str, blank: float | None = None) -> NDArray[np.float64]:
    numbers = np.empty(table.num_rows)
    for row, value in enumerate(table[name]):
        if is_blank(value) and blank is not None:
            numbers[row] = blank
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise UserError(f"{table.place(row)} has the {name} {value!r}, expected a number; correct it") from None
    return numbers
