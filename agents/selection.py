"""Pair selection: pure functions from posterior samples, means or embeddings to the pairs to duel.

Every function handles all rows at once and returns int64 [N, 2]. Nothing here learns, keeps state, or knows of
environments: an agent is a belief, one of these rules, and perhaps a learner. The rules that need widths under a design
matrix (MaxInP, CoLSTIM, ...) are not here; they stand beside the belief that owns the matrix.

Shapes: S posterior draws, N rows, K candidates, e embedding dimensions.

Groups: ``groups`` int [N, K] marks candidates that are the same text with equal numbers. With groups the two members
differ in group wherever a row has two of them; a row that holds one text only gets two different indices. Without
groups the members may coincide where the rule says so (`thompson_pair`).

Ties: ``argmax`` takes the lowest index among equals. Posterior draws are continuous, so ties between draws have
probability zero. Posterior means do tie (all are equal before the first label), so the rules on means take ``streams``
and choose uniformly among the best. Similarities tie too, of one-hot features all of them: `in_random_order` serves
rules without draws of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.information import of_all_pairs, outcome_variance
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.integer[Any]]
Pairs = NDArray[np.int64]
DissimilarityRule = Literal["cosine", "similar", "l2", "kmeans"]

_LLOYD_ITERATIONS = 10


def uniform_pair(num_candidates: int, streams: RowStreams, groups: Indices | None = None) -> Pairs:
    """Draw uniformly from the eligible ordered pairs: the passive agent's rule.

    Args:
        num_candidates: Number of candidates K, at least 2.
        streams: One stream per row; two uniforms are read from each.
        groups: int [N, K] or None; None means that all candidates are different.

    Returns:
        int64 [N, 2], never i == j.

    Raises:
        UserError: if there are fewer than two candidates.
    """
    _require_two(num_candidates)
    u = streams.uniform(2)  # (N, 2)
    if groups is None:
        i = (u[:, 0] * num_candidates).astype(np.int64)
        j = (u[:, 1] * (num_candidates - 1)).astype(np.int64)
        return np.stack([i, j + (j >= i)], axis=1)
    partners = may_duel(groups).sum(-1)  # (N, K): a first with more partners heads more of the pairs
    i = draw(partners, u[:, 0])
    return np.stack([i, draw(rivals(i, num_candidates, groups), u[:, 1])], axis=1)


def thompson_pair(samples: Floats, groups: Indices | None = None) -> Pairs:
    """Choose by double Thompson sampling, the explore-and-exploit rule of SEA (arXiv 2411.01493, algorithm 1).

    First = argmax of draw 0. Without groups, second = argmax of the independent draw 1, which may be the first itself:
    a bandit that has converged plays (best, best) and stops paying. With groups, second = argmax of the first later
    draw that names another text; if none does, the best of the other texts under draw 0.

    Args:
        samples: Joint utility draws [S, N, K], S >= 2, exchangeable along S and independent between rows.
        groups: int [N, K] or None (repeats allowed).

    Returns:
        int64 [N, 2].

    Raises:
        UserError: if there are fewer than two draws or candidates.
    """
    _require_samples(samples)
    best = samples.argmax(-1)  # (S, N)
    if groups is None:
        return np.stack([best[0], best[1]], axis=1)
    other = rivals(best[0], samples.shape[-1], groups)  # (N, K)
    rows = np.arange(samples.shape[1])
    differs = other[rows, best[1:]]  # (S - 1, N)
    later = best[1:][differs.argmax(0), rows]
    second_best = _masked_argmax(samples[0], other)
    return np.stack([best[0], np.where(differs.any(0), later, second_best)], axis=1)


def best_arm_pair(samples: Floats, groups: Indices | None = None) -> Pairs:
    """Choose the least certain duel of a plausible best candidate: best-arm identification of SEA (arXiv 2411.01493).

    First = argmax of draw 0, second = argmax_b Var_S[sigma(r_first - r_b)]: the variance of the probability, not of the
    logit, which would prefer duels whose outcome is already certain.

    Args:
        samples: Joint utility draws [S, N, K], S >= 2; the variance wants a dozen or more.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], never i == j.

    Raises:
        UserError: if there are fewer than two draws or candidates.
    """
    _require_samples(samples)
    first = samples[0].argmax(-1)  # (N,)
    first_utility = np.take_along_axis(samples, first[None, :, None], axis=-1)  # (S, N, 1)
    variance = _sigmoid(first_utility - samples).var(axis=0)  # (N, K)
    return np.stack([first, _masked_argmax(variance, rivals(first, samples.shape[-1], groups))], axis=1)


def infomax_pair(samples: Floats, groups: Indices | None = None) -> Pairs:
    """Choose the duel of most uncertain outcome, argmax_{i < j} Var_S[sigma(r_i - r_j)] (InfoMax, arXiv 2402.00396).

    Args:
        samples: Joint utility draws [S, N, K], S >= 2.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2] with i < j; pass it through `random_order` where position must not tell the index.

    Raises:
        UserError: if there are fewer than two draws or candidates.
    """
    _require_samples(samples)
    return best_scored_pair(*of_all_pairs(outcome_variance, samples), groups)[0]


def best_scored_pair(pairs: Indices, scores: Floats, groups: Indices | None = None) -> tuple[Pairs, Floats]:
    """Take the pair of the largest score in every row, among pairs of different texts where there are any.

    Args:
        pairs: The P pairs that are scored, int64 [2, P].
        scores: [N, P].
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], and their scores [N].
    """
    first, second = pairs
    eligible = np.ones(scores.shape, np.bool_) if groups is None else may_duel(groups)[:, first, second]
    best = _masked_argmax(scores, eligible)
    return np.stack([first[best], second[best]], axis=1), np.take_along_axis(scores, best[:, np.newaxis], axis=1)[:, 0]


def dissimilar_pair(embeddings: Floats, rule: DissimilarityRule = "cosine", groups: Indices | None = None) -> Pairs:
    """Choose pairs by the similarity of their embeddings: REAL (arXiv 2409.17169) and its variants.

    Args:
        embeddings: [N, K, e]; REAL takes the mean last hidden state of the base model over the response tokens.
        rule: ``cosine`` is the lowest cosine similarity (REAL's "easy" pairs), ``similar`` the highest ("hard"),
            ``l2`` the largest Euclidean distance, ``kmeans`` the candidates nearest to the two centroids of 2-means
            started from the farthest pair (no randomness). Of equal pairs the first; see `in_random_order`.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], never i == j. i < j except under ``kmeans``; see `random_order`.

    Raises:
        UserError: if the rule is unknown or there are fewer than two candidates.
    """
    checks.one_of("rule", rule, get_args(DissimilarityRule))
    num_candidates = embeddings.shape[1]
    _require_two(num_candidates)
    # The common part of hidden states dwarfs their differences: 64 bits, and centred for distances.
    points = embeddings.astype(np.float64)
    if rule in ("l2", "kmeans"):
        points -= points.mean(axis=1, keepdims=True)
    gram = points @ points.swapaxes(1, 2)  # (N, K, K)
    square = np.einsum("nkk->nk", gram)
    if rule in ("l2", "kmeans"):
        score = square[:, :, None] + square[:, None, :] - 2 * gram
    else:
        norm = np.sqrt(np.maximum(square, np.finfo(np.float64).tiny))
        score = gram / (norm[:, :, None] * norm[:, None, :]) * (1 if rule == "similar" else -1)
    i, j = np.triu_indices(num_candidates, k=1)
    eligible = np.ones((len(points), len(i)), bool) if groups is None else may_duel(groups)[:, i, j]
    best = _masked_argmax(score[:, i, j], eligible)
    pairs = np.stack([i[best], j[best]], axis=1)
    return _nearest_to_centroids(points, pairs, groups) if rule == "kmeans" else pairs


def in_random_order(
    rule: Callable[[Floats, Indices | None], Pairs],
    embeddings: Floats,
    groups: Indices | None,
    streams: RowStreams,
) -> Pairs:
    """Apply a rule that takes the first among equals to candidates in random order, which makes it take any of them.

    Args:
        rule: From embeddings [N, K, e] and groups [N, K] or None to pairs [N, 2].
        embeddings: [N, K, e].
        groups: int [N, K] or None.
        streams: One per row; K uniforms are read from each.

    Returns:
        int64 [N, 2], in the candidates' own numbers.
    """
    order = streams.uniform(embeddings.shape[1]).argsort(axis=1)
    shuffled = None if groups is None else np.take_along_axis(groups, order, axis=1)
    pairs = rule(np.take_along_axis(embeddings, order[:, :, None], axis=1), shuffled)
    return np.take_along_axis(order, pairs, axis=1)


def best_against_worst(utility: Floats, groups: Indices | None = None) -> Pairs:
    """Choose the best candidate against the worst under one draw of the utility.

    Args:
        utility: [N, K], K >= 2, without ties, as a posterior draw is.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], the better first (see `random_order`), never i == j.

    Raises:
        UserError: if there are fewer than two candidates.
    """
    _require_two(utility.shape[-1])
    first = utility.argmax(-1)
    return np.stack([first, _masked_argmax(-utility, rivals(first, utility.shape[-1], groups))], axis=1)


def reversed_thompson_pair(samples: Floats, groups: Indices | None = None) -> Pairs:
    """Choose one draw's best against another's worst: double reversed Thompson sampling (DRTS, arXiv 2603.09692).

    Args:
        samples: Joint utility draws [S, N, K], S >= 2; the first two are read.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], never i == j.

    Raises:
        UserError: if there are fewer than two draws or candidates.
    """
    _require_samples(samples)
    first = samples[0].argmax(-1)
    return np.stack([first, _masked_argmax(-samples[1], rivals(first, samples.shape[-1], groups))], axis=1)


def apart(pairs: Pairs, mean: Floats, groups: Indices | None) -> Pairs:
    """Put the best other text in the second place where both members of a pair are the same text.

    Args:
        pairs: int64 [N, 2], of a rule that knows of no texts.
        mean: Utilities [N, K] by which others are compared.
        groups: int [N, K], or None where a candidate may meet itself.
    """
    if groups is None:
        return pairs
    told = np.take_along_axis(groups, pairs, axis=1)
    other = _masked_argmax(mean, rivals(pairs[:, 0], mean.shape[-1], groups))
    return np.column_stack([pairs[:, 0], np.where(told[:, 0] == told[:, 1], other, pairs[:, 1])])


def extreme_pair(mean: Floats, streams: RowStreams, groups: Indices | None = None) -> Pairs:
    """Choose the best against the worst under the mean utility: the largest gap.

    Args:
        mean: Mean utilities [N, K], K >= 2.
        streams: Decide ties.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], the better first (see `random_order`), never i == j.

    Raises:
        UserError: if there are fewer than two candidates.
    """
    _require_two(mean.shape[-1])
    first = random_argmax(mean, streams.uniform())
    other = rivals(first, mean.shape[-1], groups)
    return np.stack([first, random_argmax(np.where(other, -mean, -np.inf), streams.uniform())], axis=1)


def best_of_n_pair(mean: Floats, streams: RowStreams, groups: Indices | None = None) -> Pairs:
    """Choose the best under the mean utility against a uniformly drawn rival.

    Args:
        mean: Mean utilities [N, K], K >= 2.
        streams: Decide ties and draw the rival.
        groups: int [N, K] or None.

    Returns:
        int64 [N, 2], the best first (see `random_order`), never i == j.

    Raises:
        UserError: if there are fewer than two candidates.
    """
    _require_two(mean.shape[-1])
    first = random_argmax(mean, streams.uniform())
    other = rivals(first, mean.shape[-1], groups)
    return np.stack([first, draw(other, streams.uniform())], axis=1)


def uniform_between(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    streams: RowStreams,
    groups: Indices | None = None,
) -> Pairs:
    """Draw one member from each of two sets of candidates: the optimistic family's policy against reference.

    Args:
        first: Who may be the first member, bool [N, K], at least one in every row.
        second: Who may be the second, bool [N, K], likewise.
        streams: Two uniforms are read from each.
        groups: int [N, K] or None. Of the first set only those are drawn to whom the second holds another text; where
            there are none, any member of either.

    Returns:
        int64 [N, 2].
    """
    u = streams.uniform(2)  # (N, 2)
    count = first.shape[1]
    others = ~np.eye(count, dtype=np.bool_)[np.newaxis] if groups is None else may_duel(groups)  # (N, K, K)
    answered = first & (others & second[:, np.newaxis]).any(-1)
    i = draw(np.where(answered.any(-1, keepdims=True), answered, first), u[:, 0])
    apart_from = second & rivals(i, count, groups)
    apart_from = np.where(apart_from.any(-1, keepdims=True), apart_from, second)
    return np.stack([i, draw(apart_from, u[:, 1])], axis=1)


def uniform_of_kinds(kinds: NDArray[np.bool_], streams: RowStreams, groups: Indices) -> Pairs:
    """Draw uniformly from the ordered pairs of certain kinds that may duel; where none may, from all that may.

    Args:
        kinds: Which pairs are of a kind that is wanted, bool [N, K, K].
        streams: One uniform is read from each.
        groups: int [N, K], candidates with the same text share a number.

    Returns:
        int64 [N, 2], never i == j.
    """
    rows, count, _ = kinds.shape
    allowed = may_duel(groups)
    wanted = allowed & kinds
    wanted = np.where(wanted.any((1, 2), keepdims=True), wanted, allowed)
    return np.stack(np.divmod(draw(wanted.reshape(rows, -1), streams.uniform()), count), axis=1)


def categorical(weights: Floats, streams: RowStreams) -> NDArray[np.int64]:
    """Return int64 [N]: per row of weights [N, K] one index, drawn with probability proportional to its weight."""
    return draw(weights, streams.uniform())


def draw(weights: NDArray[Any], u: Floats) -> NDArray[np.int64]:
    """Draw one index per row with probability proportional to its weight, by inversion; of a set, any member alike.

    Args:
        weights: [N, K], not negative, not all 0 in a row; or bool, the members of a set.
        u: U[0, 1), [N].

    Returns:
        int64 [N].
    """
    cumulative = weights.cumsum(-1)
    return (cumulative > (u * cumulative[:, -1])[:, None]).argmax(-1)


def random_argmax(scores: Floats, u: Floats) -> NDArray[np.int64]:
    """Return int64 [N]: per row of scores [N, K] one of the maximisers, drawn by u [N] and all of them equally likely.

    Where bounds or means decide, many are equal at first. To take the lowest number every time lets the same few
    candidates meet each other.
    """
    return draw(scores == scores.max(axis=-1, keepdims=True), u)


def random_order(pairs: Pairs, streams: RowStreams) -> Pairs:
    """Swap each pair [N, 2] with probability 1/2, so that the position carries no information."""
    swap = streams.uniform() < 0.5
    return np.where(swap[:, None], pairs[:, ::-1], pairs)


def _nearest_to_centroids(points: Floats, seeds: Pairs, groups: Indices | None) -> Pairs:
    """Cluster by 2-means from two seed candidates, then take the candidate nearest to each centroid."""
    rows = np.arange(len(points))
    centroids = points[rows[:, None], seeds]  # (N, 2, e)
    for _ in range(_LLOYD_ITERATIONS):
        distance = _square_distance(points, centroids)  # (N, K, 2)
        member = distance.argmin(-1)[:, None] == np.arange(2)[:, None]  # (N, 2, K)
        size = member.sum(-1, keepdims=True)
        moved = member @ points / np.maximum(size, 1)
        centroids = np.where(size > 0, moved, centroids)
    distance = _square_distance(points, centroids)
    first = distance[:, :, 0].argmin(-1)
    other = rivals(first, points.shape[1], groups)
    return np.stack([first, _masked_argmax(-distance[:, :, 1], other)], axis=1)


def _square_distance(points: Floats, centroids: Floats) -> Floats:
    """Return |point - centroid|^2 as a share of the row's largest, [N, K, 2], rounded so that equal ones are equal."""
    inner = points @ centroids.swapaxes(1, 2)
    square = (points**2).sum(-1)[:, :, None] - 2 * inner + (centroids**2).sum(-1)[:, None]
    return (square / np.maximum(square.max(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)).round(12)


def rivals(first: Indices, num_candidates: int, groups: Indices | None) -> NDArray[np.bool_]:
    """Find who may meet `first` [N]: bool [N, K], other groups, or other indices where a row has a single group."""
    different_index = np.arange(num_candidates) != first[:, None]
    if groups is None:
        return different_index
    different_group = groups != np.take_along_axis(groups, first[:, None], axis=1)
    return np.where(different_group.any(-1, keepdims=True), different_group, different_index)


def may_duel(groups: Indices) -> NDArray[np.bool_]:
    """Find the pairs that may duel: bool [N, K, K], symmetric."""
    different_group = groups[:, :, None] != groups[:, None, :]
    different_index = ~np.eye(groups.shape[1], dtype=bool)
    return np.where(different_group.any((1, 2), keepdims=True), different_group, different_index)


def _masked_argmax(scores: Floats, allowed: NDArray[np.bool_]) -> Pairs:
    return np.where(allowed, scores, -np.inf).argmax(-1)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # no overflow at either end


def _require_two(num_candidates: int) -> None:
    if num_candidates < 2:
        raise UserError(f"a duel needs at least two candidates, got {num_candidates}; raise num_candidates")


def _require_samples(samples: Floats) -> None:
    if samples.ndim != 3 or samples.shape[0] < 2:
        raise UserError(
            f"pair selection expects posterior samples of shape [S, N, K] with S >= 2, got {samples.shape}; "
            "draw at least two"
        )
    _require_two(samples.shape[-1])
