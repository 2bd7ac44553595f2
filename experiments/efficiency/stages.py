"""The stages of a study in their order: tune, screen, freeze, confirm, further. What each chooses, and from what.

Nothing is remembered but run folders and what was frozen: a stage that is asked for again reads what it measured, and
chooses the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.experiments.config.contents import digest_of_path
from duelenv.experiments.efficiency.arms import Arms, arms_of, arms_on_records, passive_in, untaught
from duelenv.experiments.efficiency.resampling import Comparison, compare, share_reaching
from duelenv.experiments.efficiency.runs import Entry, Measured, Setup, data_of, measure
from duelenv.experiments.efficiency.study import PASSIVE, Regime, Study, World
from duelenv.experiments.folder import files
from duelenv.experiments.tables.crossing import Plateau, plateau_of
from duelenv.experiments.tables.statistics import area_under_curve
from duelenv.ground.errors import UserError

__all__ = ["FROZEN", "FROZEN_FURTHER", "STAGES", "Baseline", "Stages", "Table", "Tuned"]

STAGES: Final = ("tune", "screen", "freeze", "confirm", "further")
#: What is frozen before worlds are met that are held out, and before further ones are.
FROZEN: Final = "frozen.json"
FROZEN_FURTHER: Final = "frozen-further.json"
#: Share of resamples in which `passive` has to arrive within the labels at which agents are compared.
_ARRIVES: Final = 0.95


@dataclass(frozen=True)
class Tuned:
    """An agent's trials.

    Attributes:
        cell: Name of the cell, or `PASSIVE`.
        trials: What was tried.
        scores: Mean height of the curve over labels, seeds and development worlds, of each trial.
        finalists: Which trials were tried once more, by number; all of them where there was no race, or where all were
            tried once more. Only among these the best is looked for: the score of the others is that of fewer runs.
    """

    cell: str
    trials: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...]
    finalists: tuple[int, ...] = ()

    @property
    def best(self) -> Mapping[str, Any]:
        """The best of them; the first of equals."""
        return self.best_with({})

    def best_with(self, fixed: Mapping[str, Any]) -> Mapping[str, Any]:
        """Find the best of those with these values: of the finalists among them, where there are any."""
        fitting = [
            index for index, trial in enumerate(self.trials) if all(trial[key] == value for key, value in fixed.items())
        ]
        return self.trials[max(fitting, key=lambda index: (index in self.finalists, self.scores[index]))]


@dataclass(frozen=True)
class Baseline:
    """`passive` in a world, and the labels at which agents are compared with it."""

    measured: Measured
    labels: int
    plateau: Plateau
    arrives: float
    """Share of resamples in which it reaches its own target in time: within `labels`, or, where those are the most that
    agents play, within all of its own."""

    @property
    def settled(self) -> bool:
        """Whether it is flat and arrives; if not, what is said of this world is to be read with care."""
        return self.plateau.flat and self.arrives >= _ARRIVES


@dataclass(frozen=True)
class Table:
    """Every arm of a regime in a world, against `passive`.

    Attributes:
        stage: "screen", "confirm" or "further".
        world: Where.
        regime: Which.
        baseline: `passive`.
        arms: The others, by label.
        comparisons: Of each with `passive`.
        roles: "cell", "control", or "privileged" where the agent was told the utility.
        metric: What is to be reached.
        left_out: Why a carried cell is not among the arms, by its label.
    """

    stage: str
    world: World
    regime: Regime
    baseline: Baseline
    arms: Mapping[str, Measured]
    comparisons: Mapping[str, Comparison]
    roles: Mapping[str, str]
    metric: str = "win_rate"
    left_out: Mapping[str, str] = field(default_factory=dict)


class Stages:
    """The stages of one study in one folder.

    Args:
        study: The study.
        root: Its folder.
        progress: As for `duelenv.experiments.running.runner.run`.
    """

    def __init__(self, study: Study, root: Path, progress: bool | None = None) -> None:
        self.study, self.root, self._progress = study, root, progress

    def tune(self, regime: Regime) -> dict[str, Tuned]:
        """Try the same settings of `passive` and of every cell, in all development worlds.

        Where the study has seeds for a race, the best `finalists` trials of each are tried once more on those. Where it
        has seeds for the baseline, all trials of `passive` are tried on those too: a cell that one seed has set badly
        loses by it, but a badly set baseline is a gain of everybody else.

        Not the halving of `sweeps`, whose rungs share out one run's seeds by a factor for one agent in one world: here
        each look has seeds of its own that the study froze, of many agents in many worlds, and what is common is to
        sort by a mean.
        """
        study, trials = self.study, self.study.trials
        cells = (passive_in(regime), *study.in_regime(regime))
        heights: dict[str, dict[int, list[float]]] = {}

        def look(stage: str, chosen: Mapping[str, Sequence[int]]) -> None:
            for name, own in self._heights(stage, regime, chosen).items():
                for number, found in own.items():
                    heights.setdefault(name, {}).setdefault(number, []).extend(found)

        finalists = {cell.name: tuple(range(len(trials))) for cell in cells}
        look("tune", finalists)
        if "race" in study.seeds:
            finalists = {
                name: tuple(sorted(own, key=lambda number: -np.mean(own[number]))[: study.finalists])
                for name, own in heights.items()
            }
            look("race", finalists)
        if "baseline" in study.seeds:
            finalists[PASSIVE] = tuple(range(len(trials)))
            look("baseline", {PASSIVE: finalists[PASSIVE]})
        return {
            name: Tuned(
                name, trials, tuple(float(np.mean(own[number])) for number in range(len(trials))), finalists[name]
            )
            for name, own in heights.items()
        }

    def _heights(
        self, stage: str, regime: Regime, chosen: Mapping[str, Sequence[int]]
    ) -> dict[str, dict[int, list[float]]]:
        """Mean heights of the curves of some trials of some agents, by number: one a seed and development world."""
        study, trials = self.study, self.study.trials
        cells = [cell for cell in (passive_in(regime), *study.in_regime(regime)) if cell.name in chosen]
        tried = [(cell, number) for number in range(len(trials)) for cell in cells if number in chosen[cell.name]]
        entries = {
            (cell.name, number): Entry.of(cell, trials[number], f"{cell.name}.{number}") for cell, number in tried
        }
        found: dict[str, dict[int, list[float]]] = {cell.name: {} for cell in cells}
        for world in study.of_kind("development"):
            setup = Setup(world, regime, regime.labels, study.seeds[stage].values)
            measured = self._measure(stage, setup, list(entries.values()))
            for (name, number), entry in entries.items():
                arm = measured[entry.label].arm
                found[name].setdefault(number, []).extend(area_under_curve(arm.labels, one) for one in arm.height)
        return found

    def baseline(self, stage: str, world: World, regime: Regime, tuned: Mapping[str, Any]) -> Baseline:
        """Run `passive` at twice the labels, and for longer, until it is flat there and arrives in time.

        In time is within the labels at which agents are compared. Where they play at most `regime.most`, `passive` may
        take all of its own: it is the agents' arrival that has to come before theirs end. Where no policy is trained a
        label costs next to no time, and agents play as long as it takes.
        """
        most = regime.most if self.study.trains_in(world) else None
        labels, seeds = regime.labels, self._seeds(stage)
        for grown in range(self.study.growth + 1):
            setup = Setup(world, regime, 2 * labels, seeds)
            (measured,) = self._measure(f"{stage}-{PASSIVE}", setup, [Entry.of(passive_in(regime), tuned)]).values()
            arm = measured.arm
            compared = min(labels, most or labels)
            in_time = 2 * labels if compared == most else labels
            found = Baseline(
                measured,
                compared,
                plateau_of(arm.labels, arm.height),
                share_reaching(arm, in_time, share=self.study.share),
            )
            if found.settled or grown == self.study.growth:
                break
            labels = regime.every * math.ceil(1.5 * labels / regime.every)
        return found

    def screen(self, regime: Regime, tuned: Mapping[str, Tuned]) -> Table:
        """Run every cell with its best settings on fresh seeds, in the first development world."""
        world = self.study.of_kind("development")[0]
        cells = self.study.in_regime(regime)
        entries = [Entry.of(cell, tuned[cell.name].best) for cell in cells]
        arms = Arms(tuple(entries), dict.fromkeys((cell.name for cell in cells), "cell"))
        return self._table("screen", world, regime, tuned[PASSIVE].best, arms)

    def carried(self, table: Table) -> list[str]:
        """Name the cells that a screening carries on: by the fewest labels, then by the larger area."""
        found = table.comparisons
        order = sorted(found, key=lambda label: (found[label].log_ratio.value, -found[label].area.value))
        return order[: self.study.carried]

    def freeze(self, chosen: Mapping[str, Any], name: str = FROZEN) -> str:
        """Write down what will be confirmed, once and for all.

        Args:
            chosen: By regime, as `frozen_of` makes it, or `further_of`.
            name: Of the file.

        Returns:
            SHA-256 of what is frozen.

        Raises:
            UserError: Something else is frozen in this folder already.
        """
        kept = json.loads(json.dumps(chosen))
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        path = self.root / name
        before = files.read_sealed(path)
        if before is not None and before["sha256"] != digest:
            raise UserError(
                f"{str(path)!r} holds settings with the hash {before['sha256'][:12]}, and the study now has "
                f"others ({digest[:12]}): what is frozen is not changed, so begin anew with --output NEW"
            )
        if before is None:
            files.write_sealed(path, {"sha256": digest, "frozen": kept})
        return digest

    def frozen_of(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> dict[str, Any]:
        """Describe what is frozen of a regime: `passive`, carried cells and controls with settings, worlds, seeds."""
        return {
            "regime": vars(regime),
            "metric": self.study.metric,
            "share": self.study.share,
            "passive": dict(tuned[PASSIVE].best),
            "agents": self._arms(regime, tuned, table).described(),
            "worlds": {world.name: dict(world.settings) for world in self._unseen},
            "base": dict(self.study.base),
            "seeds": list(self.study.seeds["confirm"].values),
        }

    @property
    def _unseen(self) -> tuple[World, ...]:
        return (*self.study.of_kind("held_out"), *self.study.of_kind("negative"))

    def confirm(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> list[Table]:
        """Run carried cells and controls on fresh seeds, in every world that was not seen before.

        Raises:
            UserError: Nothing is frozen.
        """
        if files.read_sealed(self.root / FROZEN) is None:
            raise UserError(f"{str(self.root / FROZEN)!r} is missing: freeze before confirming")
        arms = self._arms(regime, tuned, table)
        return [self._table("confirm", world, regime, tuned[PASSIVE].best, arms) for world in self._unseen]

    def further_of(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> dict[str, Any]:
        """Describe what is frozen of a regime before any of the further worlds is met, by world."""
        return {world.name: self._described(world, regime, tuned, table) for world in self.study.of_kind("further")}

    def _described(self, world: World, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> dict[str, Any]:
        arms = self._arms_in(world, regime, tuned, table)
        data = data_of(self.study, world)
        return {
            "world": {key: value for key, value in self.study.settings_in(world).items() if key != "data"},
            "data": None if data is None else {**data, "path": digest_of_path(Path(data["path"]))},
            "metric": self.study.metric_in(world),
            "agents": arms.described(),
            "left_out": dict(arms.left_out),
        }

    def further(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> list[Table]:
        """Measure the carried cells once more, in the worlds that were named beside those held out.

        Raises:
            UserError: What is to be met there is not frozen.
        """
        if files.read_sealed(self.root / FROZEN_FURTHER) is None:
            raise UserError(f"{str(self.root / FROZEN_FURTHER)!r} is missing: freeze before confirming")
        return [
            self._table(
                "further",
                world,
                regime,
                tuned[PASSIVE].best if self.study.trains_in(world) else untaught(tuned[PASSIVE].best),
                self._arms_in(world, regime, tuned, table),
            )
            for world in self.study.of_kind("further")
        ]

    def _arms(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> Arms:
        return arms_of(self.study, regime, tuned, table, self.carried(table))

    def _arms_in(self, world: World, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> Arms:
        if self.study.trains_in(world):
            return self._arms(regime, tuned, table)
        setup = Setup(world, regime, regime.labels, self._seeds("further"))
        return arms_on_records(self.study, setup, {k: one.best for k, one in tuned.items()}, self.carried(table))

    def _seeds(self, stage: str) -> tuple[int, ...]:
        """Take a stage's seeds; further worlds are new, so that the seeds that confirm are fresh in them too."""
        return self.study.seeds["confirm" if stage == "further" else stage].values

    def _table(self, stage: str, world: World, regime: Regime, passive: Mapping[str, Any], arms: Arms) -> Table:
        baseline = self.baseline(stage, world, regime, passive)
        setup = Setup(world, regime, baseline.labels, self._seeds(stage))
        measured = self._measure(stage, setup, arms.entries)
        comparisons = {
            label: compare(one.arm, baseline.measured.arm, baseline.labels, share=self.study.share)
            for label, one in measured.items()
        }
        return Table(
            stage,
            world,
            regime,
            baseline,
            measured,
            comparisons,
            arms.roles,
            self.study.metric_in(world),
            arms.left_out,
        )

    def _measure(self, stage: str, setup: Setup, entries: Sequence[Entry]) -> dict[str, Measured]:
        folder = self.root / "runs" / f"{stage}-{setup.regime.name}-{setup.world.name}-{setup.labels}"
        return measure(self.study, setup, entries, folder, progress=self._progress)
