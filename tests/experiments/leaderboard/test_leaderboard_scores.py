"""Scores, ranks, interquartile means and intervals: by hand, and against slow loops."""

import itertools
import math

import numpy as np
import pytest

from duelenv.experiments.leaderboard.scores import Scale, interquartile_mean, iqm_interval, mean_ranks, ranks
from duelenv.experiments.tables.statistics import bootstrap_tail


def test_the_floor_scores_0_and_the_ceiling_1_whichever_way_is_better():
    regret, wins = Scale(floor=200.0, ceiling=0.0), Scale(floor=0.5, ceiling=0.9)
    assert regret.scores([200.0, 50.0, 0.0, 300.0]).tolist() == [0.0, 0.75, 1.0, -0.5]
    np.testing.assert_allclose(wins.scores([0.5, 0.7, 0.9, 1.0]), [0.0, 0.5, 1.0, 1.25])
    assert not Scale(1.0, 1.0).usable
    assert not Scale(float("nan"), 0.0).usable


def test_the_middle_half_is_of_all_runs_whatever_their_worlds():
    # Sorted 0, 1, 2, 3, 10, 20, 30, 1000: without two at each end 2, 3, 10, 20.
    scores = np.array([[0.0, 10.0, 1000.0, 2.0], [20.0, 1.0, 3.0, 30.0]])
    assert interquartile_mean(scores) == (2 + 3 + 10 + 20) / 4
    # Not the mean over worlds of their middle halves, which is (6 + 11.5) / 2.
    assert interquartile_mean(scores) == interquartile_mean(scores.ravel()[::-1].reshape(4, 2))


def test_an_interval_holds_every_way_in_which_seeds_can_be_drawn_world_by_world():
    # Two seeds in each of two worlds: of each world (a, a), (a, b), (b, a) or (b, b), 16 draws in all.
    worlds = [(0.0, 1.0), (10.0, 14.0)]
    each = [list(itertools.product(world, repeat=2)) for world in worlds]
    every = [sorted([*one, *other])[1:3] for one, other in itertools.product(*each)]
    possible = {(low + high) / 2 for low, high in every}
    found = iqm_interval(np.array(worlds), draws=4000)
    assert found.value == (1 + 10) / 2
    # Drawn together, or without regard to worlds, both middle ones could come from one world.
    assert (found.low, found.high) == (min(possible), max(possible)) == (5.0, 7.5)


def test_an_interval_of_many_seeds_is_that_of_the_normal_around_a_mean():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(1, 400))
    found = iqm_interval(scores, draws=4000)
    # Variance of a trimmed mean: Var of the winsorised values / (n (1 - 2 * 0.25)^2).
    low, high = np.quantile(scores, [0.25, 0.75])
    error = np.clip(scores, low, high).std() / (0.5 * math.sqrt(400))
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)


def test_ranks_are_by_world_and_equal_agents_share_them():
    means = np.array([[0.9, 0.5, 0.5, 0.1], [0.0, 1.0, 2.0, 3.0]])
    assert ranks(means).tolist() == [[1.0, 2.5, 2.5, 4.0], [4.0, 3.0, 2.0, 1.0]]


def test_mean_ranks_against_a_loop_over_draws():
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(3, 2, 5)) + np.array([0.0, 0.5, 1.0])[:, None, None]
    found = mean_ranks(scores, draws=600, seed=1)
    again = np.random.default_rng(1)
    drawn = []
    for _start in range(0, 600, 500):
        for counts in again.multinomial(5, np.full(5, 0.2), size=(min(500, 600 - _start), 2)):
            of_worlds = []
            for world in range(2):
                means = [sum(counts[world, s] * scores[a, world, s] for s in range(5)) / 5 for a in range(3)]
                of_worlds.append([1 + sum(other > mean for other in means) for mean in means])
            drawn.append(np.mean(of_worlds, axis=0))
    tail = bootstrap_tail(5)
    for agent in range(3):
        low, high = np.quantile(np.array(drawn)[:, agent], [tail, 1 - tail])
        assert (found[agent].low, found[agent].high) == (low, high)
    assert sum(one.value for one in found) == pytest.approx(1 + 2 + 3)


def test_agents_that_are_alike_share_every_rank_of_every_draw():
    one = np.random.default_rng(0).normal(size=(3, 8))
    found = mean_ranks(np.stack([one, one, one - 5.0]), draws=200)
    assert [(rank.value, rank.low, rank.high) for rank in found] == [(1.5, 1.5, 1.5), (1.5, 1.5, 1.5), (3.0, 3.0, 3.0)]


def test_seeds_are_drawn_in_each_world_by_themselves():
    # Drawn together, the two worlds would cancel, and every draw would have the middle at 2.
    found = iqm_interval(np.array([[0.0, 4.0], [4.0, 0.0]]))
    assert (found.value, found.low, found.high) == (2.0, 0.0, 4.0)
