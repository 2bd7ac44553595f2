"""What every world is: N rows of rounds and episodes in NumPy; no world's own truth, and no labels.

Labels have a room of their own, `duelenv.labels`: a world says who is preferred, and is told what the agent hears. A
world is a `DuelVectorEnv`: N rows in NumPy, where rows are replicates times batch; its N = 1 case for scalar use is in
`duelenv.scalar`. A subclass says how a context comes about, what may be observed of it, who wins a duel, and how much a
duel is regretted; everything else is here, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, create_empty_array
from numpy.typing import NDArray

from duelenv.actions import read_actions
from duelenv.core import AgentView, Labels, Observation, Recommender, StageLike
from duelenv.ground import checks
from duelenv.ground.calls import check_made
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.labels.ledger import Ledger
from duelenv.labels.path import LabelPath, Round, Told
from duelenv.labels.stage import read_stages
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Preferences
from duelenv.oracles.sources import Source
from duelenv.rendering import RENDER_METADATA, Duel, check_render_mode, read_shown


class DuelVectorEnv(VectorEnv[Any, Any, Any]):
    """N rows of a contextual dueling bandit.

    Args:
        num_envs: Number of rows N, a multiple of `batch`.
        batch: Rows that share one truth, and one learner.
        num_candidates: Candidates K of each row, at least 2.
        horizon: Rounds of an episode; all rows are truncated together after it.
        observation: One row's spaces by name.
        selective: Give the action a third entry, 1 to ask for the label and 0 not to.
        feedback: "bernoulli" draws labels from the preference probabilities; "argmax" always names the likelier one.
        stages: What disturbs labels on their way, in that order: names, mappings or objects, see
            `duelenv.disturbances`.
        source: Who answers, where answers come later.
        budget: Labels that each replicate may ask for between two seeded resets; its rows get them in order, and the
            episode ends when nothing is left. None for as many as there are rounds.
        render_mode: "ansi" lets `render` show the last duel as text; what is shown of a lazy observation is then made
            before the duel.

    Raises:
        UserError: A value outside its range.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (declared so by Gymnasium)
        "autoreset_mode": AutoresetMode.DISABLED,
        **RENDER_METADATA,
    }
    world: ClassVar[str]
    fixed_candidates: bool = False
    """Whether every round shows the same candidates in the same order."""
    self_duels: bool = True
    """Whether agents may play a candidate against itself, see `AgentView`."""
    single_observation_space: spaces.Dict
    single_action_space: spaces.MultiDiscrete

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        check_made(cls, DuelVectorEnv, lambda made: f"world {getattr(made, 'world', made.__name__)!r}")

    def __init__(
        self,
        *,
        num_envs: int,
        batch: int,
        num_candidates: int,
        horizon: int,
        observation: Mapping[str, spaces.Space[Any]],
        selective: bool = False,
        feedback: str = "bernoulli",
        stages: Sequence[StageLike] | None = None,
        source: Source | None = None,
        budget: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = check_render_mode(render_mode)
        checks.integer("num_envs", num_envs, low=1)
        checks.integer("batch", batch, low=1)
        checks.integer("num_candidates", num_candidates, low=2)
        checks.integer("horizon", horizon, low=1)
        if budget is not None:
            checks.integer("budget", budget, low=1)
        if num_envs % batch:
            raise UserError(f"num_envs={num_envs} is not a multiple of batch={batch}; rows are replicates times batch")
        self.num_envs = num_envs
        self.batch = batch
        self.replicates = num_envs // batch
        self.num_candidates = num_candidates
        self.selective = checks.flag("selective", selective)
        # Where every row is asked, the budget says how long an episode is; agents plan with that.
        self.horizon = horizon if budget is None or selective else min(horizon, -(-budget // batch))
        choices = [num_candidates, num_candidates] + ([2] if selective else [])
        self.single_action_space = spaces.MultiDiscrete(choices)
        self.single_observation_space = spaces.Dict(dict(observation))
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._choices = np.array(choices, np.uint64)
        self._labels = LabelPath(
            rows=num_envs,
            batch=batch,
            feedback=feedback,
            stages=read_stages(stages),
            source=source,
            empty=cast("Observation", create_empty_array(self.single_observation_space, n=0)),
            action_size=len(choices),
            budget=budget,
        )
        self._root: int | None = None
        self._round = 0  # of the episode
        self._number = 0  # rounds since the last seeded reset
        self._running = False
        self._shown: Any = None  # the current observation, as it was returned
        self._rendered: Duel | None = None  # the last round, where it is rendered

    @property
    def root(self) -> int:
        """The root integer of every stream of this world, drawn by the last seeded reset.

        Every use of chance draws from it under a purpose of its own (see `duelenv.ground.randomness`).

        Raises:
            UserError: There was no reset yet.
        """
        if self._root is None:
            raise UserError("the environment has no root before its first reset; call reset(seed=...)")
        return self._root

    # What a world is made of -----------------------------------------------------------------------------------------

    @abstractmethod
    def _redraw(self, root: int) -> None:
        """Draw the hidden truth and start the streams of contexts, all from `root`."""

    @abstractmethod
    def _context_streams(self) -> dict[str, RowStreams]:
        """Return the streams that `_next_context` reads, each exactly once a round, by purpose."""

    @abstractmethod
    def _next_context(self) -> None:
        """Move every row to its next context."""

    @abstractmethod
    def _observe(self) -> dict[str, Any] | LazyObservation:
        """Return what may be seen of the current context, arrays with a leading row axis."""

    @abstractmethod
    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        """Return the preferences of all rows' duels, [N].

        Args:
            first: First candidates, [N].
            second: Second candidates, [N].
            asked: Whose label is asked for, [N], None for everybody's; other rows may hold anything.
        """

    @abstractmethod
    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return every notion of regret that is known exactly, float64 [N] each."""

    @abstractmethod
    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Judge an agent on contexts of its own stream, which is the same at every call and costs no query.

        Args:
            agent: Anything with `recommend`; worlds with a policy judge that too.
            split: "test" for held-out contexts, "train" for those that duels are drawn from.

        Returns:
            Metrics by plain names, float64 [replicates] each: `simple_regret` of the recommended candidate, its
            `win_rate_best_of_n`, and `win_rate` and `kl` of the policy where there is one.
        """

    # The contract ----------------------------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Redraws everything: the truth, the contexts and the coins. Without it the truth stays, the streams go
                on (the first call draws a seed), and what a source still owes comes in the new episode.
            options: Gymnasium's `reset_mask`, which must name all rows: they end together. Nothing else is known.

        Returns:
            The first observation, and an info with `queries`, `late` (nothing) and `pending` (no row).
        """
        self._check_options(options)
        if seed is not None or self._root is None:
            super().reset(seed=seed)
            # `np_random` seeds itself where no seed was ever given.
            self._root = int(self.np_random.integers(2**63))
            self._number = 0
            self._labels.restart(self._root)
            self._redraw(self._root)
        self._round = 0
        self._running = True
        arrivals = self._labels.start_episode(self._number)
        self._next_context()
        self._shown = self._observe()
        self._rendered = None
        pending = np.zeros(self.num_envs, np.bool_)
        return self._shown, {"queries": self._labels.queries.copy(), "late": arrivals, "pending": pending}

    def step(self, actions: Any) -> tuple[Any, Labels, Any, Any, dict[str, Any]]:
        """Let the chosen pairs duel.

        Whatever an oracle or a stage raises passes through, and the round is as if it had not been played: stepping
        again with the same actions asks the same questions, which are counted and decided once.

        Args:
            actions: int64 [N, 2] (i, j), or [N, 3] with 1 to ask and 0 not to where the world is selective.

        Returns:
            The next observation; labels float64 [N]: 1 where the first was preferred, 0 where the second, 0.5 for a
            declared tie, NaN where no label came; terminated, always False; truncated, True after `horizon` rounds;
            and an info with

            - `regret` by name, float64 [N];
            - `margin`, float64 [N], P(first preferred) - P(second preferred), NaN where nobody was asked or answered;
            - `certainty`, its absolute value: 0 where the label was a coin flip;
            - `queries`, int64 [replicates], labels asked for since the last seeded reset, whatever became of them;
            - `round`, the number of this round, from 0 at the last seeded reset;
            - `late`, the labels of earlier rounds that arrived now, see `duelenv.labels.Arrivals`;
            - `pending`, bool [N], the rows of this round whose label may still come.
        """
        if not self._running:
            raise UserError(
                f"step was called {'after the last round' if self._root is not None else 'before reset'} of an episode "
                f"of {self.horizon} rounds; call reset() to start the next one"
            )
        actions, asked = read_actions(actions, self._choices, self.num_envs, selective=self.selective)
        asked = self._labels.affordable(asked)
        number, last = self._number, self._round + 1 >= self.horizon or self._labels.spends_all(asked)
        regret = self._regret(actions[:, 0], actions[:, 1])
        shown = None if self.render_mode is None else read_shown(self._shown)
        # Nothing was changed up to here, and whatever raises in here changes nothing.
        told = self._duel(Round(number, number - self._round, last, self._shown, actions, asked))
        info: dict[str, Any] = {
            "regret": regret,
            "margin": told.margin,
            "certainty": np.abs(told.margin),
            "queries": self._labels.queries.copy(),
            "round": number,
            "late": told.late,
            "pending": told.pending,
        }
        info |= told.figures
        if shown is not None:
            self._rendered = Duel(number, shown, actions, told.labels, regret)
        self._round += 1
        self._number += 1
        self._running = not last
        self._next_context()
        self._shown = self._observe()
        terminated = np.zeros(self.num_envs, np.bool_)
        return self._shown, told.labels, terminated, np.full(self.num_envs, last), info

    def _duel(self, duels: Round) -> Told:
        """Take a round's labels through; a world with a source of its own asks that."""
        first, second = duels.actions[:, 0], duels.actions[:, 1]
        return self._labels.answered(duels, self._preferences(first, second, duels.asked))

    def render(self) -> tuple[str, ...] | None:
        """Return the last duel of each row as text, [N]; before the first one of an episode, its candidates.

        What is shown is what the agent saw and was told, and the regret. None without a `render_mode`.

        Raises:
            UserError: There was no reset yet.
        """
        if self.render_mode is None:
            return None
        if self._root is None:
            raise UserError("render was called before the first reset; call reset(seed=...)")
        last = self._rendered or Duel(self._number, read_shown(self._shown))
        return tuple(last.text(row) for row in range(self.num_envs))

    def keep_ledger(self, ledger: Ledger | None, *, duels: bool = True) -> None:
        """Write questions and answers into a ledger from now on, and ask nothing that it knows the answer to.

        The ledger belongs to one life of the world: from a seeded reset to the next.

        Args:
            ledger: None for none; whoever made it closes it.
            duels: Whether what the agent is told is kept as well.
        """
        self._labels.keep(ledger, duels=duels)

    def preferences(self, actions: Any) -> Preferences:
        """Return the true preferences of duels in the current round, [N]; for people and tests, not for agents.

        It asks the oracle, draws no label and counts no query.
        """
        actions, _ = read_actions(actions, self._choices, self.num_envs, selective=self.selective)
        return self._preferences(actions[:, 0], actions[:, 1], None)

    def view(self) -> AgentView:
        """Return what an agent may know of this environment."""
        return AgentView(
            world=self.world,
            observation_space=self.single_observation_space,
            action_space=self.single_action_space,
            num_envs=self.num_envs,
            batch=self.batch,
            num_candidates=self.num_candidates,
            horizon=self.horizon,
            selective=self.selective,
            scalar=False,
            fixed_candidates=self.fixed_candidates,
            late=self._labels.late,
            budget=self._labels.budget,
            self_duels=self.self_duels,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here, plain numbers and arrays only.

        Take it between `step` and the first reading of the returned observation, or after it: both go on alike.
        """
        return {
            "root": self._root,
            "round": self._round,
            "number": self._number,
            "running": self._running,
            "labels": self._labels.state_dict(),
            "contexts": {name: streams.state_dict() for name, streams in self._context_streams().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Continue where `state_dict` was taken, in an environment made with the same settings.

        Returns:
            The current observation.
        """
        root = int(state["root"])
        super().reset(seed=None)
        self._root = root
        self._labels.restart(root)
        self._redraw(root)
        self._round = int(state["round"])
        self._number = int(state["number"])
        self._running = bool(state["running"])
        self._labels.load_state_dict(state["labels"])
        streams = self._context_streams()
        for name, saved in state["contexts"].items():
            # One short of where they were: the current context is read again.
            reads = {key: count - 1 for key, count in saved["reads"].items()}
            streams[name].load_state_dict({**saved, "reads": reads})
        self._next_context()
        self._shown = self._observe()
        self._rendered = None
        return self._shown

    # A lazy observation draws from this very world, so that copies make one of their own.

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shown": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._root is not None:
            self._shown = self._observe()

    # Helpers ---------------------------------------------------------------------------------------------------------

    def _check_options(self, options: Mapping[str, Any] | None) -> None:
        """Refuse options other than a mask of all rows."""
        for name, value in (options or {}).items():
            if name != "reset_mask":
                raise UserError(f"reset got the option {name!r}, but a duel knows only reset_mask; leave it out")
            mask = np.asarray(value)
            if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.all():
                raise UserError(
                    f"reset_mask is {str(value)[:60]}, expected {self.num_envs} times true: the rows of a world are "
                    "truncated together; reset all of them"
                )
