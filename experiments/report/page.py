"""One self-contained page about a run: `report.html`. It asks nothing of the network and runs no script but its own.

Everything shown comes from the run directory; text that a model or a user wrote is escaped. Tables, texts and figures
are all there without the script, which sorts, filters and pages.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import yaml

from duelenv.experiments.config.cell import cells
from duelenv.experiments.figures import plots
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.report import figure_view, summary
from duelenv.experiments.report.answering import answering_lines
from duelenv.experiments.report.bounds_view import bounds_view
from duelenv.experiments.report.downloads import downloads
from duelenv.experiments.report.duels import duel_view
from duelenv.experiments.report.overview import overview
from duelenv.experiments.report.provenance import provenance
from duelenv.experiments.report.rendering import render
from duelenv.experiments.report.table_view import TableView, plain_view, table_view
from duelenv.experiments.results.cell_states import unfinished_cells, unfinished_sentence
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.results.oracle_figures import oracle_lines
from duelenv.experiments.results.spending import Spending, spending_of
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.measures import BELIEFS, COSTS, INFORMATIVE, measures_table
from duelenv.experiments.tables.regret import tables
from duelenv.experiments.tables.targets import target_table
from duelenv.experiments.tables.text_table import TextTable

__all__ = ["write_report"]

#: Seeds shown in the table by seed.
_SEEDS: Final = 64

_NOTES: Final = {
    "beliefs": "Error: how far the belief's mean gaps are from the true ones, in its own standard deviations; 1 is as "
    "wrong as it says, above 1 is too sure. Log-loss: what its probabilities lose to the true ones, in nats a duel.",
    "informative": "A duel is informative if its better response wins with a probability of at least 0.88; it takes "
    "the truth to know.",
    "costs": "What each seed took; of a world without a policy, time is that of all seeds together.",
}


def write_report(directory: Path | str) -> Path:
    """Write figures, tables (`table.md`, `table.csv`, ...) and `report.html` into a run directory.

    Args:
        directory: A run directory with at least one finished cell.

    Returns:
        Path of the page.

    Raises:
        UserError: It is not a run directory, or nothing is finished in it.
    """
    results = Results(directory)
    folder = RunFolder(results.directory)
    made = tables(results)
    plots.save_figures(results, made)
    targets = [table for group in group_agents(results) if (table := target_table(results, group)) is not None]
    wanted = (("beliefs", BELIEFS), ("informative", INFORMATIVE), ("costs", COSTS))
    found = [measures_table(results, name, metrics, _NOTES[name]) for name, metrics in wanted]
    measures = [table for table in found if table is not None]
    every: list[TextTable] = [*made, *targets, *measures]
    for one in every:
        files.write_text(folder.table(one.name, "md"), one.markdown())
        files.write_text(folder.table(one.name, "csv"), one.csv())
    spending = spending_of(folder, results.config)
    if spending is not None:
        files.write_json(folder.spending, spending.plain())
    drawn = figure_view.drawn(results, made)
    content = {
        **_head(results),
        "asked": summary.asked(results),
        "came_out": summary.came_out(results, made, targets),
        "overview": overview(results, made),
        "worlds": _worlds(results, made),
        "regret": [table_view(results, table) for table in made if table.name == "regret"],
        "bounds": bounds_view(results),
        "targets": [table_view(results, table) for table in targets],
        **dict.fromkeys(_NOTES),
        **{table.name: table_view(results, table) for table in measures},
        **_figures(results, drawn),
        **_answers(results, spending),
        "by_seed": _by_seed(results),
        "downloads": downloads(folder, [table.name for table in every], list(drawn)),
        **_origin(results),
    }
    files.write_text(folder.report, render(content))
    return folder.report


def _head(results: Results) -> dict[str, Any]:
    folder = RunFolder(results.directory)
    left = unfinished_cells(folder, results.config)
    return {
        "title": results.config.name,
        "setting": summary.setting(results),
        "missing": unfinished_sentence(left, len(cells(results.config)), shown=12),
    }


def _worlds(results: Results, made: list[TextTable]) -> list[dict[str, Any]]:
    """Find what each world has of tables and of the figure of differences; untitled where there is one world."""
    first = [table_view(results, table) for table in made if table.name.partition("-")[0] in ("table", "gains")]
    worlds = []
    for group in group_agents(results):
        own = [_part(view, group.title) for view in first]
        worlds.append({"title": group.title, "tables": [view for view in own if view is not None]})
    return worlds


def _part(view: TableView, world: str) -> TableView | None:
    """Say what a table says of one world; None where it says nothing."""
    if view.title:
        return view if view.title == world else None
    own = tuple(group for group in view.groups if group.title == world)
    return dataclasses.replace(view, groups=own) if own else None


def _figures(results: Results, drawn: dict[str, figure_view.FigureView]) -> dict[str, Any]:
    """Figures by the section that they stand in."""
    regret = [name for name in drawn if name.startswith("regret_")]
    own = {"forests": [name for name in drawn if name.startswith("differences")], "kl": ["win_rate_against_kl"]}
    own |= {"belief_figures": ["belief_calibration"], "informative_figures": ["informative_duels"]}
    own["regret_figures"] = [] if results.primary in regret else regret
    elsewhere = {name for names in own.values() for name in names}
    own["curves"] = [name for name in drawn if name not in elsewhere]
    sections: dict[str, Any] = {
        section: [drawn[name] for name in names if name in drawn] for section, names in own.items()
    }
    return sections


def _answers(results: Results, spending: Spending | None) -> dict[str, Any]:
    """Duels, examples, and what is known of who answered."""
    folder, config = RunFolder(results.directory), results.config
    lines = [*oracle_lines(folder), *answering_lines(folder, config)]
    oracles = plain_view(("who", "figure", "of what"), (0, 2), lines, "") if lines else None
    seed = min(results.seeds(results.agents[0]))
    note = (
        f"Held-out prompts, seed {seed}: a response of the start policy, and one of the trained policy under the same "
        "random draws."
        if config.policy is not None
        else "Prompts of the last round: a candidate at random, and the one that the agent recommends."
    )
    return {
        "duels": duel_view(results),
        "examples": _examples(results, seed),
        "examples_note": note,
        "oracles": oracles,
        "spending": [] if spending is None else spending.lines(),
    }


def _examples(results: Results, seed: int) -> dict[str, list[dict[str, str]]]:
    found = {}
    for cell in cells(results.config):
        path = RunFolder(results.directory).cell(cell.name).examples
        if seed in cell.seeds and cell.label in results.agents and path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))
            if rows:
                found[cell.label] = rows
    return {agent: found[agent] for agent in results.agents if agent in found}


def _by_seed(results: Results) -> dict[str, Any]:
    """Give final values of each agent by seed: more columns than fit, so each agent has them in a line that turns."""
    seeds = list(results.config.seeds)[:_SEEDS]
    metric = label_of(results.primary)
    left_out = len(results.config.seeds) - len(seeds)
    more = f" The first {len(seeds)} of {left_out + len(seeds)} seeds; all are in results.parquet." if left_out else ""
    agents = []
    for agent in results.agents:
        final = results.final(agent, results.primary)
        agents.append((agent, [(seed, f"{final[seed]:.4g}" if seed in final else "-") for seed in seeds]))
    return {"caption": f"Final {metric}, behind each seed.{more}", "agents": agents}


def _origin(results: Results) -> dict[str, Any]:
    folder = RunFolder(results.directory)
    return {
        "command": f"duelenv run {folder.config.name} --output ../NEW_DIRECTORY",
        "config_text": yaml.safe_dump(results.config.to_dict(), sort_keys=False, allow_unicode=True),
        "provenance": provenance(folder, results.config),
    }
