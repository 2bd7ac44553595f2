"""A pool from a file of either kind: single responses with scores, or pairs."""

from __future__ import annotations

from typing import Any

from duelenv.data.faults import announce
from duelenv.data.pairs import holds_pairs, load_pairs
from duelenv.data.pool import PAIR_MARGIN, Pool
from duelenv.data.rankings import read_rows
from duelenv.data.responses import load_responses
from duelenv.ground.errors import UserError

_RESPONSE_SETTINGS = frozenset(load_responses.__kwdefaults__ or ())
_PAIR_SETTINGS = frozenset(load_pairs.__kwdefaults__ or ()) | {"margin"}

_ONLY_PAIRS = {"chosen", "rejected", "first", "second", "label"}


def load_pool(path: Any, **settings: Any) -> Pool:
    """Read a pool from a table of responses or, where it has two responses a row, of pairs.

    Args:
        path: A file, or a table in memory, as `read_table` takes them.
        settings: Those of `load_responses`, or those of `load_pairs` and `margin`.

    Raises:
        UserError: As both loaders do, and for a setting that the loader in question does not have.
    """
    table = read_rows(path)
    of_pairs = bool(_ONLY_PAIRS & set(settings))
    pairs = of_pairs or (holds_pairs(table) and not {"response"} & set(settings))
    known = _PAIR_SETTINGS if pairs else _RESPONSE_SETTINGS
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(
            f"data setting {unknown[0]!r} is unknown for {table.path}, a table of {'pairs' if pairs else 'responses'}; "
            f"choose from {', '.join(sorted(known))}"
        )
    if pairs:
        margin = settings.pop("margin", PAIR_MARGIN)
        pool = load_pairs(table, **settings).pool(margin)
    else:
        pool = load_responses(table, **settings)
    if pool.caution is not None:
        announce(table.path, [pool.caution])
    return pool
