"""Candidates of AlignmentDuel: where they come from, how they are drawn, what is observed of them. No duels here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.observation import LazyObservation
from duelenv.spaces import Unicode, UnicodeArray

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy, Source
    from duelenv.policies.samplers import Sampler

Strings = NDArray[np.object_]
Encoder = Callable[[Sequence[str], Sequence[str]], NDArray[Any]]
"""(prompts, responses) -> features [n, d]."""

SOURCES = ("policy", "reference", "pilaf_plus", "pilaf_minus")
"""Where candidates may come from; see `duelenv.policies.CausalLMPolicy.sample`."""

_DEFAULT_CANDIDATES = 20
_MANY_UPDATES = 2**53


def check_sources(sources: Mapping[str, int] | None, num_candidates: int | None) -> dict[str, int]:
    """Return how many candidates come from where, in the order given; all from the policy by default.

    Raises:
        UserError: An unknown source, a number out of range, or numbers that do not add up.
    """
    if sources is None:
        count = _DEFAULT_CANDIDATES if num_candidates is None else num_candidates
        return {"policy": checks.integer("num_candidates", count, low=2)}
    if not isinstance(sources, Mapping):
        raise UserError(
            f"sources is {sources!r}, expected how many come from where; give a mapping like {{'policy': 4}}"
        )
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


@dataclass(frozen=True)
class Candidates:
    """Responses to N prompts, K each, as they were drawn; the other values are those of the observation."""

    prompts: Strings  # [N]
    responses: Strings  # [N, K]
    tokens: NDArray[np.int64]  # [N, K, L]
    mask: NDArray[np.int8]  # [N, K, L]
    log_prob: NDArray[np.float32]  # [N, K]
    source: NDArray[np.int8]  # [N, K]
    policy_version: NDArray[np.int64]  # [N, K]
    hidden: NDArray[np.float32] | None = None  # [N, K, h], of the start model where it drew, else not a number
    # Where a sampler drew: log-probs under the weights that drew, NaN where not known, and the version that scored.
    drawn_log_prob: NDArray[np.float32] | None = None  # [N, K]
    scored_version: NDArray[np.int64] | None = None  # [N, K]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the prompts, in arrays of numbers and lists of strings."""
        numeric = [item.name for item in fields(self) if item.name not in ("prompts", "responses")]
        arrays = {name: getattr(self, name) for name in numeric if getattr(self, name) is not None}
        return arrays | {"responses": self.responses.tolist()}

    @classmethod
    def from_state_dict(cls, prompts: Strings, state: Mapping[str, Any]) -> Candidates:
        """Return the candidates for `prompts` that `state_dict` described."""
        arrays = {name: np.asarray(value) for name, value in state.items() if name != "responses"}
        return cls(prompts, np.array(state["responses"], dtype=object), **arrays)


class Context:
    """One round's prompts [N], and its candidates once somebody has looked or they have duelled.

    Args:
        policy: Draws the candidates, as it stands at that moment.
        prompts: [N].
        uniforms: [N, K, L], which decide every token.
        sources: How many of the K come from where.
        temperature: Sampling temperature; None takes the policy's own.
        hidden: Whether the start model's hidden layer will be wanted.
    """

    def __init__(
        self,
        policy: CausalLMPolicy | None,
        prompts: Strings,
        uniforms: NDArray[np.float64],
        sources: Mapping[str, int],
        temperature: float | None,
        *,
        hidden: bool = False,
    ) -> None:
        self.prompts = prompts
        self.drawn: Candidates | None = None
        self._policy = policy
        self._uniforms = uniforms
        self._sources = sources
        self._temperature = temperature
        self._hidden = hidden

    @classmethod
    def of(cls, drawn: Candidates) -> Context:
        """Return the context of candidates that are there already."""
        context = cls(None, drawn.prompts, np.zeros(0), {}, None)
        context.drawn = drawn
        return context

    def candidates(self) -> Candidates:
        """Return the candidates, drawing them the first time."""
        if self.drawn is None:
            assert self._policy is not None
            self.drawn = draw_candidates(
                self._policy,
                self.prompts,
                self._uniforms,
                self._sources,
                self._temperature,
                hidden=self._hidden,
                sampler=self._policy.sampler,
            )
        return self.drawn


