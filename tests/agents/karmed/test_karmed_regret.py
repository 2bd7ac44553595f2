"""The K-armed algorithms: where they end up, what it costs, and that known mistakes would be seen."""

from __future__ import annotations

import numpy as np
import pytest
from arms import CLEAR, INTRANSITIVE, MATRIX, NAMES, play, world

import duelenv
import duelenv.agents
from duelenv.agents.karmed.agent import BoundSettings
from duelenv.agents.karmed.dts import DoubleThompson
from duelenv.agents.karmed.rucb import RUCB, RUCBSettings
from duelenv.oracles.matrices import cyclic


@pytest.mark.parametrize("name", ["rucb", "rmed1", "rmed2", "rmed2fh", "dts", "dts_plus", "ccb", "mergerucb"])
def test_the_best_arm_comes_to_play_itself(name):
    env = world(CLEAR, rows=20, horizon=800)
    chosen, _ = play(env, duelenv.agents.make(name, env, seed=0), 800)
    assert (chosen[-200:] == 0).all(axis=2).mean() > 0.7


@pytest.mark.parametrize("name", ["savage", "interleaved_filter", "btm", "winner_stays"])
def test_those_that_commit_commit_to_the_best_arm(name):
    env = world(CLEAR, rows=20, horizon=2500)
    chosen, _ = play(env, duelenv.agents.make(name, env, seed=0), 2500)
    assert (chosen[-100:] == 0).all(axis=2).mean() > 0.8


SHARES = {  # of the regret of random duels over 1,500 rounds; beside it what was measured
    "rucb": 0.06,  # 0.029
    "rmed1": 0.05,  # 0.025
    "rmed2": 0.07,  # 0.037
    "rmed2fh": 0.07,  # 0.038
    "dts": 0.04,  # 0.023
    "dts_plus": 0.04,  # 0.023
    "sparring": 0.25,  # 0.156
    "multisbm": 0.4,  # 0.274
    "btm": 0.65,  # 0.463
    "interleaved_filter": 0.7,  # 0.496
    "savage": 0.25,  # 0.162
    "winner_stays": 0.13,  # 0.078
    "versatile": 0.12,  # 0.071
    "mergerucb": 0.09,  # 0.050
    "ccb": 0.07,  # 0.038
    "scb": 0.55,  # 0.403
}


@pytest.mark.parametrize("name", SHARES)
def test_regret_is_a_fraction_of_that_of_random_duels_and_grows_ever_more_slowly(name):
    env = world(CLEAR, rows=24, horizon=1500)
    _, regrets = play(env, duelenv.agents.make(name, env, seed=0), 1500)
    random = 1500 * (CLEAR[0] - 0.5).mean()
    assert regrets.sum(axis=0).mean() < SHARES[name] * random
    assert regrets[-500:].sum() < 0.5 * regrets[:500].sum()


@pytest.mark.parametrize("name", ["dts", "dts_plus", "ccb", "random"])
def test_copeland_regret_without_a_condorcet_winner(name):
    """Arms 0 and 1 beat three others each, and no arm beats all: those made for Copeland winners find them."""
    env = world(INTRANSITIVE, rows=24, horizon=1500)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, regrets = play(env, agent, 1500, notion="copeland")
    late = np.isin(chosen[-300:], (0, 1)).mean()
    if name == "random":
        assert late == pytest.approx(0.4, abs=0.03)
    else:
        assert late > 0.8
        assert regrets[-300:].mean() < 0.3 * regrets[:100].mean()


def test_a_tie_between_two_losers_does_not_hold_scb_up():
    """Played to its end, a pull on the tie takes all rounds of the epoch, and most runs never get to anything else."""
    matrix = np.full((4, 4), 0.5)
    matrix[0, 1:], matrix[1:, 0] = 0.95, 0.05
    env = world(matrix, rows=24, horizon=1500)
    regrets = {}
    for patience in (1, None):
        agent = duelenv.agents.make("scb", env, seed=0, patience=patience)
        chosen, paid = play(env, agent, 1500)
        regrets[patience] = paid.sum(axis=0).mean()
        if patience == 1:
            assert (chosen[-100:] == 0).all()
    assert regrets[1] < 0.7 * regrets[None]


@pytest.mark.parametrize(("name", "settings"), [("versatile", {}), ("sparring", {"player": "exp3"})])
def test_late_labels_weigh_as_much_as_the_duel_did(name, settings):
    """Losses of an arm that nobody plays any more come in: its weight was not small when it played."""
    env = world(rows=3, horizon=400)
    agent = duelenv.agents.make(name, env, seed=0, **settings)
    observation, _ = env.reset(seed=0)
    late = np.array([[0, 1]] * 3)
    for _ in range(400):
        agent.act(observation)
        agent.update(observation, late, np.ones(3))
    losses = abs(agent.state_dict()["arrays"]["_losses" if name == "versatile" else "_gains"])
    assert losses.max() < 400 * 60  # the least weight with which it was drawn is above 1 in 60


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("matrix", [cyclic(3), cyclic(4), np.full((3, 3), 0.5), INTRANSITIVE], ids=range(4))
def test_any_matrix_will_do(name, matrix):
    """Cycles and ties void guarantees, but every arm stays an arm and every array finite."""
    env = world(matrix, rows=4, horizon=400)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, _ = play(env, agent, 400, notion="copeland")
    assert chosen.min() >= 0 and chosen.max() < len(matrix)
    assert np.isin(agent.recommend({}), range(len(matrix))).all()


def test_a_cycle_is_played_by_all_its_arms():
    env = world(cyclic(3), rows=30, horizon=600)
    chosen, _ = play(env, duelenv.agents.make("dts", env, seed=0), 600, notion="copeland")
    shares = np.bincount(chosen[-200:].reshape(-1), minlength=3) / chosen[-200:].size
    np.testing.assert_allclose(shares, 1 / 3, atol=0.08)


class WrongColumn(DoubleThompson):
    """The known mistake: the champion's row of the second draw, which finds the arm it beats most surely."""

    def _challenger(self, champion, bonus):
        margin, below, wins = self._margin, self._below_half, self.counts.wins
        self._margin, self._below_half = margin.transpose(0, 2, 1).copy(), below.transpose(0, 2, 1).copy()
        self.counts.wins = wins.transpose(0, 2, 1).copy()
        try:
            return super()._challenger(champion, bonus)
        finally:
            self._margin, self._below_half, self.counts.wins = margin, below, wins


class LossesIgnored(RUCB):
    """The other known mistake: only wins of the first arm are counted."""

    def _update(self, observation, actions, labels):
        return super()._update(observation, actions, np.where(labels > 0, labels, np.nan))


@pytest.mark.parametrize(("name", "wrong"), [("dts", WrongColumn), ("rucb", LossesIgnored)])
def test_the_known_mistakes_would_be_seen(name, wrong):
    env = world(MATRIX, rows=24, horizon=800)
    _, right = play(env, duelenv.agents.make(name, env, seed=0), 800)
    if wrong is WrongColumn:
        mutant = wrong(env.unwrapped.view(), 0, name, BoundSettings(), least_regret=False)
    else:
        mutant = wrong(env.unwrapped.view(), 0, name, RUCBSettings())
    _, mistaken = play(env, mutant, 800)
    assert mistaken.sum() > 1.7 * right.sum()
