"""An agent that minimises its whole loss exactly after every label, over two logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from duelenv.agents.base import Agent, Metrics, SettingsReader, register
from duelenv.agents.objective import ObjectiveSettings
from duelenv.agents.population import Listed, expected_bonus, preference_losses
from duelenv.core import AgentView, Labels, Observation, Pairs
from duelenv.experiments.two_logits.policy import TwoLogits, log_probs
from duelenv.experiments.two_logits.world import SOURCES, TwoLogitsView
from duelenv.ground import checks
from duelenv.ground.errors import UserError

#: Changes of the log-odds that the loss is compared at: their distance is a 2,000th of the largest.
_POINTS: Final = 4001
_A, _B = 0, 1


@dataclass(frozen=True)
class MinimiserSettings:
    """Who duels, and how far the policy may go.

    Attributes:
        against: "policy" for duels between two responses of the policy, "reference" for one against the reference's.
        largest: beta times the largest change of the log-odds, above 0: the utility gap that is thought possible.
    """

    against: str = "reference"
    largest: float = 2.0

    def __post_init__(self) -> None:
        checks.one_of("against", self.against, SOURCES)
        checks.number("largest", self.largest, above=0.0)


class ExactMinimiser(Agent):
    """Plays the policy's response against another and sets the policy to the minimiser of everything heard so far.

    The loss is the sum over all labels of the preference loss, and over all rounds of the bonus, whose mean over the
    reference is taken exactly. Where several policies minimise it, the one nearest to the reference is taken.

    Args:
        view: Of a world of two logits.
        logits: The policy.
        objective: Loss and bonus.
        settings: The rest.
    """

    def __init__(
        self, view: AgentView, logits: TwoLogits, objective: ObjectiveSettings, settings: MinimiserSettings
    ) -> None:
        super().__init__(view)
        self._logits = logits
        self._rival = 1 if settings.against == "policy" else 2
        self._counts = np.zeros((view.num_envs, 2))  # wins and losses of b against a
        self._rounds = 0
        loss = objective.make_loss()
        bonus = objective.make_bonus(loss)
        if not hasattr(loss, "beta"):
            raise UserError(f"loss {objective.loss!r} has no beta, with which 'largest' is compared; choose 'dpo'")
        reach = settings.largest / loss.beta
        changes = np.linspace(-reach, reach, _POINTS)
        # By distance, so that the first of equal losses is that of the policy nearest to the reference.
        self._odds = logits.reference_log_odds + changes[np.argsort(np.abs(changes), kind="stable")]
        own = torch.from_numpy(log_probs(self._odds))  # (G, 2)
        reference = torch.from_numpy(logits.reference_log_prob)
        listed = Listed(own, reference.expand_as(own), torch.ones(own.shape, dtype=torch.int64))
        won, lost = (preference_losses(loss, listed, np.array([_B, _A]), label).numpy() for label in (1.0, 0.0))
        self._of_labels = np.stack([won, lost])  # (2, G)
        self._of_a_round = np.zeros(len(own))
        if bonus is not None:
            self._of_a_round = expected_bonus(bonus, listed, reference.exp()).numpy()

    def _act(self, observation: Observation) -> NDArray[np.int64]:
        observation["features"]  # who looks is answered by the policy of now
        return np.tile(np.array([0, self._rival]), (self.view.num_envs, 1))

    def _update(self, observation: Observation, actions: Pairs, labels: Labels) -> Metrics:
        rows = np.arange(len(actions))[:, np.newaxis]
        said = observation["features"][rows, actions].argmax(axis=2)  # (N, 2)
        told = (said[:, 0] != said[:, 1]) & ~np.isnan(labels)
        wins = np.where(said[:, 0] == _B, labels, 1.0 - labels)
        self._counts[told] += np.stack([wins, 1.0 - wins], axis=1)[told]
        self._rounds += 1
        losses = self._counts @ self._of_labels + self._rounds * self._of_a_round
        self._logits.log_odds = self._odds[losses.argmin(axis=1)]
        return {"told_duels": float(self._counts.sum(axis=1).mean())}

    def _recommend(self, observation: Observation) -> NDArray[np.int64]:
        said = observation["features"].argmax(axis=2)
        return np.take_along_axis(self._logits.log_prob, said, axis=1).argmax(axis=1)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._counts.copy(), "rounds": self._rounds, "log_odds": self._logits.log_odds.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts, self._rounds = np.array(state["counts"]), int(state["rounds"])
        self._logits.log_odds = np.array(state["log_odds"])


@register("exact_minimiser")
def exact_minimiser(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the agent.

    Raises:
        UserError: The world has no policy of two logits.
    """
    if not isinstance(view, TwoLogitsView) or view.logits is None:
        raise UserError(
            f"agent 'exact_minimiser' moves a policy of two logits, and {view.world} has none; play it in "
            "duelenv/TwoLogits-v0"
        )
    return ExactMinimiser(view, view.logits, settings.take(ObjectiveSettings), settings.take(MinimiserSettings))
