"""What a study will take: cells and minutes of each stage, by a short probe of every agent. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.efficiency.arms import passive_in, untaught
from duelenv.experiments.efficiency.runs import Entry, Setup, refusal_of, run_configs
from duelenv.experiments.efficiency.stages import STAGES
from duelenv.experiments.efficiency.study import PASSIVE, Regime, Study, World
from duelenv.experiments.running.forecast import duration, forecast
from duelenv.experiments.running.preparation import prepare
from duelenv.experiments.running.start_policy import threads_of

__all__ = ["foresee"]


def foresee(study: Study, last: str) -> str:
    """Say how many cells each stage plays, and how long that takes, as if nothing were finished yet.

    The cheapest and the dearest trial of every agent are probed, and count by half; in further worlds the dearest only.
    Which cells will be carried on is not known: the mean of all is taken for them and for controls; that `passive` may
    need more labels is left out.

    Args:
        study: The study.
        last: The last stage that is run.

    Returns:
        A text of several lines.
    """
    jobs = study.jobs or os.cpu_count() or 1
    lines = [f"{study.name}: nothing is written; {jobs} cells at a time", ""]
    lines.append(f"{'regime':<18}{'stage':<14}{'cells':>8}{'a cell':>12}{'together':>12}")
    total = 0.0
    for regime in study.regimes:
        for stage, count, each in _stages(study, regime, last):
            if count:
                total += count * each / jobs
                lines.append(
                    f"{regime.name:<18}{stage:<14}{count:>8,}{duration(each):>12}{duration(count * each / jobs):>12}"
                )
    return "\n".join([*lines, "", f"time       about {duration(total)}"])


def _seconds(study: Study, regime: Regime) -> dict[str, float]:
    """Estimate the seconds of a cell of each agent, by name."""
    world, ends = study.of_kind("development")[0], (study.trials[0], study.trials[-1])
    setup = Setup(world, regime, regime.labels, study.seeds["tune"].values)
    cells = (passive_in(regime), *study.in_regime(regime))
    entries = [Entry.of(cell, trial, f"{cell.name}.{end}") for cell in cells for end, trial in enumerate(ends)]
    found: dict[str, list[float]] = {cell.name: [] for cell in cells}
    for config in run_configs(study, setup, entries, "foresight").values():
        for label, time in _probed(config).items():
            found[label.rpartition(".")[0]].append(time)
    return {name: float(np.mean(times)) for name, times in found.items()}


def _probed(config: RunConfig) -> dict[str, float]:
    with threads_of(config):
        prepare(config)
        return {agent.label: forecast(config, agent.label).seconds for agent in config.agents}


def _seconds_in(study: Study, regime: Regime, world: World) -> dict[str, float]:
    """Estimate a cell's seconds of each agent that can play in a further world; on a pool a cell holds all seeds."""
    trains = study.trains_in(world)
    seeds = study.seeds["tune" if trains else "confirm"].values
    setup = Setup(world, regime, regime.labels, seeds)
    found: dict[str, float] = {}
    for cell in (passive_in(regime), *study.in_regime(regime)):
        tried = study.trials[-1] if trains else untaught(study.trials[-1])
        entry = Entry.of(cell if trains else cell.without_teaching, tried, cell.name)
        if trains or cell.name == PASSIVE or refusal_of(study, setup, entry) is None:
            (config,) = run_configs(study, setup, [entry], "foresight").values()
            found |= _probed(config)
    return found


def _stages(study: Study, regime: Regime, last: str) -> Iterator[tuple[str, int, float]]:
    """Yield each stage up to the last one with its cells and the seconds of one; further worlds one by one."""
    seconds = _seconds(study, regime)
    mean, passive = float(np.mean(list(seconds.values()))), seconds[PASSIVE]
    tried = len(study.trials) * study.seeds["tune"].count
    if "race" in study.seeds:
        tried += min(study.finalists, len(study.trials)) * study.seeds["race"].count
    tune = len(seconds) * tried * len(study.of_kind("development"))
    if "baseline" in study.seeds:
        tune += len(study.trials) * study.seeds["baseline"].count * len(study.of_kind("development"))
    screen = len(seconds) * study.seeds["screen"].count
    worlds = len(study.of_kind("held_out")) + len(study.of_kind("negative"))
    controls = sum(regime.name in control.regimes for control in study.controls)
    # Each carried cell with two controls, `passive` with replay, and itself at twice the labels.
    arms = 3 * study.carried + controls + 2
    confirm = arms * study.seeds["confirm"].count * worlds
    found = {"tune": (tune, mean), "screen": (screen, mean + passive / len(seconds))}
    found["confirm"] = confirm, mean + passive / arms
    upto = STAGES[: STAGES.index(last) + 1]
    for stage, (count, each) in found.items():
        if stage in upto:
            yield stage, count, each
    for world in study.of_kind("further") if "further" in upto else ():
        own = _seconds_in(study, regime, world)
        # On a pool each carried cell has one control, and all seeds are one cell.
        played = arms if study.trains_in(world) else 2 * study.carried + 1
        cells = played * study.seeds["confirm"].count if study.trains_in(world) else played
        yield f"in {world.name}", cells, float(np.mean(list(own.values()))) + own[PASSIVE] / played
