"""Labels from elsewhere, from which agents learn before their first round: read, and shown to an agent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.data.columns import RESPONSE_NAMES, SCORE_NAMES, find_column, passed_over
from duelenv.data.dialogues import after_prompt
from duelenv.data.pairs import holds_pairs, is_true, load_pairs
from duelenv.data.prompts import Prompts
from duelenv.data.rankings import nested_column, read_rows
from duelenv.data.tables import Table
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.worlds.text_duel import TextDuelVectorEnv

__all__ = ["GivenLabels", "check_given", "read_labels", "warm_up"]


@dataclass(frozen=True)
class GivenLabels:
    """M compared pairs of texts.

    Attributes:
        prompts: object [M].
        first: object [M].
        second: object [M].
        labels: float64 [M] in [0, 1], 1 where the first was preferred.
    """

    prompts: NDArray[np.object_]
    first: NDArray[np.object_]
    second: NDArray[np.object_]
    labels: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


def read_labels(path: Path | str, **settings: Any) -> GivenLabels:
    """Read a table of labels.

    Args:
        path: `labels.parquet` of a run, or an export of it; or a table of preferences as `duelenv.data.load_pairs`
            knows them; a true value in a column `tie` makes a pair a tie.
        settings: Those of `load_pairs`.

    Raises:
        UserError: No such file, neither of the two, or no label in it.
    """
    checks.refuse_unknown("labels", settings, load_pairs.__kwdefaults__ or ())
    table = read_rows(path)
    if (
        not settings
        and set(_OWN_LABELS) <= set(table)
        and all(map(_is_number, table["label"]))
        and Prompts(table, None, ("first", "second")).columns == ["prompt"]
    ):
        return _given(table, [table[name] for name in _OWN_LABELS])
    if not settings and not holds_pairs(table) and not _holds_responses(table):
        raise UserError(
            f"{str(path)!r} has the columns {', '.join(table)}, expected prompt, first, second and label, or prompt, "
            "chosen and rejected; name others as labels={path: FILE, chosen: COLUMN, rejected: COLUMN}"
        )
    if not settings and _are_plain(table):
        ties = [is_true(value, "tie", table.place(row)) for row, value in enumerate(table.get("tie", ()))]
        labels = [0.5 if tie else 1.0 for tie in ties or [False] * table.num_rows]
        return _given(table, [table["prompt"], table["chosen"], table["rejected"], labels])
    pairs = load_pairs(table, **settings)
    shares = np.ones(len(pairs)) if pairs.labels is None else pairs.labels
    return GivenLabels(_objects(pairs.prompts), _objects(pairs.chosen), _objects(pairs.rejected), shares)


def _holds_responses(table: Table) -> bool:
    """Tell whether a table holds lists of responses, or single ones with what they are worth, by its columns' names."""
    worth = (*SCORE_NAMES, "label", "labels", "rank")
    return nested_column(table) is not None or all(
        find_column(table, "", None, usual) for usual in (RESPONSE_NAMES, worth)
    )


_OWN_LABELS = ("prompt", "first", "second", "label")


def _is_number(label: object) -> bool:
    """Tell whether a label is a number or nothing, as in our own tables; words are for `load_pairs` to understand."""
    try:
        float(str(label).strip() or "nan")
    except ValueError:
        return label is None
    return True


def _are_plain(table: Table) -> bool:
    """Tell whether these are prompts and responses to them, to be taken as they stand, white space and all.

    An export of a run is; of any other table, one whose responses do not repeat their prompts and where no other column
    has a part in the prompt or would be missed.
    """
    if not {"prompt", "chosen", "rejected"} <= set(table):
        return False
    columns = [table[name] for name in ("prompt", "chosen", "rejected")]
    if {"margin", "tie"} <= set(table):
        return True
    return (
        all(isinstance(text, str) for column in columns for text in column)
        and Prompts(table, None, ("chosen", "rejected")).columns == ["prompt"]
        and not passed_over(table, ("prompt", "chosen", "rejected", "tie"))
        and not any(
            after_prompt(prompt, chosen) and after_prompt(prompt, rejected)
            for prompt, chosen, rejected in zip(*columns, strict=True)
        )
    )


def _given(table: Table, columns: Sequence[Sequence[Any]]) -> GivenLabels:
    kept = []
    for row, values in enumerate(zip(*columns, strict=True)):
        *texts, label = values
        if isinstance(label, str):  # as CSV gives it
            with suppress(ValueError):
                label = float(label) if label.strip() else None
        if label is None or (isinstance(label, float) and np.isnan(label)):
            continue
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{table.place(row)} lacks a text, expected a prompt and two responses; leave it out")
        if isinstance(label, bool) or not isinstance(label, int | float) or not 0 <= label <= 1:
            raise UserError(f"{table.place(row)} has the label {label!r}, expected a number from 0 to 1")
        kept.append((*texts, float(label)))
    if not kept:
        raise UserError(f"{str(table.path)!r} holds no label")
    prompts, first, second, labels = zip(*kept, strict=True)
    return GivenLabels(_objects(prompts), _objects(first), _objects(second), np.array(labels, np.float64))


def _objects(texts: Sequence[str]) -> NDArray[np.object_]:
    return np.array(texts, dtype=object)


def check_given(world: Any, given: GivenLabels) -> TextDuelVectorEnv:
    """Return a world that has texts.

    Raises:
        UserError: It has none, or cannot show a text of the labels.
    """
    if not isinstance(world, TextDuelVectorEnv):
        raise UserError("'labels' are comparisons of texts, and this world has none: leave 'labels' out")
    world.check_texts(given.prompts, np.stack([given.first, given.second], axis=1))
    return world


def warm_up(agent: Any, world: Any, given: GivenLabels) -> int:
    """Let an agent learn from labels, as many a call as the world has rows; every replicate learns from all of them.

    But for those about prompts that it is judged on: what is held out from duels is held out here too.

    Args:
        agent: A new agent.
        world: Its world, reset with the seed of the run.
        given: The labels.

    Returns:
        Labels that were left out, of the replicate that lost most.

    Raises:
        UserError: The world has no texts, or cannot show these; or every label is about held-out prompts.
    """
    world = check_given(world, given)
    view = world.view()
    held_out = world.held_out(given.prompts)  # [R, M]
    if held_out.all(axis=1).any():
        raise UserError(
            "all 'labels' are about prompts that the world holds out to judge on, so that none may be learnt"
        )
    learnt = np.where(held_out, np.nan, given.labels)  # [R, M]
    for start in range(0, len(given), view.batch):
        places = np.arange(start, min(start + view.batch, len(given)))
        lacking = view.batch - len(places)
        # The last call may have fewer; what fills its rows is labelled by nobody.
        filled = np.concatenate([places, np.full(lacking, places[-1])])
        every = np.tile(filled, view.replicates)
        pair = np.stack([given.first[every], given.second[every]], axis=1)
        responses = pair[:, np.arange(view.num_candidates) % 2]
        labels = np.concatenate([learnt[:, places], np.full((view.replicates, lacking), np.nan)], axis=1).ravel()
        actions = np.tile([0, 1, 1] if view.selective else [0, 1], (len(every), 1))
        if view.selective:
            actions[np.isnan(labels), 2] = 0
        agent.warm_up(world.show(given.prompts[every], responses), actions, labels)
    return int(held_out.sum(axis=1).max())
