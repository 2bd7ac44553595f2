"""Agents on a log: what they learn from it, and replay, which equals playing on-line."""

from __future__ import annotations

import numpy as np
import pytest
from logged import World
from scipy import stats

from duelenv import agents
from duelenv.experiments.offline.log import DuelLog
from duelenv.experiments.offline.targets import recommendations, replay, taught


class Fixed:
    """Always duels the largest first feature against the smallest, and recommends the largest."""

    def __init__(self, *_):
        self.told = []

    def act(self, observation):
        score = observation["features"][:, :, 0]
        return np.stack([score.argmax(axis=1), score.argmin(axis=1)], axis=1)

    def recommend(self, observation):
        return observation["features"][:, :, 0].argmax(axis=1)

    def update(self, observation, actions, labels, late=None):
        self.told.append((actions[0].tolist(), float(labels[0])))


def thompson(view, seed):
    return agents.make("thompson", view, seed=seed)


def test_a_round_counts_where_the_pair_is_the_agents_own_in_either_order():
    features = np.tile(np.array([[3.0], [1.0], [2.0]], np.float32), (5, 1, 1))  # Fixed plays (0, 1)
    pairs = np.array([[0, 1], [1, 0], [0, 2], [1, 0], [0, 1]])
    log = DuelLog(features, pairs, np.array([1.0, 1.0, 1.0, 0.25, np.nan]), np.full(5, 1 / 3))
    played = replay(log, Fixed)
    assert (played.accepted, played.rounds) == (3, 4)
    assert played.agents[0].told == [([0, 1], 1.0), ([0, 1], 0.0), ([0, 1], 0.75)]
    assert played.won.value == pytest.approx(1.75 / 3)
    # It recommends 0; weights 1 / (2 / 3) where 0 was played: labels of 0 are 1, 0, 1, 0.75.
    assert played.value.value == pytest.approx(1.5 * (1 + 0 + 1 + 0.75) / 4)


def test_replay_equals_what_is_won_on_line_whatever_the_logger_prefers():
    """Half of the contexts are ones in which Fixed's pair wins always and is played four times as often."""
    wins = np.arange(2000) % 2 == 0
    often = np.random.default_rng(0).random(2000) < 0.8
    own = often == wins
    features = np.tile(np.array([[3.0], [1.0], [2.0]], np.float32), (2000, 1, 1))
    pairs = np.where(own[:, None], [0, 1], [2, 0])
    log = DuelLog(features, pairs, wins.astype(float), np.where(often, 0.8, 0.2))
    played = replay(log, Fixed)
    assert played.accepted == pytest.approx(400, abs=60)
    assert played.won.value == pytest.approx(0.5, abs=0.075)  # three standard errors
    assert wins[own].mean() > 0.75  # of all that fit


def test_replay_learns_what_a_run_on_line_learns():
    """The recommendations after as many labels, over 40 worlds, paired; on uniform logs."""
    differences, itself = [], 0
    for seed in range(40):
        world = World(seed, candidates=3, scale=3.0)
        log = world.log(90)
        played = replay(log, thompson)
        ours = thompson(log.view(), 1000 + seed)
        fresh = world.log(played.accepted)
        for place in range(len(fresh)):
            shown = fresh.observation([place])
            pair = ours.act(shown)
            itself += pair[0, 0] == pair[0, 1]
            chance = world.chances(fresh.features[[place]])[0, pair[0, 0], pair[0, 1]]
            ours.update(shown, pair, np.array([float(world.generator.random() < chance)]))
        judged = world.log(200)
        values = [world.value(judged.features, recommendations(judged, agent)) for agent in (played.agents[0], ours)]
        differences.append(values[0] - values[1])
    assert itself > 100  # a candidate against itself teaches nothing, and must count as it does on-line
    assert stats.ttest_1samp(differences, 0.0).pvalue > 0.01
    assert np.std(differences) < 0.2


def test_between_two_candidates_replay_and_teaching_are_the_same():
    """With K = 2 every round is one that an agent of two different candidates would have chosen."""
    log = World(2, candidates=2).log(60)

    def passive(view, seed):
        return agents.make("passive", view, seed=seed)

    replayed, learnt = replay(log, passive), taught(log, passive)
    assert replayed.accepted == 60
    assert replayed.agents[0].belief.theta == pytest.approx(learnt[0].belief.theta)


def test_every_replicate_has_an_agent_of_its_own():
    worlds = [World(seed) for seed in (0, 1)]
    logs = [world.log(150) for world in worlds]
    fields = ("features", "pairs", "labels", "propensities")
    order = np.argsort(np.r_[np.arange(150), np.arange(150)], kind="stable")  # rounds of both alternate
    joined = DuelLog(
        *(np.concatenate([getattr(log, name) for log in logs])[order] for name in fields), np.repeat([0, 1], 150)[order]
    )
    early, late = joined.split(2 / 3)
    assert np.bincount(early.of_replicate).tolist() == [100, 100]
    found = taught(early, thompson)
    alone = [taught(log.take(np.arange(100)), lambda view, _, n=n: thompson(view, n)) for n, log in enumerate(logs)]
    for number in (0, 1):
        assert found[number].belief.theta == pytest.approx(alone[number][0].belief.theta)
        cosine = np.dot(found[number].belief.theta[0], worlds[number].theta)
        cosine /= np.linalg.norm(found[number].belief.theta[0]) * np.linalg.norm(worlds[number].theta)
        assert cosine > 0.8
    assert recommendations(late, found).sum(axis=1) == pytest.approx(1.0)
