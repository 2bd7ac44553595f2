"""PoolDuel: recorded prompts with K recorded responses each; real texts without a model at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.actions import recommended_arms
from duelenv.calibration import BeliefCheck
from duelenv.core import SPLITS, Recommender, StageLike
from duelenv.data.loading import pool_of
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams, stream
from duelenv.labels.path import Texts
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Oracle, Preferences
from duelenv.oracles.links import link as link_named
from duelenv.oracles.sources import Source
from duelenv.regret import duel_regret, utility_regret
from duelenv.scalar import DuelEnv
from duelenv.spaces import Unicode, UnicodeArray
from duelenv.worlds.pool_duel.inputs import Features, features_of
from duelenv.worlds.pool_duel.references import fit_on_all_pairs, fixed_references
from duelenv.worlds.text_duel import TextDuelVectorEnv

#: Contexts of each row in which an agent's belief is held against the truth.
_BELIEF_ROUNDS = 2


class PoolDuelVectorEnv(TextDuelVectorEnv):
    """N rows of duels between recorded responses.

    ## Description
    Each row draws one of the pool's prompts and shows K of its recorded responses in an order drawn
    anew every round: who wrote them is never observed. The recorded utilities decide a duel,
    P(i beats j) = link(u_i - u_j), or an oracle does.

    A share of the prompts is held out and only met in `evaluate`. The split is drawn once for each
    replicate by `reset(seed=...)`, and is the same for all agents under one seed. Equal prompts
    stand on one side. Features made here never read a score; they are made once from all texts.

    ## Action Space
    `MultiDiscrete([K, K])`, an ordered pair of candidates; i == j is legal. Without
    `self_duels` no agent of the project plays it, or two equal texts, where a row has another.

    ## Observation Space
    `features`: float32 [K, d]. `prompt`: a string. `responses`: strings, object [K].

    ## Rewards
    The label: 1 where the first response was preferred, 0 where the second was, 0.5 for a tie that
    an oracle declared, NaN where it could not answer.

    ## Regret
    Against the best of all responses recorded for the prompt, whether they are shown or not:
    `average`, `sum`, `strong`, `weak` in probability under the link, and `utility`. With fewer
    candidates than recorded responses also `within_set`, the utility regret against the best one
    shown: a diagnostic. Regret is measured by the recorded utilities, whoever gives the labels.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    data: A pool, a table for `duelenv.data.load_pool` (a path, rows, a `datasets.Dataset`, ...), or a
        mapping of its settings with the path as `path`.
    features: None for features of the texts (`duelenv.text_features.TextFeatures`); or an array, or
        the path of a .npy file, [P, K, d], or with one line for each row of the table, [rows, d]; or
        a function (prompts, responses) -> [n, d], which is called once with every text once.
    dim: Number of features d. None is 64 for features of the texts and takes given ones as they are;
        with both, d features are made of the texts' style and the given ones' components.
    num_candidates: Candidates K of a round, drawn from the prompt's recorded responses; None shows
        all.
    test_fraction: Share of the prompts that is held out.
    link: "logistic" or "probit".
    oracle: Answers the duels instead of the recorded utilities: an oracle or a callable
        (prompts, first, second) -> P(first preferred), or a source that answers later.
    stages: Disturbances of labels on their way to the agent, in that order; see
        `duelenv.disturbances`.
    budget: Labels that each replicate may ask for, see `duelenv.vector.DuelVectorEnv`.
    self_duels: Let agents play a response against itself, as a bandit does that has found the best and counts the
        `average` regret. Such a label says nothing of anybody, and an oracle is shown the same text twice.
    render_mode: "ansi" lets `render` show the last duel as text.

    ## Version History
    v0: first version.

    Raises:
        UserError: A table that does not fit, features of another shape or with NaN, fewer than two
            different prompts, or a setting out of its range.

    Example:
        >>> import gymnasium, duelenv
        >>> from duelenv.data import Pool
        >>> pool = Pool(("Why?", "How?"), [["a b", "c"], ["d", "e f"]], [[1.0, 0.0], [0.0, 2.0]])
        >>> env = gymnasium.make_vec("duelenv/PoolDuel-v0", num_envs=4, data=pool, horizon=8)
        >>> observation, info = env.reset(seed=0)
        >>> observation["features"].shape, observation["responses"].shape
        ((4, 2, 64), (4, 2))
    """

    world: ClassVar[str] = "duelenv/PoolDuel-v0"

    def __init__(
        self,
        data: Any,
        features: Features = None,
        *,
        num_envs: int = 1,
        batch: int = 1,
        dim: int | None = None,
        num_candidates: int | None = None,
        horizon: int = 1000,
        test_fraction: float = 0.3,
        link: str = "logistic",
        oracle: Oracle | Source | None = None,
        selective: bool = False,
        feedback: str = "bernoulli",
        stages: Sequence[StageLike] | None = None,
        budget: int | None = None,
        self_duels: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.self_duels = checks.flag("self_duels", self_duels)
        self.pool = pool_of(data)
        recorded = self.pool.num_responses
        if num_candidates is None:
            num_candidates = recorded
        checks.integer("num_candidates", num_candidates, low=2)
        if num_candidates > recorded:
            raise UserError(
                f"num_candidates={num_candidates} is more than the {recorded} responses recorded for "
                "each prompt; give at most that"
            )
        if not isinstance(test_fraction, (int, float)) or not 0.0 < test_fraction < 1.0:
            raise UserError(
                f"test_fraction={test_fraction!r} is not usable; give the share of prompts that is "
                "held out, above 0 and below 1"
            )
        table = features_of(self.pool, features, dim)
        super().__init__(
            oracle,
            num_envs=num_envs,
            batch=batch,
            num_candidates=num_candidates,
            horizon=horizon,
            observation={
                "features": spaces.Box(-np.inf, np.inf, (num_candidates, table.shape[2]), np.float32),
                "prompt": Unicode(),
                "responses": UnicodeArray((num_candidates,)),
            },
            selective=selective,
            feedback=feedback,
            stages=stages,
            budget=budget,
            render_mode=render_mode,
        )
        self.dim = table.shape[2]
        self._link = link_named(link)
        self._argmax = feedback == "argmax"
        self._test_fraction = test_fraction
        self._rows = np.arange(num_envs)
        self._replicate_of = self._rows // batch
        # Candidates are numbers of responses, counted through the pool: prompt * K + slot.
        self._features = np.ascontiguousarray(table.reshape(-1, table.shape[2]))
        self._utilities = self.pool.utilities.ravel()
        self._best = self.pool.utilities.max(axis=1)
        self._responses = self.pool.responses.ravel()
        self._prompts = np.array(self.pool.prompts, dtype=object)
        self._groups = np.unique(self._prompts.astype(str), return_inverse=True)[1].ravel()
        if self._groups.max() < 1:
            raise UserError("the pool has one prompt, expected at least two; one is to be held out, add another")
        self._places: dict[tuple[str, str], int] = {}  # of every response, once somebody asks
        self._splits: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
        self._prompt_draws: RowStreams
        self._orders: RowStreams
        self._prompt: NDArray[np.int64]
        self._candidates: NDArray[np.int64]

    # Rounds ---------------------------------------------------------------------------------------

    def _redraw(self, root: int) -> None:
        held_out = self._draw_split(root)
        self._splits = {"train": _padded(~held_out), "test": _padded(held_out)}
        self._prompt_draws = RowStreams(root, "prompt", self.num_envs)
        self._orders = RowStreams(root, "order", self.num_envs)

    def _draw_split(self, root: int) -> NDArray[np.bool_]:
        """Return which prompts each replicate holds out, [R, P]."""
        count = int(self._groups.max()) + 1
        size = min(max(round(count * self._test_fraction), 1), count - 1)
        held_out = np.zeros((self.replicates, count), np.bool_)
        for replicate in range(self.replicates):
            order = stream(root, "split", replicate).permutation(count)
            held_out[replicate, order[:size]] = True
        return held_out[:, self._groups]

    def _context_streams(self) -> dict[str, RowStreams]:
        return {"prompt": self._prompt_draws, "order": self._orders}

    def _next_context(self) -> None:
        members, counts = self._splits["train"]
        place = (self._prompt_draws.uniform() * counts[self._replicate_of]).astype(np.int64)
        self._prompt = members[self._replicate_of, place]
        self._candidates = self._draw_candidates(self._prompt, self._orders)

    def _draw_candidates(self, prompt: NDArray[np.int64], orders: RowStreams) -> NDArray[np.int64]:
        """Return K of each prompt's responses in a random order, [N, K]."""
        recorded = self.pool.num_responses
        order = orders.uniform(recorded, dtype=np.float32).argsort(axis=1)
        return prompt[:, np.newaxis] * recorded + order[:, : self.num_candidates]

    def _observe(self) -> LazyObservation:
        return self._show(self._prompt, self._candidates)

    def _show(self, prompt: NDArray[np.int64], candidates: NDArray[np.int64]) -> LazyObservation:
        # Looking texts up costs more than all the rest of a round, and numeric agents never look.
        return LazyObservation(
            {
                "features": lambda: self._features.take(candidates, axis=0),
                "prompt": lambda: self._prompts[prompt],
                "responses": lambda: self._responses[candidates],
            }
        )

    def show(self, prompts: NDArray[np.object_], responses: NDArray[np.object_]) -> LazyObservation:
        """See `TextDuelVectorEnv.show`; only the pool's own texts have features."""
        candidates = self._places_of(prompts, responses)
        return self._show(candidates[:, 0] // self.pool.num_responses, candidates)

    def check_texts(self, prompts: NDArray[np.object_], responses: NDArray[np.object_]) -> None:
        """See `TextDuelVectorEnv.check_texts`."""
        self._places_of(prompts, responses)

    def held_out(self, prompts: NDArray[np.object_]) -> NDArray[np.bool_]:
        """See `TextDuelVectorEnv.held_out`."""
        members, counts = self._members("test")
        found = np.zeros((self.replicates, len(prompts)), np.bool_)
        for replicate in range(self.replicates):
            test = set(self._prompts[members[replicate, : counts[replicate]]].tolist())
            found[replicate] = [prompt in test for prompt in prompts.tolist()]
        return found

    def _places_of(self, prompts: NDArray[np.object_], responses: NDArray[np.object_]) -> NDArray[np.int64]:
        """Return the numbers of responses [M, K] to prompts [M]."""
        if not self._places:
            recorded = self.pool.num_responses
            for place, response in enumerate(self._responses.tolist()):
                self._places.setdefault((self._prompts[place // recorded], response), place)
        candidates = np.empty(responses.shape, np.int64)
        for row, prompt in enumerate(prompts.tolist()):
            for column, response in enumerate(responses[row].tolist()):
                found = self._places.get((prompt, response))
                if found is None:
                    raise UserError(
                        f"the pool has no response {response[:40]!r} to the prompt {prompt[:40]!r}, so that nothing is "
                        "known of it; leave it out"
                    )
                candidates[row, column] = found
        return candidates

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_] | None
    ) -> Preferences:
        if self.oracle is not None:
            return super()._preferences(first, second, asked)
        a, b = self._candidates[self._rows, first], self._candidates[self._rows, second]
        win = self._link(self._utilities[a] - self._utilities[b]).astype(np.float64, copy=False)
        return Preferences(win, np.zeros(self.num_envs))

    def _texts(self, first: NDArray[np.int64], second: NDArray[np.int64], rows: NDArray[np.int64]) -> Texts:
        candidates = self._candidates
        return (
            self._prompts[self._prompt[rows]].tolist(),
            self._responses[candidates[rows, first[rows]]].tolist(),
            self._responses[candidates[rows, second[rows]]].tolist(),
        )

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        u = self._utilities[self._candidates[self._rows, first]]
        v = self._utilities[self._candidates[self._rows, second]]
        regret = duel_regret(self._link, self._best[self._prompt], u, v)
        if self.num_candidates < self.pool.num_responses:
            shown = self._utilities[self._candidates].max(axis=1)
            regret["within_set"] = utility_regret(shown, u, v)
        return regret

    # Judging --------------------------------------------------------------------------------------

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return, per replicate, how good the response is that the agent recommends.

        Every prompt of the split is shown once, to one row of each replicate, with candidates and
        an order that are the same at every call. No label is asked for.

        Args:
            agent: Anything with `recommend`.
            split: "test" for the prompts held out, "train" for those that duels are drawn from.

        Returns:
            float64 [replicates] each, means over the split's prompts: `simple_regret`, the utility
            of the best recorded response minus that of the recommended one; `win_rate_best_of_n`,
            the probability link(u(recommended) - u(y)) that it beats a response y drawn uniformly
            from all that are recorded for the prompt, itself among them with 1/2; `utility`, the
            recommended response's. Of an agent with a belief also `belief_calibration` and
            `belief_log_loss` against the recorded utilities, on the first two prompts of each row, see
            `duelenv.calibration`.
        """
        members, counts = self._members(split)
        orders = RowStreams(self.root, f"evaluate/{split}", self.num_envs)
        place = self._rows % self.batch
        totals = np.zeros((3, self.replicates))
        belief = BeliefCheck(agent, self._link, self.replicates)
        for start in range(0, members.shape[1], self.batch):
            # Replicates with fewer prompts meet some twice; the second time counts nothing.
            position = start + place
            prompt = members[self._replicate_of, position % counts[self._replicate_of]]
            candidates = self._draw_candidates(prompt, orders)
            shown, counted = self._show(prompt, candidates), position < counts[self._replicate_of]
            arms = recommended_arms(agent, shown, self.num_envs, self.num_candidates)
            if start < _BELIEF_ROUNDS * self.batch:
                belief.add(shown, self._utilities[candidates], counted)
            chosen = self._utilities[candidates[self._rows, arms]]
            against = self._link(chosen[:, np.newaxis] - self.pool.utilities[prompt])
            values = np.stack([self._best[prompt] - chosen, against.mean(axis=1), chosen])
            values *= counted
            totals += values.reshape(3, self.replicates, self.batch).sum(axis=2)
        regret, win_rate, utility = totals / counts
        means = {"simple_regret": regret, "win_rate_best_of_n": win_rate, "utility": utility}
        return means | belief.metrics()

    def references(self, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Return the simple regret of rules that ask for no duel, to hold agents against.

        All of them choose from all responses recorded for a prompt.

        Args:
            split: As in `evaluate`.

        Returns:
            float64 [replicates] each, in utility: `random`, a response drawn uniformly;
            `longest_response`, the one of most characters (the mean over equally long ones);
            where responders are recorded `best_single_responder`, the one whose responses have the
            highest mean utility above their prompt's mean on the training prompts, among those with
            at least half as many responses there as the most frequent one (prompts that it did not
            answer are left out of its mean); and where the recorded utilities decide the duels
            `fit_on_all_pairs`, what a linear belief recommends that was told the outcome of every
            pair of responses to every training prompt, each once, as its probability, undisturbed by
            stages, see `duelenv.worlds.pool_duel.pairwise_fit`: where random pairs end with these features. An
            agent that chooses its pairs may end elsewhere, since a linear utility is only an
            approximation, and best where it was asked. Another oracle is not asked for all pairs.
        """
        (train, judged) = (
            [row[:count] for row, count in zip(*self._members(name), strict=True)] for name in ("train", split)
        )
        regret = fixed_references(self.pool, train, judged)
        if self.oracle is None:
            table = self._features.reshape(*self.pool.responses.shape, -1)
            regret["fit_on_all_pairs"] = fit_on_all_pairs(self.pool, table, self._mean_label, train, judged)
        return regret

    def _mean_label(self, gap: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean label of a duel whose first response has so much more utility."""
        return 0.5 + 0.5 * np.sign(gap) if self._argmax else np.asarray(self._link(gap), np.float64)

    def _members(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        checks.one_of("split", split, SPLITS)
        if self._root is None:
            raise UserError("the prompts are not split before reset; call reset(seed=...) first")
        return self._splits[split]


class PoolDuelEnv(DuelEnv):
    """The scalar form of `PoolDuelVectorEnv`, with its arguments and sections.

    ## Action Space
    `MultiDiscrete([K, K])`.

    ## Observation Space
    `features`: float32 [K, d]. `prompt`: a string. `responses`: strings, object [K].

    ## Rewards
    The label, in [0, 1].

    ## Episode End
    Truncated after `horizon` rounds.
    """

    vector: PoolDuelVectorEnv

    def __init__(
        self,
        data: Any,
        features: Features = None,
        **settings: Any,
    ) -> None:
        super().__init__(PoolDuelVectorEnv(data, features, num_envs=1, **settings))

    def references(self, split: str = "test") -> dict[str, float]:
        """Return the regret of rules that learn nothing; see `PoolDuelVectorEnv.references`."""
        return {name: float(value[0]) for name, value in self.vector.references(split).items()}


def _padded(membership: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the members of each row's set, [R, most members] padded with 0, and their number."""
    counts = membership.sum(axis=1)
    members = np.zeros((len(membership), int(counts.max())), np.int64)
    for row, inside in enumerate(membership):
        members[row, : counts[row]] = np.flatnonzero(inside)
    return members, counts
