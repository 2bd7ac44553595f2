"""What a run asked and what came out, in a few sentences made from its config and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.tables.forest import Forest, forests
from duelenv.experiments.tables.groups import Group, group_agents
from duelenv.experiments.tables.statistics import mean_interval
from duelenv.experiments.tables.targets import TargetTable
from duelenv.experiments.tables.text_table import TextTable, value_text

__all__ = ["asked", "came_out", "setting"]

#: Agents that are named in a sentence; of more, their number is told.
_NAMED: Final = 6
#: Worlds that have a sentence of their own.
_WORLDS: Final = 6


def setting(results: Results) -> str:
    """Name world, policy, oracles, data, rounds and seeds, in a line."""
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
    return " · ".join([*parts, f"{int(steps[-1]):,} rounds", _count(len(config.seeds), "seed")])


def asked(results: Results) -> list[str]:
    """Find the config's own description, and how agents are compared; a text for each paragraph."""
    config = results.config
    own = [" ".join(part.split()) for part in (config.description or "").split("\n\n")]
    groups = group_agents(results)
    worlds = "" if len(groups) == 1 else f" in {len(groups)} worlds"
    better = results.better(results.primary)
    way = "nobody said which way is better" if better is None else f"{better} is better"
    agents = len(dict.fromkeys(name for group in groups for name in group.names))
    baseline = groups[0].name_of(groups[0].baseline)
    sentence = (
        f"{_count(agents, 'agent')}{worlds}, each with {_count(len(config.seeds), 'seed')}, by "
        f"{label_of(results.primary)} ({way}), against {baseline!r}{_labels(results)}."
    )
    return [*(part for part in own if part), sentence]


def came_out(results: Results, tables: Sequence[TextTable], targets: Sequence[TargetTable]) -> list[str]:
    """Say who is best in each world and what is shown after correction; a text for each world.

    Args:
        results: The run.
        tables: As `duelenv.experiments.tables.regret.tables` makes them.
        targets: Labels to a target, as far as there are any.
    """
    found = {forest.title: forest for forest in forests(results, tables)}
    reached = {table.title: table for table in targets}
    groups = group_agents(results)
    texts = []
    for group in groups[:_WORLDS]:
        sentences = [_best(results, group), _shown(found.get(group.title)), _sooner(reached.get(group.title), results)]
        text = " ".join(sentence for sentence in sentences if sentence)
        texts.append(f"{group.title}: {text}" if group.title else text)
    if len(groups) > _WORLDS:
        texts.append(f"The other {len(groups) - _WORLDS} worlds stand in the tables.")
    return texts


def _best(results: Results, group: Group) -> str:
    metric = results.primary
    better = results.better(metric)
    means = {agent: mean_interval(list(results.final(agent, metric).values())) for agent in group.agents}
    known = {agent: mean for agent, mean in means.items() if mean.seeds}
    if better is None or not known:
        return ""
    best = (max if better == "higher" else min)(known, key=lambda agent: known[agent].mean)
    labels = mean_interval(list(results.final(best, "queries").values())).mean
    word = "highest" if better == "higher" else "lowest"
    text = (
        f"After {labels:,.0f} labels a seed, {group.name_of(best)!r} has the {word} mean {label_of(metric)}, "
        f"{value_text(known[best])}"
    )
    if best != group.baseline and group.baseline in known:
        text += f"; {group.name_of(group.baseline)!r} has {value_text(known[group.baseline])}"
    return f"{text}."


def _shown(forest: Forest | None) -> str:
    if forest is None:
        return "With one seed no difference can be told from what seeds do by themselves."
    shown = [row for row in forest.rows if row.alone.shows_difference]
    up = [row.name for row in shown if row.alone.mean > 0]
    down = [row.name for row in shown if row.alone.mean < 0]
    words = {"higher": ("better", "worse"), "lower": ("worse", "better"), None: ("higher", "lower")}[forest.better]
    parts = [f"{_named(names)} {word}" for names, word in zip((up, down), words, strict=True) if names]
    if words[0] == "worse":
        parts.reverse()
    silent = [row.name for row in forest.rows if not row.alone.shows_difference]
    after = f" after correction for {forest.family} comparisons (Holm)" if forest.family > 1 else ""
    if not parts:
        return f"Against {forest.baseline!r} no difference is shown{after}."
    rest = f"; no difference is shown for {_named(silent)}" if silent else ""
    return f"Against {forest.baseline!r}, shown{after}: {', '.join(parts)}{rest}."


def _sooner(table: TargetTable | None, results: Results) -> str:
    if table is None:
        return ""
    baseline = next((line for line in table.lines if line.ratio is None), None)
    first = table.lines[0]
    if baseline is None or first is baseline or not first.labels.value < baseline.labels.value:
        return ""
    sure = "" if first.ratio is not None and first.ratio.low > 1.0 else ", a lead that seeds alone may explain"
    # Cumulative regret has no height that is reached: the target is one of another metric, and is said to be.
    other = "" if table.primary == results.primary else f" in {label_of(table.primary)}"
    return (
        f"90 % of what {table.baseline!r} gains{other} takes {first.agent!r} the fewest labels, "
        f"{first.labels.value:,.0f} against {baseline.labels.value:,.0f}{sure}."
    )


def _labels(results: Results) -> str:
    """Say how many labels a seed of each agent was given, of what budget; empty without a budget."""
    budget = results.config.budget.labels
    if budget is None:
        return ""
    asked = [count for agent in results.agents for count in results.final(agent, "queries").values()]
    least, most = int(min(asked)), int(max(asked))
    if least == most == budget:
        return f", at {budget:,} labels each"
    spent = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f", at {spent} labels each, of a budget of {budget:,}"


def _named(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names[:_NAMED]]
    return (
        ", ".join(quoted)
        if len(names) <= _NAMED
        else f"{', '.join(quoted[: _NAMED - 1])} and {len(names) - _NAMED + 1} more"
    )


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"
