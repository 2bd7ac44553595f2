"""The prompt of every row of a table: one column, or several that belong together, joined by a stated rule.

A system message comes first, then a history, then the prompt's own columns with an empty line between them. Where two
columns could be the prompt and no rule joins them, the user is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duelenv.data.columns import PROMPT_NAMES, SYSTEM_NAMES, find_column, is_blank, named_column, plain
from duelenv.data.dialogues import Side, in_one_form, side_of
from duelenv.data.tables import Place, Table
from duelenv.ground import checks
from duelenv.ground.dialogue import Message, is_messages, read_role, to_messages
from duelenv.ground.errors import UserError

_TASKS = ("prompt", "instruction", "question", "query", "problem", "title", "user_prompt", "user_input", "user_query")
_MATERIAL = ("input", "context", "post", "article", "passage", "document")
_HISTORIES = ("history", "chat_history", "conversation_history")
_DIALOGUES = ("messages", "conversation", "conversations")
"""Columns of which the assistant's last turn may be a response; that of a history is none."""
_PARTS = ("full_text", "prompt", "title", "post", "article", "question", "text")
"""Texts within a column of mappings that make a prompt."""


class Prompts:
    """Where the prompts of a table stand.

    Attributes:
        name: The columns, joined by "+"; None where the table has none.
        columns: Each of them.
        notes: What was guessed.
    """

    def __init__(
        self, table: Table, name: str | None = None, besides: Sequence[str] = (), *, shared: bool = False
    ) -> None:
        """Find the columns.

        Args:
            table: The table.
            name: A column, or several joined by "+"; a part of a column of mappings is `column.part`. None looks for
                those with usual names.
            besides: Columns that hold something else.
            shared: Whether a column of system messages will do, as the responses share the rest.

        Raises:
            UserError: No such column; or several that could be the prompt.
        """
        self._table = table
        self._shared = shared and name is None
        self.notes: list[str] = []
        if name is None:
            self.columns = self._guess(besides, shared)
        else:
            name = checks.text("prompt", name)
            self.columns = [name] if name in table else [part.strip() for part in name.split("+")]
            taken = next((part for part in self.columns if part in besides), None)
            if taken is not None:
                raise UserError(
                    f"prompt= is {name!r}, and {taken!r} is read as something else; name a column of prompts"
                )
            for part in self.columns:
                head, _, inner = part.partition(".")
                if part not in table:
                    named_column(table, "prompt", head if inner and head in table else part)
        self.name = "+".join(self.columns) or None

    @property
    def only_system(self) -> bool:
        """Whether there are system messages and no prompts: those are what the responses share."""
        return self._shared and len(self.columns) == 1 and plain(self.columns[0]) in SYSTEM_NAMES

    def __bool__(self) -> bool:
        return bool(self.columns)

    def _guess(self, besides: Sequence[str], shared: bool) -> list[str]:
        table = self._table
        taken = [table[name] for name in besides]
        found = [
            name
            for usual in PROMPT_NAMES
            for name in table
            if plain(name) == usual
            and name not in besides
            and not all(map(is_blank, table[name]))
            and table[name] not in taken
            and _holds_prompts(table[name])
        ]
        history = next((name for name in table if plain(name) in _HISTORIES and name not in [*found, *besides]), None)
        if found and history and not all(map(is_blank, table[history])) and table[history] not in taken:
            first = next(cell for cell in table[history] if not is_blank(cell))
            raise UserError(
                f"{table.path} has {str(first)[:40]!r} in {history!r}, expected messages or exchanges "
                f"[user, assistant]; recode it, or name what is the prompt with prompt={found[0]}"
            )
        found = self._without_repeats(found)
        own = [part for name in found for part in self._parts(name)]
        if not own:  # a column that holds something else is named where its first row is read
            odd = find_column(table, "prompt", None, PROMPT_NAMES)
            listed = odd is not None and any(isinstance(cell, list) for cell in table[odd])
            if odd and odd not in besides and not listed:
                return [odd]
        system = self._system(besides)
        if not own and system and shared:
            self.notes.append(f"the prompt is made of {system}, then what both responses share")
            return [system]
        if not own:
            return []
        together = [*([system] if system else []), *own]
        if len(together) > 1 or together != found:
            self.notes.append(
                f"the prompt is made of {', then '.join(together)}; prompt=.. names one column, or several with '+'"
            )
        return together

    def _system(self, besides: Sequence[str]) -> str | None:
        """Find the column of system messages.

        Raises:
            UserError: There are two that differ.
        """
        table = self._table
        usual = [name for name in table if plain(name) in SYSTEM_NAMES and name not in besides]
        found = [name for name in usual if not all(map(is_blank, table[name]))]
        if any(table[name] != table[found[0]] for name in found[1:]):
            raise UserError(
                f"{table.path} has {' and '.join(map(repr, found))}, which could all be the system message; name what "
                f"makes the prompt, joined by '+', with prompt={found[0]}+.."
            )
        return found[0] if found else None

    def _parts(self, name: str) -> list[str]:
        """Name a column, or where it holds mappings those of their texts that make a prompt."""
        values = [value for value in self._table[name] if not is_blank(value)]
        if not all(isinstance(value, Mapping) and "role" not in value and "from" not in value for value in values):
            return [name]
        known = [part for part in _PARTS if any(not is_blank(value.get(part)) for value in values)]
        if not known:
            raise UserError(
                f"{self._table.path} has mappings with {', '.join(map(str, values[0]))} in {name!r}, expected text; "
                f"name what is the prompt with prompt={name}.KEY"
            )
        known = known[:1] if known[0] in ("full_text", "prompt") else known
        return [f"{name}.{part}" for part in known]

    def _without_repeats(self, found: list[str]) -> list[str]:
        """Keep the columns that make the prompt together, in order.

        Raises:
            UserError: No rule says so.
        """
        if len(found) < 2:
            return found
        cells = {
            name: [_without_answer(cell) for cell in self._table[name]]
            if plain(name) in _DIALOGUES
            else self._table[name]
            for name in found
        }
        for name in found:  # one that holds what the others say
            if all(other == name or _contains(cells[name], cells[other]) for other in found):
                return [name]
        listed = [name for name in found if any(isinstance(cell, list) for cell in cells[name])]
        tasks = [name for name in found if plain(name) in _TASKS and name not in listed]
        material = [name for name in found if plain(name) in _MATERIAL and name not in listed]
        if len(listed) < 2 and len(tasks) < 2 and len(material) < 2 and len(listed + tasks + material) == len(found):
            return listed + tasks + material
        raise UserError(
            f"{self._table.path} has {' and '.join(map(repr, found))}, which could all be the prompt; "
            f"choose with prompt={found[0]}, or join them with prompt={'+'.join(found[:2])}"
        )

    def __getitem__(self, row: int) -> Side | None:
        """Return a row's prompt as text or messages, or None where the table has no prompts.

        Raises:
            UserError: A cell holds something else.
        """
        if not self.columns:
            return None
        place = self._table.place(row)
        texts: list[str] = []
        before: list[Message] = []
        for name in self.columns:
            cell = self.cell(name, row)
            if is_blank(cell) and (len(self.columns) > 1 or self.only_system or cell is not None):
                continue
            part = _history(cell, name, place) if isinstance(cell, list) else side_of(cell, name, place)
            if plain(name) in SYSTEM_NAMES and isinstance(part, str) and (self.only_system or len(self.columns) > 1):
                before.append(Message("system", part.strip()))
            elif isinstance(part, str):
                texts.append(part)
            else:
                before += part
        if self.only_system:
            return before or None
        text = texts[0] if len(texts) == 1 else "\n\n".join(part.strip() for part in texts)
        if not before:
            return in_one_form(text)
        given = before + (to_messages(text) if text.strip() else [])
        systems = [message for message in given if message.role == "system"]
        if len(systems) > 1 and systems[0] in systems[1:]:  # the column and the messages say the same
            given = [systems[0], *(message for message in given if message != systems[0])]
        return [Message(role, content.strip()) for role, content in given]

    def cell(self, name: str, row: int) -> Any:
        """Read what a row holds in a column, or in a part of it."""
        if name in self._table:
            return self._table[name][row]
        head, _, inner = name.partition(".")
        value = self._table[head][row]
        return value.get(inner) if isinstance(value, Mapping) else None


