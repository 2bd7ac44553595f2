"""What a sweep plays: its trials, the rungs that leave some behind, what it costs in labels, and as which runs."""

from __future__ import annotations

import bisect
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from duelenv.experiments.config.loading import apply_override
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.sweeps.halving import Halving, Rung, read_halving, whole_rung
from duelenv.experiments.sweeps.space import Space, read_space
from duelenv.ground import checks
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["SEARCHES", "Sweep", "confirming_seeds", "digest", "groups", "read_sweep", "run_of"]

SEARCHES: Final = ("grid", "random")


@dataclass(frozen=True)
class Sweep:
    """What is searched.

    Attributes:
        base: Settings of the run that is varied.
        agent: Label of the agent whose settings are chosen.
        space: What is tried.
        search: "grid" or "random".
        labels: That the whole sweep may ask for, confirmation included.
        seed: Of a random search.
        halving: How settings are left behind; None plays all to the end.
        confirm: Seeds that play the best setting and the agent as it was, none of which chose.
    """

    base: Mapping[str, Any]
    agent: str
    space: Space
    search: str
    labels: int
    seed: int = 0
    confirm: int = 0
    halving: Halving | None = None

    def __post_init__(self) -> None:
        self.trials()

    @cached_property
    def config(self) -> RunConfig:
        """The run that is varied."""
        return RunConfig.from_dict(self.base)

    def trials(self) -> list[dict[str, Any]]:
        """Say what is tried, as far as the labels reach.

        Raises:
            UserError: They do not reach for a grid, or for one trial.
        """
        config = self.config
        each = config.budget.labels
        if each is None:
            raise UserError("A sweep counts labels: set 'budget.labels', what each agent with each seed may ask for")
        if not any(agent.label == self.agent for agent in config.agents):
            raise UserError(
                f"No agent is called {self.agent!r}: {choices(self.agent, [a.label for a in config.agents])}"
            )
        if self.search == "random":
            if self.spent(1) > self.labels:
                raise UserError(
                    f"'sweep.labels' is {self.labels}, and one trial with its confirmation takes {self.spent(1)}: give "
                    "at least as many"
                )
            return [self.space.draw(self.seed, number) for number in range(self._affordable())]
        points = self.space.grid()
        if self.spent(len(points)) > self.labels:
            raise UserError(
                f"'sweep.labels' is {self.labels}, and the grid of {len(points)} trials takes "
                f"{self.spent(len(points))}: give as many, list fewer values, or set search=random"
            )
        return points

    def rungs(self, trials: int) -> list[Rung]:
        """Say what is played of so many trials, one rung after the other."""
        config = self.config
        make = whole_rung if self.halving is None else self.halving.rungs
        return make(trials, len(config.seeds), config.budget.labels or 0)

    def spent(self, trials: int) -> int:
        """Count the labels of a sweep of so many trials, its confirmation included."""
        confirmation = 2 * self.confirm * (self.config.budget.labels or 0)
        return sum(rung.spent for rung in self.rungs(trials)) + confirmation

    def _affordable(self) -> int:
        """Find the most trials that the labels pay for.

        What trials cost grows with their number as long as the number of rungs stays the same, and may fall with one
        more rung, whose first ones are shorter.
        """
        factor = self.labels if self.halving is None else self.halving.factor
        most, first, last = 1, 1, factor
        while first <= self.labels:
            fits = bisect.bisect_right(range(first, last + 1), self.labels, key=self.spent)
            most = max(most, first - 1 + fits) if fits else most
            first, last = last + 1, last * max(factor, 2)
        return most


def read_sweep(base: Mapping[str, Any], raw: object) -> Sweep:
    """Check the section `sweep` of a config.

    Args:
        base: The config without it, paths absolute.
        raw: The section.

    Raises:
        UserError: A setting that is unknown, missing or of the wrong kind.
    """
    given = checks.mapping("'sweep'", raw)
    checks.refuse_unknown("sweep", given, ["agent", "settings", "search", "labels", "seed", "confirm", "halving"])
    for key in ("agent", "settings", "labels"):
        if given.get(key) is None:
            raise UserError(f"'sweep' has no {key!r}: add it")
    return Sweep(
        base,
        checks.text("'sweep.agent'", given["agent"]),
        read_space(given["settings"]),
        checks.one_of("sweep.search", given.get("search", "random"), SEARCHES),
        checks.integer("'sweep.labels'", given["labels"], low=1),
        checks.integer("'sweep.seed'", given.get("seed", 0), low=0),
        checks.integer("'sweep.confirm'", given.get("confirm", 0), low=0),
        read_halving(given.get("halving")),
    )


def confirming_seeds(sweep: Sweep) -> tuple[int, ...]:
    """List the seeds after those that choose."""
    first = max(sweep.config.seeds) + 1
    return tuple(range(first, first + sweep.confirm))


def groups(sweep: Sweep, points: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Group trials that play in one run, by its name: those that agree in all settings that are not the agent's."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for number, point in points.items():
        apart = {key: value for key, value in point.items() if not _is_own(sweep, key)}
        found.setdefault(f"trials-{digest(apart)}" if apart else "trials", {})[number] = point
    return found


def _is_own(sweep: Sweep, key: str) -> bool:
    """Whether a setting is the agent's own."""
    return key.startswith(f"agents.{sweep.agent}.")


def run_of(
    sweep: Sweep, points: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], labels: int | None = None
) -> RunConfig:
    """Find the run of some settings of the agent by label, which agree in all settings that are not the agent's.

    Args:
        sweep: The sweep.
        points: Settings by label.
        seeds: That play.
        labels: Of each of them with each seed; those of the base if absent.
    """
    agents: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for label, point in points.items():
        whole = dict(sweep.base)
        for key, value in point.items():
            apply_override(whole, f"{key}={json.dumps(value)}")
        if labels is not None:
            apply_override(whole, f"budget.labels={labels}")
            whole["report_at"] = [count for count in sweep.config.report_at if count <= labels]
        config = RunConfig.from_dict(whole)
        agents[label] = config.to_dict()["agents"][sweep.agent]
    whole |= {"agents": agents, "baseline": next(iter(agents)), "seeds": list(seeds), "save_models": "none"}
    whole.pop("first_seed", None)
    return RunConfig.from_dict(whole)


def digest(value: Any) -> str:
    """Make a short name for plain containers."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
