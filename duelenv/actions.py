"""What an agent hands to a world, checked: the pairs that it plays, and the arms that it recommends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.core import Observation, Recommender
from duelenv.ground.errors import UserError


def read_actions(
    actions: Any, choices: NDArray[np.uint64], rows: int, *, selective: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return checked actions, int64 [N, 2] or [N, 3], and whose label is asked for, bool [N] (None: everybody's).

    Args:
        actions: What was given.
        choices: Below which number each entry of a row must be, [2] or [3].
        rows: N.
        selective: Whether the third entry says if the label is asked for.

    Raises:
        UserError: They have another shape or kind, or name no candidate.
    """
    actions = np.asarray(actions)
    expected = (rows, len(choices))
    if actions.shape != expected or actions.dtype.kind not in "iu":
        raise UserError(
            f"step expects integer actions of shape {expected}, got {actions.dtype} of shape {actions.shape}"
        )
    outside = actions.astype(np.uint64) >= choices  # a negative number becomes a huge one
    if outside.any():
        row = int(outside.any(axis=1).argmax())
        raise UserError(
            f"action {actions[row].tolist()} in row {row} is out of range; "
            f"each entry must be below {choices.tolist()} and not negative"
        )
    actions = actions.astype(np.int64, copy=False)
    return actions, actions[:, 2] == 1 if selective else None


def recommended_arms(agent: Recommender, observation: Observation, rows: int, num_candidates: int) -> NDArray[np.int64]:
    """Return the arms that an agent recommends, int64 [rows].

    Raises:
        UserError: They are not one candidate's index for every row.
    """
    arms = np.asarray(agent.recommend(observation))
    if arms.shape != (rows,) or arms.dtype.kind not in "iu":
        raise UserError(
            f"recommend returned {arms.dtype} of shape {arms.shape}, expected one integer for each of {rows} rows; "
            "return the index of a candidate"
        )
    wrong = (arms < 0) | (arms >= num_candidates)
    if wrong.any():
        raise UserError(
            f"recommend returned {int(arms[wrong][0])} in row {int(wrong.argmax())}, expected the index of one of "
            f"{num_candidates} candidates, from 0"
        )
    return arms.astype(np.int64, copy=False)
