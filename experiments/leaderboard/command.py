"""`duelenv leaderboard`: shows the stored table, plays one agent against it, or makes it anew."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable

if TYPE_CHECKING:
    from duelenv.experiments.leaderboard.playing import Entry
    from duelenv.experiments.leaderboard.standings import Standings
    from duelenv.experiments.leaderboard.stored import Now, Table
    from duelenv.experiments.leaderboard.worlds import World, WorldSet

__all__ = ["add_parser"]

#: Where run folders lie.
_RUNS: Final = Path("runs") / "leaderboard"
_PAGE: Final = Path("docs") / "leaderboard.md"


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    parser = commands.add_parser(
        "leaderboard",
        help="ranks of all agents in a fixed set of worlds, and where an agent of yours stands among them",
        description="Without an option, the stored table. With --agent, an agent is played in all worlds that it fits "
        "and compared with all that are stored; key=value are its settings, env.key=value what it needs of the world.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--agent", metavar="NAME", help="play this agent: a registered name, or FILE.py:NAME")
    what.add_argument("--all", action="store_true", help="play what is absent or stale in the table, and write it")
    what.add_argument("--page", metavar="FILE", nargs="?", type=Path, const=_PAGE, help=f"write {_PAGE}")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="settings of the agent")
    parser.add_argument("--modules", metavar="FILE", action="append", help="file that registers it; may come again")
    parser.add_argument("--set", metavar="SET", dest="kept_for", default="reporting", help="reporting or development")
    parser.add_argument("--only", metavar="NAME", action="append", help="this world or group alone; may come again")
    parser.add_argument("--dry", action="store_true", help="say how long it takes, by a short probe; write nothing")
    parser.add_argument("--jobs", metavar="N", type=int, help="cells that run at the same time (default: one per core)")
    parser.add_argument("--output", metavar="DIR", type=Path, default=_RUNS, help=f"run folders (default: {_RUNS})")
    parser.add_argument("--table", metavar="FILE", type=Path, help="another table than the stored one")
    parser.set_defaults(run=_leaderboard)


def _leaderboard(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.leaderboard.stored import read_table, stored_table
    from duelenv.experiments.leaderboard.worlds import current

    _check(arguments)
    worlds = current()
    chosen = worlds.chosen(arguments.kept_for, tuple(arguments.only or ()))
    path = arguments.table or stored_table(worlds.version)
    table = read_table(path, worlds.version)
    if arguments.agent is not None:
        return _one(arguments, worlds, chosen, table)
    if arguments.all:
        return _all(arguments, worlds, chosen, table, path)
    if arguments.page is not None:
        from duelenv.experiments.folder import files
        from duelenv.experiments.leaderboard.page import page

        files.write_text(arguments.page, page(table, worlds, _now(worlds, worlds.worlds)))
        print(f"page     {printable(str(arguments.page))}")
        return 0
    print(_shown(table, worlds, chosen))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that nothing would read.

    Raises:
        UserError: There is one.
    """
    from duelenv.ground import checks

    if arguments.jobs is not None:
        checks.integer("--jobs", arguments.jobs, low=1)
    for name, given in (("key=value", arguments.overrides), ("--modules", arguments.modules)):
        if given and arguments.agent is None:
            raise UserError(
                f"{name} ({given[0]}) belongs to an agent that is played: add --agent NAME, or leave it out"
            )
    if arguments.dry and arguments.agent is None and not arguments.all:
        raise UserError("--dry says how long something takes: add --agent NAME or --all, or leave it out")


def _one(arguments: argparse.Namespace, worlds: WorldSet, chosen: Sequence[World], table: Table) -> int:
    from duelenv.experiments.leaderboard.filling import anchors_of, fill, foresee, todo_of
    from duelenv.experiments.leaderboard.showing import aligned, comparison_rows
    from duelenv.experiments.leaderboard.standings import comparisons, standings
    from duelenv.experiments.leaderboard.stored import Table

    entry = _entry(arguments)
    jobs = arguments.jobs or os.cpu_count() or 1
    todo = todo_of(Table(worlds.version, {}), [(entry, world) for world in chosen], jobs)
    refused = {row.world: row.refused for row in todo.refused}
    fitting = [world for world in chosen if world.name not in refused]
    if not fitting:
        raise UserError(f"{entry.name!r} fits none of the worlds: {next(iter(refused.values()))}")
    scales = todo_of(table, [(anchor, world) for world in fitting for anchor in anchors_of(world)], jobs)
    if arguments.dry:
        print(foresee([*scales.plays, *todo.plays], jobs))
        return 0
    table, failed = fill(table, scales, None, arguments.output)
    table, failures = fill(table, todo, None, arguments.output)
    groups = [
        standings(table, group, [world for world in chosen if world.group == group.name])
        for group in worlds.groups
        if any(world.group == group.name for world in fitting)
    ]
    now = _now(worlds, chosen, entry)
    print(_groups_text(groups, table, now))
    for world, why in refused.items():
        print(printable(f"\n{world}: {why}"))
    found = comparisons(table, entry.name, groups)
    if found:
        print(f"\n{printable(entry.name)} against every agent that played the same worlds\n")
        print(aligned(comparison_rows(found, groups, table, now)))
        print(f"\nMean scores, paired by seed; verdicts are corrected for {len(found)} comparisons (Holm).")
    _tell([*failed, *failures], arguments.output)
    return 0


