"""A pool from a file of either kind: single responses with scores, or pairs; the last few are kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duelenv.data.faults import announce
from duelenv.data.pairs import holds_pairs, load_pairs
from duelenv.data.pool import PAIR_MARGIN, Pool
from duelenv.data.rankings import read_rows
from duelenv.data.responses import load_responses
from duelenv.ground.checks import choices
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
            f"data setting {unknown[0]!r} is unknown for {table.path}, a table of {'pairs' if pairs else 'responses'}: "
            f"{choices(unknown[0], known)}"
        )
    if pairs:
        margin = settings.pop("margin", PAIR_MARGIN)
        pool = load_pairs(table, **settings).pool(margin)
    else:
        pool = load_responses(table, **settings)
    if pool.caution is not None:
        announce(table.path, [pool.caution])
    return pool


def pool_of(data: Any) -> Pool:
    """Return the pool itself, or the one in a table.

    The last few tables are kept, since an experiment makes one environment per agent and seed, all of one table, and
    reading it takes seconds. A changed file is read again.

    Args:
        data: A pool, a table for `load_pool` (a path, rows, a `datasets.Dataset`, ...), or a mapping of
            its settings with the path as `path`.

    Raises:
        UserError: None of these, or as `load_pool` does.
    """
    if isinstance(data, Pool):
        return data
    settings: Mapping[str, Any] = {}
    if isinstance(data, Mapping):
        settings = {name: value for name, value in data.items() if name != "path"}
        if "path" not in data:
            raise UserError(f"data={dict(data)!r} names no file; give the table as path, beside its settings")
        data = data["path"]
    for name, value in settings.items():
        if isinstance(value, (list, tuple, set, Mapping)):
            raise UserError(f"data setting {name!r} is {value!r}, expected a single word or number; change {name}")
    if not isinstance(data, (str, Path)):
        return load_pool(data, **settings)
    path = Path(data)
    if not path.is_file():
        return load_pool(path, **settings)  # which says what is wrong
    status = path.stat()
    return _cached_pool(path.resolve(), status.st_mtime_ns, status.st_size, tuple(sorted(settings.items())))


@functools.lru_cache(maxsize=2)
def _cached_pool(path: Path, modified: int, size: int, settings: tuple[tuple[str, Any], ...]) -> Pool:
    return load_pool(path, **dict(settings))
