"""A world of two responses with a live policy over them, and its KL-regret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from scipy.special import expit

from duelenv.core import AgentView, Recommender
from duelenv.exact import ExactFigures
from duelenv.experiments.two_logits.policy import TwoLogits
from duelenv.ground import checks
from duelenv.ground.randomness import RowStreams
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Preferences
from duelenv.oracles.links import logistic
from duelenv.regret import duel_regret
from duelenv.vector import DuelVectorEnv

WORLD: Final = "duelenv/TwoLogits-v0"
#: Who says the three candidates.
SOURCES: Final = ("policy", "policy", "reference")


@dataclass(frozen=True)
class TwoLogitsView(AgentView):
    """What an agent may know, the live policy among it.

    Attributes:
        logits: It.
    """

    logits: TwoLogits | None = None


class TwoLogitsVectorEnv(DuelVectorEnv):
    """N replicates of a duel between responses of a policy over two responses.

    ## Description
    Response a has utility 0, b has `gap`. Each round the policy says two responses and the reference one; which of the
    three duel is the agent's choice. Bradley-Terry labels. The policy is the agent's to move.

    ## Action Space
    `MultiDiscrete([3, 3])`, candidates 0 and 1 of the policy, 2 of the reference.

    ## Observation Space
    `features`: float32 [3, 2], one-hot, whether each candidate is a or b; drawn when first read, so that the policy of
    after the last update says them.

    ## Rewards
    The label: 1 where the first was preferred, 0 where the second was.

    ## Regret
    `kl`, J* - J(pi), and `temperature_zero`, of the policy as it stands; and those of the duel, `average`, `sum`,
    `strong`, `weak` and `utility`, against the better response.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    gap: u(b) - u(a), in log-odds of the preference.
    reference_log_odds: log ref(b) / ref(a).
    beta: Price of a nat of KL in J, above 0.

    ## Version History
    v0: first version.
    """

    world: ClassVar[str] = WORLD

    def __init__(
        self,
        *,
        gap: float = 1.0,
        reference_log_odds: float = -12.0,
        beta: float = 0.05,
        num_envs: int = 1,
        horizon: int = 1000,
    ) -> None:
        self._utility = np.array([0.0, checks.number("gap", gap)])
        self._beta = checks.number("beta", beta, above=0.0)
        super().__init__(
            num_envs=num_envs,
            batch=1,
            num_candidates=len(SOURCES),
            horizon=horizon,
            observation={"features": spaces.Box(0.0, 1.0, (len(SOURCES), 2), np.float32)},
        )
        self.logits = TwoLogits(num_envs, checks.number("reference_log_odds", reference_log_odds))
        self._rows = np.arange(num_envs)
        self._drawn: NDArray[np.int64] | None = None

    def view(self) -> AgentView:
        """Return what an agent may know, with the policy that it moves."""
        return TwoLogitsView(**vars(super().view()), logits=self.logits)

    def _redraw(self, root: int) -> None:
        self._streams = RowStreams(root, "candidates", self.num_envs)

    def _context_streams(self) -> dict[str, RowStreams]:
        return {"candidates": self._streams}

    def _next_context(self) -> None:
        self._uniforms = self._streams.uniform(len(SOURCES))
        self._drawn = None

    def _responses(self) -> NDArray[np.int64]:
        """Return which response each candidate is, 0 for a and 1 for b, [N, 3]; the policy of this moment says them."""
        if self._drawn is None:
            own = self.logits.log_odds
            odds = np.stack([own, own, np.full_like(own, self.logits.reference_log_odds)], axis=1)
            self._drawn = (self._uniforms < expit(odds)).astype(np.int64)
        return self._drawn

    def _observe(self) -> LazyObservation:
        return LazyObservation({"features": lambda: np.eye(2, dtype=np.float32)[self._responses()]})

    def _utilities(self, arms: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._utility[self._responses()[self._rows, arms]]

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        win = np.asarray(expit(self._utilities(first) - self._utilities(second)))
        return Preferences(win, np.zeros_like(win))

    def _figures(self) -> ExactFigures:
        shape = (self.num_envs, 2)
        reference = np.broadcast_to(self.logits.reference_log_prob, shape)
        return ExactFigures.of(self.logits.log_prob, reference, np.broadcast_to(self._utility, shape), self._beta)

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        best = np.full(self.num_envs, self._utility.max())
        shown = duel_regret(logistic, best, self._utilities(first), self._utilities(second))
        return self._figures().notions() | shown

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return J, KL and both regrets of the policy by replicate; there are no contexts, so both splits are one."""
        return dict(vars(self._figures()))

    def state_dict(self) -> dict[str, Any]:
        """See `DuelVectorEnv.state_dict`."""
        return super().state_dict() | {"drawn": None if self._drawn is None else self._drawn.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """See `DuelVectorEnv.load_state_dict`; the policy is the agent's to restore, and first."""
        super().load_state_dict(state)
        self._drawn = None if state["drawn"] is None else np.array(state["drawn"])
        return self._observe()


def register_world() -> None:
    """Register the world with Gymnasium, in its vector form alone; a second call changes nothing."""
    if WORLD not in gymnasium.registry:
        gymnasium.register(WORLD, vector_entry_point=f"{__name__}:TwoLogitsVectorEnv")