def _all(arguments: argparse.Namespace, worlds: WorldSet, chosen: Sequence[World], table: Table, path: Path) -> int:
    from duelenv.experiments.leaderboard.filling import anchors_of, entrants, fill, foresee, todo_of

    jobs = arguments.jobs or os.cpu_count() or 1
    wanted = [(entry, world) for world in chosen for entry in (*anchors_of(world), *entrants(worlds))]
    todo = todo_of(table, wanted, jobs)
    if arguments.dry:
        print(foresee(todo.plays, jobs))
        return 0
    table, failures = fill(table, todo, path, arguments.output)
    print(_shown(table, worlds, chosen))
    print(f"\ntable    {printable(str(path))}")
    _tell(failures, arguments.output)
    return 0


def _tell(failures: Sequence[str], output: Path) -> None:
    """Say that runs have failed, after all that came out was shown.

    Raises:
        UserError: There are any.
    """
    if failures:
        raise UserError(
            f"{len(failures)} runs failed and have no row, the first of them: {failures[0]}; the folders below "
            f"{str(output)!r} say more, and the same command goes on"
        )


def _entry(arguments: argparse.Namespace) -> Entry:
    """Find the agent that the options name.

    Raises:
        UserError: No such file or agent.
    """
    from duelenv import agents
    from duelenv.experiments.config.loading import override_mapping
    from duelenv.experiments.config.modules import load_modules
    from duelenv.experiments.leaderboard.playing import Entry
    from duelenv.ground import checks

    file, separator, name = arguments.agent.rpartition(".py:")
    modules = [*(arguments.modules or ()), *([f"{file}.py"] if separator else [])]
    named = name if separator else arguments.agent
    load_modules(modules)
    if named not in agents.names():
        raise checks.unknown_name("agent", named, agents.names(), extensible=True)
    settings = override_mapping({}, arguments.overrides)
    env = checks.mapping("'env'", settings.pop("env", None))
    words = [re.sub(r"[^\w.]+", "_", word.replace("=", "")) for word in arguments.overrides]
    shown = "-".join([named, *words])
    absolute = tuple(str(Path(one).resolve()) if one.endswith(".py") else one for one in modules)
    return Entry(shown, named, settings, env, absolute)


def _now(worlds: WorldSet, chosen: Sequence[World], *own: Entry) -> dict[tuple[str, str], Now]:
    """Tell where rows of today would come from, of all agents of the project and of a user's own."""
    from duelenv.experiments.leaderboard.filling import anchors_of, entrants
    from duelenv.experiments.leaderboard.playing import now_of

    entries = entrants(worlds)
    return {
        (entry.name, world.name): now_of(entry, world)
        for world in chosen
        for entry in (*entries, *anchors_of(world), *own)
    }


def _shown(table: Table, worlds: WorldSet, chosen: Sequence[World]) -> str:
    """All standings for a terminal."""
    from duelenv.experiments.leaderboard.standings import standings

    groups = [standings(table, group, [one for one in chosen if one.group == group.name]) for group in worlds.groups]
    return _groups_text([one for one in groups if one.worlds], table, _now(worlds, chosen))


def _groups_text(groups: Sequence[Standings], table: Table, now: dict[tuple[str, str], Now]) -> str:
    from duelenv.experiments.leaderboard.showing import aligned, standings_rows

    parts = []
    for one in groups:
        heading = printable(f"{one.group.name}: {one.group.figure}")
        nothing = "no agent was played yet: 'duelenv leaderboard --all' does"
        body = aligned(standings_rows(one, table, now)) if one.lines else nothing
        parts.append(f"{heading}\n\n{body}")
    return "\n\n\n".join(parts)
