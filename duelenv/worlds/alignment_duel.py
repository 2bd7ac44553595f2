"""AlignmentDuel: prompts, responses sampled from a live policy model, and a preference oracle. The project's purpose.

The policy that is sampled is the one that the agent trains; this world never trains it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from duelenv.actions import recommended_arms
from duelenv.calibration import calibration
from duelenv.core import AgentView, Recommender, StageLike
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.labels.path import Texts
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Oracle, UtilityOracle, utility_of
from duelenv.oracles.links import link
from duelenv.oracles.sources import Source, answers_later, at_once_or_later
from duelenv.regret import duel_regret, utility_regret
from duelenv.scalar import DuelEnv
from duelenv.worlds.candidates import (
    Candidates,
    Context,
    Encoder,
    Strings,
    check_sources,
    draw_candidates,
    observation_spaces,
    observe,
)
from duelenv.worlds.comparator import Comparator
from duelenv.worlds.text_duel import TextDuelVectorEnv

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

SAMPLING = ("fresh", "ahead")

_HOLD_OUT_EVERY = 5
#: Of an agent's belief, to compare with the truth.
_BELIEF_DRAWS = 100


class AlignmentDuelVectorEnv(TextDuelVectorEnv):
    """N prompts a round, each with K responses of a live policy: one replicate, and the batch of its learner.

    ## Description
    Each row draws a prompt; the policy model answers it K times; the agent names two responses; the oracle says which
    is preferred. The agent's learner moves the policy in `update`, so the next round's candidates come from a better
    one.

    ## Action Space
    `MultiDiscrete([K, K])`, an ordered pair of responses; with `selective=True` a third entry, 1 to ask for the label.

    ## Observation Space
    `prompt`, `responses` [K]; `features` float32 [K, d] of the frozen start model or an encoder; `tokens` int64 [K, L]
    and `mask` int8 [K, L] (1 on response tokens, end of sequence included); `log_prob` and `reference_log_prob` float32
    [K], in nats, summed over the response, at temperature 1 over the full vocabulary whatever the sampling temperature;
    `source` int8 [K], an index into the view's `sources`; `policy_version` int64 [K], the version of the
    weights that drew it, for a reference that moved the one that it is a copy of.

    Values are made when first read. `log_prob` is that of the policy at the time of drawing; `reference_log_prob` and
    `features` come from models that stand still between rounds.

    ## Rewards
    The label: 1 where the first response was preferred, 0 where the second was, 0.5 a declared tie, NaN not asked.

    ## Regret
    Where the oracle has a utility: `average`, `sum`, `strong`, `weak` and `utility` against the largest utility of any
    response where it is known, and otherwise against the best of 64 responses of the start policy, drawn once. Neither
    depends on the policy; against a best of 64, regret can turn negative. `within_set=True` adds the utility regret
    against the round's own best candidate, a diagnostic that a policy lowers by collapsing.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    policy: The live policy; `sources` other than "policy" come from it too.
    oracle: An oracle, or a callable (prompts, first, second) -> P(first preferred), or a source that answers later.
    prompts: Prompts that duels are drawn from.
    test_prompts: Held-out prompts of `evaluate`; by default every fifth prompt is held out.
    evaluation_oracle: Judges in `evaluate`, at once; by default the oracle's true utility, or the oracle itself. Where
        the oracle answers later and has no utility, `evaluate` has no win rates without one, and a warning says so.
    sources: How many candidates come from where, such as {"policy": 16, "reference": 4}.
    sampling: "fresh" draws the next candidates when the observation is first read, after the usual loop's update;
        "ahead" draws them inside `step`, one update old.
    temperature: Sampling temperature; None takes the policy's own.
    features: "start" for the mean hidden state of the frozen start model, or an encoder (prompts, responses) -> [n, d].
    within_set: Add the diagnostic regret; it asks for the utility of every candidate.
    evaluation_prompts: At most so many prompts are judged in `evaluate`.
    stages: Disturbances of labels on their way to the agent, in that order; see `duelenv.disturbances`.
    budget: Labels that each replicate may ask for, see `duelenv.vector.DuelVectorEnv`.

    ## Version History
    v0: first version.

    Raises:
        UserError: No prompts, a prompt longer than the model's context, unknown sources, or a value out of range.
    """

    world: ClassVar[str] = "duelenv/AlignmentDuel-v0"

    def __init__(
        self,
        policy: CausalLMPolicy,
        oracle: Oracle | Source,
        prompts: Sequence[str],
        *,
        num_envs: int = 1,
        num_candidates: int | None = None,
        test_prompts: Sequence[str] | None = None,
        evaluation_oracle: Oracle | None = None,
        sources: Mapping[str, int] | None = None,
        sampling: str = "fresh",
        temperature: float | None = None,
        features: str | Encoder = "start",
        within_set: bool = False,
        evaluation_prompts: int = 64,
        horizon: int = 60,
        selective: bool = False,
        feedback: str = "bernoulli",
        stages: Sequence[StageLike] | None = None,
        budget: int | None = None,
    ) -> None:
        self._sources = check_sources(sources, num_candidates)
        checks.one_of("sampling", sampling, SAMPLING)
        if not callable(features) and (not isinstance(features, str) or features != "start"):
            raise UserError(f"features={features!r} is unknown; give 'start' or an encoder function")
        checks.integer("evaluation_prompts", evaluation_prompts, low=1)
        self._prompts = _split_prompts(prompts, test_prompts)
        for split_prompts in self._prompts.values():
            policy.check_prompts(list(split_prompts))
        self._policy = policy
        truth = utility_of(oracle)
        self._judge = _judge_of(oracle, evaluation_oracle)
        judged = utility_of(self._judge)
        self._comparator = None if truth is None else Comparator(truth, policy, temperature)
        self._judge_comparator = self._comparator
        if judged is not truth:  # utilities of two oracles are not to be mixed
            self._judge_comparator = None if judged is None else Comparator(judged, policy, temperature)
        self._sampling = sampling
        self._temperature = temperature
        self._features = features
        self._within_set = checks.flag("within_set", within_set)
        self._evaluation_prompts = evaluation_prompts
        self._rows = np.arange(num_envs)
        total = sum(self._sources.values())
        super().__init__(
            oracle,
            num_envs=num_envs,
            batch=num_envs,
            num_candidates=total,
            horizon=horizon,
            observation=observation_spaces(policy, features, total, self._prompts["train"][0]),
            selective=selective,
            feedback=feedback,
            stages=stages,
            budget=budget,
        )
        self._contexts: RowStreams
        self._current: Context
        self._start_candidates: dict[str, Candidates] = {}
        self._start_utilities: dict[str, NDArray[np.float64]] = {}

    def view(self) -> AgentView:
        """Return what an agent may know of this environment, its policy included."""
        return replace(
            super().view(),
            policy=self._policy,
            sources=tuple(self._sources),
            source_counts=tuple(self._sources.values()),
            temperature=self._sampled_at,
        )

    @property
    def _sampled_at(self) -> float:
        return self._policy.temperature if self._temperature is None else self._temperature

    # A round ---------------------------------------------------------------------------------------------------------

    def _redraw(self, root: int) -> None:
        self._contexts = RowStreams(root, "context", self.num_envs)
        for comparator in (self._comparator, self._judge_comparator):
            if comparator is not None:
                comparator.redraw(root)
        self._start_candidates.clear()
        self._start_utilities.clear()

    def _context_streams(self) -> dict[str, RowStreams]:
        return {"context": self._contexts}

    def _next_context(self) -> None:
        prompts = self._prompts["train"]
        chosen = prompts[(self._contexts.uniform() * len(prompts)).astype(np.int64)]
        uniforms = self._contexts.uniform(self.num_candidates, self._policy.max_new_tokens)
        self._current = Context(self._policy, chosen, uniforms, self._sources, self._temperature)
        if self._sampling == "ahead":
            self._current.candidates()

    def _observe(self) -> LazyObservation:
        return observe(self._current, self._policy, self._features)

    def _texts(self, first: NDArray[np.int64], second: NDArray[np.int64], rows: NDArray[np.int64]) -> Texts:
        drawn = self._current.candidates()
        return (
            drawn.prompts[rows].tolist(),
            drawn.responses[rows, first[rows]].tolist(),
            drawn.responses[rows, second[rows]].tolist(),
        )

    def show(self, prompts: Strings, responses: Strings) -> LazyObservation:
        """See `TextDuelVectorEnv.show`; texts are tokenised, and scored and embedded by the policy of this moment."""
        tokens, mask = self._policy.tokens_of(responses)
        log_prob = self._policy.score(list(prompts), tokens, mask)
        source = np.zeros(responses.shape, np.int8)
        version = np.full(responses.shape, self._policy.version, np.int64)
        given = Candidates(prompts, responses, tokens, mask, log_prob, source, version)
        return observe(Context.of(given), self._policy, self._features)

    def check_texts(self, prompts: Strings, responses: Strings) -> None:
        """See `TextDuelVectorEnv.check_texts`."""
        self._policy.check_prompts(list(prompts))
        self._policy.tokens_of(responses)

    # Regret ----------------------------------------------------------------------------------------------------------

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        if self._comparator is None:
            return {}
        drawn = self._current.candidates()
        pairs = np.stack([first, second], axis=1)
        shown = drawn.responses[self._rows[:, np.newaxis], pairs]  # (N, 2)
        utilities = self._comparator.utility(drawn.prompts, shown)
        best = self._comparator.best(drawn.prompts)
        regret = duel_regret(link(self._comparator.truth.link), best, utilities[:, 0], utilities[:, 1])
        if self._within_set:
            everyone = self._comparator.utility(drawn.prompts, drawn.responses)
            regret["within_set"] = utility_regret(everyone.max(axis=1), utilities[:, 0], utilities[:, 1])
        return regret

    # Evaluation ------------------------------------------------------------------------------------------------------

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Judge the policy's own responses, and the one of K that the agent recommends.

        Every prompt of the split (at most `evaluation_prompts`) gets K responses of the policy, from token draws that
        are the same at every call, and K of the start policy.

        Returns:
            float64 [1] each: `win_rate`, mean P(new > start) under the evaluation oracle over what it answers, equal
            texts counting 0.5 unasked; `win_rate_best_of_n`, the same for the recommended response. An oracle that can
            be asked for nothing compares each new response with all K of the start policy, any other with one that
            shares no token draws with it. Where that oracle
            has no utility, `unanswered`, how many comparisons it declined, and `evaluation_queries`, how many it was
            asked since the last seeded reset, beside `queries`; `kl`, KL(policy || start) per response in nats,
            as the mean log-ratio over responses drawn at temperature 1, whatever the world's temperature;
            `response_tokens`; and where the oracle has a utility, the mean `utility` and the `simple_regret` of the
            recommended response, and of an agent with a belief its `belief_calibration` and `belief_log_loss` about the
            policy's own responses, and with `_off` about the start policy's, see `duelenv.calibration`.
        """
        new, old = self._evaluation_responses(split)
        plain = new if self._sampled_at == 1 else self._draw_own(split, temperature=1.0)
        shown = observe(Context.of(new), self._policy, self._features)
        arms = recommended_arms(agent, shown, len(new.prompts), self.num_candidates)
        rows = np.arange(len(new.prompts))
        recommended = new.responses[rows, arms]
        metrics: dict[str, float] = {}
        utilities, values, best_values = None, None, None
        if self._judge_comparator is not None:
            utilities = self._judge_comparator.utility(new.prompts, new.responses)
            if isinstance(self._judge, UtilityOracle):  # its preferences follow from utilities, and are not asked for
                start = self._start_utility(split, new.prompts, old)
                values, best_values = (utilities, start), (utilities[rows, arms][:, np.newaxis], start)
        if self._judge is not None:
            rivals = self._rivals(new.responses, old)
            chosen = rivals[arms][:, np.newaxis]
            rivals = np.broadcast_to(rivals, (len(rows), *rivals.shape))
            wins = self._wins(self._judge, new.prompts, new.responses, old, rivals, values)
            best_wins = self._wins(self._judge, new.prompts, recommended[:, np.newaxis], old, chosen, best_values)
            metrics["win_rate"], metrics["win_rate_best_of_n"] = _mean(wins), _mean(best_wins)
            if self._judge_costs:
                metrics["unanswered"] = float(np.isnan(wins).sum() + np.isnan(best_wins).sum())
                metrics["evaluation_queries"] = float(self._labels.evaluation_queries)
        metrics |= {"kl": self._kl(plain), "response_tokens": float(new.mask.sum(axis=2).mean())}
        if self._judge_comparator is not None and utilities is not None:
            metrics |= self._belief_metrics(agent, split, shown, utilities)
            best = self._judge_comparator.best(new.prompts)
            metrics["utility"] = float(utilities.mean())
            metrics["simple_regret"] = float((best - utilities[rows, arms]).mean())
        return {name: np.array([value]) for name, value in metrics.items()}

    def examples(self, split: str = "test", count: int = 8) -> list[dict[str, str]]:
        """Return prompts with a response before and after training, for people to read.

        Returns:
            `count` dicts of `prompt`, `before` (start policy) and `after` (current policy), under the same token draws.
        """
        new, old = self._evaluation_responses(split)
        columns = zip(new.prompts, old[:, 0], new.responses[:, 0], strict=True)
        return [{"prompt": prompt, "before": before, "after": after} for prompt, before, after in list(columns)[:count]]

    def _evaluation_responses(self, split: str) -> tuple[Candidates, Strings]:
        """Return K responses of the policy and of the start policy to each of P prompts, under the same draws."""
        if split not in self._prompts:
            raise UserError(f"split {split!r} is unknown; choose one of {', '.join(self._prompts)}")
        if split not in self._start_candidates:  # it never changes
            prompts, uniforms = self._evaluation_draws(split)
            sources = {"start": self.num_candidates}
            self._start_candidates[split] = draw_candidates(self._policy, prompts, uniforms, sources, self._temperature)
        return self._draw_own(split, self._temperature), self._start_candidates[split].responses

    def _draw_own(self, split: str, temperature: float | None) -> Candidates:
        """Return K responses of the policy to each prompt of an evaluation."""
        prompts, uniforms = self._evaluation_draws(split)
        return draw_candidates(self._policy, prompts, uniforms, {"policy": self.num_candidates}, temperature)

    def _evaluation_draws(self, split: str) -> tuple[Strings, NDArray[np.float64]]:
        """Return the prompts [P] that a split is judged on, and the uniforms [P, K, L] that decide their tokens."""
        prompts = self._prompts[split][: self._evaluation_prompts]
        streams = RowStreams(self.root, f"evaluate/{split}", len(prompts))
        return prompts, streams.uniform(self.num_candidates, self._policy.max_new_tokens)

    def _rivals(self, new: Strings, old: Strings) -> NDArray[np.int64]:
        """Return which responses of the start policy the new ones of each column are compared with, columns [K, J].

        New and old responses of one column share their token draws, and say the same where little was learnt: what
        counts is how two independent ones compare. Where nothing was learnt at all that is half, and not asked.
        """
        count = self.num_candidates
        if not self._judge_costs:
            return np.broadcast_to(np.arange(count), (count, count))
        following = 0 if np.array_equal(new, old) else 1
        return (np.arange(count)[:, np.newaxis] + following) % count

    def _wins(
        self,
        judge: Oracle,
        prompts: Strings,
        new: Strings,
        old: Strings,
        rivals: NDArray[np.int64],
        values: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    ) -> NDArray[np.float64]:
        """Return P(new > old) of responses [P, M] against columns `rivals` [P, M, J] of `old` [P, K], as [P, M, J].

        NaN where the judge declined. Where it is a utility, `values` are those of the new and the old responses.
        """
        if isinstance(judge, UtilityOracle) and values is not None:
            own, others = values
            against = others[np.arange(len(old))[:, np.newaxis, np.newaxis], rivals]
            return np.asarray(link(judge.link)(own[:, :, np.newaxis] - against), np.float64)
        asked = np.broadcast_to(prompts[:, np.newaxis, np.newaxis], rivals.shape).ravel()
        mine = np.broadcast_to(new[:, :, np.newaxis], rivals.shape).ravel()
        theirs = old[np.arange(len(old))[:, np.newaxis, np.newaxis], rivals].ravel()
        wins = np.full(rivals.size, 0.5)
        differ = np.flatnonzero(mine != theirs)
        if len(differ):
            triples = (asked[differ].tolist(), mine[differ].tolist(), theirs[differ].tolist())
            wins[differ] = self._labels.judge(judge, self._number, triples, costs=self._judge_costs).expected_label
        return wins.reshape(rivals.shape)

    def _belief_metrics(
        self, agent: Recommender, split: str, shown: LazyObservation, utilities: NDArray[np.float64]
    ) -> dict[str, float]:
        """How sure an agent's belief is, on what its duels show and off it; nothing where it has none."""
        draw = getattr(agent, "believed", None)
        if draw is None or self.num_candidates < 2:
            return {}
        assert self._judge_comparator is not None
        metrics: dict[str, float] = {}
        to_logits = _logits(link(self._judge_comparator.truth.link))
        for name, observation, values in (("", shown, lambda: utilities), ("_off", *self._start_shown(split))):
            draws = draw(observation, _BELIEF_DRAWS)
            if draws is None:
                return {}
            found = calibration(draws, to_logits(values()))
            metrics |= {f"belief_calibration{name}": found.error, f"belief_log_loss{name}": found.log_loss}
        return metrics

    def _start_shown(self, split: str) -> tuple[LazyObservation, Callable[[], NDArray[np.float64]]]:
        """Return the start policy's responses of an evaluation as an observation, and what makes their utilities."""
        drawn = self._start_candidates[split]
        return (
            observe(Context.of(drawn), self._policy, self._features),
            lambda: self._start_utility(split, drawn.prompts, drawn.responses),
        )

    def _start_utility(self, split: str, prompts: Strings, old: Strings) -> NDArray[np.float64]:
        """Return the judge's utility of the start policy's responses, [P, K]; it never changes."""
        if split not in self._start_utilities:
            assert self._judge_comparator is not None
            self._start_utilities[split] = self._judge_comparator.utility(prompts, old)
        return self._start_utilities[split]

    @property
    def _judge_costs(self) -> bool:
        """Whether the judge's answers are counted: a utility can be computed again, anything else may be paid for."""
        return utility_of(self._judge) is None

    def _kl(self, drawn: Candidates) -> float:
        """Return the mean of log policy - log start over the responses that the policy drew."""
        start = self._policy.score(list(drawn.prompts), drawn.tokens, drawn.mask, source="start")
        return float((drawn.log_prob - start).mean(dtype=np.float64))

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """See `DuelVectorEnv.state_dict`; candidates that were drawn already are kept as they are."""
        drawn = self._current.drawn
        return super().state_dict() | {"drawn": None if drawn is None else drawn.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """See `DuelVectorEnv.load_state_dict`; the policy's weights are the caller's to restore, and first."""
        super().load_state_dict(state)
        if state["drawn"] is not None:
            self._current.drawn = Candidates.from_state_dict(self._current.prompts, state["drawn"])
        return self._observe()


class AlignmentDuelEnv(DuelEnv):
    """The scalar form of `AlignmentDuelVectorEnv`, with its arguments and sections: one prompt a round.

    ## Action Space
    `MultiDiscrete([K, K])`.

    ## Observation Space
    As in the vector form, without the row axis.

    ## Rewards
    The label, in [0, 1].

    ## Episode End
    Truncated after `horizon` rounds.
    """

    def __init__(
        self, policy: CausalLMPolicy, oracle: Oracle | Source, prompts: Sequence[str], **settings: Any
    ) -> None:
        super().__init__(AlignmentDuelVectorEnv(policy, oracle, prompts, num_envs=1, **settings))

    def examples(self, split: str = "test", count: int = 8) -> list[dict[str, str]]:
        """See `AlignmentDuelVectorEnv.examples`."""
        vector = self.vector
        assert isinstance(vector, AlignmentDuelVectorEnv)
        return vector.examples(split, count)


def _logits(probability: Callable[..., Any]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return what turns utilities [N, K] into logits of a preference over each row's first candidate.

    Their differences are the logits of all pairs where the link is logistic, and near them for the others.
    """

    def to_logits(utilities: NDArray[np.float64]) -> NDArray[np.float64]:
        share = np.clip(np.asarray(probability(utilities - utilities[:, :1]), np.float64), 1e-12, 1.0 - 1e-12)
        return np.asarray(logit(share), np.float64)

    return to_logits


def _judge_of(oracle: Oracle | Source, evaluation_oracle: Oracle | None) -> Oracle | None:
    """Return who judges in `evaluate`; None, with a warning, where there is nobody who answers at once."""
    if evaluation_oracle is not None:
        if answers_later(evaluation_oracle):
            raise UserError(
                f"evaluation_oracle is {str(evaluation_oracle)[:60]!r}, which answers later, and evaluate needs "
                "answers at once; give a function (prompts, first, second) -> probabilities"
            )
        return evaluation_oracle
    truth, (at_once, _) = utility_of(oracle), at_once_or_later(oracle)
    if truth is not None or at_once is not None:
        return truth or at_once
    warnings.warn(
        "the oracle answers later and has no utility: evaluate leaves out win_rate and win_rate_best_of_n, unless "
        "evaluation_oracle is given",
        stacklevel=3,
    )
    return None


def _mean(wins: NDArray[np.float64]) -> float:
    """Return the mean over what was answered; NaN where nothing was."""
    answered = wins[~np.isnan(wins)]
    return float(answered.mean()) if len(answered) else float("nan")


def _split_prompts(prompts: Sequence[str], test_prompts: Sequence[str] | None) -> dict[str, Strings]:
    """Return the prompts by split; without test prompts, every fifth one is held out."""
    everything = _checked_prompts("prompts", prompts)
    if test_prompts is not None:
        return {"train": everything, "test": _checked_prompts("test_prompts", test_prompts)}
    if len(everything) < _HOLD_OUT_EVERY:
        raise UserError(
            f"prompts has {len(everything)} entries, too few to hold out every fifth; give test_prompts as well"
        )
    held_out = np.arange(len(everything)) % _HOLD_OUT_EVERY == _HOLD_OUT_EVERY - 1
    return {"train": everything[~held_out], "test": everything[held_out]}


def _checked_prompts(name: str, given: Sequence[str]) -> Strings:
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) == 0:
        raise UserError(f"{name} is {given!r}, expected at least one prompt; give a list of strings")
    for index, prompt in enumerate(given):
        if not isinstance(prompt, str):
            raise UserError(f"{name}[{index}] is {prompt!r}, expected a string")
    return np.array(list(given), dtype=object)