def draw_candidates(
    policy: CausalLMPolicy,
    prompts: Strings,
    uniforms: NDArray[np.float64],
    sources: Mapping[str, int],
    temperature: float | None,
    *,
    hidden: bool = False,
    sampler: Sampler | None = None,
) -> Candidates:
    """Sample responses to N prompts.

    Args:
        policy: Draws from every source, and scores all of them as it stands now.
        prompts: [N].
        uniforms: [N, K, L], which decide every token.
        sources: How many of the K come from where.
        temperature: Sampling temperature; None takes the policy's own.
        hidden: Whether to keep the hidden layer of what the start model draws.
        sampler: Draws from the source "policy", perhaps with the weights of an earlier version; None for the policy's
            own loop.
    """
    parts, states, drawn_with = [], [], []
    start = 0
    for number, (source, count) in enumerate(sources.items()):
        drawer = cast("Source", source)
        by = sampler if source == "policy" else None
        samples = policy.sample(
            list(prompts),
            count,
            uniforms=uniforms[:, start : start + count],
            source=drawer,
            temperature=temperature,
            hidden=hidden and policy.is_start(drawer),
            sampler=by,
        )
        start += count
        states.append(samples.hidden)
        log_prob = samples.log_prob  # (N, count)
        of_policy = source == "policy" or (source == "reference" and policy.reference_version == policy.version)
        if by is not None or not of_policy:  # what was drawn elsewhere is still scored by the policy of this moment
            log_prob = policy.score(list(prompts), samples.tokens, samples.mask)
        version = policy.reference_version if source == "reference" else policy.version
        if by is not None:
            assert samples.version is not None
            version = samples.version
        drawn_with.append(np.full_like(log_prob, np.nan) if by is None else samples.log_prob)
        numbers, versions = np.full(log_prob.shape, number, np.int8), np.full(log_prob.shape, version, np.int64)
        parts.append((samples.texts, samples.tokens, samples.mask, log_prob, numbers, versions))
    columns = [np.concatenate(column, axis=1) for column in zip(*parts, strict=True)]
    return replace(
        Candidates(prompts, *columns),
        hidden=_joined(states, list(sources.values())),
        drawn_log_prob=None if sampler is None else np.concatenate(drawn_with, axis=1),
        scored_version=None if sampler is None else np.full(uniforms.shape[:2], policy.version, np.int64),
    )


SAMPLER_FIGURES = ("sampler_lag", "importance_mean", "importance_max", "effective_sample_share")
"""Names of what `sampler_figures` gives."""


def sampler_figures(drawn: Candidates, policy_source: int) -> dict[str, NDArray[np.float64]]:
    """Return how far a round's candidates are from the policy that learns from them, where a sampler drew them.

    The importance ratio of a response is w = pi_now / pi_drew, over the whole response and at temperature 1. With a
    sampler that has the policy's weights it is 1, up to what two programs make of the same weights.

    Args:
        drawn: The candidates, scored by the policy as it was when they were drawn.
        policy_source: Which source is the policy, as an index.

    Returns:
        float64 [1] each: `sampler_lag`, by how many updates the sampler was behind; `importance_mean` and
        `importance_max`, the mean and the largest w; `effective_sample_share`, (sum w)^2 / (n sum w^2), from 1/n to 1.
        NaN where the sampler does not say how probable its responses were. Empty where the own loop drew.
    """
    if drawn.drawn_log_prob is None or drawn.scored_version is None:
        return {}
    by_policy = drawn.source == policy_source
    values = dict.fromkeys(SAMPLER_FIGURES, math.nan)
    if by_policy.any():
        values["sampler_lag"] = float((drawn.scored_version - drawn.policy_version)[by_policy].max())
        ratios = drawn.log_prob[by_policy].astype(np.float64) - drawn.drawn_log_prob[by_policy]
        if not np.isnan(ratios).any():
            largest = ratios.max()
            relative = np.exp(ratios - largest)  # of the largest, so that its square is no overflow
            with np.errstate(over="ignore"):  # a ratio beyond every number is infinite
                values["importance_mean"] = float(np.exp(largest) * relative.mean())
                values["importance_max"] = float(np.exp(largest))
            values["effective_sample_share"] = float(relative.sum() ** 2 / (len(ratios) * (relative**2).sum()))
    return {name: np.array([value]) for name, value in values.items()}


