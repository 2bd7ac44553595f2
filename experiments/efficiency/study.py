"""What a study compares: worlds, regimes, cells of ask and teach, what is tuned, seeds. Reads and runs nothing.

A study is a YAML file with the key `study`. `base` is what all of its runs share, keys of an ordinary run config;
worlds and regimes change it, and cells are agents in it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["COMPOSED", "CONFIRMED", "NOTHING_ELSE", "PASSIVE", "Cell", "Regime", "SeedRange", "Study", "World"]

#: The baseline of every study.
PASSIVE: Final = "passive"
#: The agent that is made of the parts that a cell names.
COMPOSED: Final = "composed"
#: The teaching rule that teaches the labels alone.
NOTHING_ELSE: Final = "duel"
#: The belief of agents in worlds without a policy, where none is named.
_BELIEF_OF_FEATURES: Final = "linear_logistic"
#: Kinds of worlds in which something may be claimed.
CONFIRMED: Final = ("held_out", "further")


@dataclass(frozen=True)
class World:
    """Where agents are compared.

    Attributes:
        name: In tables and folders.
        kind: "development", looked at while choosing; "held_out", not seen before the settings are frozen; "negative",
            a control in which finding the rare thing should not help; "further", met after what is held out.
        settings: What it changes in `base`: the oracle, the policy, or all of it.
        metric: What is to be reached here; None for that of the study.
        made: What its recorded responses are made of, where the project makes them itself, see
            `duelenv.experiments.efficiency.made_pools`.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    metric: str | None = None
    made: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Regime:
    """How many labels a gradient step has.

    Attributes:
        name: In tables and folders.
        per_round: Labels a round, of which an agent makes as many steps as its `gradient_steps` say.
        labels: At which agents are compared; more where `passive` takes longer.
        every: Labels between two evaluations.
        most: Labels that agents other than `passive` play at most where a policy is trained; None for as many as
            `passive` takes. Who does not arrive within them while `passive` does later has an unknown ratio, which
            counts as 1.
    """

    name: str
    per_round: int
    labels: int
    every: int
    most: int | None = None

    def __post_init__(self) -> None:
        for key in ("per_round", "labels", "every"):
            checks.integer(f"'regimes.{self.name}.{key}'", getattr(self, key), low=1)
        wholes = [("labels", self.labels, self.every), ("every", self.every, self.per_round)]
        if self.most is not None:
            checks.integer(f"'regimes.{self.name}.most'", self.most, low=self.labels)
            wholes.append(("most", self.most, self.every))
        for key, whole, part in wholes:
            if whole % part:
                raise UserError(
                    f"'regimes.{self.name}.{key}' is {whole}, expected a multiple of {part}, so that every agent is "
                    "evaluated at the same labels: change one of them"
                )


@dataclass(frozen=True)
class Cell:
    """An agent setting: what it asks, what it teaches, what it believes.

    Attributes:
        name: In tables and folders.
        agent: Registered agent name.
        ask: Settings of what it asks, the rule's own among them.
        teach: The same of what it teaches besides labels.
        belief: The same of what it believes.
        others: All other settings, but for those that are tuned.
        env: What it needs otherwise in the world, such as prompts to choose from.
        regimes: Names of the regimes that it takes part in.
    """

    name: str
    agent: str
    ask: Mapping[str, Any]
    teach: Mapping[str, Any]
    belief: Mapping[str, Any]
    others: Mapping[str, Any]
    env: Mapping[str, Any]
    regimes: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """All of them, as the agent is made with."""
        return {**self.ask, **self.teach, **self.belief, **self.others}

    @property
    def with_random_pairs(self) -> Cell | None:
        """The control that asks at random and teaches the same; None for an agent that is not composed of parts.

        Of the prompts that are shown it asks as many, any of them. Without teaching it needs no belief.
        """
        if self.agent != COMPOSED:
            return None
        chosen = {"prompts": "random", "asked": self.ask["asked"]} if "asked" in self.ask else {}
        return dataclasses.replace(
            self,
            name=f"random_as_{self.name}",
            ask={"ask": "random", **chosen},
            belief=self.belief if self.teach else {},
        )

    @property
    def without_teaching(self) -> Cell:
        """The same where no policy is trained: what it asks and what it believes are left of it.

        There a belief is what learns, so that every agent has one, and the default is not written out.
        """
        if self.agent != COMPOSED:
            return self
        default = self.belief == {"belief": _BELIEF_OF_FEATURES}
        return dataclasses.replace(self, teach={}, belief={} if default else self.belief, others={})


@dataclass(frozen=True)
class SeedRange:
    """Seeds of a stage."""

    count: int
    first: int

    @property
    def values(self) -> tuple[int, ...]:
        """They."""
        return tuple(range(self.first, self.first + self.count))


@dataclass(frozen=True)
class Study:
    """A study, made by `duelenv.experiments.efficiency.reading`."""

    name: str
    base: Mapping[str, Any]
    worlds: tuple[World, ...]
    regimes: tuple[Regime, ...]
    cells: tuple[Cell, ...]
    controls: tuple[Cell, ...]
    """Agents that are played beside the carried cells, untuned: with `passive`'s settings. One named `perfect_belief`
    is told the utility, and marked as such in every table."""
    tuning: Mapping[str, tuple[Any, ...]]
    """Values of each setting that is tuned; all of their products, for `passive` and every cell alike."""
    seeds: Mapping[str, SeedRange]
    """By stage. Those of "race" are optional: with them the best trials of each agent are tried once more."""
    metric: str = "win_rate"
    """What is to be reached."""
    null_trials: int = 200
    """Splits of the seeds of `passive` in the null check."""
    share: float = 0.9
    """Of the way from the start to the plateau of `passive`."""
    finalists: int = 4
    """Trials of each agent that are tried once more, on the seeds of the race."""
    carried: int = 3
    """Cells of a regime that are confirmed, at most."""
    growth: int = 3
    """How often the labels may be made half as many again, until `passive` is flat at twice and arrives at once."""
    jobs: int | None = None
    """Cells that run at the same time; one per core if absent."""
    resolved: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What it was read from."""

    def of_kind(self, kind: str) -> tuple[World, ...]:
        """Find the worlds of a kind."""
        return tuple(world for world in self.worlds if world.kind == kind)

    def settings_in(self, world: World) -> dict[str, Any]:
        """Merge `base` with what a world changes. Settings of the environment are kept but where another is named."""
        own = world.settings.get("env", {})
        shared = {} if "id" in own else self.base.get("env", {})
        return {**self.base, **world.settings, "env": {**shared, **own}}

    def trains_in(self, world: World) -> bool:
        """Tell whether agents train a policy there; elsewhere they only choose among what is recorded."""
        return self.settings_in(world).get("policy") is not None

    def metric_in(self, world: World) -> str:
        """Find what is to be reached there."""
        return world.metric or self.metric

    def in_regime(self, regime: Regime) -> tuple[Cell, ...]:
        """Find the cells that take part in a regime."""
        return tuple(cell for cell in self.cells if regime.name in cell.regimes)

    @property
    def trials(self) -> tuple[dict[str, Any], ...]:
        """What is tried of every agent: all products of the values that are tuned."""
        return tuple(dict(zip(self.tuning, values, strict=True)) for values in itertools.product(*self.tuning.values()))
