"""How wrong a belief is in its own deviations, and what its probabilities lose."""

import numpy as np
import pytest
from scipy.special import logit, ndtr
from worlds import make_scalar, make_vector, pool, tiny_policy

import duelenv.agents
from duelenv.calibration import calibration


def draws_about(mean, deviation, count=4000, seed=0):
    return mean + deviation * np.random.default_rng(seed).normal(size=(count, *np.shape(mean)))


def test_a_belief_that_is_as_wrong_as_it_says_has_error_one():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(300, 5))
    mean = truth + 0.7 * rng.normal(size=truth.shape)
    for factor in (0.25, 1.0, 4.0):  # too sure, right, not sure enough
        found = calibration(draws_about(mean, 0.7 * factor, 400), truth)
        assert found.error == pytest.approx(1 / factor, rel=0.05)


def test_the_loss_is_that_of_probabilities_over_all_pairs():
    truth, mean = np.array([[0.0, 1.0, 3.0]]), np.array([[0.0, 0.0, 1.0]])
    draws = draws_about(mean, 0.5)
    expected = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        p = 1 / (1 + np.exp(truth[0, j] - truth[0, i]))
        q = np.mean(1 / (1 + np.exp(draws[:, 0, j] - draws[:, 0, i])))
        expected.append(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert calibration(draws, truth).log_loss == pytest.approx(np.mean(expected))
    assert calibration(draws_about(truth, 1e-6), truth).log_loss == pytest.approx(0.0, abs=1e-9)


def test_equal_candidates_that_are_known_to_be_equal_do_not_count():
    truth = np.array([[1.0, 1.0, 2.0]])
    draws = draws_about(np.array([[0.0, 0.0, 0.0]]), 1.0)
    draws[:, :, 1] = draws[:, :, 0]
    gaps = draws[:, 0, 0] - draws[:, 0, 2]
    assert calibration(draws, truth).error == pytest.approx(abs((gaps.mean() + 1.0) / gaps.std(ddof=1)))
    assert np.isnan(calibration(np.zeros((3, 2, 2)), np.zeros((2, 2)))).all()


class Knows:
    """Believes in a utility that is the truth times a factor, with a deviation."""

    def __init__(self, factor, deviation=0.3):
        self.factor, self.deviation = factor, deviation

    def recommend(self, observation):
        self.shown = observation
        return np.zeros(len(observation["responses"]), np.int64)

    def believed(self, observation, num_samples):
        return draws_about(
            self.factor * observation["features"][..., 0].astype(np.float64), self.deviation, num_samples
        )


def lengths(prompts, responses):
    """Features that hold the utility of the oracle below."""
    return np.array([[len(text.split()), 0.0] for text in responses], np.float32)


def test_a_world_measures_it_on_and_off_the_data():
    from duelenv.oracles import UtilityOracle

    class Words(UtilityOracle):
        def utility(self, prompts, responses):
            return np.array([float(len(text.split())) for text in responses])

    policy = tiny_policy(max_new_tokens=8)
    env = make_vector("duelenv/AlignmentDuel-v0", 3, policy=policy, oracle=Words(), features=lengths, num_candidates=6)
    env.reset(seed=0)
    right, wrong = (env.evaluate(Knows(factor)) for factor in (1.0, 3.0))
    for where in ("", "_off"):
        assert right[f"belief_calibration{where}"][0] < 0.6  # its mean is the truth, but for chance
        assert wrong[f"belief_calibration{where}"][0] > 1.5
        assert right[f"belief_log_loss{where}"][0] < wrong[f"belief_log_loss{where}"][0]
    assert "belief_calibration" not in env.evaluate(duelenv.agents.make("passive", env))
    nudged = env.evaluate(Knows(1.0))
    policy.model.gpt_neox.embed_in.weight.data.mul_(0.3)
    moved = env.evaluate(Knows(3.0))
    assert moved["belief_log_loss_off"] == wrong["belief_log_loss_off"]  # the start policy says what it said
    assert moved["belief_log_loss"] != wrong["belief_log_loss"]
    assert nudged["belief_calibration"] == right["belief_calibration"]


class Told:
    """Believes what it is told about the features that are shown, times a few factors."""

    factors = np.linspace(0.4, 1.2, 100)

    def __init__(self, utility):
        self.utility, self.shown = utility, []

    def recommend(self, observation):
        return np.zeros(len(observation["features"]), np.int64)

    def believed(self, observation, num_samples):
        self.shown.append(observation["features"])
        return self.factors[:num_samples, None, None] * self.utility(observation["features"])


def test_a_world_of_features_measures_each_replicate_by_its_own_truth():
    env = make_vector("duelenv/FeatureDuel-v0", 6, batch=2, num_candidates=5, link="probit")
    env.reset(seed=0)

    def logits(features):
        utility = env._utilities_of(features)
        return logit(ndtr(utility - utility[:, :1]))

    agent = Told(logits)
    found = env.evaluate(agent)
    assert len(agent.shown) == 2
    for replicate in range(3):
        rows = slice(2 * replicate, 2 * replicate + 2)
        truth = np.concatenate([logits(shown)[rows] for shown in agent.shown])
        expected = calibration(Told.factors[:, None, None] * truth, truth)
        assert found["belief_calibration"][replicate] == pytest.approx(expected.error)
        assert found["belief_log_loss"][replicate] == pytest.approx(expected.log_loss)
    swapped = env.evaluate(Told(lambda features: logits(features)[::-1]))
    assert (swapped["belief_log_loss"] > found["belief_log_loss"]).all()


def test_a_pool_measures_every_prompt_once():
    """Six prompts are held out, and sixteen rows meet them: those that meet one for the second time do not count."""
    data = pool()
    env = make_vector("duelenv/PoolDuel-v0", 16, batch=16, data=data, features=data.utilities[..., None])
    env.reset(seed=0)
    agent = Told(lambda features: features[..., 0].astype(np.float64))
    found = env.evaluate(agent)
    truth = np.unique(np.sort(agent.shown[0][..., 0], axis=1), axis=0).astype(np.float64)
    assert len(truth) == 6
    expected = calibration(Told.factors[:, None, None] * truth, truth)
    assert found["belief_calibration"] == pytest.approx([expected.error], rel=1e-5)
    assert found["belief_log_loss"] == pytest.approx([expected.log_loss], rel=1e-5)


def test_rows_are_compared_some_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(size=(20, 7, 4)), rng.normal(size=(7, 4))
    whole = calibration(draws, truth)
    monkeypatch.setattr("duelenv.calibration._MOST_GAPS", 20 * 6 * 2)
    assert calibration(draws, truth) == pytest.approx(whole)


@pytest.mark.parametrize("name", ["thompson", "passive", "colstim", "vids", "rcdb", "fgts"])
def test_agents_with_a_belief_are_measured_and_learn_in_every_world_of_features(name):
    for make in (make_vector, lambda world, _, **settings: make_scalar(world, **settings)):
        env = make("duelenv/FeatureDuel-v0", 8, num_candidates=4, dim=3)
        agent = duelenv.agents.make(name, env)
        observation, _ = env.reset(seed=0)
        before = env.evaluate(agent)
        for _ in range(60):
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        after = env.evaluate(agent)
        assert np.mean(after["belief_log_loss"]) < np.mean(before["belief_log_loss"])
        assert 0.2 < np.mean(after["belief_calibration"]) < 3.0


def test_agents_without_a_belief_are_not():
    env = make_vector("duelenv/FeatureDuel-v0", 4)
    env.reset(seed=0)
    assert not [name for name in env.evaluate(duelenv.agents.make("random", env)) if name.startswith("belief")]


@pytest.mark.parametrize("name", ["thompson", "maxinp", "vids", "colstim"])
def test_asking_what_is_believed_changes_nothing_over_features(name):
    plays = []
    for asked in (False, True):
        env = make_vector("duelenv/FeatureDuel-v0", 4, num_candidates=4, horizon=8)
        agent = duelenv.agents.make(name, env, seed=1)
        observation, _ = env.reset(seed=0)
        for _ in range(6):
            if asked:
                first, second = (agent.believed(observation, 9) for _ in range(2))
                assert first.shape == (9, 4, 4) and np.array_equal(first, second)
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        plays.append(actions.tolist())
    assert plays[0] == plays[1]


def test_asking_what_is_believed_changes_nothing():
    plays = []
    for asked in (False, True):
        env = make_vector("duelenv/AlignmentDuel-v0", 4, policy=tiny_policy(), horizon=5)
        agent = duelenv.agents.make("thompson", env, seed=1)
        observation, _ = env.reset(seed=0)
        for _ in range(4):
            if asked:
                drawn = agent.believed({"features": np.concatenate([observation["features"]] * 2)[:7]}, 9)
                assert drawn.shape == (9, 7, 4)
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        plays.append(actions.tolist())
    assert plays[0] == plays[1]
    assert duelenv.agents.make("passive", env).believed({}, 3) is None
