"""What every contextual agent keeps: symmetry, equivariance, independence, checkpoints, refusals, and low regret."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from worlds import make_scalar, make_vector

import duelenv
import duelenv.agents

WORLD = "duelenv/FeatureDuel-v0"
MINIMISE_REGRET = (
    "adacdb",
    "colstim",
    "fgts",
    "ids",
    "maxfirstucb",
    "maxinp",
    "maxminlcb",
    "maxpairucb",
    "rcdb",
    "rcdp",
    "vacdb",
    "vids",
)
EXPLORE_ONLY = ("apl", "deltaucb", "drts", "infomax")
NEURAL = ("neural_ts", "neural_ucb")
ALL = sorted(MINIMISE_REGRET + EXPLORE_ONLY + NEURAL)
BY_WIDTH = ("colstim", "deltaucb", "maxfirstucb", "maxinp", "maxminlcb", "maxpairucb", "rcdb")


def play(env, agent, rounds, seed=0, notion="utility"):
    """Plays the usual loop; returns actions [T, N, 2] and regrets [T, N]."""
    observation, _ = env.reset(seed=seed)
    actions, regrets = [], []
    for _ in range(rounds):
        action = agent.act(observation)
        following, labels, *_, info = env.step(action)
        agent.update(observation, action, labels)
        observation = following
        actions.append(action)
        regrets.append(info["regret"][notion])
    return np.array(actions), np.array(regrets)


def estimate(agent):
    """What an agent has learnt, whatever kind it is: arrays [R, ...] that are 0 at first."""
    if hasattr(agent, "networks"):
        networks = agent.networks
        moved = [networks.weights[name] - networks._start[name] for name in networks.weights]
        return np.concatenate([part.reshape(len(part), -1) for part in moved], axis=1)
    return agent.theta if hasattr(agent, "theta") else agent.belief.theta


def labels_learnt(agent):
    """Labels of each replicate that reached the estimate."""
    if hasattr(agent, "networks"):
        return agent._counts.sum(axis=1)
    return agent.num_labels.sum(axis=1) if hasattr(agent, "num_labels") else agent.belief.num_labels


def answer(features, actions, coins):
    """Labels of a fixed linear world: the coin belongs to the unordered pair, so that a turned duel is turned."""
    rows = np.arange(len(features))
    margin = (features[rows, actions[:, 0]] - features[rows, actions[:, 1]]) @ np.linspace(2, -1, features.shape[-1])
    swapped = margin < 0
    return np.where(swapped, 1.0 - (coins < expit(-margin)), coins < expit(margin)).astype(float)


def contexts(rounds, rows=6, arms=5, dim=3):
    rng = np.random.default_rng(3)
    return rng.normal(size=(rounds, rows, arms, dim)).astype(np.float32), rng.random((rounds, rows))


def make(name, rows=6, arms=5, dim=3, **settings):
    env = make_vector(WORLD, rows, num_candidates=arms, dim=dim, horizon=200)
    quick = {"train_every": 5} if name in NEURAL else {}
    return duelenv.agents.make(name, env, seed=5, **(quick | settings))


@pytest.mark.parametrize("name", ALL)
def test_a_turned_duel_teaches_the_same(name):
    """Pitfall: losses ignored. (i, j) won must update exactly as (j, i) lost."""
    ends = []
    settings = {"mu": 0.0} if name == "fgts" else {}  # its feel-good term depends on which chain played which
    for turn in (False, True):
        agent = make(name, **settings)
        features, coins = contexts(25)
        for x, u in zip(features, coins, strict=True):
            actions = agent.act({"features": x})
            labels = answer(x, actions, u)
            agent.update({"features": x}, actions[:, ::-1] if turn else actions, 1.0 - labels if turn else labels)
        ends.append(estimate(agent).copy())
    assert np.abs(ends[0]).max() > 0.1
    if name in NEURAL:  # Adam turns a gradient of rounding size into a whole step; a wrong sign would give about -1
        assert np.corrcoef(ends[0].ravel(), ends[1].ravel())[0, 1] > 0.999
    else:
        np.testing.assert_allclose(ends[0], ends[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("colstim", "neural_ts")])
def test_the_numbering_of_the_arms_does_not_matter(name):
    """The same candidates in another order: the same duels. (The two left out perturb positions.)"""
    straight, mixed = make(name), make(name)
    features, coins = contexts(30)
    order = np.array([3, 0, 4, 1, 2])
    for x, u in zip(features[:5], coins[:5], strict=True):  # what decides between equals is a matter of positions
        for agent in (straight, mixed):
            actions = agent.act({"features": x})
            agent.update({"features": x}, actions, answer(x, actions, u))
    for x, u in zip(features[5:], coins[5:], strict=True):
        first, second = {"features": x}, {"features": np.ascontiguousarray(x[:, order])}
        actions = straight.act(first), mixed.act(second)
        turned = order[actions[1]]
        np.testing.assert_array_equal(np.sort(actions[0], axis=1), np.sort(turned, axis=1))
        straight.update(first, actions[0], answer(x, actions[0], u))
        mixed.update(second, actions[1], answer(x, turned, u))


@pytest.mark.parametrize("name", ALL)
def test_a_replicate_alone_equals_itself_among_many(name):
    many, alone = (make_vector(WORLD, rows, num_candidates=5, dim=3, horizon=60) for rows in (6, 1))
    left = play(many, duelenv.agents.make(name, many, seed=3), 40)[0][:, 0]
    right = play(alone, duelenv.agents.make(name, alone, seed=3), 40)[0][:, 0]
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", ALL)
def test_a_restored_agent_continues_exactly(name):
    env, twin = (make_vector(WORLD, 4, num_candidates=5, dim=3, horizon=80) for _ in range(2))
    agent = duelenv.agents.make(name, env, seed=3)
    observation, _ = env.reset(seed=0)
    for _ in range(20):
        action = agent.act(observation)
        following, labels, *_ = env.step(action)
        agent.update(observation, action, labels)
        observation = following
    restored = duelenv.agents.make(name, twin, seed=3)
    restored.load_state_dict(agent.state_dict())
    copied = twin.load_state_dict(env.state_dict())
    for _ in range(20):
        actions = agent.act(observation), restored.act(copied)
        np.testing.assert_array_equal(*actions)
        steps = env.step(actions[0]), twin.step(actions[1])
        agent.update(observation, actions[0], steps[0][1])
        restored.update(copied, actions[1], steps[1][1])
        observation, copied = steps[0][0], steps[1][0]
    np.testing.assert_array_equal(estimate(agent), estimate(restored))


@pytest.mark.parametrize(
    ("name", "settings"), [(name, {}) for name in ALL] + [(name, {"width": "design"}) for name in BY_WIDTH]
)
def test_rows_without_a_label_teach_nothing(name, settings):
    agent = make(name, **settings)
    features, coins = contexts(12)
    for x, u in zip(features, coins, strict=True):
        actions = agent.act({"features": x})
        labels = answer(x, actions, u)
        labels[2:4] = np.nan
        agent.update({"features": x}, actions, labels)
    learnt = np.abs(estimate(agent)).reshape(6, -1).max(axis=1)
    np.testing.assert_array_equal(learnt > 0, [True, True, False, False, True, True])
    if settings:
        np.testing.assert_array_equal(agent.design.inverse[2], np.eye(3))
        assert (agent.design.inverse[0] != np.eye(3)).any()


@pytest.mark.parametrize("name", ALL)
def test_rows_of_a_replicate_teach_it_together(name):
    env = make_vector(WORLD, 8, batch=4, num_candidates=5, dim=3, horizon=100)
    agent = duelenv.agents.make(name, env, seed=0)
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"]
    actions, _ = play(env, agent, 60, seed=1)
    learnt = labels_learnt(agent)
    assert (learnt > 60).all() and (learnt <= 240).all()  # layers leave out what is certain
    assert (env.evaluate(agent)["simple_regret"] < 0.7 * before).all()
    assert (actions[:, 0] != actions[:, 1]).any()  # rows see contexts of their own


@pytest.mark.parametrize("name", ALL)
def test_scalar_and_selective_worlds(name):
    env = make_scalar(WORLD, selective=True, horizon=10)
    agent = duelenv.agents.make(name, env)
    observation, _ = env.reset(seed=0)
    action = agent.act(observation)
    if name in ("apl", "drts"):
        assert action.shape == (3,)
    else:
        assert action.shape == (3,) and action[2] == 1
    _, label, *_ = env.step(action)
    agent.update(observation, action, label)
    assert 0 <= agent.recommend(observation) < 4


@pytest.mark.parametrize("world", ["duelenv/MatrixDuel-v0", "duelenv/PoolDuel-v0"])
@pytest.mark.parametrize("name", ALL)
def test_worlds_with_other_features(name, world):
    env = make_vector(world, 3, horizon=10)
    actions, _ = play(env, duelenv.agents.make(name, env), 10, notion="average")
    assert (actions >= 0).all() and (actions < 4).all()


@pytest.mark.parametrize("name", ALL)
def test_every_rule_learns_to_recommend(name):
    env = make_vector(WORLD, 32, num_candidates=6, dim=4, horizon=200)
    agent = duelenv.agents.make(name, env)
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"].mean()
    play(env, agent, 150, seed=1)
    assert env.evaluate(agent)["simple_regret"].mean() < (0.4 if name in NEURAL else 0.2) * before


@pytest.mark.parametrize("name", MINIMISE_REGRET)
def test_regret_falls_and_the_best_meets_itself(name):
    """Pitfall: i == j forbidden is linear regret for ever. Random pairs pay 1.5 a round here."""
    env = make_vector(WORLD, 32, num_candidates=6, dim=4, scale=3.0, fixed=True, horizon=800)
    actions, regrets = play(env, duelenv.agents.make(name, env), 800)
    early, late = regrets[:50].mean(), regrets[-100:].mean()
    assert late < 0.2 * early
    best = env._utilities.argmax(axis=1)[:, None]
    assert ((actions[-100:] == best).all(axis=2).mean(axis=0) > 0.5).mean() > 0.6


@pytest.mark.parametrize("name", MINIMISE_REGRET)
def test_regret_is_far_below_random_pairs(name):
    totals = {}
    for rule in ("passive", name):
        env = make_vector(WORLD, 48, num_candidates=6, dim=4, horizon=400)
        totals[rule] = play(env, duelenv.agents.make(rule, env), 400)[1].sum(axis=0)
    assert totals[name].mean() < 0.4 * totals["passive"].mean()
    assert np.quantile(totals[name], 0.95) < 0.5 * totals["passive"].mean()


@pytest.mark.parametrize("name", NEURAL)
def test_a_network_fits_what_no_line_does(name):
    totals = {}
    for rule in ("passive", "maxfirstucb", name):
        env = make_vector(
            WORLD, 8, num_candidates=6, dim=3, utility="cosine", scale=3.0, candidates="sphere", horizon=600
        )
        totals[rule] = play(env, duelenv.agents.make(rule, env), 600)[1].sum(axis=0).mean()
    assert totals[name] < 0.7 * totals["maxfirstucb"]
    assert totals[name] < 0.7 * totals["passive"]


@pytest.mark.parametrize("name", ["adacdb", "maxpairucb", "vacdb"])
def test_identical_looking_arms_are_not_told_by_their_number(name):
    """In MatrixDuel all arms look alike at first; replicates must not all begin with arms 0 and 1."""
    env = make_vector("duelenv/MatrixDuel-v0", 64)
    observation, _ = env.reset(seed=0)
    pairs = duelenv.agents.make(name, env).act(observation)
    assert len(np.unique(np.sort(pairs, axis=1), axis=0)) == 6


def test_time_and_memory_do_not_grow_with_the_round():
    """The state, which is all there is, has the same size after 20 and after 120 rounds."""

    def size(value):
        if isinstance(value, dict):
            return sum(size(part) for part in value.values())
        return np.asarray(value).nbytes

    for name in ALL:
        env = make_vector(WORLD, 2, horizon=200)
        agent = duelenv.agents.make(name, env)
        play(env, agent, 20)
        early = size(agent.state_dict())
        play(env, agent, 120)
        assert size(agent.state_dict()) == early, name


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("maxinp", {"width": "gram"}, "gram"),
        ("maxinp", {"beta": -1.0}, "beta"),
        ("maxpairucb", {"temperature": 2.0}, "temperature"),  # read by rules that draw, only
        ("maxfirstucb", {"refit_every": 5}, "refit_every"),
        ("colstim", {"random_rounds": -1}, "random_rounds"),
        ("rcdb", {"alpha": 0.0}, "alpha"),
        ("ids", {"width": "design"}, "width"),
        ("vids", {"num_samples": 1}, "num_samples"),
        ("vids", {"memory": 0}, "memory"),
        ("infomax", {"beta": 1.0}, "beta"),
        ("vacdb", {"num_layers": 0}, "num_layers"),
        ("vacdb", {"prior_precision": 0.0}, "prior_precision"),
        ("vacdb", {"kappa": 0.3}, "kappa"),
        ("adacdb", {"beta": -1.0}, "beta"),
        ("adacdb", {"norm": 0.0}, "norm"),
        ("adacdb", {"width": "hessian"}, "width"),
        ("fgts", {"eta": 0.0}, "eta"),
        ("fgts", {"mu": -1.0}, "mu"),
        ("deltaucb", {"prior_precision": -1.0}, "prior_precision"),
        ("drts", {"beta": 2.0}, "beta"),
        ("rcdp", {"alpha": -1.0}, "alpha"),
        ("neural_ucb", {"hidden": 0}, "hidden"),
        ("neural_ts", {"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_wrong_setting_is_named(name, settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        make(name, **settings)
