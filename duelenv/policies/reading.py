"""Reads responses token by token behind their prompts, in whichever way a model allows; it chooses no token."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from duelenv.policies.codec import Prompts
from duelenv.policies.passes import (
    Shortcuts,
    base_model,
    extended,
    run,
    select_rows,
    watched,
)
from duelenv.policies.shared_prompt import SharedPrompt, laid_out, windows_of


class Step(NamedTuple):
    """What is known behind one more token of each row.

    Attributes:
        logits: Of the next token, [rows, V].
        hidden: The last hidden layer at this token, [rows, h]; None where it was not asked for.
    """

    logits: torch.Tensor
    hidden: torch.Tensor | None


class Reading(Protocol):
    """K sequences behind each of B prompts.

    Attributes:
        first: Logits behind the prompts, float32 [B, V].
    """

    first: torch.Tensor

    def select(self, rows: torch.Tensor) -> None:
        """Go on with the given rows only, int64 in ascending order."""
        ...

    def next(self, model: Any, ids: torch.Tensor, *, hidden: bool = False) -> Step:
        """Read one more token of each row, int64 [rows].

        Args:
            model: The same as ever.
            ids: The tokens.
            hidden: Whether the last hidden layer is wanted.
        """
        ...


def begin(model: Any, prompts: Prompts, num_responses: int, length: int, shortcuts: Shortcuts) -> Reading:
    """Read B prompts, behind each of which K responses of at most `length` tokens will be read."""
    kind = _Whole if not shortcuts.cache else _Shared if shortcuts.sharing and num_responses > 1 else _Cached
    return kind(model, prompts, num_responses, length, shortcuts)


class _Whole:
    """Without a cache each step reads everything from its beginning."""

    def __init__(self, model: Any, prompts: Prompts, num_responses: int, length: int, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self.first = run(model, prompts.ids, prompts.attention, shortcuts, keep=1).logits[:, -1].float()
        self._ids = prompts.ids.repeat_interleave(num_responses, 0)
        self._attention = extended(prompts.attention, num_responses, length)

    def select(self, rows: torch.Tensor) -> None:
        self._ids, self._attention = self._ids[rows], self._attention[rows]

    def next(self, model: Any, ids: torch.Tensor, *, hidden: bool = False) -> Step:
        self._ids = torch.cat([self._ids, ids[:, None]], dim=-1)
        return _step(model, self._ids, self._attention[:, : self._ids.shape[1]], self._shortcuts, hidden)


class _Cached:
    """Each row has the keys and values of its prompt for itself."""

    def __init__(self, model: Any, prompts: Prompts, num_responses: int, length: int, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self.first, self._cache = _prefill(model, prompts, shortcuts)
        self._seen = prompts.ids.shape[1]
        self._attention = extended(prompts.attention, num_responses, length)
        if num_responses > 1:
            select_rows(
                self._cache, torch.arange(len(prompts), device=prompts.ids.device).repeat_interleave(num_responses)
            )

    def select(self, rows: torch.Tensor) -> None:
        select_rows(self._cache, rows)
        self._attention = self._attention[rows]

    def next(self, model: Any, ids: torch.Tensor, *, hidden: bool = False) -> Step:
        self._seen += 1
        attention = self._attention[:, : self._seen]
        return _step(model, ids[:, None], attention, self._shortcuts, hidden, cache=self._cache)


class _Shared:
    """The rows of a prompt share its keys and values."""

    def __init__(self, model: Any, prompts: Prompts, num_responses: int, length: int, shortcuts: Shortcuts) -> None:
        self._shortcuts = shortcuts
        self.first, read = _prefill(model, prompts, shortcuts)
        self._cache = SharedPrompt(read, prompts, num_responses, length, windows_of(base_model(model)))

    def select(self, rows: torch.Tensor) -> None:
        self._cache.select(rows)

    def next(self, model: Any, ids: torch.Tensor, *, hidden: bool = False) -> Step:
        places = self._cache.places()
        with laid_out(base_model(model), self._cache):
            return _step(model, ids[:, None], None, self._shortcuts, hidden, places=places, cache=self._cache)


def _prefill(model: Any, prompts: Prompts, shortcuts: Shortcuts) -> tuple[torch.Tensor, Any]:
    """Compute the logits behind the prompts, float32 [B, V], and the cache that they leave."""
    output = run(model, prompts.ids, prompts.attention, shortcuts, use_cache=True, keep=1)
    return output.logits[:, -1].float(), output.past_key_values


def _step(
    model: Any, ids: torch.Tensor, attention: torch.Tensor | None, shortcuts: Shortcuts, hidden: bool, **context: Any
) -> Step:
    if not hidden:
        return Step(run(model, ids, attention, shortcuts, keep=1, **context).logits[:, -1], None)
    with watched(model) as seen:
        logits = run(model, ids, attention, shortcuts, keep=1, **context).logits[:, -1]
    return Step(logits, seen[-1][:, -1])
