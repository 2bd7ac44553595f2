"""One self-contained page about a run: `report.html`. It asks nothing of the network and runs no script.

Everything shown comes from the run directory; text that a model or a user wrote is escaped.
"""

from __future__ import annotations

import base64
import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from duelenv.experiments.config.cell import cells
from duelenv.experiments.figures import plots
from duelenv.experiments.figures.panels import as_bytes
from duelenv.experiments.figures.styles import DARK, MANY
from duelenv.experiments.folder import files
from duelenv.experiments.folder.environment import starts
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.cell_states import unfinished_cells, unfinished_sentence
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.results.oracle_figures import oracle_lines
from duelenv.experiments.results.spending import Spending, spending_of
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import bounds_of, tables
from duelenv.experiments.tables.text_table import TableLine, TextTable

__all__ = ["write_report"]

#: Duels shown of each agent, half from the start and half from the end.
_DUELS = 6
#: Seeds shown in the table by seed.
_SEEDS = 64


def write_report(directory: Path | str) -> Path:
    """Write figures, tables (`table.md`, `table.csv`, ...) and `report.html` into a run directory.

    Args:
        directory: A run directory with at least one finished cell.

    Returns:
        Path of the page.

    Raises:
        UserError: It is not a run directory, or nothing is finished in it.
    """
    import jinja2

    results = Results(directory)
    made = tables(results)
    plots.save_figures(results)
    for table in made:
        files.write_text(results.directory / f"{table.name}.md", table.markdown())
        files.write_text(results.directory / f"{table.name}.csv", table.csv())
    folder = RunFolder(results.directory)
    spending = spending_of(folder, results.config)
    if spending is not None:
        files.write_json(folder.spending, spending.plain())
    source = resources.files("duelenv.experiments.report").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(source).render(_content(results, made, spending))
    target = results.directory / "report.html"
    files.write_text(target, page)
    return target


def _content(results: Results, made: list[TextTable], spending: Spending | None) -> dict[str, Any]:
    config = results.config
    duel_seed = min(results.seeds(results.agents[0]))
    folder = RunFolder(results.directory)
    shown_seeds = list(config.seeds)[:_SEEDS]
    examples = _examples(results, duel_seed)
    return {
        "title": config.name,
        "subtitle": _subtitle(results),
        "missing": unfinished_sentence(unfinished_cells(folder, config), len(cells(config)), shown=12),
        "tables": [_table(table) for table in made],
        "spending": [] if spending is None else spending.lines(),
        "figures": _figures(results),
        "examples": examples,
        "examples_note": (
            f"Held-out prompts, seed {duel_seed}: a response of the start policy, and one of the trained policy under "
            "the same random draws."
            if config.policy is not None
            else "Prompts of the last round: a candidate at random, and the one that the agent recommends."
        ),
        "duels": _duels(results, duel_seed),
        "duel_seed": duel_seed,
        "oracles": oracle_lines(folder),
        "many": len(results.agents) > MANY,
        "agents": results.agents,
        "metric": f"{label_of(results.primary)} by seed",
        "by_seed": _by_seed(results, shown_seeds),
        "seeds_left_out": len(config.seeds) - len(shown_seeds),
        "command": f"duelenv run {shlex.quote(f'{results.directory.name}/config.yaml')} --output NEW_DIRECTORY",
        "config_text": yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True),
        "environment": _environment(results.directory),
    }


def _subtitle(results: Results) -> str:
    config = results.config
    parts = [config.env.id]
    if config.policy is not None:
        parts.append(f"policy {config.policy.settings.get('path', config.policy.name)}")
    if config.oracle is not None:
        parts.append(f"oracle {config.oracle.name}")
    if config.evaluation_oracle is not None:
        parts.append(f"judged by {config.evaluation_oracle.name}")
    tables_read = [config.for_agent(agent.label).data for agent in config.agents]
    names = dict.fromkeys(Path(data["path"]).name for data in tables_read if data is not None)
    if names:
        parts.append(f"data {', '.join(names)}")
    steps, _ = results.curve(results.agents[0], "queries")
    seeds = "1 seed" if len(config.seeds) == 1 else f"{len(config.seeds)} seeds"
    return " · ".join([*parts, f"{int(steps[-1]):,} rounds", seeds])


def _table(table: TextTable) -> dict[str, Any]:
    """Take a table apart into what the page styles apart."""
    return {
        "title": table.title,
        "header": table.header(),
        "text_columns": table.text_columns,
        "caption": table.caption,
        "lines": [_line(table, line, cells) for line, cells in zip(table.lines, table.cells(), strict=True)],
    }


