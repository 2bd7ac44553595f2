"""Ask rules that look at the policy that is trained, not at a belief: what it says, prefers, and would be moved by.

They need a world with a policy model. What a rule makes of a round's numbers is a pure function, which also says how
much each row's duel is worth, for worlds in which prompts are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from duelenv.agents.asking.base import AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Ranked, Select
from duelenv.agents.selection import dissimilar_pair, extreme_pair, in_random_order, random_order, uniform_of_kinds
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams, stream

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

Array = NDArray[np.float64]
Groups = NDArray[np.int64]

#: Nats are told apart to so many decimals: two programs that run the same weights differ by less.
_DECIMALS: Final = 3


def needs_policy(view: AgentView, rule: str) -> CausalLMPolicy:
    """Return the world's policy.

    Raises:
        UserError: There is none.
    """
    if view.policy is None:
        raise UserError(f"{rule} looks at the policy that is trained, and {view.world} has none")
    return view.policy


def needs_sources(view: AgentView, rule: str, needed: Mapping[str, int]) -> dict[str, int]:
    """Return the number of each source that a rule needs candidates of.

    Args:
        view: Of the rule's world.
        rule: Kind and name, for messages.
        needed: How many candidates of each.

    Raises:
        UserError: The world has no policy, or fewer candidates of a source.
    """
    needs_policy(view, rule)
    there = dict(zip(view.sources, view.source_counts, strict=True))
    for source, count in needed.items():
        if there.get(source, 0) < count:
            wanted = there | {name: max(number, there.get(name, 0)) for name, number in needed.items()}
            raise UserError(
                f"{rule} needs {count} candidates or more of {source}, and {there.get(source, 0)} come from "
                f"it; set sources={wanted}"
            )
    return {source: view.sources.index(source) for source in needed}


# Implicit reward (APL) ------------------------------------------------------------------------------------------------


def implicit_gap_pair(log_ratio: Array, streams: RowStreams, groups: Groups | None) -> tuple[Pairs, Array]:
    """Choose the largest gap of the implicit reward beta log pi / ref (active preference learning, arXiv 2402.08114).

    Of a policy that is its reference all gaps are 0, and any pair is as good.

    Args:
        log_ratio: log pi - log ref in nats, [N, K]; beta is a common factor.
        streams: Decide ties and positions.
        groups: int [N, K] or None.

    Returns:
        Pairs int64 [N, 2], and each one's gap in nats, at least 0, float64 [N].
    """
    pairs = extreme_pair(np.round(log_ratio, _DECIMALS), streams, groups)
    of_pair = np.take_along_axis(log_ratio, pairs, axis=1)
    return random_order(pairs, streams), np.maximum(of_pair[:, 0] - of_pair[:, 1], 0.0)


def implicit_gap(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the two whose implicit rewards differ most (APL).

    Raises:
        UserError: The world has no policy.
    """
    needs_policy(resources.view, "ask rule 'implicit_gap'")
    streams = resources.streams
    resources.ranks = True

    def select(observation: Observation, groups: Groups | None) -> Ranked:
        log_ratio = observation["log_prob"].astype(np.float64) - observation["reference_log_prob"]
        return Ranked(*implicit_gap_pair(log_ratio, streams, groups))

    return select


def predictive_entropy(log_prob: NDArray[np.floating[Any]]) -> Array:
    """Estimate the policy's entropy given each prompt, -(1/n) sum log pi(y_n | x) over its own draws, nats [N] (APL).

    APL asks about the prompts of the HIGHEST entropy.

    Args:
        log_prob: Of draws of the policy at temperature 1, [N, n].
    """
    return -np.asarray(log_prob, np.float64).mean(axis=1)


# Gradients (ActiveDPO) ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientSettings:
    """How gradients are compared.

    Attributes:
        gradient_directions: k, of either side of the output head; a gradient becomes k^2 numbers, and V is k^2 by k^2.
        gradient_precision: lambda, above 0, in labelled duels: V starts as if so many average ones were spread evenly
            over all directions.
    """

    gradient_directions: int = 16
    gradient_precision: float = 1.0

    def __post_init__(self) -> None:
        checks.integer("gradient_directions", self.gradient_directions, low=1)
        checks.number("gradient_precision", self.gradient_precision, above=0.0)


