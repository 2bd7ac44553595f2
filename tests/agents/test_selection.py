"""Pair selection: uniformity, posterior rules against slow loops, groups, small K, and what position may tell."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chisquare

from duelenv.agents import selection
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams


def streams(rows: int, root: int = 0) -> RowStreams:
    return RowStreams(root, "test", rows)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def draws(num_samples=12, rows=40, candidates=5, seed=0):
    return np.random.default_rng(seed).normal(size=(num_samples, rows, candidates)) * 2


def random_groups(rows, candidates, seed=1):
    """Groups with repeats; some rows hold a single text."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(3, size=(rows, candidates))
    groups[::7] = 4
    return groups


GROUPED_RULES: dict[str, Callable[..., np.ndarray]] = {
    "uniform": lambda s, e, g: selection.uniform_pair(s.shape[-1], streams(s.shape[1]), g),
    "thompson": lambda s, e, g: selection.thompson_pair(s, g),
    "best_arm": lambda s, e, g: selection.best_arm_pair(s, g),
    "infomax": lambda s, e, g: selection.infomax_pair(s, g),
    "cosine": lambda s, e, g: selection.dissimilar_pair(e, "cosine", g),
    "similar": lambda s, e, g: selection.dissimilar_pair(e, "similar", g),
    "l2": lambda s, e, g: selection.dissimilar_pair(e, "l2", g),
    "kmeans": lambda s, e, g: selection.dissimilar_pair(e, "kmeans", g),
    "extreme": lambda s, e, g: selection.extreme_pair(s.mean(0), streams(s.shape[1]), g),
    "best_of_n": lambda s, e, g: selection.best_of_n_pair(s.mean(0), streams(s.shape[1]), g),
}


@pytest.mark.parametrize("rule", GROUPED_RULES)
@pytest.mark.parametrize("candidates", [2, 3, 6])
def test_members_differ_in_text_wherever_a_row_has_two(rule, candidates):
    rng = np.random.default_rng(2)
    groups = random_groups(60, candidates)
    texts = rng.normal(size=(60, 5, 4))  # equal groups have equal embeddings and utilities, as equal texts do
    embeddings = np.take_along_axis(texts, groups[..., None], axis=1)
    samples = np.take_along_axis(draws(rows=60, candidates=5), groups[None].repeat(12, 0), axis=2)
    pairs = GROUPED_RULES[rule](samples, embeddings, groups)
    assert pairs.shape == (60, 2) and pairs.dtype == np.int64
    assert pairs.min() >= 0 and pairs.max() < candidates
    assert (pairs[:, 0] != pairs[:, 1]).all()
    chosen = np.take_along_axis(groups, pairs, axis=1)
    several = (groups != groups[:, :1]).any(1)
    assert several.any() and not several.all()
    assert (chosen[several, 0] != chosen[several, 1]).all()


# Not `thompson`, which may repeat without groups, nor `uniform`, which then reads its uniforms in another way.
@pytest.mark.parametrize("rule", sorted(GROUPED_RULES.keys() - {"thompson", "uniform"}))
def test_all_different_groups_equal_no_groups(rule):
    """Distinct texts need no groups."""
    samples = draws(rows=9)
    embeddings = np.random.default_rng(3).normal(size=(9, 5, 4))
    distinct = np.tile(np.arange(5), (9, 1))
    with_groups = GROUPED_RULES[rule](samples, embeddings, distinct)
    assert np.array_equal(with_groups, GROUPED_RULES[rule](samples, embeddings, None))


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2], [3, 3, 3, 3], [0, 1, 1, 1]])
def test_uniform_pair_is_uniform_over_eligible_ordered_pairs(groups):
    rows = 6000
    many = None if groups is None else np.tile(groups, (rows, 1))
    pairs = selection.uniform_pair(4, streams(rows), many)
    labels = np.arange(4) if groups is None or len(set(groups)) == 1 else np.array(groups)
    eligible = [(i, j) for i, j in itertools.permutations(range(4), 2) if labels[i] != labels[j]]
    counts = [int((pairs == pair).all(1).sum()) for pair in eligible]
    assert sum(counts) == rows
    assert chisquare(counts).pvalue > 1e-3


