"""The stages of a study in their order: tune, screen, freeze, confirm. What each of them chooses, and from what.

Nothing is remembered but run folders and what was frozen: a stage that is asked for again reads what it measured, and
chooses the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from duelenv.experiments.efficiency.crossing import Plateau, plateau_of
from duelenv.experiments.efficiency.resampling import Comparison, compare, share_reaching
from duelenv.experiments.efficiency.runs import Entry, Measured, Setup, measure
from duelenv.experiments.efficiency.study import COMPOSED, PASSIVE, Cell, Regime, Study, World
from duelenv.experiments.folder import files
from duelenv.experiments.tables.statistics import area_under_curve
from duelenv.ground.errors import UserError

__all__ = ["STAGES", "Baseline", "Stages", "Table", "Tuned"]

STAGES: Final = ("tune", "screen", "freeze", "confirm")
#: Share of resamples in which `passive` has to arrive within the labels at which agents are compared.
_ARRIVES: Final = 0.95


@dataclass(frozen=True)
class Tuned:
    """An agent's trials.

    Attributes:
        cell: Name of the cell, or `PASSIVE`.
        trials: What was tried.
        scores: Mean height of the curve over labels, seeds and development worlds, of each trial.
    """

    cell: str
    trials: tuple[Mapping[str, Any], ...]
    scores: tuple[float, ...]

    @property
    def best(self) -> Mapping[str, Any]:
        """The best of them; the first of equals."""
        return self.best_with({})

    def best_with(self, fixed: Mapping[str, Any]) -> Mapping[str, Any]:
        """The best of those with these values."""
        fitting = [
            index for index, trial in enumerate(self.trials) if all(trial[key] == value for key, value in fixed.items())
        ]
        return self.trials[max(fitting, key=lambda index: self.scores[index])]


@dataclass(frozen=True)
class Baseline:
    """`passive` in a world, and the labels at which agents are compared with it."""

    measured: Measured
    labels: int
    plateau: Plateau
    arrives: float
    """Share of resamples in which it reaches its own target within `labels`."""

    @property
    def settled(self) -> bool:
        """Whether it is flat and arrives; if not, what is said of this world is to be read with care."""
        return self.plateau.flat and self.arrives >= _ARRIVES


@dataclass(frozen=True)
class Table:
    """Every arm of a regime in a world, against `passive`.

    Attributes:
        stage: "screen" or "confirm".
        world: Where.
        regime: Which.
        baseline: `passive`.
        arms: The others, by label.
        comparisons: Of each with `passive`.
        roles: "cell", "control", or "privileged" where the agent was told the utility.
    """

    stage: str
    world: World
    regime: Regime
    baseline: Baseline
    arms: Mapping[str, Measured]
    comparisons: Mapping[str, Comparison]
    roles: Mapping[str, str]


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
        """Try the same settings of `passive` and of every cell, in all development worlds."""
        study = self.study
        trials = study.trials
        entries = [
            Entry.of(cell, trial, f"{cell.name}.{number}")
            for number, trial in enumerate(trials)
            for cell in (_passive(regime), *study.in_regime(regime))
        ]
        scores: dict[str, list[float]] = {entry.label: [] for entry in entries}
        for world in study.of_kind("development"):
            setup = Setup(world, regime, regime.labels, study.seeds["tune"].values)
            for label, measured in self._measure("tune", setup, entries).items():
                arm = measured.arm
                scores[label].append(area_under_curve(arm.labels, arm.height.mean(axis=0)))
        return {
            cell.name: Tuned(
                cell.name,
                trials,
                tuple(float(np.mean(scores[f"{cell.name}.{number}"])) for number in range(len(trials))),
            )
            for cell in (_passive(regime), *study.in_regime(regime))
        }

    def baseline(self, stage: str, world: World, regime: Regime, tuned: Mapping[str, Any]) -> Baseline:
        """Run `passive` at twice the labels, and for longer, until it is flat there and arrives within the labels."""
        labels, seeds = regime.labels, self.study.seeds[stage].values
        for grown in range(self.study.growth + 1):
            setup = Setup(world, regime, 2 * labels, seeds)
            (measured,) = self._measure(f"{stage}-{PASSIVE}", setup, [Entry.of(_passive(regime), tuned)]).values()
            arm = measured.arm
            found = Baseline(
                measured,
                labels,
                plateau_of(arm.labels, arm.height),
                share_reaching(arm, labels, share=self.study.share),
            )
            if found.settled or grown == self.study.growth:
                break
            labels = regime.every * math.ceil(1.5 * labels / regime.every)
        return found

    def screen(self, regime: Regime, tuned: Mapping[str, Tuned]) -> Table:
        """Every cell with its best settings on fresh seeds, in the first development world."""
        world = self.study.of_kind("development")[0]
        cells = self.study.in_regime(regime)
        entries = [Entry.of(cell, tuned[cell.name].best) for cell in cells]
        return self._table(
            "screen", world, regime, tuned[PASSIVE].best, entries, dict.fromkeys((c.name for c in cells), "cell")
        )

    def carried(self, table: Table) -> list[str]:
        """The cells that a screening carries on: by the fewest labels, then by the larger area."""
        found = table.comparisons
        order = sorted(found, key=lambda label: (found[label].log_ratio.value, -found[label].area.value))
        return order[: self.study.carried]

    def freeze(self, chosen: Mapping[str, Any]) -> str:
        """Write down what will be confirmed, once and for all.

        Args:
            chosen: By regime, as `frozen_of` makes it.

        Returns:
            SHA-256 of what is frozen.

        Raises:
            UserError: Something else is frozen in this folder already.
        """
        kept = json.loads(json.dumps(chosen))
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        before = files.read_sealed(self._frozen)
        if before is not None and before["sha256"] != digest:
            raise UserError(
                f"{str(self._frozen)!r} holds settings with the hash {before['sha256'][:12]}, and the study now has "
                f"others ({digest[:12]}): what is frozen is not changed, so begin anew with --output NEW"
            )
        if before is None:
            files.write_sealed(self._frozen, {"sha256": digest, "frozen": kept})
        return digest

    @property
    def _frozen(self) -> Path:
        return self.root / "frozen.json"

    def frozen_of(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> dict[str, Any]:
        """What is frozen of a regime: `passive`, carried cells and controls with all settings, worlds and seeds."""
        entries = self._confirmed(regime, tuned, table)
        return {
            "regime": vars(regime),
            "metric": self.study.metric,
            "share": self.study.share,
            "passive": dict(tuned[PASSIVE].best),
            "agents": {
                entry.label: {
                    "role": role,
                    "name": entry.agent,
                    "settings": dict(entry.settings),
                    "env": dict(entry.env),
                }
                for entry, role in entries
            },
            "worlds": {world.name: dict(world.settings) for world in self._unseen},
            "base": dict(self.study.base),
            "seeds": list(self.study.seeds["confirm"].values),
        }

    @property
    def _unseen(self) -> tuple[World, ...]:
        return (*self.study.of_kind("held_out"), *self.study.of_kind("negative"))

    def confirm(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> list[Table]:
        """Carried cells and controls on fresh seeds, in every world that was not seen before.

        Raises:
            UserError: Nothing is frozen.
        """
        if files.read_sealed(self._frozen) is None:
            raise UserError(f"{str(self._frozen)!r} is missing: freeze before confirming")
        entries = self._confirmed(regime, tuned, table)
        roles = {entry.label: role for entry, role in entries}
        return [
            self._table("confirm", world, regime, tuned[PASSIVE].best, [entry for entry, _ in entries], roles)
            for world in self._unseen
        ]

    def _confirmed(self, regime: Regime, tuned: Mapping[str, Tuned], table: Table) -> list[tuple[Entry, str]]:
        """Carried cells and their controls, each with its role; a control that equals one before it is left out."""
        cells = {cell.name: cell for cell in self.study.in_regime(regime)}
        own = tuned[PASSIVE].best
        rounds = table.baseline.labels // regime.per_round
        found = [(Entry.of(cells[name], tuned[name].best), "cell") for name in self.carried(table)]
        controls: list[Entry] = []
        for entry, _ in found:
            random = cells[entry.label].with_random_pairs
            if random is not None:
                controls.append(Entry.of(random, tuned[entry.label].best))
            steps = round(table.arms[entry.label].figures["gradient_steps"] / rounds)
            if steps != own.get("gradient_steps", 1):
                same = {**own, "gradient_steps": steps}
                controls.append(Entry.of(_passive(regime), same, f"{PASSIVE}_{steps}_steps"))
        replays = [value for value in self.study.tuning.get("replay", ()) if value]
        if replays:
            replayed = tuned[PASSIVE].best_with({"replay": replays[0]})
            controls.append(Entry.of(_passive(regime), replayed, f"{PASSIVE}_replay"))
        controls += [Entry.of(cell, own) for cell in self.study.controls if regime.name in cell.regimes]
        taken = [_essence(Entry.of(_passive(regime), own)), *(_essence(entry) for entry, _ in found)]
        for entry in controls:
            if _essence(entry) not in taken:
                taken.append(_essence(entry))
                found.append((entry, "privileged" if entry.privileged else "control"))
        return found

    def _table(
        self,
        stage: str,
        world: World,
        regime: Regime,
        passive: Mapping[str, Any],
        entries: Sequence[Entry],
        roles: Mapping[str, str],
    ) -> Table:
        baseline = self.baseline(stage, world, regime, passive)
        setup = Setup(world, regime, baseline.labels, self.study.seeds[stage].values)
        arms = self._measure(stage, setup, entries)
        comparisons = {
            label: compare(one.arm, baseline.measured.arm, baseline.labels, share=self.study.share)
            for label, one in arms.items()
        }
        return Table(stage, world, regime, baseline, arms, comparisons, roles)

    def _measure(self, stage: str, setup: Setup, entries: Sequence[Entry]) -> dict[str, Measured]:
        folder = self.root / "runs" / f"{stage}-{setup.regime.name}-{setup.world.name}-{setup.labels}"
        return measure(self.study, setup, entries, folder, progress=self._progress)


def _passive(regime: Regime) -> Cell:
    return Cell(PASSIVE, PASSIVE, {}, {}, {}, {}, {}, (regime.name,))


def _essence(entry: Entry) -> str:
    """What an agent is, whatever its label; `passive` is the composed agent that asks at random."""
    name = PASSIVE if entry.agent == COMPOSED and entry.settings.get("ask") == "random" else entry.agent
    settings = {key: value for key, value in entry.settings.items() if name != PASSIVE or key != "ask"}
    return json.dumps([name, settings, dict(entry.env)], sort_keys=True, default=str)
