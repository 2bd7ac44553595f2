"""Which column of a table holds what: by the name that is given, or by the usual ones; not for the values in it."""

from __future__ import annotations

from collections.abc import Sequence

from duelenv.data.tables import Table
from duelenv.ground.errors import UserError

PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input", "context")
RESPONSE_NAMES = ("response", "output", "completion", "answer", "text", "generation")
SCORE_NAMES = ("score", "utility", "reward", "rating", "p_beats_reference", "preference", "win_rate")
RESPONDER_NAMES = ("responder", "generator", "model", "model_name", "source_model")
CHOSEN_SCORE_NAMES = ("chosen_score", "score_chosen", "chosen_rating")
REJECTED_SCORE_NAMES = ("rejected_score", "score_rejected", "rejected_rating")


def named_column(table: Table, meaning: str, name: str) -> str:
    """Return `name`, which the caller passed as the setting `meaning`.

    Raises:
        UserError: The table has no such column.
    """
    if name not in table:
        raise UserError(
            f"{table.path} has no column {name!r}; it has {', '.join(table)}; "
            f"name the {meaning} column with {meaning}=.."
        )
    return name


def find_column(table: Table, meaning: str, name: str | None, usual: Sequence[str]) -> str | None:
    """Return the column `name`, or without one the first that has a usual name in any case, or None.

    Raises:
        UserError: The table has no column `name`.
    """
    if name is not None:
        return named_column(table, meaning, name)
    by_lower = {column.lower(): column for column in reversed(list(table))}
    return next((by_lower[candidate] for candidate in usual if candidate in by_lower), None)


def require_column(table: Table, meaning: str, name: str | None, usual: Sequence[str]) -> str:
    """Return the column that `find_column` finds.

    Raises:
        UserError: There is none.
    """
    found = find_column(table, meaning, name, usual)
    if found is None:
        raise UserError(
            f"{table.path} has no {meaning} column among {', '.join(table)}; "
            f"expected one of {', '.join(usual)}, or name it with {meaning}=.."
        )
    return found