def test_a_member_of_each_set_is_drawn_and_never_the_same_text_where_that_can_be_helped():
    rows = 6000
    first, second = np.tile([True, True, True, False], (rows, 1)), np.tile([False, False, False, True], (rows, 1))
    groups = np.tile([0, 1, 2, 1], (rows, 1))  # the second set says what candidate 1 says
    pairs = selection.uniform_between(first, second, streams(rows), groups)
    assert (pairs[:, 1] == 3).all()
    assert chisquare([(pairs[:, 0] == k).sum() for k in (0, 2)]).pvalue > 1e-3
    assert not (pairs[:, 0] == 1).any()
    alike = np.tile([1, 1, 1, 1], (rows, 1))
    for one in (alike, None):  # nothing to be helped, nothing to be told apart
        pairs = selection.uniform_between(first, second, streams(rows), one)
        assert chisquare([(pairs[:, 0] == k).sum() for k in range(3)]).pvalue > 1e-3


def test_thompson_without_groups_is_two_independent_argmaxes():
    samples = draws()
    pairs = selection.thompson_pair(samples)
    assert np.array_equal(pairs, samples[:2].argmax(-1).T)


def test_thompson_repeats_the_best_when_converged():
    """A certain posterior plays (best, best), and stops paying."""
    samples = np.tile([0.0, 3.0, 1.0], (4, 6, 1))
    assert (selection.thompson_pair(samples) == 1).all()
    distinct = np.tile(np.arange(3), (6, 1))
    assert (selection.thompson_pair(samples, distinct) == [1, 2]).all()  # second best of draw 0


def test_thompson_with_groups_equals_a_loop():
    samples, groups = draws(num_samples=4, rows=200, candidates=4), random_groups(200, 4)
    pairs = selection.thompson_pair(samples, groups)
    for n in range(200):
        first = samples[0, n].argmax()
        others = [k for k in range(4) if groups[n, k] != groups[n, first]] or [k for k in range(4) if k != first]
        later = [s.argmax() for s in samples[1:, n] if s.argmax() in others]
        second = later[0] if later else max(others, key=lambda k: samples[0, n, k])
        assert pairs[n].tolist() == [first, second]


def test_best_arm_and_infomax_equal_loops():
    samples = draws(candidates=6)
    best_arm, infomax = selection.best_arm_pair(samples), selection.infomax_pair(samples)
    for n in range(samples.shape[1]):
        s = samples[:, n]
        variance = np.array([[sigmoid(s[:, i] - s[:, j]).var() for j in range(6)] for i in range(6)])
        first = s[0].argmax()
        assert best_arm[n].tolist() == [first, variance[first].argmax()]
        i, j = infomax[n]
        assert i < j and variance[i, j] == pytest.approx(variance.max(), abs=1e-12)


def test_variance_is_of_the_probability_not_of_the_logit():
    """Candidate 1 is far below with a wide logit and a certain outcome, candidate 2 close with an uncertain one."""
    samples = np.zeros((8, 1, 3))
    samples[:, 0, 1] = -20 + 5 * np.array([-1, 1] * 4)
    samples[:, 0, 2] = -0.5 + 0.4 * np.array([-1, 1] * 4)
    assert samples[:, 0, 1].var() > samples[:, 0, 2].var()
    assert selection.best_arm_pair(samples).tolist() == [[0, 2]]
    assert selection.infomax_pair(samples).tolist() == [[0, 2]]


@pytest.mark.parametrize("rule", ["cosine", "similar", "l2", "kmeans"])
def test_equally_similar_pairs_are_drawn(rule):
    """One-hot features say nothing, so every pair must be as frequent as every other."""
    one_hot = np.tile(np.eye(4), (1200, 1, 1))

    def first_of_equals(points, groups):
        return selection.dissimilar_pair(points, rule, groups)

    pairs = np.sort(selection.in_random_order(first_of_equals, one_hot, None, streams(1200)), axis=1)
    counts = np.bincount(pairs @ [4, 1], minlength=16)[[1, 2, 3, 6, 7, 11]]
    assert counts.sum() == 1200 and (abs(counts - 200) < 4 * 13).all()  # four standard deviations


@pytest.mark.parametrize("rule", ["cosine", "similar", "l2"])
def test_dissimilar_pair_equals_a_loop(rule):
    embeddings = np.random.default_rng(4).normal(size=(30, 5, 3)).astype(np.float32) + 2
    pairs = selection.dissimilar_pair(embeddings, rule)

    def score(x, y):
        cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        return {"cosine": -cosine, "similar": cosine, "l2": np.linalg.norm(x - y)}[rule]

    for points, (i, j) in zip(embeddings.astype(float), pairs, strict=True):
        best = max(score(points[a], points[b]) for a, b in itertools.combinations(range(5), 2))
        assert score(points[i], points[j]) == pytest.approx(best, abs=1e-9)


