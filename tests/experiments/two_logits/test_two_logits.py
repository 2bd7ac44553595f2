"""The rare-good-arm bandit: the published order of its rows, and the minimiser against scipy."""

import importlib
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

import duelenv
from duelenv import agents
from duelenv.testing import check_world

#: Cumulative KL-regret of one duel a round, T = 1000, by sampler and c: where b is better, and where it is worse. The
#: published means of 20 replicates, and what four standard errors of theirs and of as many here come to.
PUBLISHED = {
    ("policy", 0.0): ((382, 100), (72, 290)),
    ("reference", 0.0): ((400, 60), (0.1, 1)),
    ("reference", 1e-4): ((215, 220), (5.8, 5)),
    ("reference", 1e-3): ((43, 60), (46, 16)),
    ("reference", 1e-2): ((1.7, 3), (432, 42)),
    ("policy", 1e-3): ((0.4, 0.1), (1598, 1)),
}


@pytest.fixture(autouse=True)
def registered():
    """Not at import: other tests take every agent that there is, and this one plays nowhere else."""
    importlib.import_module("duelenv.experiments.two_logits")


def played(against, c, gap, replicates=20, rounds=1000, seed=0):
    """Cumulative KL-regret by replicate."""
    env = gymnasium.make_vec("duelenv/TwoLogits-v0", num_envs=replicates, gap=gap, horizon=rounds)
    bonus = {"bonus": "xpo", "bonus_settings": {"alpha": c}} if c else {}
    agent = agents.make("exact_minimiser", env, seed=seed, against=against, beta=0.05, **bonus)
    observation, _ = env.reset(seed=seed)
    total = np.zeros(replicates)
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, *_, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation, total = following, total + info["regret"]["kl"]
    return total


def test_the_world_keeps_its_contract():
    from duelenv.experiments.two_logits import TwoLogitsVectorEnv

    check_world(lambda: TwoLogitsVectorEnv(num_envs=3, horizon=4, reference_log_odds=0.3))


def test_the_order_of_the_rows_and_the_sign_of_the_control():
    good, bad = ({row: played(*row, gap, replicates=8, rounds=300).mean() for row in PUBLISHED} for gap in (1.0, -1.0))
    by_c = [("reference", c) for c in (0.0, 1e-4, 1e-3, 1e-2)]
    assert all(good[less] > good[more] for less, more in pairwise(by_c))
    assert all(bad[less] < bad[more] for less, more in pairwise(by_c))
    # Against itself a guess is never corrected: the best of all where it is right, the worst where it is not.
    assert good["policy", 1e-3] == min(good.values())
    assert bad["policy", 1e-3] == max(bad.values())


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED, ids=str)
def test_the_published_table_within_its_errors(row):
    for gap, (mean, error) in zip((1.0, -1.0), PUBLISHED[row], strict=True):
        assert abs(played(*row, gap).mean() - mean) < error


def test_the_policy_is_the_minimiser_that_scipy_finds_and_the_reference_before_anything_is_heard():
    env = gymnasium.make_vec("duelenv/TwoLogits-v0", num_envs=4, reference_log_odds=-1.0, horizon=30)
    alpha = 1e-3
    agent = agents.make("exact_minimiser", env, beta=0.05, bonus="xpo", bonus_settings={"alpha": alpha})
    observation, _ = env.reset(seed=1)
    assert (agent._logits.log_odds == -1.0).all()
    for _ in range(30):
        actions = agent.act(observation)
        following, labels, *_ = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
    reference = expit(-1.0)
    for (won, lost), odds in zip(agent._counts, agent._logits.log_odds, strict=True):

        def loss(x, won=won, lost=lost):
            h = 0.05 * (x + 1.0)
            pushed = (1 - reference) * log_expit(-x) + reference * log_expit(x)
            return -won * log_expit(h) - lost * log_expit(-h) + 30 * alpha * pushed

        found = min(
            (minimize_scalar(loss, bounds=bounds, method="bounded") for bounds in ((-41, -1), (-1, 39))),
            key=lambda one: one.fun,
        )
        assert loss(odds) == pytest.approx(found.fun, abs=1e-4)


def test_kl_regret_is_j_of_the_optimum_less_j():
    env = gymnasium.make_vec("duelenv/TwoLogits-v0", num_envs=1, gap=1.0, beta=0.05)
    env.reset(seed=0)
    *_, info = env.step([[0, 2]])
    p = expit(-12.0)
    assert info["regret"]["kl"][0] == pytest.approx(0.05 * np.log(1 - p + p * np.exp(20)) - p)
    assert info["regret"]["temperature_zero"][0] == pytest.approx(1 - p)


def test_a_run_goes_on_from_its_state():
    def made():
        env = gymnasium.make_vec("duelenv/TwoLogits-v0", num_envs=3, reference_log_odds=0.0, horizon=20)
        return env, agents.make("exact_minimiser", env, beta=0.05)

    def play(env, agent, observation, rounds):
        for _ in range(rounds):
            actions = agent.act(observation)
            following, labels, *_ = env.step(actions)
            agent.update(observation, actions, labels)
            observation = following
        return observation

    env, agent = made()
    observation = play(env, agent, env.reset(seed=0)[0], 7)
    twin_env, twin = made()
    twin_env.reset(seed=3)
    twin.load_state_dict(agent.state_dict())
    again = twin_env.unwrapped.load_state_dict(env.unwrapped.state_dict())
    play(env, agent, observation, 5)
    play(twin_env, twin, again, 5)
    np.testing.assert_array_equal(agent._logits.log_odds, twin._logits.log_odds)
    assert len(set(agent._logits.log_odds)) > 1


def test_it_plays_nowhere_else():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=1, num_candidates=3, dim=2)
    with pytest.raises(duelenv.UserError, match="moves a policy of two logits"):
        agents.make("exact_minimiser", env)
