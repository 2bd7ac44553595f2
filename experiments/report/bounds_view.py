"""Bounds on regret beside what agents had: numbers to the dotted lines of the figure."""

from __future__ import annotations

import numpy as np

from duelenv.experiments.report.table_view import TableView, plain_view
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.results.metrics import label_of
from duelenv.experiments.tables.groups import group_agents
from duelenv.experiments.tables.regret import bounds_of, duels
from duelenv.experiments.tables.statistics import mean_interval
from duelenv.experiments.tables.text_table import fixed

__all__ = ["bounds_view"]


def bounds_view(results: Results) -> TableView | None:
    """Find the height of each bound after the last duel, and the agent whose regret is least there, in each world.

    Returns:
        None where no bound is known, or regret is not exact.
    """
    metric = results.regret
    if metric is None or not results.config.replicated:
        return None
    rows, meanings = [], {}
    groups = group_agents(results)
    titled = any(group.title for group in groups)  # a variant without settings has no title beside those that have
    for group in groups:
        means = {agent: mean_interval(list(results.final(agent, metric).values())).mean for agent in group.agents}
        best = min(means, key=lambda agent: means[agent])
        last = float(duels(results, best)[-1])
        for bound in bounds_of(results, group) if last >= 1.0 else ():
            height = float(bound.curve(np.array([last]))[0])
            ratio = fixed(means[best] / height, 2) if height > 0 else "-"
            meanings[bound.name.partition(",")[0]] = bound.meaning
            least = f"{group.name_of(best)}: {fixed(means[best], 1)}"
            rows.append(
                (*([group.title or "-"] if titled else []), bound.name, f"{last:,.0f}", fixed(height, 1), least, ratio)
            )
    if not rows:
        return None
    header = (*(["world"] if titled else []), "bound", "duels", "bound there", "least regret", "regret / bound")
    caption = f"{label_of(metric)}. {'; '.join(f'{name}: {meaning}' for name, meaning in meanings.items())}."
    return plain_view(header, (0, 1, 4) if titled else (0, 3), rows, caption)
