"""The agents the project is named for, in worlds of features: what they learn, and what it costs them."""

import numpy as np
import pytest
from agent_play import FOUR, play
from worlds import make_scalar, make_vector

import duelenv
import duelenv.agents


@pytest.mark.parametrize("world", ["duelenv/MatrixDuel-v0", "duelenv/FeatureDuel-v0"])
@pytest.mark.parametrize("name", FOUR)
def test_an_agent_runs_in_scalar_and_vector_form(world, name):
    scalar = make_scalar(world)
    agent = duelenv.agents.make(name, scalar)
    observation, _ = scalar.reset(seed=0)
    action = agent.act(observation)
    assert action.shape == (2,)
    agent.update(observation, action, scalar.step(action)[1])
    assert isinstance(agent.recommend(observation), int)
    vector = make_vector(world, 6, batch=2)
    rows = duelenv.agents.make(name, vector)
    assert rows.act(vector.reset(seed=0)[0]).shape == (6, 2)


@pytest.mark.parametrize("name", FOUR)
def test_a_replicate_among_many_is_the_replicate_alone(name):
    many, alone = make_vector("duelenv/FeatureDuel-v0", 6), make_vector("duelenv/FeatureDuel-v0", 1)
    agents = [duelenv.agents.make(name, env, seed=3) for env in (many, alone)]
    left = play(many, agents[0], 30)[1][:, 0]
    right = play(alone, agents[1], 30)[1][:, 0]
    np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_agent_learns_to_recommend(name, batch):
    """After 100 rounds the recommendation is far better than a random candidate's regret, in every world drawn."""
    env = make_vector("duelenv/FeatureDuel-v0", 32, batch=batch, num_candidates=6, dim=4, horizon=200)
    agent = duelenv.agents.make(name, env)
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"]
    play(env, agent, 100, seed=1)
    after = env.evaluate(agent)["simple_regret"]
    assert (after < 0.5 * before).all()


def test_thompson_stops_paying_and_passive_does_not():
    """Regret per round falls for Thompson sampling, which may play (best, best); random pairs pay for ever."""
    late, early = {}, {}
    for name in ("passive", "thompson"):
        env = make_vector("duelenv/FeatureDuel-v0", 32, num_candidates=6, dim=4, horizon=400)
        regret = play(env, duelenv.agents.make(name, env), 400)[1]
        early[name], late[name] = regret[:50].mean(), regret[-50:].mean()
    assert late["thompson"] < 0.2 * early["thompson"]
    assert late["passive"] > 0.8 * early["passive"]


def test_the_softmax_policy_of_selm_is_a_logistic_regression_with_a_bonus():
    """DPO on a log-linear policy is Bradley-Terry on its weights; the bonus pulls towards what it prefers."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5, 3))
    labels = (rng.random(60) < 1 / (1 + np.exp(-(features[:, 0] - features[:, 1])[:, 0]))).astype(float)
    beta, alpha, precision = 0.5, 0.05, 1.0

    def objective(theta):
        utilities = features @ theta
        log_ratio = utilities / beta - np.log(np.mean(np.exp(utilities / beta), axis=1, keepdims=True))
        h = log_ratio[:, 0] - log_ratio[:, 1]
        dpo = np.logaddexp(0, -beta * h * (2 * labels - 1)).sum()
        return dpo + alpha * beta * log_ratio.mean(axis=1).sum() + precision * theta @ theta / 2

    exact = minimize(objective, np.zeros(3)).x
    plain = minimize(
        lambda theta: objective(theta) - alpha * beta * _mean_log_ratio(features, theta, beta), np.zeros(3)
    ).x
    env = make_vector("duelenv/FeatureDuel-v0", 1, num_candidates=5, dim=3)
    estimates = {}
    for strength in (0.0, alpha):
        agent = duelenv.agents.make("selm", env, alpha=strength, beta=beta)
        for context, label in zip(features, labels, strict=True):
            agent.update({"features": context[None]}, np.array([[0, 1]]), np.array([label]))
        estimates[strength] = agent.learner.implicit_reward({"features": np.eye(3)[None]})[0]
    np.testing.assert_allclose(estimates[0.0], plain, atol=0.15)
    # The online bonus moves the estimate the way the exact one moves the minimiser.
    moved, expected = estimates[alpha] - estimates[0.0], exact - plain
    cosine = moved @ expected / np.linalg.norm(moved) / np.linalg.norm(expected)
    assert cosine > 0.9
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(expected), rel=0.5)


def _mean_log_ratio(features, theta, beta):
    utilities = features @ theta
    return (utilities / beta - np.log(np.mean(np.exp(utilities / beta), axis=1, keepdims=True))).mean(axis=1).sum()


def test_best_arm_thompson_learns_on_features_too():
    env = make_vector("duelenv/FeatureDuel-v0", 16, num_candidates=6, dim=4, horizon=200)
    agent = duelenv.agents.make("thompson", env, objective="best_arm")
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"].mean()
    play(env, agent, 100, seed=1)
    assert env.evaluate(agent)["simple_regret"].mean() < 0.3 * before


def test_a_turned_duel_teaches_the_same():
    """Pitfall: losses ignored. (i, j) won must update exactly as (j, i) lost."""
    recommended = []
    for turn in (False, True):
        env = make_vector("duelenv/FeatureDuel-v0", 8)
        agent = duelenv.agents.make("passive", env)
        observation, _ = env.reset(seed=0)
        for seed in range(20):
            actions = np.random.default_rng(seed).permuted(np.tile(np.arange(4), (8, 1)), axis=1)[:, :2]
            labels = (np.random.default_rng(seed + 99).random(8) < 0.7).astype(float)
            agent.update(
                observation,
                actions[:, ::-1] if turn else actions,
                1.0 - labels if turn else labels,
            )
        recommended.append(agent.belief.mean(observation["features"]))
    np.testing.assert_allclose(recommended[0], recommended[1], rtol=1e-9)
