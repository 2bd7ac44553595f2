"""Candidates of AlignmentDuel: where they come from, how they are drawn, what is observed of them. No duels here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from duelenv.ground.errors import UserError
from duelenv.observation import LazyObservation
from duelenv.spaces import Unicode, UnicodeArray
from duelenv.worlds.alignment_duel.candidate_sources import PILAF_BETA, RECORDED, SOURCES
from duelenv.worlds.encoders import START, Block, Encoder, side_by_side

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy, Source
    from duelenv.policies.samplers import Sampler
    from duelenv.worlds.alignment_duel.recorded_candidates import RecordedResponses

Strings = NDArray[np.object_]

_MANY_UPDATES = 2**53


@dataclass(frozen=True)
class Candidates:
    """Responses to N prompts, K each, as they were drawn; the other values are those of the observation."""

    prompts: Strings  # [N]
    responses: Strings  # [N, K]
    tokens: NDArray[np.int64]  # [N, K, L]
    mask: NDArray[np.int8]  # [N, K, L]
    log_prob: NDArray[np.float32]  # [N, K], not a number where nobody has asked yet
    source: NDArray[np.int8]  # [N, K]
    policy_version: NDArray[np.int64]  # [N, K], -1 of recorded responses
    hidden: NDArray[np.float32] | None = None  # [N, K, h], of the start model where it drew, else not a number
    scored: NDArray[np.bool_] | None = None  # [K], whose log-prob is there; None where all are
    version: int = 0  # of the policy when they were drawn, whoever drew them
    # Where a sampler drew: log-probs under the weights that drew, NaN where not known.
    drawn_log_prob: NDArray[np.float32] | None = None  # [N, K]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the prompts, in arrays of numbers and lists of strings."""
        numeric = [item.name for item in fields(self) if item.name not in ("prompts", "responses")]
        arrays = {name: getattr(self, name) for name in numeric if getattr(self, name) is not None}
        return arrays | {"responses": self.responses.tolist()}

    @classmethod
    def from_state_dict(cls, prompts: Strings, state: Mapping[str, Any]) -> Candidates:
        """Return the candidates for `prompts` that `state_dict` described."""
        numeric = (name for name in state if name not in ("responses", "version"))
        arrays: dict[str, Any] = {name: np.asarray(state[name]) for name in numeric}
        responses = np.array(state["responses"], dtype=object)
        return cls(prompts, responses, **arrays, version=int(state.get("version", 0)))


class Context:
    """One round's prompts [N], and its candidates once somebody has looked or they have duelled.

    Args:
        policy: Draws the candidates, as it stands at that moment.
        prompts: [N].
        uniforms: [N, K, L], which decide every token.
        sources: How many of the K come from where.
        temperature: Sampling temperature; None takes the policy's own.
        pilaf_beta: Of PILAF's mixtures.
        recorded: What the source "recorded" has.
        hidden: Whether the start model's hidden layer will be wanted.
        score_at_once: Whether all log-probs are made with the candidates, for whoever reads them when the policy has
            moved on.
    """

    def __init__(
        self,
        policy: CausalLMPolicy | None,
        prompts: Strings,
        uniforms: NDArray[np.float64],
        sources: Mapping[str, int],
        temperature: float | None,
        *,
        pilaf_beta: float = PILAF_BETA,
        recorded: RecordedResponses | None = None,
        hidden: bool = False,
        score_at_once: bool = False,
    ) -> None:
        self.prompts = prompts
        self.drawn: Candidates | None = None
        self._policy = policy
        self._uniforms = uniforms
        self._sources = sources
        self._temperature = temperature
        self._pilaf_beta = pilaf_beta
        self._recorded = recorded
        self._hidden = hidden
        self._score_at_once = score_at_once

    @classmethod
    def of(cls, drawn: Candidates, policy: CausalLMPolicy | None = None) -> Context:
        """Return the context of candidates that are there already; the policy scores those of them that are not yet."""
        context = cls(policy, drawn.prompts, np.zeros(0), {}, None)
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
                pilaf_beta=self._pilaf_beta,
                recorded=self._recorded,
                hidden=self._hidden,
                sampler=self._policy.sampler,
            )
            if self._score_at_once:
                self.log_prob()
        return self.drawn

    def log_prob(self) -> NDArray[np.float32]:
        """Return log-probs [N, K] under the policy that stood when the candidates were drawn, making what is missing.

        Raises:
            UserError: Some are missing, and the policy is another by now.
        """
        drawn = self.candidates()
        if drawn.scored is None:
            return drawn.log_prob
        assert self._policy is not None
        if self._policy.version != drawn.version:
            raise UserError(
                f"log_prob is that of the policy when the candidates were drawn, version {drawn.version}, and that is "
                f"now {self._policy.version}: too late to ask it about what the reference or a mixture drew; read "
                "log_prob before agent.update"
            )
        left = ~drawn.scored
        log_prob = drawn.log_prob.copy()
        log_prob[:, left] = self._policy.score(list(drawn.prompts), drawn.tokens[:, left], drawn.mask[:, left])
        self.drawn = replace(drawn, log_prob=log_prob, scored=None)
        return log_prob