def _joined(states: Sequence[NDArray[np.float32] | None], counts: Sequence[int]) -> NDArray[np.float32] | None:
    """Hidden layers [N, K, h] of sources, some of which have none; None where all have none."""
    there = [each for each in states if each is not None]
    if not there:
        return None
    rows, _, width = there[0].shape
    return np.concatenate(
        [
            np.full((rows, count, width), np.nan, np.float32) if each is None else each
            for each, count in zip(states, counts, strict=True)
        ],
        axis=1,
    )


def observe(current: Context, policy: CausalLMPolicy, features: str | Encoder) -> LazyObservation:
    """Return a round's observation; reading what belongs to its candidates draws them.

    Args:
        current: The round's prompts and candidates.
        policy: Scores under the reference, and embeds where no encoder does.
        features: "start", or an encoder.
    """

    def made(name: str) -> Callable[[], NDArray[Any]]:
        return lambda: cast("NDArray[Any]", getattr(current.candidates(), name))

    def encoded() -> NDArray[np.float32]:
        drawn = current.candidates()
        if callable(features):
            return _encode(features, drawn.prompts, drawn.responses)
        if drawn.hidden is None:
            return policy.embed(list(drawn.prompts), drawn.tokens, drawn.mask)
        states = drawn.hidden.copy()
        left = np.flatnonzero(np.isnan(states[0, :, 0]))
        if len(left):
            states[:, left] = policy.embed(list(drawn.prompts), drawn.tokens[:, left], drawn.mask[:, left])
        return states

    def reference_log_prob() -> NDArray[np.float32]:
        drawn = current.candidates()
        return policy.score(list(drawn.prompts), drawn.tokens, drawn.mask, source="reference")

    return LazyObservation(
        {
            "prompt": lambda: current.prompts,
            "responses": made("responses"),
            "features": encoded,
            "tokens": made("tokens"),
            "mask": made("mask"),
            "log_prob": made("log_prob"),
            "reference_log_prob": reference_log_prob,
            "source": made("source"),
            "policy_version": made("policy_version"),
        }
    )


def observation_spaces(
    policy: CausalLMPolicy, features: str | Encoder, num_candidates: int, example: str
) -> dict[str, spaces.Space[Any]]:
    """Return one row's spaces.

    Args:
        policy: Gives the sizes of the vocabulary, of a response and of a hidden state.
        features: "start", or an encoder.
        num_candidates: K.
        example: A prompt, on which an encoder is tried for its number of features.
    """
    tokens = (num_candidates, policy.max_new_tokens)
    per_candidate = (num_candidates,)
    log_prob = spaces.Box(-np.inf, np.inf, per_candidate, np.float32)
    dim = policy.hidden_size
    if callable(features):
        tried = np.array([example], dtype=object)
        dim = _encode(features, tried, tried[:, np.newaxis]).shape[-1]
    return {
        "prompt": Unicode(),
        "responses": UnicodeArray(per_candidate),
        "features": spaces.Box(-np.inf, np.inf, (num_candidates, dim), np.float32),
        "tokens": spaces.Box(0, policy.vocabulary_size - 1, tokens, np.int64),
        "mask": spaces.Box(0, 1, tokens, np.int8),
        "log_prob": log_prob,
        "reference_log_prob": log_prob,
        "source": spaces.Box(0, len(SOURCES) - 1, per_candidate, np.int8),
        "policy_version": spaces.Box(0, _MANY_UPDATES, per_candidate, np.int64),
    }


def _encode(encoder: Encoder, prompts: Strings, responses: Strings) -> NDArray[np.float32]:
    """Return the features of responses [N, K] to prompts [N], float32 [N, K, d]."""
    repeated = np.repeat(prompts, responses.shape[1])
    features = np.asarray(encoder(list(repeated), list(responses.ravel())), np.float32)
    if features.ndim != 2 or len(features) != responses.size or not np.isfinite(features).all():
        raise UserError(
            f"the encoder gave an array of shape {features.shape} for {responses.size} responses; "
            "it must give finite features of shape [n, d]"
        )
    return features.reshape(*responses.shape, -1)
