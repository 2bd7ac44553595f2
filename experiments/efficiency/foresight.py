"""What a study will take: cells and minutes of each stage, by a short probe of every agent. Writes nothing."""

from __future__ import annotations

import os

import numpy as np

from duelenv.experiments.efficiency.runs import Entry, Setup, run_configs
from duelenv.experiments.efficiency.stages import STAGES
from duelenv.experiments.efficiency.study import PASSIVE, Cell, Regime, Study
from duelenv.experiments.running.forecast import duration, forecast
from duelenv.experiments.running.play import threads_of
from duelenv.experiments.running.runner import prepare

__all__ = ["foresee"]


def foresee(study: Study, last: str) -> str:
    """Say how many cells each stage plays, and how long that takes, as if nothing were finished yet.

    The cheapest and the dearest trial of every agent are probed, and count by half. Which cells will be carried on is
    not known: the mean of all is taken for them and for controls; that `passive` may need more labels is left out.

    Args:
        study: The study.
        last: The last stage that is run.

    Returns:
        A text of several lines.
    """
    jobs = study.jobs or os.cpu_count() or 1
    lines = [f"{study.name}: nothing is written; {jobs} cells at a time", ""]
    lines.append(f"{'regime':<18}{'stage':<10}{'cells':>8}{'a cell':>12}{'together':>12}")
    total = 0.0
    for regime in study.regimes:
        seconds = _seconds(study, regime)
        for stage, count, each in _stages(study, regime, seconds):
            if STAGES.index(stage) <= STAGES.index(last):
                total += count * each / jobs
                lines.append(
                    f"{regime.name:<18}{stage:<10}{count:>8,}{duration(each):>12}{duration(count * each / jobs):>12}"
                )
    return "\n".join([*lines, "", f"time       about {duration(total)}"])


def _seconds(study: Study, regime: Regime) -> dict[str, float]:
    """Of a cell of each agent, by name."""
    world, ends = study.of_kind("development")[0], (study.trials[0], study.trials[-1])
    setup = Setup(world, regime, regime.labels, study.seeds["tune"].values)
    cells = (Cell(PASSIVE, PASSIVE, {}, {}, {}, {}, {}, (regime.name,)), *study.in_regime(regime))
    entries = [Entry.of(cell, trial, f"{cell.name}.{end}") for cell in cells for end, trial in enumerate(ends)]
    found: dict[str, list[float]] = {cell.name: [] for cell in cells}
    for config in run_configs(study, setup, entries, "foresight").values():
        with threads_of(config):
            prepare(config)
            for agent in config.agents:
                found[agent.label.rpartition(".")[0]].append(forecast(config, agent.label).seconds)
    return {name: float(np.mean(times)) for name, times in found.items()}


def _stages(study: Study, regime: Regime, seconds: dict[str, float]) -> list[tuple[str, int, float]]:
    """Each stage with its cells and the seconds of one."""
    mean, passive = float(np.mean(list(seconds.values()))), seconds[PASSIVE]
    tune = len(seconds) * len(study.trials) * study.seeds["tune"].count * len(study.of_kind("development"))
    screen = len(seconds) * study.seeds["screen"].count
    worlds = len(study.of_kind("held_out")) + len(study.of_kind("negative"))
    controls = sum(regime.name in control.regimes for control in study.controls)
    # Each carried cell with two controls, `passive` with replay, and itself at twice the labels.
    arms = 3 * study.carried + controls + 2
    confirm = arms * study.seeds["confirm"].count * worlds
    return [
        ("tune", tune, mean),
        ("screen", screen, mean + passive / len(seconds)),
        ("confirm", confirm, mean + passive / arms),
    ]