def draw_candidates(
    policy: CausalLMPolicy,
    prompts: Strings,
    uniforms: NDArray[np.float64],
    sources: Mapping[str, int],
    temperature: float | None,
    *,
    pilaf_beta: float = PILAF_BETA,
    recorded: RecordedResponses | None = None,
    hidden: bool = False,
    sampler: Sampler | None = None,
) -> Candidates:
    """Sample responses to N prompts; what the policy has not drawn itself is left without its log-prob.

    Args:
        policy: Draws from every source but the recorded one.
        prompts: [N].
        uniforms: [N, K, L], which decide every token.
        sources: How many of the K come from where.
        temperature: Sampling temperature; None takes the policy's own.
        pilaf_beta: Of PILAF's mixtures.
        recorded: What the source "recorded" has.
        hidden: Whether to keep the hidden layer of what the start model draws.
        sampler: Draws from the source "policy", perhaps with the weights of an earlier version; None for the policy's
            own loop.
    """
    states: list[Any] = []
    parts, scored, drawn_with = [], [], []
    start = 0
    for number, (name, count) in enumerate(sources.items()):
        if name == RECORDED:
            assert recorded is not None
            said = recorded.draw(prompts, uniforms[:, start : start + count, 0])
            start += count
            states.append(None)
            unknown = np.full(said[0].shape, np.nan, np.float32)
            drawn_with.append(unknown)
            scored += [False] * count
            numbers, versions = np.full(unknown.shape, number, np.int8), np.full(unknown.shape, -1, np.int64)
            parts.append((*said, unknown, numbers, versions))
            continue
        drawer = cast("Source", name)
        by = sampler if name == "policy" else None
        samples = policy.sample(
            list(prompts),
            count,
            uniforms=uniforms[:, start : start + count],
            source=drawer,
            temperature=temperature,
            beta=pilaf_beta,
            hidden=hidden and policy.is_start(drawer),
            sampler=by,
        )
        start += count
        states.append(samples.hidden)
        drawer_version = {"reference": policy.reference_version, "start": 0}.get(name, policy.version)
        of_policy = name == "policy" or (name == "reference" and drawer_version == policy.version)
        own = samples.log_prob if of_policy else np.full_like(samples.log_prob, np.nan)  # (N, count)
        if by is not None:  # its weights may be older, and how far they are from the policy's is a figure of the round
            assert samples.version is not None
            own, drawer_version = policy.score(list(prompts), samples.tokens, samples.mask), samples.version
        drawn_with.append(np.full_like(own, np.nan) if by is None else samples.log_prob)
        scored += [of_policy] * count
        numbers, versions = np.full(own.shape, number, np.int8), np.full(own.shape, drawer_version, np.int64)
        parts.append((samples.texts, samples.tokens, samples.mask, own, numbers, versions))
    responses, tokens, mask, log_prob, source, policy_version = (
        np.concatenate(column, axis=1) for column in zip(*parts, strict=True)
    )
    return Candidates(
        prompts,
        responses,
        tokens,
        mask,
        log_prob,
        source,
        policy_version,
        hidden=_joined(states, list(sources.values())),
        scored=None if all(scored) else np.array(scored),
        version=policy.version,
        drawn_log_prob=None if sampler is None else np.concatenate(drawn_with, axis=1),
    )


def all_alike(responses: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Return the rows whose candidates are all the same text, bool [N], for responses [N, K]."""
    alike: NDArray[np.bool_] = (responses == responses[:, :1]).all(axis=1)
    return alike


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
    if drawn.drawn_log_prob is None:
        return {}
    by_policy = drawn.source == policy_source
    values = dict.fromkeys(SAMPLER_FIGURES, math.nan)
    if by_policy.any():
        values["sampler_lag"] = float((drawn.version - drawn.policy_version)[by_policy].max())
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
    """Join hidden layers [N, K, h] of sources, some of which have none; None where all have none."""
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


def observe(current: Context, policy: CausalLMPolicy, features: Sequence[Block]) -> LazyObservation:
    """Return a round's observation; reading what belongs to its candidates draws them.

    Args:
        current: The round's prompts and candidates.
        policy: Scores under the reference, and embeds where no encoder does.
        features: Blocks, which stand side by side.
    """

    def made(name: str) -> Callable[[], NDArray[Any]]:
        return lambda: cast("NDArray[Any]", getattr(current.candidates(), name))

    def encoded() -> NDArray[np.float32]:
        drawn = current.candidates()
        return side_by_side(
            features, lambda: hidden(drawn), lambda encoder: _encode(encoder, drawn.prompts, drawn.responses)
        )

    def hidden(drawn: Candidates) -> NDArray[np.float32]:
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
            "log_prob": current.log_prob,
            "reference_log_prob": reference_log_prob,
            "source": made("source"),
            "policy_version": made("policy_version"),
        }
    )


def observation_spaces(
    policy: CausalLMPolicy, features: Sequence[Block], num_candidates: int, example: str
) -> dict[str, spaces.Space[Any]]:
    """Return one row's spaces.

    Args:
        policy: Gives the sizes of the vocabulary, of a response and of a hidden state.
        features: Blocks, which stand side by side.
        num_candidates: K.
        example: A prompt, on which encoders are tried for its number of features.
    """
    tokens = (num_candidates, policy.max_new_tokens)
    per_candidate = (num_candidates,)
    log_prob = spaces.Box(-np.inf, np.inf, per_candidate, np.float32)
    tried = np.array([example], dtype=object)
    dim = sum(
        policy.hidden_size if one == START else _encode(cast("Encoder", one), tried, tried[:, np.newaxis]).shape[-1]
        for one in features
    )
    return {
        "prompt": Unicode(),
        "responses": UnicodeArray(per_candidate),
        "features": spaces.Box(-np.inf, np.inf, (num_candidates, dim), np.float32),
        "tokens": spaces.Box(0, policy.vocabulary_size - 1, tokens, np.int64),
        "mask": spaces.Box(0, 1, tokens, np.int8),
        "log_prob": log_prob,
        "reference_log_prob": log_prob,
        "source": spaces.Box(0, len(SOURCES) - 1, per_candidate, np.int8),
        "policy_version": spaces.Box(-1, _MANY_UPDATES, per_candidate, np.int64),
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
