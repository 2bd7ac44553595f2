"""A pool from a file of either kind: single responses with scores, or pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duelenv.data.pairs import load_pairs
from duelenv.data.pool import PAIR_MARGIN, Pool
from duelenv.data.responses import load_responses
from duelenv.data.tables import read_table
from duelenv.ground.errors import UserError

_RESPONSE_SETTINGS = frozenset(load_responses.__kwdefaults__ or ())
_PAIR_SETTINGS = frozenset(load_pairs.__kwdefaults__ or ()) | {"margin"}


def load_pool(path: str | Path, **settings: Any) -> Pool:
    """Read a pool from a table of responses or, where it has chosen and rejected columns, of pairs.

    Args:
        path: The file.
        settings: Those of `load_responses`, or those of `load_pairs` and `margin`.

    Raises:
        UserError: As both loaders do, and for a setting that the loader in question does not have.
    """
    table = read_table(path)
    pairs = {"chosen", "rejected"} & set(settings) or {"chosen", "rejected"} <= set(table)
    known = _PAIR_SETTINGS if pairs else _RESPONSE_SETTINGS
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(
            f"data setting {unknown[0]!r} is unknown for {table.path}, a table of {'pairs' if pairs else 'responses'}; "
            f"choose from {', '.join(sorted(known))}"
        )
    if pairs:
        margin = settings.pop("margin", PAIR_MARGIN)
        return load_pairs(table, **settings).pool(margin)
    return load_responses(table, **settings)
