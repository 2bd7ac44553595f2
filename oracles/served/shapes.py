"""What the servers' shapes have in common: `Api`, `Asked`, `Row`, and how an answer is read without trusting it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from duelenv.oracles.services.retrying import Unreadable

MEGABYTE: Final = 2**20


class Asked(NamedTuple):
    """One response that wants a score.

    Attributes:
        prompt: The prompt.
        response: The response.
        text: Both as one text; empty where the server is sent the two apart.
    """

    prompt: str
    response: str
    text: str = ""


Row = Mapping[str | int, float]
"""What a model says of one response: a score for each of its labels, by name where the server tells names."""


class Api(Protocol):
    """How one kind of server is asked, and how its answer is read.

    Attributes:
        path: Behind the server's address.
        pairs: Whether prompt and response are sent apart; else as one text.
        one_prompt: Whether all responses of a request answer the same prompt.
        most_bytes: Of a whole answer.
    """

    path: str
    pairs: bool
    one_prompt: bool
    most_bytes: int

    def body(self, asked: Sequence[Asked], raw: bool) -> dict[str, Any]:
        """Write the request's JSON; `raw` asks for logits where the server would answer probabilities."""
        ...

    def rows(self, answer: Any, count: int) -> list[Row]:
        """Read what the answer says of each response, in the order in which they were asked.

        Raises:
            Unreadable: It is not one readable row for each of the `count` responses.
        """
        ...


def by_index(entries: Any, count: int) -> list[Mapping[str, Any]]:
    """Put entries with an `index` each in order; the indices must be 0 to `count` - 1, each once.

    Raises:
        Unreadable: They are not.
    """
    found: dict[int, Mapping[str, Any]] = {}
    for entry in listed(entries, count):
        index = entry.get("index") if isinstance(entry, Mapping) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise Unreadable(f"an answer about response {str(index)[:20]} of {count}")
        if index in found:
            raise Unreadable(f"two answers about response {index}")
        found[index] = entry
    return [found[index] for index in range(count)]


def listed(value: Any, count: int | None = None) -> list[Any]:
    """Read a list, of `count` entries where that is given.

    Raises:
        Unreadable: It is none, or of another length.
    """
    if not isinstance(value, list):
        raise Unreadable(f"{type(value).__name__} where a list was expected")
    if count is not None and len(value) != count:
        raise Unreadable(f"{len(value)} answers to {count} responses")
    return value


def field(value: Any, name: str) -> Any:
    """Read a field of a JSON object.

    Raises:
        Unreadable: It is no object, or has no such field.
    """
    if not isinstance(value, Mapping) or name not in value:
        raise Unreadable(f"no field {name!r}")
    return value[name]


def finite(value: Any) -> float:
    """Read a finite number.

    Raises:
        Unreadable: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unreadable(f"{str(value)[:20]} where a finite score was expected")
    return float(value)


def numbered(values: Iterable[Any]) -> dict[str | int, float]:
    """Read scores by the index of their label.

    Raises:
        Unreadable: There is none, or one is not finite.
    """
    row: dict[str | int, float] = {place: finite(value) for place, value in enumerate(values)}
    if not row:
        raise Unreadable("no score")
    return row