def _line(table: TextTable, line: TableLine, cells: list[str]) -> dict[str, Any]:
    """Take a table line apart into what the page styles apart."""
    column = table.text_columns[1]
    mean, _, rest = cells[column].partition(" ") if line.difference is not None else ("", "", "")
    return {
        "agent": line.agent,
        "baseline": line.difference is None,
        "leads": line.leads,
        "before": cells[1:column],
        "mean": mean,
        "interval": rest[: rest.find("]") + 1] or rest,
        "verdict": table.outcome(line),
        "shown": line.difference is not None and line.difference.shows_difference,
        "after": [(cell, place in table.text_columns) for place, cell in enumerate(cells) if place > column],
    }


def _figures(results: Results) -> list[dict[str, Any]]:
    saved = results.directory / "figures"
    captions = {
        "win_rate": "Mean probability that the policy's response beats the start policy's on held-out prompts; 0.5 is "
        "the start policy.",
        "win_rate_against_kl": "The same win rate against how far the policy has moved; further left at the same "
        "height is cheaper.",
        "simple_regret": "How far the recommended candidate is from the best one, on contexts kept for evaluation.",
        "win_rate_best_of_n": "Mean probability that the recommended candidate wins, on contexts kept for evaluation.",
    }
    figures = []
    for name, figure in plots.draw(results, DARK).items():
        caption = captions.get(name, f"{label_of(name)[:1].upper()}{label_of(name)[1:]}.")
        if name.endswith("_loglog"):
            caption = _loglog_caption(results)
        elif name.startswith("regret_"):
            what = "per label" if results.config.policy is not None else "added up over all duels"
            caption = f"Regret of the duels ({name.removeprefix('regret_')}), {what}."
            if len(results.agents) > MANY:
                caption += " Beside the agents in colour, the others are thin; those marked ↑ leave the frame."
        wide = len(figure.axes) > 1
        # Drawing takes longest of all that a report does, and the light ones have just been drawn.
        light, dark = (saved / f"{name}.svg").read_bytes(), as_bytes(figure, "svg")
        figures.append({"light": _data(light), "dark": _data(dark), "caption": caption, "wide": wide})
    return figures


def _loglog_caption(results: Results) -> str:
    """Explain what the slopes and the dotted lines are."""
    caption = (
        "The same in log-log view; beside each name the slope over the last half of the duels, 1 for linear regret and "
        "1/2 for the square root of T."
    )
    bounds = {bound.name: bound.meaning for group in group_agents(results) for bound in bounds_of(results, group)}
    if bounds:
        caption += f" Dotted: {'; '.join(f'{name}: {meaning}' for name, meaning in bounds.items())}."
    return caption


def _data(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


def _examples(results: Results, seed: int) -> dict[str, list[dict[str, str]]]:
    found = {}
    for cell in cells(results.config):
        path = results.directory / "cells" / cell.name / "examples.json"
        if seed in cell.seeds and cell.label in results.agents and path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))
            if rows:
                found[cell.label] = rows
    return {agent: found[agent] for agent in results.agents if agent in found}


def _duels(results: Results, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Find the first and last answered duels of each agent, in worlds with texts."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    shown: dict[str, list[dict[str, Any]]] = {}
    path = RunFolder(results.directory).labels
    if not path.exists():
        return shown
    every = pq.read_table(path, columns=["agent", "seed", "step", "prompt", "first", "second", "label"])
    known = pc.and_(pc.is_valid(every["label"]), pc.is_valid(every["prompt"]))
    every = every.filter(pc.and_(known, pc.equal(every["seed"], seed)))
    for agent in results.agents:
        table = every.filter(pc.equal(every["agent"], agent))
        half = _DUELS // 2
        chosen = {*range(min(half, len(table))), *range(max(0, len(table) - half), len(table))}
        rows = table.take(pa.array(sorted(chosen), pa.int64())).to_pylist()
        for row in rows:
            row["label_text"] = {1.0: "1", 0.0: "0", 0.5: "tie"}.get(row["label"], f"{row['label']:g}")
        if rows:
            shown[agent] = rows
    return shown


def _by_seed(results: Results, seeds: list[int]) -> list[dict[str, Any]]:
    final = {agent: results.final(agent, results.primary) for agent in results.agents}
    return [
        {
            "seed": seed,
            "cells": [f"{final[agent][seed]:.4g}" if seed in final[agent] else "-" for agent in results.agents],
        }
        for seed in seeds
    ]


def _environment(directory: Path) -> list[tuple[str, str]]:
    every = starts(RunFolder(directory).environment)
    if not every:
        return []
    found = every[-1]
    versions = found.pop("versions", {})
    return [
        *((key, str(value)) for key, value in found.items()),
        *([("starts", str(len(every)))] if len(every) > 1 else []),
        ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
