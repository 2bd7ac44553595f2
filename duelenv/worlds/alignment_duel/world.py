"""AlignmentDuel: prompts, responses sampled from a live policy model, and a preference oracle. The project's purpose.

The policy that is sampled is the one that the agent trains; this world never trains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from duelenv.core import AgentView, Labels, Recommender, StageLike
from duelenv.exact import ExactTruth
from duelenv.ground import checks
from duelenv.ground.dialogue import prompt_of
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams
from duelenv.labels.path import Texts
from duelenv.observation import LazyObservation
from duelenv.oracles.base import Oracle, utility_of
from duelenv.oracles.links import link
from duelenv.oracles.sources import Source
from duelenv.regret import duel_regret, utility_regret
from duelenv.scalar import DuelEnv
from duelenv.worlds.alignment_duel.candidate_sources import check_pilaf_beta, check_sources
from duelenv.worlds.alignment_duel.candidates import (
    Candidates,
    Context,
    Strings,
    all_alike,
    observation_spaces,
    observe,
    sampler_figures,
)
from duelenv.worlds.alignment_duel.comparator import Comparator
from duelenv.worlds.alignment_duel.evaluation import AlignmentEvaluation, judge_of
from duelenv.worlds.alignment_duel.recorded_candidates import recorded_responses
from duelenv.worlds.encoders import DEFAULT, START, Block, read_features
from duelenv.worlds.text_duel import TextDuelVectorEnv

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

SAMPLING = ("fresh", "ahead")

_HOLD_OUT_EVERY = 5


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
    weights that drew it, for a reference that moved the one that it is a copy of, -1 of a recorded response.

    Values are made when first read. `log_prob` is that of the policy at the time of drawing, whoever draws: that of a
    mixture under itself is of no use to what trains on it. Of what another source drew it costs a pass, and only that
    policy can make it: to read it first when the weights have changed is a `UserError`. With `sampling="ahead"`, and
    where labels may come late, it is made with the candidates.
    `reference_log_prob` and `features` come from models that stand still between rounds.

    ## Rewards
    The label: 1 where the first response was preferred, 0 where the second was, 0.5 a declared tie, NaN not asked.

    ## Regret
    Where the oracle has a utility: `average`, `sum`, `strong`, `weak` and `utility` against the largest utility of any
    response where it is known, and otherwise against the best of 64 responses of the start policy, drawn once. Neither
    depends on the policy; against a best of 64, regret can turn negative. `within_set=True` adds the utility regret
    against the round's own best candidate, a diagnostic that a policy lowers by collapsing.

    With `exact_beta` and responses that can all be listed there are two more, of the policy as it stands in the round:
    `kl`, J* - J(pi) = beta KL(pi || pi*) with J(pi) = E_pi[u] - beta KL(pi || start), and `temperature_zero`,
    max_y u(y) - E_pi[u]; see `duelenv.exact`. The info of `step` then has `objective`, J(pi), and `kl`,
    KL(pi || start), of each row's prompt, float64 [N]. All responses to a prompt are scored once for every version of
    the policy that meets it, which is known by `policy.updated()`.

    ## Responses all alike
    A row whose K candidates are one text is played like any other: its duel is asked for, answered by a coin, counted.
    `info["alike"]`, bool [N], names such rows of the round that was played; none where nobody read the candidates. No
    learner trains the policy on a pair of equal texts, see `duelenv.agents.learners`.

    ## Samplers
    A `policy.sampler` draws the candidates of the source "policy", perhaps with the weights of an earlier version,
    which `policy_version` says. The info of `step` then has `sampler_lag`, `importance_mean`, `importance_max` and
    `effective_sample_share` of the round's candidates, see `sampler_figures` in the module `candidates`. All other
    responses, those of `evaluate` and of PILAF's mixtures among them, are drawn by the policy's own loop.

    ## Episode End
    Truncated after `horizon` rounds; never terminated.

    ## Arguments
    policy: The live policy; `sources` other than "policy" come from it too.
    oracle: An oracle, or a callable (prompts, first, second) -> P(first preferred), or a source that answers later.
    prompts: Prompts that duels are drawn from: texts, or messages of a dialogue each, which stand as one text in all
        that is shown, asked and kept, see `duelenv.ground.dialogue`.
    test_prompts: Held-out prompts of `evaluate`; by default every fifth prompt is held out.
    evaluation_oracle: Judges in `evaluate`, at once; by default the oracle's true utility, or the oracle itself. Where
        the oracle answers later and has no utility, `evaluate` has no win rates without one, and a warning says so.
    sources: How many candidates come from where, such as {"policy": 16, "reference": 4}: the live policy, its
        reference, the model it started from ("start"), or PILAF's mixtures of policy and reference, "pilaf_plus" and
        "pilaf_minus"; or what was "recorded", off-policy, different texts in a round.
    recorded: What the source "recorded" has: {prompt: [responses]} for each of `prompts`, or a table; see
        `duelenv.worlds.alignment_duel.recorded_candidates`.
    pilaf_beta: Of those mixtures, whose token logits are (1 +- beta) policy -+ beta reference (arXiv 2502.04270), at
        least 0; None takes 0.1. In the paper it is the loss's beta: then "pilaf_plus" is the policy tilted by its own
        implicit reward, token by token. Two models run for each token.
    sampling: "fresh" draws the next candidates when the observation is first read, after the usual loop's update;
        "ahead" draws them inside `step`, one update old.
    temperature: Sampling temperature; None takes the policy's own.
    features: What stands side by side in `features`: "start" for the mean hidden state of the frozen start model,
        "words" for the words that are said, an encoder (prompts, responses) -> [n, d], or a list of these; see
        `duelenv.worlds.encoders`.
    exact_beta: beta of the exact figures, price of a nat of KL, above 0; None leaves them out. The oracle's utility
        alone counts, noise and ties aside.
    within_set: Add the diagnostic regret; it asks for the utility of every candidate.
    evaluation_prompts: At most so many prompts are judged in `evaluate`.
    stages: Disturbances of labels on their way to the agent, in that order; see `duelenv.disturbances`.
    budget: Labels that each replicate may ask for, see `duelenv.vector.DuelVectorEnv`.
    render_mode: "ansi" lets `render` show the last duel as text.

    ## Version History
    v0: first version.

    Raises:
        UserError: No prompts, a prompt longer than the model's context, unknown sources, or a value out of range; with
            `exact_beta` also an oracle without a utility, more than 200,000 possible responses, a temperature other
            than 1, or a sampler.
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
        features: Block | Sequence[Block] = DEFAULT,
        within_set: bool = False,
        exact_beta: float | None = None,
        evaluation_prompts: int = 64,
        horizon: int = 60,
        selective: bool = False,
        feedback: str = "bernoulli",
        stages: Sequence[StageLike] | None = None,
        budget: int | None = None,
        render_mode: str | None = None,
        pilaf_beta: float | None = None,
        recorded: Any = None,
    ) -> None:
        self._sources = check_sources(sources, num_candidates)
        self._pilaf_beta = check_pilaf_beta(pilaf_beta, self._sources)
        checks.one_of("sampling", sampling, SAMPLING)
        blocks = read_features(features)
        checks.integer("evaluation_prompts", evaluation_prompts, low=1)
        self._prompts = _split_prompts(prompts, test_prompts)
        for split_prompts in self._prompts.values():
            policy.check_prompts(list(split_prompts))
        self._recorded = recorded_responses(recorded, policy, self._prompts["train"], self._sources)
        self._policy = policy
        truth = utility_of(oracle)
        judge = judge_of(oracle, evaluation_oracle)
        judged = utility_of(judge)
        self._comparator = None if truth is None else Comparator(truth, policy, temperature)
        self._judge_comparator = self._comparator
        if judged is not truth:  # utilities of two oracles are not to be mixed
            self._judge_comparator = None if judged is None else Comparator(judged, policy, temperature)
        self._exact = None if exact_beta is None else ExactTruth(policy, truth, exact_beta, temperature)
        self._sampling = sampling
        self._temperature = temperature
        self._features = blocks
        self._within_set = checks.flag("within_set", within_set)
        self._rows = np.arange(num_envs)
        total = sum(self._sources.values())
        super().__init__(
            oracle,
            num_envs=num_envs,
            batch=num_envs,
            num_candidates=total,
            horizon=horizon,
            observation=observation_spaces(policy, blocks, total, self._prompts["train"][0]),
            selective=selective,
            feedback=feedback,
            stages=stages,
            budget=budget,
            render_mode=render_mode,
        )
        self._contexts: RowStreams
        self._current: Context
        self._evaluation = AlignmentEvaluation(
            policy,
            {split: split_prompts[:evaluation_prompts] for split, split_prompts in self._prompts.items()},
            judge,
            self._judge_comparator,
            self._labels,
            num_candidates=total,
            temperature=temperature,
            features=blocks,
            exact=self._exact,
        )

    def view(self) -> AgentView:
        """Return what an agent may know of this environment, its policy included."""
        return replace(
            super().view(),
            policy=self._policy,
            sources=tuple(self._sources),
            source_counts=tuple(self._sources.values()),
            temperature=self._policy.temperature if self._temperature is None else self._temperature,
        )

    # A round ---------------------------------------------------------------------------------------------------------

    def _redraw(self, root: int) -> None:
        if self._exact is not None:
            self._exact.check_sampler()  # which can be set at any time
        self._contexts = RowStreams(root, "context", self.num_envs)
        for comparator in (self._comparator, self._judge_comparator):
            if comparator is not None:
                comparator.redraw(root)
        self._evaluation.redraw(root)

    def _context_streams(self) -> dict[str, RowStreams]:
        return {"context": self._contexts}

    def _next_context(self) -> None:
        prompts = self._prompts["train"]
        chosen = prompts[(self._contexts.uniform() * len(prompts)).astype(np.int64)]
        uniforms = self._contexts.uniform(self.num_candidates, self._policy.max_new_tokens)
        self._current = Context(
            self._policy,
            chosen,
            uniforms,
            self._sources,
            self._temperature,
            pilaf_beta=self._pilaf_beta,
            recorded=self._recorded,
            hidden=START in self._features,
            # What is drawn before an update, or kept for labels after one, is read when the policy is another.
            score_at_once=self._sampling == "ahead" or self._labels.late,
        )
        if self._sampling == "ahead":
            self._current.candidates()

    def step(self, actions: Any) -> tuple[Any, Labels, Any, Any, dict[str, Any]]:
        """See `DuelVectorEnv.step`, and the class for what info has besides."""
        played = getattr(self, "_current", None)
        *told, info = super().step(actions)
        drawn = None if played is None else played.drawn  # nobody need have looked
        info["alike"] = np.zeros(self.num_envs, np.bool_) if drawn is None else all_alike(drawn.responses)
        if drawn is not None and "policy" in self._sources:
            info |= sampler_figures(drawn, list(self._sources).index("policy"))
        if self._exact is not None and played is not None:  # known from the regret
            judged = self._exact.figures(played.prompts.tolist())
            info |= {"objective": judged.objective, "kl": judged.kl}
        observation, labels, terminated, truncated = told
        return observation, labels, terminated, truncated, info

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

    def held_out(self, prompts: NDArray[np.object_]) -> NDArray[np.bool_]:
        """See `TextDuelVectorEnv.held_out`."""
        test = set(self._prompts["test"].tolist())
        return np.tile([prompt in test for prompt in prompts.tolist()], (self.replicates, 1))

    def check_texts(self, prompts: Strings, responses: Strings) -> None:
        """See `TextDuelVectorEnv.check_texts`."""
        self._policy.check_prompts(list(prompts))
        self._policy.tokens_of(responses)

    # Regret ----------------------------------------------------------------------------------------------------------

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        if self._comparator is None:
            return {}
        exact: dict[str, NDArray[np.float64]] = {}
        if self._exact is not None:
            exact = self._exact.figures(self._current.prompts.tolist()).notions()
        drawn = self._current.candidates()
        pairs = np.stack([first, second], axis=1)
        shown = drawn.responses[self._rows[:, np.newaxis], pairs]  # (N, 2)
        utilities = self._comparator.utility(drawn.prompts, shown)
        best = self._comparator.best(drawn.prompts)
        regret = duel_regret(link(self._comparator.truth.link), best, utilities[:, 0], utilities[:, 1])
        if self._within_set:
            everyone = self._comparator.utility(drawn.prompts, drawn.responses)
            regret["within_set"] = utility_regret(everyone.max(axis=1), utilities[:, 0], utilities[:, 1])
        return regret | exact

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
            policy's own responses, and with `_off` about the start policy's, see `duelenv.calibration`. With
            `exact_beta`, `kl` is exact, and the means over the prompts of J(pi), `objective`, and of both regrets,
            `kl_regret` and `temperature_zero_regret`, stand beside it.
        """
        return self._evaluation.evaluate(agent, split, self._number)

    def evaluation_questions(self, split: str = "test") -> int:
        """Return how many comparisons one `evaluate` may put to a judge that may be paid; 0 where it is free."""
        return self._evaluation.questions(split)

    def examples(self, split: str = "test", count: int = 8) -> list[dict[str, str]]:
        """Return prompts with a response before and after training, for people to read.

        Returns:
            `count` dicts of `prompt`, `before` (start policy) and `after` (current policy), under the same token draws.
        """
        return self._evaluation.examples(split, count)

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
    texts = [prompt_of(prompt, name, f"{name}[{index}]") for index, prompt in enumerate(given)]
    return np.array(texts, dtype=object)
