"""Tables that hold all responses to a prompt in one row, as tables of one response a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duelenv.data.columns import RESPONDER_NAMES, RESPONSE_NAMES, SCORE_NAMES, is_blank, plain
from duelenv.data.dialogues import parsed, spelled
from duelenv.data.tables import Table, read_table
from duelenv.ground.errors import UserError

_NESTED = ("answers", "responses", "completions", "candidates", "outputs", "generations", "summaries", "texts")
_SCORES = ("scores", "ratings", "rewards", "utilities", "score", "rating")
_RANKS = ("ranks", "rankings", "ranking", "rank")
_ORDERS = ("rankings", "ranking")
_WRITERS = ("models", "model_names", "responders", "generators", "model", "responder")
RANK = "rank"


def nested_column(table: Table, name: str | None = None) -> str | None:
    """Return the column that holds several responses a row, or None."""
    for column in [name] if name else table:
        if column in table and (name or plain(column) in _NESTED):
            values = [value for value in table[column] if not is_blank(value)]
            if values and all(isinstance(value, list) for value in values):
                flat = all(isinstance(one, str) for value in values for one in value)
                told = all(isinstance(one, Mapping) and "role" not in one for value in values for one in value)
                if flat or told:
                    return column
    return None


def read_rows(source: Any) -> Table:
    """Read a table as `read_table` does, in which several responses a row may be lists written as text, as in CSV.

    Raises:
        UserError: As `read_table`; or the rows are messages of a tree, as OpenAssistant's are.
    """
    table = read_table(source)
    _refuse_trees(table)
    found: dict[str, list[Any]] = {}
    for name in table:
        if plain(name) in (*_NESTED, *_SCORES, *_RANKS, *_WRITERS):
            cells = [None if is_blank(cell) else cell for cell in table[name]]
            if all(cell is None or (isinstance(cell, str) and cell.lstrip()[:1] == "[") for cell in cells):
                found[name] = [None if cell is None else parsed(cell) for cell in cells]
    listed = Table(table.path, {**table, **found}, table.notes)
    if nested_column(listed) not in found:
        return table
    return Table(table.path, listed, (*table.notes, spelled(found)))


def _refuse_trees(table: Table) -> None:
    nodes = any(isinstance(value, Mapping) and "replies" in value for name in table for value in table[name][:1])
    if {"parent_id", "message_id"} <= set(table) or "replies" in table or nodes:
        raise UserError(
            f"{table.path} holds trees of messages; write a row for each pair of replies to one message, with prompt, "
            "chosen and rejected, or for each reply with its rank as score"
        )


def one_a_row(table: Table, column: str) -> tuple[Table, list[str]]:
    """Return a table with a row for each of the responses in `column`, and what to say of it.

    The other columns are repeated. Of responses that are mappings, the keys become columns; of lists of texts, lists of
    equal length beside them (scores, ranks, models) do.

    Raises:
        UserError: Lists of unequal length; two columns of one name.
    """
    mapped = any(isinstance(one, Mapping) for value in table[column] for one in _listed(value)[:1])
    beside = [
        name
        for name in table
        if name != column
        and not mapped
        and plain(name) in (*_SCORES, *_RANKS, *_WRITERS)
        and all(isinstance(value, list) or is_blank(value) for value in table[name])
    ]
    records: list[dict[str, Any]] = []
    for name in beside:
        if plain(name) in _ORDERS:
            _refuse_orders(table, name)
    for row in range(table.num_rows):
        shared = {name: table[name][row] for name in table if name != column and name not in beside}
        responses = _listed(table[column][row])
        lists = {name: _listed(table[name][row]) for name in beside}
        for name, values in lists.items():
            if len(values) != len(responses):
                raise UserError(
                    f"{table.place(row)} has {len(responses)} in {column!r} and {len(values)} in {name!r}, expected "
                    "one for each response; correct it"
                )
        for number, response in enumerate(responses):
            own = dict(response) if isinstance(response, Mapping) else {"response": response}
            own |= {_singular(name): values[number] for name, values in lists.items()}
            records.append({**{name: value for name, value in shared.items() if name not in own}, **own})
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    notes = [f"each of the responses in {column!r} is read as a row"]
    empty = sum(not _listed(cell) for cell in table[column])
    if empty:
        notes.append(f"{empty} of {table.num_rows} rows have no response in {column!r} and are left out")
    return Table(table.path, columns, table.notes), notes


def _refuse_orders(table: Table, column: str) -> None:
    """Check that a ranking says the same whether it holds each response's rank or the responses in order.

    Raises:
        UserError: It does not.
    """
    for row, cell in enumerate(table[column]):
        ranks = _listed(cell)
        base = 0 if 0 in ranks else 1
        if sorted(map(str, ranks)) != sorted(str(base + place) for place in range(len(ranks))):
            continue
        order = [int(rank) - base for rank in ranks]
        if [order.index(place) for place in range(len(order))] != order:
            raise UserError(
                f"{table.place(row)} has {ranks!r} in {column!r}, which could be the rank of each response or the "
                "responses in order; if these are ranks, rename the column to 'ranks'"
            )


def scored_by_rank(table: Table) -> tuple[Table, list[str]]:
    """Return a table with a score where it has a rank, and what to say of it."""
    ranks = next((name for name in table if plain(name) in _RANKS), None)
    if ranks is None:
        return table, []
    columns = {name: cells for name, cells in table.items() if name != ranks}
    columns[SCORE_NAMES[0]] = [_negative(value) for value in table[ranks]]
    return Table(table.path, columns, table.notes), [
        f"the score is minus {ranks!r}: the least is the best (score={ranks} says otherwise)"
    ]


def _listed(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else []


def _negative(rank: Any) -> Any:
    try:
        return -float(rank)
    except (TypeError, ValueError, OverflowError):
        return rank  # which the score's own check names


def _singular(name: str) -> str:
    bare = plain(name)
    if bare in _RANKS:
        return RANK
    if bare in _SCORES:
        return SCORE_NAMES[0]
    return RESPONDER_NAMES[2] if bare in _WRITERS else RESPONSE_NAMES[0]