def _holds_prompts(cells: Sequence[Any]) -> bool:
    """Tell whether a column can be one of prompts, as its first value tells: text, messages, exchanges, mappings."""
    first = next(cell for cell in cells if not is_blank(cell))
    if isinstance(first, list):
        return is_messages(first) or _is_exchanges(first) or all(isinstance(turn, str) for turn in first)
    return isinstance(first, (str, Mapping))


def _is_exchanges(value: Sequence[Any]) -> bool:
    return all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in value
    )


def _history(cell: list[Any], name: str, place: Place) -> list[Message]:
    """Read messages, or exchanges [user, assistant]."""
    if cell and _is_exchanges(cell):
        return [
            Message(role, text.strip()) for turn in cell for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    side = side_of(cell, name, place)
    assert not isinstance(side, str)
    return side


def _contains(cells: Sequence[Any], others: Sequence[Any]) -> bool:
    """Tell whether in every row the one says what the other says."""
    return all(
        is_blank(other) or cell == other or (_said(other) and _said(other) in _said(cell))
        for cell, other in zip(cells, others, strict=True)
    )


def _without_answer(cell: Any) -> Any:
    ended = is_messages(cell) and len(cell) > 1 and isinstance(cell[-1], Mapping)
    return cell[:-1] if ended and read_role(cell[-1]) == "assistant" else cell


def _said(cell: Any) -> str:
    if isinstance(cell, str):
        return cell.strip()
    if is_messages(cell):
        return "\n".join(
            str(message.get("content", message.get("value"))) for message in cell if isinstance(message, Mapping)
        )
    return ""