class GradientDistance:
    """argmax |grad r(y_i) - grad r(y_j)| under V^-1, V from the duels that were labelled (ActiveDPO, arXiv 2505.19241).

    r is the implicit reward beta log pi / ref, whose gradient is beta grad log pi; beta is a common factor. The
    gradient is that by the weights of the output head, in random directions (`CausalLMPolicy.head_gradients`): one pass
    without gradients, where those by all weights would take one backward pass for each candidate. Sums over tokens are
    not divided by their number, so that of equals the longer response is further away. V = lambda m I + sum z z' over
    the labelled duels' z = grad_i - grad_j, each as the policy stood when its label came, m = the mean of |z|^2 / D.

    Args:
        policy: That is trained.
        seed: Root of the draw of the directions.
        settings: See `GradientSettings`.
    """

    def __init__(self, policy: CausalLMPolicy, seed: int, settings: GradientSettings) -> None:
        self._policy = policy
        self._prior = settings.gradient_precision
        self._projection = policy.head_projection(
            settings.gradient_directions, int(stream(seed, "agents/directions").integers(2**31))
        )
        self._moment = np.zeros((settings.gradient_directions**2, settings.gradient_directions**2))  # sum z z'
        self._count = 0

    def gradients(self, observation: Observation, tokens: NDArray[Any], mask: NDArray[Any]) -> Array:
        """Return the projected gradients of responses [N, J, L] to a round's prompts, float64 [N, J, D]."""
        found = self._policy.head_gradients(list(observation["prompt"]), tokens, mask, self._projection)
        return found.astype(np.float64)

    def hear(self, pieces: Sequence[Piece]) -> None:
        """Add the duels that have a label to V, before the policy learns from them."""
        for piece in pieces:
            rows = np.flatnonzero(~np.isnan(piece.labels))
            if not len(rows):
                continue
            places = rows[:, np.newaxis], piece.actions[rows, :2]
            prompts = {"prompt": piece.observation["prompt"][rows]}
            both = self.gradients(prompts, piece.observation["tokens"][places], piece.observation["mask"][places])
            z = both[:, 0] - both[:, 1]
            self._moment = self._moment + z.T @ z
            self._count += len(rows)

    def whitened(self, gradients: Array) -> Array:
        """Return points [..., D] whose Euclidean distance is that of gradients under V^-1."""
        dim = len(self._moment)
        size = np.trace(self._moment) / dim / self._count if self._count else 1.0
        factor = np.linalg.cholesky(self._moment + self._prior * max(size, np.finfo(np.float64).tiny) * np.eye(dim))
        flat = gradients.reshape(-1, dim)
        return np.asarray(solve_triangular(factor, flat.T, lower=True).T.reshape(gradients.shape))

    def state_dict(self) -> dict[str, Any]:
        """Return V's sum and how many duels are in it."""
        return {"moment": self._moment.copy(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._moment, self._count = np.array(state["moment"]), int(state["count"])


def furthest_pair(points: Array, streams: RowStreams, groups: Groups | None) -> tuple[Pairs, Array]:
    """Choose the two points that are furthest apart.

    Args:
        points: [N, K, D].
        streams: Decide ties and positions.
        groups: int [N, K] or None.

    Returns:
        Pairs int64 [N, 2], and their distance, float64 [N].
    """
    pairs = in_random_order(lambda some, same: dissimilar_pair(some, "l2", same), points, groups, streams)
    each = np.arange(len(points))
    distance = np.linalg.norm(points[each, pairs[:, 0]] - points[each, pairs[:, 1]], axis=1)
    return random_order(pairs, streams), distance


def gradient_distance(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for the two whose gradients are furthest apart in directions that no label has told of yet (ActiveDPO).

    Raises:
        UserError: The world has no policy, or one whose output head cannot be run apart.
    """
    policy = needs_policy(resources.view, "ask rule 'gradient_distance'")
    chosen = settings.take(GradientSettings)
    rule, streams = GradientDistance(policy, resources.seed, chosen), resources.streams
    resources.listen("gradients", rule)
    resources.ranks = True

    def select(observation: Observation, groups: Groups | None) -> Ranked:
        gradients = rule.gradients(observation, observation["tokens"], observation["mask"])
        return Ranked(*furthest_pair(rule.whitened(gradients), streams, groups))

    return select


# Sources (PILAF, offline) ---------------------------------------------------------------------------------------------


def _of_kinds(streams: RowStreams, kinds: Callable[[NDArray[np.int8]], NDArray[np.bool_]]) -> Select:
    def select(observation: Observation, groups: Groups | None) -> Pairs:
        assert groups is not None  # a policy writes texts
        return random_order(uniform_of_kinds(kinds(observation["source"]), streams, groups), streams)

    return select


def pilaf(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for two of the policy's in half the rows, one of each of PILAF's mixtures in others (arXiv 2502.04270).

    Which half a row is in is a coin of its own. Where a row's two sources say one text only, another pair stands in.

    Raises:
        UserError: The candidates do not come from all three.
    """
    needed = {"policy": 2, "pilaf_plus": 1, "pilaf_minus": 1}
    number, streams = needs_sources(resources.view, "ask rule 'pilaf'", needed), resources.streams

    def kinds(source: NDArray[np.int8]) -> NDArray[np.bool_]:
        policy, plus, minus = (source == number[name] for name in needed)
        own = streams.uniform() < 0.5
        return np.where(
            own[:, np.newaxis, np.newaxis],
            policy[:, :, np.newaxis] & policy[:, np.newaxis],
            plus[:, :, np.newaxis] & minus[:, np.newaxis],
        )

    return _of_kinds(streams, kinds)


def offline(resources: AskResources, settings: SettingsReader) -> Select:
    """Ask for any two of the start model's: of the source "start", or of a reference where there is none.

    Raises:
        UserError: Fewer than two candidates come from either.
    """
    view, streams = resources.view, resources.streams
    source = "reference" if "start" not in view.sources and "reference" in view.sources else "start"
    number = needs_sources(view, "ask rule 'offline'", {source: 2})[source]

    def kinds(sources: NDArray[np.int8]) -> NDArray[np.bool_]:
        there = sources == number
        return there[:, :, np.newaxis] & there[:, np.newaxis]

    return _of_kinds(streams, kinds)
