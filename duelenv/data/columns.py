"""Which column of a table holds what: by the name that is given, or by the usual ones; not for the values in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from duelenv.data.tables import Table
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

PROMPT_NAMES = (
    *("prompt", "instruction", "question", "query", "input", "context", "history", "conversations", "conversation"),
    *("messages", "dialogue", "dialog", "trajectory", "problem", "post", "article", "full_text", "prompt_text", "info"),
    *("user_prompt", "user_input", "user_query", "passage", "document", "chat_history", "conversation_history"),
)
SYSTEM_NAMES = ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt")
RESPONSE_NAMES = ("response", "output", "completion", "answer", "text", "generation")
SCORE_NAMES = (
    *("score", "utility", "reward", "rating", "p_beats_reference", "preference", "win_rate"),
    *("overall_score", "helpfulness", "pm_score"),
)
RESPONDER_NAMES = ("responder", "generator", "model", "model_name", "source_model")
CHOSEN_NAMES = (
    *("chosen", "chosen_response", "preferred", "preferred_response", "better_response", "accepted", "y_w"),
    *("response_j", "positive", "winner_response", "better"),
)
REJECTED_NAMES = (
    *("rejected", "rejected_response", "dispreferred", "dispreferred_response", "worse_response", "refused", "y_l"),
    *("response_k", "negative", "loser_response", "worse"),
)
CHOSEN_SCORE_NAMES = ("chosen_score", "score_chosen", "chosen_rating", "rating_chosen", "chosen_avg_rating")
REJECTED_SCORE_NAMES = ("rejected_score", "score_rejected", "rejected_rating", "rating_rejected", "rejected_avg_rating")
TIE_NAMES = ("tie", "is_tie")

_TELLING = {
    *PROMPT_NAMES,
    *SYSTEM_NAMES,
    *RESPONSE_NAMES,
    *SCORE_NAMES,
    *CHOSEN_SCORE_NAMES,
    *REJECTED_SCORE_NAMES,
    *TIE_NAMES,
    *("label", "labels", "choice", "winner", "votes", "margin", "rank", "better_response_id", "safer_response_id"),
    *("vote", "preferred", "verdict", "overall_preference", "preference_strength", "human_preference"),
    *("instructions", "title", "body", "selftext", "background", "persona", "tools", "custom_system_prompt"),
    *("image", "images", "audio", "video", "choices", "options", "constraints", "passages", "documents"),
}
"""Names whose columns nobody expects to be passed over."""


def plain(name: str) -> str:
    """Return a name as the usual ones are written: `chosen-rating` and `Chosen Rating` are `chosen_rating`."""
    return re.sub(r"[^a-z0-9_]+", "_", name.strip().lower())


def named_column(table: Table, meaning: str, name: str) -> str:
    """Return `name`, which the caller passed as the setting `meaning`.

    Raises:
        UserError: The table has no such column.
    """
    if not isinstance(name, str) or name not in table:
        raise UserError(
            f"{table.path} has no column {name!r}: {choices(name, table)}; name the {meaning} column with {meaning}=.."
        )
    return name


def find_column(table: Table, meaning: str, name: str | None, usual: Sequence[str]) -> str | None:
    """Return the column `name`, or without one the first that has a usual name in any spelling, or None.

    Raises:
        UserError: The table has no column `name`, or two have the usual name.
    """
    if name is not None:
        return named_column(table, meaning, name)
    for candidate in usual:
        found = [column for column in table if plain(column) == candidate]
        if candidate in found:
            found = [candidate]
        if len(found) > 1:
            raise UserError(
                f"{table.path} has the columns {' and '.join(map(repr, found))}; name the {meaning} column with "
                f"{meaning}=.."
            )
        if found:
            return found[0]
    return None


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


def is_blank(value: object) -> bool:
    """Tell whether a cell holds nothing: null, NaN, or text, a list or a mapping without content."""
    return value is None or value != value or (isinstance(value, str) and not value.strip()) or value in ([], {}, ())


def passed_over(table: Table, read: Collection[str | None]) -> list[str]:
    """Return what to say of columns that were not read though their names tell that they matter."""
    heads = {name.partition(".")[0] for name in read if name}
    unread = [name for name in table if name not in heads and plain(name) in _TELLING]
    unread = [name for name in unread if not all(map(is_blank, table[name]))]
    return [f"not read: {', '.join(unread)}"] if unread else []


def reading(table: Table, meanings: Iterable[tuple[str, str | None]]) -> str:
    """Return in words which column was taken for what, and which were not read."""
    taken = [(meaning, name) for meaning, name in meanings if name]
    heads = {part.partition(".")[0] for _, name in taken for part in [name, *name.split("+")]}
    unread = [name for name in table if name not in heads]
    words = [f"{meaning} from {name}" for meaning, name in taken]
    return "; ".join(words + ([f"not read: {', '.join(unread)}"] if unread else []))
