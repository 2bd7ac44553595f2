"""Which arms a confirmation plays: carried cells and controls; where no policy is trained, what is left of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from duelenv.experiments.efficiency.runs import Entry, Setup, refusal_of
from duelenv.experiments.efficiency.study import COMPOSED, PASSIVE, Cell, Regime, Study

if TYPE_CHECKING:
    from duelenv.experiments.efficiency.stages import Table, Tuned

__all__ = ["Arms", "arms_of", "arms_on_records", "passive_in", "untaught"]

#: The setting of replay among those that are tuned.
_REPLAY: Final = "replay"


@dataclass(frozen=True)
class Arms:
    """Who is compared with `passive` in a world.

    Attributes:
        entries: Agents with all settings.
        roles: By label: "cell", "control", or "privileged" where the agent was told the utility.
        left_out: Why a carried cell is not among them, by its label.
    """

    entries: tuple[Entry, ...]
    roles: Mapping[str, str]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Describe it as it is frozen."""
        return {
            entry.label: {
                "role": self.roles[entry.label],
                "name": entry.agent,
                "settings": dict(entry.settings),
                "env": dict(entry.env),
            }
            for entry in self.entries
        }


def passive_in(regime: Regime) -> Cell:
    """Make a cell of the baseline."""
    return Cell(PASSIVE, PASSIVE, {}, {}, {}, {}, {}, (regime.name,))


def arms_of(study: Study, regime: Regime, tuned: Mapping[str, Tuned], table: Table, carried: Sequence[str]) -> Arms:
    """Make carried cells and their controls; a control that equals an arm before it is left out.

    Args:
        study: The study.
        regime: Which.
        tuned: Trials of every agent.
        table: The screening, which tells how many steps an agent takes a round.
        carried: Labels of the cells that are carried on.
    """
    cells = {cell.name: cell for cell in study.in_regime(regime)}
    own = tuned[PASSIVE].best
    rounds = table.baseline.labels // regime.per_round
    found = [(Entry.of(cells[name], tuned[name].best), "cell") for name in carried]
    controls: list[Entry] = []
    for entry, _ in found:
        random = cells[entry.label].with_random_pairs
        if random is not None:
            controls.append(Entry.of(random, tuned[entry.label].best))
        steps = round(table.arms[entry.label].figures["gradient_steps"] / rounds)
        if steps != own.get("gradient_steps", 1):
            same = {**own, "gradient_steps": steps}
            controls.append(Entry.of(passive_in(regime), same, f"{PASSIVE}_{steps}_steps"))
    replays = [value for value in study.tuning.get(_REPLAY, ()) if value]
    if replays:
        replayed = tuned[PASSIVE].best_with({_REPLAY: replays[0]})
        controls.append(Entry.of(passive_in(regime), replayed, f"{PASSIVE}_{_REPLAY}"))
    controls += [Entry.of(cell, own) for cell in study.controls if regime.name in cell.regimes]
    taken = [_essence(Entry.of(passive_in(regime), own)), *(_essence(entry) for entry, _ in found)]
    for entry in controls:
        if _essence(entry) not in taken:
            taken.append(_essence(entry))
            found.append((entry, "privileged" if entry.privileged else "control"))
    return Arms(tuple(entry for entry, _ in found), {entry.label: role for entry, role in found})


def arms_on_records(study: Study, setup: Setup, tuned: Mapping[str, Mapping[str, Any]], carried: Sequence[str]) -> Arms:
    """Keep what is left of carried cells where no policy is trained: what they ask, with what they believe.

    Random pairs with the belief of each are its control. Cells that differ in teaching alone are one arm there, and a
    cell whose rule looks at a policy has none. A perfect belief has nothing to learn, and is no arm either.

    Args:
        study: The study.
        setup: The world, with the seeds.
        tuned: The settings that each carried cell was found to be best with.
        carried: Labels of the cells that are carried on.

    Raises:
        UserError: `passive` itself cannot play there.
    """
    cells = {cell.name: cell for cell in study.in_regime(setup.regime)}
    found: dict[str, tuple[Entry, str]] = {}
    taken = {_essence(Entry.of(passive_in(setup.regime), {})): PASSIVE}
    left_out: dict[str, str] = {}
    why = refusal_of(study, setup, None)
    if why is not None:
        raise why
    for name in carried:
        entry = Entry.of(cells[name].without_teaching, untaught(tuned[name]))
        twin = taken.get(_essence(entry))
        why = None if twin else refusal_of(study, setup, entry)
        if twin is not None:
            left_out[name] = f"nothing is taught here, so that it is {twin}"
        elif why is not None:
            left_out[name] = str(why)
        else:
            taken[_essence(entry)] = name
            found[name] = entry, "cell"
    for name in list(found):
        random = _random_pairs(cells[name].without_teaching)
        if random is None:
            continue
        control = Entry.of(random, untaught(tuned[name]))
        if _essence(control) not in taken:
            taken[_essence(control)] = control.label
            found[control.label] = control, "control"
    return Arms(
        tuple(entry for entry, _ in found.values()), {label: role for label, (_, role) in found.items()}, left_out
    )


def untaught(tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the settings of those that are tuned which say nothing of how a policy is trained."""
    from duelenv.agents.lessons import ReplaySettings
    from duelenv.agents.objective import ObjectiveSettings
    from duelenv.agents.trainer import TrainerSettings

    training = {
        item.name for kind in (TrainerSettings, ObjectiveSettings, ReplaySettings) for item in dataclasses.fields(kind)
    }
    return {key: value for key, value in tuned.items() if key not in training}


def _random_pairs(cell: Cell) -> Cell | None:
    """Make the control of a cell where a belief learns: random pairs, with the same belief whatever is taught."""
    random = cell.with_random_pairs
    return None if random is None else dataclasses.replace(random, belief=cell.belief)


def _essence(entry: Entry) -> str:
    """Tell what an agent is, whatever its label; `passive` is the composed agent that asks at random."""
    name = PASSIVE if entry.agent == COMPOSED and entry.settings.get("ask") == "random" else entry.agent
    settings = {key: value for key, value in entry.settings.items() if name != PASSIVE or key != "ask"}
    return json.dumps([name, settings, dict(entry.env)], sort_keys=True, default=str)
