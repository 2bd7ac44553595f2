"""Prompts from a file: one a line, or a column of a table, or what the pairs of a table answer; split in two.

What the cells of a table may hold, and which columns make a prompt, is in `duelenv.data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from duelenv.data.columns import PROMPT_NAMES, is_blank, plain
from duelenv.data.dialogues import decoded
from duelenv.data.faults import announce
from duelenv.data.pairs import holds_pairs, load_pairs
from duelenv.data.prompts import Prompts
from duelenv.data.tables import SUFFIXES, Table, read_table, read_text
from duelenv.ground.checks import choices, integer, number, text
from duelenv.ground.dialogue import prompt_text
from duelenv.ground.errors import UserError

__all__ = ["read_prompts"]


def read_prompts(
    path: str, column: str | None = None, test_share: float = 0.2, limit: int | None = None
) -> dict[str, list[str]]:
    """Read distinct prompts from a text file (one a line, `.gz` too) or a table, and hold some out.

    Args:
        path: The file; Parquet, JSON Lines, JSON and CSV are tables, any other is text.
        column: What holds the prompt in a table: a column, or several joined by "+". None looks for those with usual
            names; without one, a table of pairs gives what both responses share. Of a dialogue in messages, the prompt
            is what comes before the assistant's last turn.
        test_share: Share held out, taken evenly over the file's order.
        limit: Use only the first so many prompts.

    Returns:
        `{"train": [...], "test": [...]}`, both with at least one prompt.

    Raises:
        UserError: No such file or column, a row that holds no text, fewer than two prompts, or a setting out of range.
    """
    file = Path(text("'prompts.path'", path))
    if not file.is_file():
        raise UserError(f"No prompts file {path!r}: correct 'prompts.path'")
    number("'prompts.test_share'", test_share, above=0.0, below=1.0)
    if limit is not None:
        integer("'prompts.limit'", limit, low=2)
    if file.name.lower().endswith(SUFFIXES):
        texts, notes = _of_table(read_table(file), None if column is None else text("'prompts.column'", column))
    else:
        if column is not None:
            raise UserError(f"{path!r} is a text with a prompt a line and has no column: leave 'prompts.column' out")
        texts, notes = [line.strip() for line in read_text(file).splitlines()], []
    given = [prompt for prompt in texts if prompt.strip()]
    distinct = list(dict.fromkeys(given))[:limit]
    if len(distinct) < 2:
        raise UserError(f"{path!r} holds {len(distinct)} distinct prompts, expected at least 2")
    held_out = max(1, round(len(distinct) * test_share))
    if held_out == len(distinct):
        raise UserError(
            f"'prompts.test_share' is {test_share:g}, which leaves none of {len(distinct)} prompts to learn on; "
            f"at most {1 - 1 / len(distinct):.3g} leaves one"
        )
    announce(file, notes)
    chosen = {round(index * len(distinct) / held_out) for index in range(held_out)}
    return {
        "train": [prompt for index, prompt in enumerate(distinct) if index not in chosen],
        "test": [prompt for index, prompt in enumerate(distinct) if index in chosen],
    }


def _of_table(table: Table, column: str | None) -> tuple[Sequence[str], list[str]]:
    """Read the prompt of every row, blank where there is none, and what to say of them."""
    parts = [] if column is None or column in table else [part.strip() for part in column.split("+")]
    missing = next((part for part in parts if part not in table and part.partition(".")[0] not in table), None)
    if missing is not None:
        raise UserError(f"{str(table.path)!r} has no column {missing!r}: {choices(missing, table)} as 'prompts.column'")
    usual = [name for name in table if plain(name) in PROMPT_NAMES]
    table, notes = decoded(table, parts or ([column] if column else usual))
    prompts = Prompts(table, column)
    if not prompts:
        if holds_pairs(table):
            return load_pairs(table, empty="keep").prompts, []
        raise UserError(f"{str(table.path)!r} has no column of prompts among {', '.join(table)}: set 'prompts.column'")
    notes = [*table.notes, *notes, *prompts.notes]
    texts = []
    empty = ended = 0
    for row in range(table.num_rows):
        if all(is_blank(prompts.cell(name, row)) for name in prompts.columns):
            texts.append("")
            empty += 1
            continue
        given = prompts[row]
        if not isinstance(given, str):
            asked = given or []
            while asked and asked[-1].role == "assistant":
                asked = asked[:-1]
            ended += len(asked) < len(given or [])
            given = prompt_text(asked, prompts.name or "", table.place(row))
        texts.append(given)
    if empty:
        notes.append(f"{empty} of {table.num_rows} rows have no prompt and are left out")
    if ended:
        notes.append(f"the assistant's last turn is cut off from {ended} of {table.num_rows} dialogues")
    return texts, notes
