"""Brings a table up to date: plays what is absent or stale, a run after the other, and writes every row as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from duelenv.experiments.leaderboard.playing import (
    Entry,
    Play,
    control_of,
    now_of,
    play,
    plays_of,
    refusal_of,
    refused_row,
)
from duelenv.experiments.leaderboard.stored import Row, Table, write_table
from duelenv.experiments.leaderboard.worlds import World, WorldSet
from duelenv.experiments.running.forecast import duration, forecast
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.start_policy import threads_of
from duelenv.ground.terminal import printable

__all__ = ["Todo", "anchors_of", "entrants", "fill", "foresee", "todo_of"]


@dataclass(frozen=True)
class Todo:
    """What a table lacks.

    Attributes:
        plays: Runs to be played.
        refused: Rows of agents that do not fit.
    """

    plays: tuple[Play, ...]
    refused: tuple[Row, ...]


def entrants(worlds: WorldSet) -> list[Entry]:
    """List all agents of the project that are entered, by name."""
    from duelenv import agents

    controls = {control.name for world in worlds.worlds if (control := control_of(world)) is not None}
    return [Entry(name, name) for name in agents.names() if name not in worlds.left_out and name not in controls]


def anchors_of(world: World) -> list[Entry]:
    """Find the agents that a world's scale hangs on: the floor, and the ceiling where an agent measures it."""
    control = control_of(world)
    return [Entry(world.floor, world.floor), *([] if control is None else [control])]


def todo_of(table: Table, entries: Iterable[tuple[Entry, World]], jobs: int | None = None) -> Todo:
    """Say what of some entries in some worlds is absent or stale; nothing is played.

    Args:
        table: What is known.
        entries: Agents, each with a world.
        jobs: Cells that run at the same time.
    """
    by_entry: dict[tuple[str, str], tuple[Entry, list[World]]] = {}
    refused: list[Row] = []
    for entry, world in entries:
        row = table.of(entry.name, world.name)
        if row is not None and row.stale(now_of(entry, world)) is None:
            continue
        why = refusal_of(entry, world)
        if why is not None:
            refused.append(refused_row(entry, world, why))
            continue
        _, members = by_entry.setdefault((world.group, entry.name), (entry, []))
        if world not in members:
            members.append(world)
    plays = [one for entry, members in by_entry.values() for one in plays_of(entry, members, jobs)]
    return Todo(tuple(plays), tuple(refused))


def fill(table: Table, todo: Todo, path: Path | None, root: Path) -> tuple[Table, list[str]]:
    """Play what a table lacks.

    Args:
        table: What is known.
        todo: What it lacks.
        path: Where it is written after every run; None writes nothing.
        root: Where run folders lie.

    Returns:
        The table with what came out; and why runs failed, one sentence each. The others are played.
    """
    table = table.with_rows(todo.refused)
    failures = []
    for number, one in enumerate(todo.plays, 1):
        names = ", ".join(world.name for world in one.worlds)
        print(printable(f"[{number} of {len(todo.plays)}] {one.entry.name}: {names}"), file=sys.stderr, flush=True)
        rows, failed = play(one, root)
        table = table.with_rows(rows)
        if failed is not None:
            failures.append(failed)
        if path is not None:
            write_table(path, table)
    if path is not None:
        write_table(path, table)
    return table, failures


def foresee(plays: Sequence[Play], jobs: int) -> str:
    """Say how long runs will take, by a probe of some seconds of each, of the first of its worlds; writes nothing.

    Args:
        plays: The runs.
        jobs: Cells that run at the same time.
    """
    by_group: dict[str, tuple[int, float]] = {}
    for one in plays:
        with threads_of(one.config):
            prepare(one.config)
            each = forecast(one.config, one.worlds[0].name).seconds
        cells = len(one.worlds) * (1 if one.config.replicated else len(one.config.seeds))
        count, seconds = by_group.get(one.worlds[0].group, (0, 0.0))
        by_group[one.worlds[0].group] = count + cells, seconds + cells * each
    lines = [f"{'group':<16}{'cells':>8}{'together':>12}"]
    lines += [f"{name:<16}{count:>8,}{duration(seconds / jobs):>12}" for name, (count, seconds) in by_group.items()]
    total = sum(seconds for _, seconds in by_group.values()) / jobs
    return "\n".join(
        [*lines, "", f"time       about {duration(total)} with {jobs} cells at a time; nothing was written"]
    )
