"""`docs/leaderboard.md`, made of the stored table by `duelenv leaderboard --page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from duelenv.experiments.leaderboard.showing import PARTLY, REFUSED, made_text, markdown, standings_rows, world_rows
from duelenv.experiments.leaderboard.standings import Standings, standings
from duelenv.experiments.leaderboard.stored import Now, Table
from duelenv.experiments.leaderboard.worlds import WorldSet
from duelenv.experiments.tables.text_table import fixed

__all__ = ["overview_rows", "page"]

_HEAD: Final = """# Leaderboard

<!-- Made by `duelenv leaderboard --page`: what is changed here is lost. -->

Every agent of the project in the worlds `{version}`, each in those that it fits, with its settings as they come; and
how yours would stand among them:

```
duelenv leaderboard                                  # this table
duelenv leaderboard --agent mine.py:mine             # yours against all; a numeric one in a minute or two
duelenv leaderboard --agent mine.py:mine --only karmed                  # in a group, or in a world
duelenv leaderboard --agent thompson --set development num_samples=4    # for tuning: other worlds, other seeds
duelenv leaderboard --all                            # plays what is absent or stale; the same command goes on
duelenv leaderboard --all --dry                      # how long that takes
```

- **Worlds** are in two sets. `reporting` is what stands here. `development` has other instances and other seeds: tune
  there. A world that is changed makes its rows stale; another question is another version. `label_limited` and
  `step_limited` here are not the regimes of [the study](efficiency.md): other words, and their own numbers of labels.
- **Scores** are (figure - floor) / (ceiling - floor). Both are named and given below, and are taken for known.
- **IQM** is the mean of the middle half of all runs of a group, with a stratified bootstrap interval over seeds
  ([Agarwal et al. 2021](https://arxiv.org/abs/2108.13264)). **Mean rank** is over worlds, by mean scores. Only who
  played all worlds of a group has either, of others the table says `not all`. `-` is a world or a group that the agent
  does not fit, `absent` a world that was not played yet. Groups are not averaged: agents fit different ones.
- **Behind the first** is the difference of mean scores, paired by seed; bold names are those not shown to be behind,
  after Holm's correction for all of the group. The order is by IQM: who is above 0 has the larger mean, and some runs
  that are far off. `--agent` compares with every stored agent, corrected for all of them.
- **Settings** are the agents' defaults, tuned for nobody. Who is tuned on `development` may pass who is not: say so.
- A row is **stale** where the world, the version of the package, or the code behind agent or world is not today's;
  comments and docstrings do not count.
"""


def page(table: Table, worlds: WorldSet, now: Mapping[tuple[str, str], Now]) -> str:
    """Write the page as Markdown.

    Args:
        table: What was measured.
        worlds: Its set of worlds; only those of `reporting` are on the page.
        now: As for `duelenv.experiments.leaderboard.showing.standings_rows`.
    """
    groups = [standings(table, group, group.of("reporting")) for group in worlds.groups]
    parts = [_HEAD.format(version=worlds.version), "## All groups\n", markdown(overview_rows(groups))]
    for one in groups:
        parts += [f"## {one.group.title}\n", f"`{one.group.name}`: {one.group.figure}.\n", markdown(world_rows(one))]
        if one.lines:
            leading = [line.agent for line in one.lines if line.leads]
            parts.append(markdown(standings_rows(one, table, now), leading))
        absent = _absent(one, table, worlds)
        if absent:
            parts.append(f"Absent, since not tried yet: {', '.join(absent)}.\n")
    parts += ["## Who does not fit, and why\n", *_refusals(table, worlds), "## How it was made\n", _made(table, now)]
    return "\n".join(parts)


def overview_rows(groups: Sequence[Standings]) -> list[list[str]]:
    """Write interquartile means of every agent in every group, header first; by name."""
    names = sorted({line.agent for one in groups for line in one.lines})
    rows = [["agent", *(one.group.name for one in groups)]]
    for name in names:
        cells = []
        for one in groups:
            line = next((line for line in one.lines if line.agent == name), None)
            if line is None:
                cells.append(REFUSED)
            elif line.iqm is None:
                cells.append(PARTLY)
            else:
                cells.append(f"{fixed(line.iqm.value, 3)} (rank {1 + one.lines.index(line)})")
        rows.append([name, *cells])
    return rows


def _absent(one: Standings, table: Table, worlds: WorldSet) -> list[str]:
    """Agents without a row in some world of a group."""
    from duelenv.experiments.leaderboard.filling import entrants

    names = [entry.name for entry in entrants(worlds)]
    return [name for name in names if any(table.of(name, world.name) is None for world in one.worlds)]


def _refusals(table: Table, worlds: WorldSet) -> list[str]:
    """Make a paragraph for each group with a line for each reason."""
    parts = []
    for group in worlds.groups:
        by_reason: dict[str, dict[str, None]] = {}
        for world in group.of("reporting"):
            for agent in table.agents:
                row = table.of(agent, world.name)
                if row is not None and row.refused is not None:
                    reason = row.refused.replace(repr(agent), "...")
                    by_reason.setdefault(reason, {})[agent] = None
        lines = [f"- {', '.join(f'`{name}`' for name in names)}: {reason}" for reason, names in by_reason.items()]
        if lines:
            parts.append(f"`{group.name}`\n\n" + "\n".join(lines) + "\n")
    left_out = [f"- `{name}`: {why}" for name, why in worlds.left_out.items()]
    return [*parts, "Not entered\n\n" + "\n".join(left_out) + "\n"]


def _made(table: Table, now: Mapping[tuple[str, str], Now]) -> str:
    rows = [row for row in table.rows.values() if row.refused is None]
    processors = sorted({row.processor for row in rows})
    hours = sum(row.seconds for row in rows) / 3600
    return (
        f"{len(rows)} rows, {made_text(rows, now) if rows else 'none yet'}; {hours:.1f} hours of rounds on "
        f"{', '.join(processors) or 'no processor'}. Another processor changes last digits, and with them some runs.\n"
    )
