"""AlignmentDuel: prompts, responses sampled from a live policy model, and a preference oracle. The project's purpose.

The policy that is sampled is the one that the agent trains; this world never trains it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.core import AgentView, DuelEnv, DuelVectorEnv, Recommender
from duelenv.observation import LazyObservation
from duelenv.oracles import checks
from duelenv.oracles.base import Oracle, Preferences, UtilityOracle, ask, utility_of
from duelenv.oracles.errors import UserError
from duelenv.oracles.links import link
from duelenv.randomness import RowStreams, stream
from duelenv.regret import duel_regret, utility_regret
from duelenv.spaces import Unicode, UnicodeArray

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy, Source

SOURCES = ("policy", "reference", "pilaf_plus", "pilaf_minus")
SAMPLING = ("fresh", "ahead")
SPLITS = ("train", "test")

_COMPARATOR_RESPONSES = 64
_HOLD_OUT_EVERY = 5
_MANY_UPDATES = 2**53

Encoder = Callable[[Sequence[str], Sequence[str]], NDArray[Any]]
Strings = NDArray[np.object_]


@dataclass(frozen=True)
class _Candidates:
    """Responses to N prompts, K each, as they were drawn."""

    prompts: Strings  # [N]
    responses: Strings  # [N, K]
    tokens: NDArray[np.int64]  # [N, K, L]
    mask: NDArray[np.int8]  # [N, K, L]
    log_prob: NDArray[np.float32]  # [N, K]
    source: NDArray[np.int8]  # [N, K]
    policy_version: NDArray[np.int64]  # [N, K]


class _Round:
    """One round's prompts [N], and its candidates once somebody has looked or they have duelled."""

    def __init__(self, prompts: Strings, draw: Callable[[], _Candidates]) -> None:
        self.prompts = prompts
        self.drawn: _Candidates | None = None
        self._draw = draw

    def candidates(self) -> _Candidates:
        """Return the candidates, drawing them the first time."""
        if self.drawn is None:
            self.drawn = self._draw()
        return self.drawn