def test_l2_distance_survives_a_large_common_part():
    """Hidden states share a direction a thousand times their differences."""
    points = np.array([[0.0, 0], [1e-3, 0], [0, 3e-3]])[None] + 1e3
    assert selection.dissimilar_pair(points, "l2").tolist() == [[1, 2]]


def test_kmeans_takes_the_middles_and_not_the_outliers():
    """Two clusters of three: the farthest pair is at the rims, the nearest to the centroids in the middle."""
    line = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
    embeddings = np.stack([line, np.zeros(6)], axis=-1)[None]
    assert sorted(selection.dissimilar_pair(embeddings, "kmeans")[0]) == [1, 4]
    assert sorted(selection.dissimilar_pair(embeddings, "l2")[0]) == [0, 5]


# Not k-means: the members of a cluster of two are equally near to its centroid.
@pytest.mark.parametrize("rule", ["cosine", "similar", "l2"])
def test_dissimilar_pair_ignores_the_candidates_order(rule):
    embeddings = np.random.default_rng(5).normal(size=(30, 6, 4))
    order = np.random.default_rng(6).permutation(6)
    pairs = selection.dissimilar_pair(embeddings, rule)
    permuted = order[selection.dissimilar_pair(embeddings[:, order], rule)]
    assert np.array_equal(np.sort(pairs), np.sort(permuted))


def test_identical_embeddings_and_zero_vectors_still_give_a_pair():
    for embeddings in (np.zeros((3, 4, 2)), np.ones((3, 4, 2))):
        for rule in ("cosine", "similar", "l2", "kmeans"):
            pairs = selection.dissimilar_pair(embeddings, rule)
            assert (pairs[:, 0] != pairs[:, 1]).all()


def test_extreme_pair_is_best_and_worst():
    mean = np.random.default_rng(7).normal(size=(20, 5))
    expected = np.stack([mean.argmax(1), mean.argmin(1)], axis=1)
    assert np.array_equal(selection.extreme_pair(mean, streams(20)), expected)


def test_best_of_n_rival_is_uniform():
    mean = np.tile([0.0, 2.0, 1.0, -1.0], (9000, 1))
    pairs = selection.best_of_n_pair(mean, streams(9000))
    assert (pairs[:, 0] == 1).all()
    assert chisquare(np.bincount(pairs[:, 1], minlength=4)[[0, 2, 3]]).pvalue > 1e-3


@pytest.mark.parametrize("rule", [selection.extreme_pair, selection.best_of_n_pair])
def test_without_information_no_index_is_preferred(rule):
    """Before the first label all means are equal: every ordered pair is then equally likely."""
    pairs = rule(np.zeros((12_000, 3)), streams(12_000))
    counts = np.bincount(pairs[:, 0] * 3 + pairs[:, 1], minlength=9).reshape(3, 3)
    assert (np.diag(counts) == 0).all()
    assert chisquare(counts[~np.eye(3, dtype=bool)]).pvalue > 1e-3


def test_random_argmax_is_uniform_among_the_best_only():
    chosen = selection.random_argmax(np.tile([1.0, 3.0, 3.0, 2.0], (8000, 1)), streams(8000).uniform())
    counts = np.bincount(chosen, minlength=4)
    assert counts[0] == counts[3] == 0
    assert chisquare(counts[1:3]).pvalue > 1e-3


def test_random_order_keeps_the_pair_and_hides_the_position():
    pairs = np.tile([3, 8], (10_000, 1))
    ordered = selection.random_order(pairs, streams(10_000))
    assert np.array_equal(np.sort(ordered), pairs)
    assert chisquare(np.bincount((ordered[:, 0] == 3).astype(int), minlength=2)).pvalue > 1e-3


def test_a_row_alone_chooses_as_in_the_batch():
    """Streams are per row: the first rows of a large batch equal a small batch."""
    samples, groups = draws(rows=8), random_groups(8, 5)
    for rule in ("uniform", "extreme", "best_of_n"):
        many = GROUPED_RULES[rule](samples, None, groups)
        few = GROUPED_RULES[rule](samples[:, :3], None, groups[:3])
        assert np.array_equal(many[:3], few)


def test_mistakes_get_one_sentence():
    with pytest.raises(UserError, match="two candidates, got 1"):
        selection.uniform_pair(1, streams(2))
    with pytest.raises(UserError, match="S >= 2"):
        selection.thompson_pair(draws(num_samples=1))
    with pytest.raises(UserError, match="'euclid' is unknown"):
        selection.dissimilar_pair(np.zeros((1, 2, 2)), "euclid")