class AlignmentDuelVectorEnv(DuelVectorEnv):
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
    `source` int8 [K], an index into the view's `sources`; `policy_version` int64 [K], the version that drew it.

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
    oracle: An oracle, or a callable (prompts, first, second) -> P(first preferred).
    prompts: Prompts that duels are drawn from.
    test_prompts: Held-out prompts of `evaluate`; by default every fifth prompt is held out.
    evaluation_oracle: Judges in `evaluate`; by default the oracle's true utility, or the oracle itself.
    sources: How many candidates come from where, such as {"policy": 16, "reference": 4}.
    sampling: "fresh" draws the next candidates when the observation is first read, after the usual loop's update;
        "ahead" draws them inside `step`, one update old.
    temperature: Sampling temperature; None takes the policy's own.
    features: "start" for the mean hidden state of the frozen start model, or an encoder (prompts, responses) -> [n, d].
    within_set: Add the diagnostic regret; it asks for the utility of every candidate.
    evaluation_prompts: At most so many prompts are judged in `evaluate`.

    ## Version History
    v0: first version.

    Raises:
        UserError: No prompts, a prompt longer than the model's context, unknown sources, or a value out of range.
    """

    world: ClassVar[str] = "duelenv/AlignmentDuel-v0"

    def __init__(
        self,
        policy: CausalLMPolicy,
        oracle: Oracle,
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
    ) -> None:
        self._sources = _check_sources(sources, num_candidates)
        if sampling not in SAMPLING:
            raise UserError(f"sampling={sampling!r} is unknown; choose one of {', '.join(SAMPLING)}")
        if isinstance(features, str) and features != "start":
            raise UserError(f"features={features!r} is unknown; give 'start' or an encoder function")
        checks.integer("evaluation_prompts", evaluation_prompts, low=1)
        self._prompts = _split_prompts(prompts, test_prompts)
        for split_prompts in self._prompts.values():
            policy.check_prompts(list(split_prompts))
        self._policy = policy
        self.oracle = oracle
        self._truth = utility_of(oracle)
        self._judge: Oracle = evaluation_oracle or self._truth or oracle
        self._judge_truth = utility_of(self._judge)
        self._sampling = sampling
        self._temperature = temperature
        self._features = features
        self._within_set = checks.flag("within_set", within_set)
        self._evaluation_prompts = evaluation_prompts
        self._rows = np.arange(num_envs)
        total = sum(self._sources.values())
        super().__init__(
            num_envs=num_envs,
            batch=num_envs,
            num_candidates=total,
            horizon=horizon,
            observation=self._spaces(total),
            selective=selective,
            feedback=feedback,
        )
        self._contexts: RowStreams
        self._current: _Round
        self._comparators: dict[str, float] = {}
        self._start_responses: dict[str, Strings] = {}

    def view(self) -> AgentView:
        """Return what an agent may know of this environment, its policy included."""
        return replace(super().view(), policy=self._policy, sources=tuple(self._sources))

    # A round ---------------------------------------------------------------------------------------------------------

    def _redraw(self, root: int) -> None:
        self._contexts = RowStreams(root, "context", self.num_envs)
        self._comparators.clear()
        self._start_responses.clear()

    def _context_streams(self) -> dict[str, RowStreams]:
        return {"context": self._contexts}

    def _next_context(self) -> None:
        prompts = self._prompts["train"]
        chosen = prompts[(self._contexts.uniform() * len(prompts)).astype(np.int64)]
        uniforms = self._contexts.uniform(self.num_candidates, self._policy.max_new_tokens)
        self._current = _Round(chosen, lambda: self._draw(chosen, uniforms, self._sources))
        if self._sampling == "ahead":
            self._current.candidates()

    def _draw(self, prompts: Strings, uniforms: NDArray[np.float64], sources: Mapping[str, int]) -> _Candidates:
        """Sample responses to `prompts` [N] from `sources`, with uniforms [N, K, L] deciding every token."""
        parts = []
        start = 0
        for number, (source, count) in enumerate(sources.items()):
            samples = self._policy.sample(
                list(prompts),
                count,
                uniforms=uniforms[:, start : start + count],
                source=cast("Source", source),
                temperature=self._temperature,
            )
            start += count
            log_prob = samples.log_prob
            if source != "policy":  # what was drawn elsewhere is still scored by the policy of this moment
                log_prob = self._policy.score(list(prompts), samples.tokens, samples.mask)
            version = 0 if source == "reference" else self._policy.version
            shape = log_prob.shape
            parts.append(
                (
                    samples.texts,
                    samples.tokens,
                    samples.mask,
                    log_prob,
                    np.full(shape, number, np.int8),
                    np.full(shape, version, np.int64),
                )
            )
        columns = [np.concatenate(column, axis=1) for column in zip(*parts, strict=True)]
        return _Candidates(prompts, *columns)

    def _observe(self) -> LazyObservation:
        current = self._current
        return self._observation_of(current.candidates, current.prompts)

    def _observation_of(self, candidates: Callable[[], _Candidates], prompts: Strings) -> LazyObservation:
        def encoded() -> NDArray[np.float32]:
            drawn = candidates()
            if callable(self._features):
                return _encode(self._features, drawn.prompts, drawn.responses)
            return self._policy.embed(list(drawn.prompts), drawn.tokens, drawn.mask)

        def reference_log_prob() -> NDArray[np.float32]:
            drawn = candidates()
            return self._policy.score(list(drawn.prompts), drawn.tokens, drawn.mask, source="reference")

        return LazyObservation(
            {
                "prompt": lambda: prompts,
                "responses": lambda: candidates().responses,
                "features": encoded,
                "tokens": lambda: candidates().tokens,
                "mask": lambda: candidates().mask,
                "log_prob": lambda: candidates().log_prob,
                "reference_log_prob": reference_log_prob,
                "source": lambda: candidates().source,
                "policy_version": lambda: candidates().policy_version,
            }
        )

    def _preferences(
        self, first: NDArray[np.int64], second: NDArray[np.int64], asked: NDArray[np.bool_]
    ) -> Preferences:
        drawn = self._current.candidates()
        rows = self._rows[asked]  # a row that is not asked costs the oracle nothing
        answer = ask(
            self.oracle,
            list(drawn.prompts[rows]),
            list(drawn.responses[rows, first[rows]]),
            list(drawn.responses[rows, second[rows]]),
        )
        win, tie = np.full(self.num_envs, np.nan), np.zeros(self.num_envs)
        win[rows], tie[rows] = answer.win, answer.tie
        return Preferences(win, tie)

    # Truth -----------------------------------------------------------------------------------------------------------

    def _regret(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        if self._truth is None:
            return {}
        drawn = self._current.candidates()
        pairs = np.stack([first, second], axis=1)
        shown = drawn.responses[self._rows[:, np.newaxis], pairs]  # (N, 2)
        utilities = _utilities(self._truth, drawn.prompts, shown)
        best = self._comparator(self._truth, drawn.prompts)
        regret = duel_regret(link(self._truth.link), best, utilities[:, 0], utilities[:, 1])
        if self._within_set:
            everyone = _utilities(self._truth, drawn.prompts, drawn.responses)
            regret["within_set"] = utility_regret(everyone.max(axis=1), utilities[:, 0], utilities[:, 1])
        return regret

    def _comparator(self, truth: UtilityOracle, prompts: Strings) -> NDArray[np.float64]:
        """Return the utility that regret is measured against, [N]; it never depends on the live policy."""
        known = truth.maximum(list(prompts))
        if known is not None:
            return known
        missing = sorted(set(prompts) - self._comparators.keys())
        if missing:
            shape = (_COMPARATOR_RESPONSES, self._policy.max_new_tokens)
            # By prompt and not by the order of meeting them, so that agents share one comparator.
            purposes = [f"comparator/{prompt}" for prompt in missing]
            uniforms = np.stack([stream(self.root, name).random(shape) for name in purposes])
            texts = self._policy.sample(
                missing, shape[0], uniforms=uniforms, source="start", temperature=self._temperature
            ).texts
            best = _utilities(truth, _strings(missing), texts).max(axis=1)
            self._comparators |= dict(zip(missing, best.tolist(), strict=True))
        return np.array([self._comparators[prompt] for prompt in prompts])

    # Evaluation ------------------------------------------------------------------------------------------------------

    def evaluate(self, agent: Recommender, split: str = "test") -> dict[str, NDArray[np.float64]]:
        """Judge the policy's own responses, and the one of K that the agent recommends.

        Every prompt of the split (at most `evaluation_prompts`) gets K responses of the policy, from token draws that
        are the same at every call, and K of the start policy.

        Returns:
            float64 [1] each: `win_rate`, mean P(new > start) under the evaluation oracle, equal texts counting 0.5;
            `win_rate_best_of_n`, the same for the recommended response; `kl`, KL(policy || start) per response in nats
            as the mean log-ratio over responses at temperature 1; `response_tokens`; and where the oracle has a
            utility, the mean `utility` and the `simple_regret` of the recommended response.
        """
        new = self._evaluation_candidates(split, "policy")
        old = self._start_candidates(split, new.prompts)
        arms = np.asarray(agent.recommend(self._observation_of(lambda: new, new.prompts)))
        rows = np.arange(len(new.prompts))
        recommended = new.responses[rows, arms]
        metrics = {
            "win_rate": self._win_rate(new.prompts, new.responses, old),
            "win_rate_best_of_n": self._win_rate(new.prompts, recommended[:, np.newaxis], old[:, :1]),
            "kl": self._kl(split, new),
            "response_tokens": float(new.mask.sum(axis=2).mean()),
        }
        if self._judge_truth is not None:
            utilities = _utilities(self._judge_truth, new.prompts, new.responses)
            best = self._comparator(self._judge_truth, new.prompts)
            metrics["utility"] = float(utilities.mean())
            metrics["simple_regret"] = float((best - utilities[rows, arms]).mean())
        return {name: np.array([value]) for name, value in metrics.items()}

    def examples(self, split: str = "test", count: int = 8) -> list[dict[str, str]]:
        """Return prompts with a response before and after training, for people to read.

        Returns:
            `count` dicts of `prompt`, `before` (start policy) and `after` (current policy), under the same token draws.
        """
        new = self._evaluation_candidates(split, "policy")
        old = self._start_candidates(split, new.prompts)
        columns = zip(new.prompts, old[:, 0], new.responses[:, 0], strict=True)
        return [{"prompt": prompt, "before": before, "after": after} for prompt, before, after in list(columns)[:count]]

    def _evaluation_candidates(self, split: str, source: str, temperature: float | None = None) -> _Candidates:
        if split not in self._prompts:
            raise UserError(f"split {split!r} is unknown; choose one of {', '.join(self._prompts)}")
        prompts = self._prompts[split][: self._evaluation_prompts]
        streams = RowStreams(self.root, f"evaluate/{split}", len(prompts))
        uniforms = streams.uniform(self.num_candidates, self._policy.max_new_tokens)
        return self._draw(prompts, uniforms, {source: self.num_candidates})

    def _start_candidates(self, split: str, prompts: Strings) -> Strings:
        if split not in self._start_responses:
            drawn = self._evaluation_candidates(split, "start")
            self._start_responses[split] = drawn.responses
        return self._start_responses[split]

    def _win_rate(self, prompts: Strings, new: Strings, old: Strings) -> float:
        """Return mean P(new > old), for responses [P, M] each."""
        asked = np.repeat(prompts, new.shape[1])
        answer = ask(self._judge, list(asked), list(new.ravel()), list(old.ravel()))
        wins = answer.expected_label
        return float(np.where(new.ravel() == old.ravel(), 0.5, wins).mean())

    def _kl(self, split: str, drawn: _Candidates) -> float:
        start = self._policy.score(list(drawn.prompts), drawn.tokens, drawn.mask, source="start")
        return float((drawn.log_prob - start).mean(dtype=np.float64))

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """See `DuelVectorEnv.state_dict`; candidates that were drawn already are kept as they are."""
        drawn = self._current.drawn
        return super().state_dict() | {
            "drawn": None
            if drawn is None
            else {
                "tokens": drawn.tokens,
                "mask": drawn.mask,
                "log_prob": drawn.log_prob,
                "source": drawn.source,
                "policy_version": drawn.policy_version,
                "responses": drawn.responses.tolist(),
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """See `DuelVectorEnv.load_state_dict`; the policy's weights are the caller's to restore, and first."""
        super().load_state_dict(state)
        drawn = state["drawn"]
        if drawn is not None:
            arrays = {name: np.asarray(drawn[name]) for name in drawn if name != "responses"}
            responses = np.array(drawn["responses"], dtype=object)
            self._current.drawn = _Candidates(self._current.prompts, responses=responses, **arrays)
        return self._observe()

    def _spaces(self, num_candidates: int) -> dict[str, spaces.Space[Any]]:
        tokens = (num_candidates, self._policy.max_new_tokens)
        per_candidate = (num_candidates,)
        log_prob = spaces.Box(-np.inf, np.inf, per_candidate, np.float32)
        dim = self._policy.hidden_size if self._features == "start" else self._encoder_dim()
        return {
            "prompt": Unicode(),
            "responses": UnicodeArray(per_candidate),
            "features": spaces.Box(-np.inf, np.inf, (num_candidates, dim), np.float32),
            "tokens": spaces.Box(0, self._policy.vocabulary_size - 1, tokens, np.int64),
            "mask": spaces.Box(0, 1, tokens, np.int8),
            "log_prob": log_prob,
            "reference_log_prob": log_prob,
            "source": spaces.Box(0, len(SOURCES) - 1, per_candidate, np.int8),
            "policy_version": spaces.Box(0, _MANY_UPDATES, per_candidate, np.int64),
        }

    def _encoder_dim(self) -> int:
        assert callable(self._features)
        prompt = _strings(self._prompts["train"][:1])
        return _encode(self._features, prompt, prompt[:, np.newaxis]).shape[-1]


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

    def __init__(self, policy: CausalLMPolicy, oracle: Oracle, prompts: Sequence[str], **settings: Any) -> None:
        super().__init__(AlignmentDuelVectorEnv(policy, oracle, prompts, num_envs=1, **settings))

    def examples(self, split: str = "test", count: int = 8) -> list[dict[str, str]]:
        """See `AlignmentDuelVectorEnv.examples`."""
        vector = self.vector
        assert isinstance(vector, AlignmentDuelVectorEnv)
        return vector.examples(split, count)


def _check_sources(sources: Mapping[str, int] | None, num_candidates: int | None) -> dict[str, int]:
    if sources is None:
        count = 20 if num_candidates is None else num_candidates
        return {"policy": checks.integer("num_candidates", count, low=2)}
    for source, count in sources.items():
        if source not in SOURCES:
            raise UserError(f"source {source!r} is unknown; choose among {', '.join(SOURCES)}")
        checks.integer(f"sources[{source!r}]", count, low=1)
    total = sum(sources.values())
    if num_candidates is not None and num_candidates != total:
        raise UserError(
            f"num_candidates={num_candidates} is not the sum {total} of sources={dict(sources)}; leave one of them out"
        )
    return dict(sources)


def _split_prompts(prompts: Sequence[str], test_prompts: Sequence[str] | None) -> dict[str, Strings]:
    for name, given in (("prompts", prompts), ("test_prompts", test_prompts)):
        if given is None:
            continue
        if isinstance(given, str) or len(given) == 0:
            raise UserError(f"{name} is {given!r}, expected at least one prompt; give a list of strings")
        for index, prompt in enumerate(given):
            if not isinstance(prompt, str):
                raise UserError(f"{name}[{index}] is {prompt!r}, expected a string")
    if test_prompts is not None:
        return {"train": _strings(prompts), "test": _strings(test_prompts)}
    if len(prompts) < _HOLD_OUT_EVERY:
        raise UserError(
            f"prompts has {len(prompts)} entries, too few to hold out every fifth; give test_prompts as well"
        )
    everything = _strings(prompts)
    held_out = np.arange(len(everything)) % _HOLD_OUT_EVERY == _HOLD_OUT_EVERY - 1
    return {"train": everything[~held_out], "test": everything[held_out]}


def _strings(texts: Sequence[str] | Strings) -> Strings:
    array = np.empty(len(texts), dtype=object)
    array[:] = list(texts)
    return array


def _utilities(truth: UtilityOracle, prompts: Strings, responses: Strings) -> NDArray[np.float64]:
    """Return the utility of responses [N, M] to prompts [N] as float64 [N, M]."""
    repeated = np.repeat(prompts, responses.shape[1])
    return truth.utility(list(repeated), list(responses.ravel())).reshape(responses.shape)


def _encode(encoder: Encoder, prompts: Strings, responses: Strings) -> NDArray[np.float32]:
    repeated = np.repeat(prompts, responses.shape[1])
    features = np.asarray(encoder(list(repeated), list(responses.ravel())), np.float32)
    if features.ndim != 2 or len(features) != responses.size or not np.isfinite(features).all():
        raise UserError(
            f"the encoder gave an array of shape {features.shape} for {responses.size} responses; "
            "it must give finite features of shape [n, d]"
        )
    return features.reshape(*responses.shape, -1)
