"""The layered agents, VACDB and AdaCDB, against a ledger of their duels and slow loops; AdaCDB where it once failed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from worlds import make_vector

import duelenv.agents

WORLD = "duelenv/FeatureDuel-v0"
ROWS, ARMS, DIM, LAYERS = 8, 6, 3, 4
LAYERED = ("adacdb", "vacdb")


class Ledger:
    """What the layers of one replicate should hold, from a list of duels; every matrix is built anew."""

    def __init__(self, precision, kappa):
        self.precision, self.kappa = precision, kappa
        self.duels = [[] for _ in range(LAYERS)]  # (z, label, w, residual before the label)

    def matrix(self, layer):
        start = self.precision * 4.0 ** -(layer + 1) * np.eye(DIM)
        return start + sum((w**2 * np.outer(z, z) for z, _, w, _ in self.duels[layer]), np.zeros((DIM, DIM)))

    def add(self, z, label, estimates):
        for layer in range(LAYERS):
            width = math.sqrt(z @ np.linalg.inv(self.matrix(layer)) @ z)
            if width >= 2.0 ** -(layer + 1):
                if not np.isnan(label):
                    residual = label - expit(estimates[layer] @ z)
                    self.duels[layer].append((z, label, 2.0 ** -(layer + 1) / width, residual))
                return

    def objective(self, layer, theta):
        """The weighted negative log-likelihood with its ridge."""
        ridge = self.kappa * self.precision * 4.0 ** -(layer + 1) * theta @ theta / 2
        return ridge - sum(
            w**2 * math.log(expit(theta @ z if y == 1 else -theta @ z)) for z, y, w, _ in self.duels[layer]
        )


def played(name, rounds=60, batch=1, seed=4, silent=(), **settings):
    """An agent after duels of its own choice, its last features, and a ledger per replicate."""
    settings = {"prior_precision": 2.0, "kappa": 0.1} | settings
    env = make_vector(
        WORLD, ROWS, batch=batch, num_candidates=ARMS, dim=DIM, candidates="sphere", scale=2.0, horizon=rounds + 1
    )
    agent = duelenv.agents.make(name, env, seed=1, **settings)
    ledgers = [Ledger(settings["prior_precision"], settings["kappa"]) for _ in range(ROWS // batch)]
    observation, _ = env.reset(seed=seed)
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, *_ = env.step(actions)
        labels[list(silent)] = np.nan
        features = observation["features"].astype(np.float64)
        for n in range(ROWS):
            pair = features[n, actions[n, 0]] - features[n, actions[n, 1]]
            ledgers[n // batch].add(pair, labels[n], agent.theta[n // batch].copy())
        agent.update(observation, actions, labels)
        observation = following
    return agent, observation["features"], ledgers


# Layers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERED)
def test_layers_hold_what_the_ledger_says(name):
    agent, _, ledgers = played(name, silent=(2,))
    assert (agent.num_labels.sum(axis=0) > 0).sum() >= 2
    for r, ledger in enumerate(ledgers):
        for layer, duels in enumerate(ledger.duels):
            matrix = ledger.matrix(layer)
            assert agent.num_labels[r, layer] == len(duels)
            np.testing.assert_allclose(agent._matrices[r, layer], matrix, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(agent._inverses[r, layer], np.linalg.inv(matrix), rtol=1e-7, atol=1e-9)
            assert agent.variance[r, layer] == pytest.approx(sum(w**2 * e**2 for _, _, w, e in duels))
    assert agent.num_labels[2].sum() == 0  # no label came


@pytest.mark.parametrize("kappa", [0.02, 0.25])
def test_an_estimate_is_the_weighted_maximum_with_its_ridge(kappa):
    """Within the error of one online step a label."""
    agent, _, ledgers = played("vacdb", rounds=80, kappa=kappa)
    errors = []
    for r, ledger in enumerate(ledgers):
        for layer, duels in enumerate(ledger.duels):
            if len(duels) >= 5:
                exact = minimize(lambda theta, of=ledger, at=layer: of.objective(at, theta), np.zeros(DIM)).x
                errors.append(np.linalg.norm(agent.theta[r, layer] - exact) / np.linalg.norm(exact))
    assert len(errors) > ROWS
    assert max(errors) < 0.4
    assert np.median(errors) < 0.2


def test_a_label_of_a_batch_finds_the_layers_as_those_before_left_them():
    agent, _, ledgers = played("adacdb", rounds=30, batch=4)
    for r, ledger in enumerate(ledgers):
        for layer, duels in enumerate(ledger.duels):
            assert agent.num_labels[r, layer] == len(duels)
            np.testing.assert_allclose(agent._matrices[r, layer], ledger.matrix(layer), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LAYERED)
def test_before_any_label_every_layer_allows_for_the_same_utility(name):
    """beta_l |z|_l = norm |z|: the prior part of the radius undoes the scale of Sigma_l."""
    agent, features, _ = played(name, rounds=0, norm=0.7)
    for layer in range(LAYERS):
        widths = agent.geometry(features, layer).widths()
        z = features[:, :, None] - features[:, None]
        bounds = agent.radii()[:, layer, None, None] * widths
        np.testing.assert_allclose(bounds, 0.7 * np.linalg.norm(z, axis=-1), rtol=1e-4, atol=2e-3)


def test_certain_outcomes_make_a_smaller_radius():
    """The same duels, answered by their utilities or by fair coins: that is the variance-awareness."""
    radii = {}
    for answers in ("certain", "coins"):
        env = make_vector(WORLD, 32, num_candidates=ARMS, dim=DIM, horizon=200)
        agent = duelenv.agents.make("vacdb", env, seed=1)
        rng = np.random.default_rng(0)
        for _ in range(150):
            features = rng.normal(size=(32, ARMS, DIM)).astype(np.float32)
            actions, coins = rng.integers(ARMS, size=(32, 2)), rng.integers(2, size=32)
            rows = np.arange(32)
            margin = (features[rows, actions[:, 0]] - features[rows, actions[:, 1]]) @ np.array([3.0, -2.0, 1.0])
            labels = coins if answers == "coins" else margin > 0
            agent.update({"features": features}, actions, labels.astype(float))
        radii[answers] = agent.radii()[:, :2].mean(axis=0)
    assert (radii["certain"] < 0.85 * radii["coins"]).all()


def test_the_radius_of_the_paper():
    """beta None, with the count of labels in the first layers and the estimated variance in the last."""
    env = make_vector(WORLD, 2, num_candidates=ARMS, dim=DIM, horizon=50)
    agent = duelenv.agents.make("vacdb", env, beta=None, kappa=0.25, num_layers=10, prior_precision=1.0, norm=2.0)
    agent.num_labels[:] = [[7], [20]]
    agent.variance[:] = 0.3
    expected = np.empty((2, 10))
    log, later = math.log(4 * 50**2 * 10 * 50), math.log(4 * 51**2 * 10 * 50)
    for r in range(2):
        for layer in range(1, 11):
            variance = 0.3 if 2**layer >= 64 * (0.25 / 0.25) * math.sqrt(later) else agent.num_labels[r, layer - 1]
            noise = 16 * math.sqrt((8 * variance + 18 * later) * log) + 6 * log
            expected[r, layer - 1] = 2.0**-layer * noise / 0.25 + 2.0 ** (1 - layer)
    assert 2**9 > 64 * math.sqrt(later) > 2**7  # both cases occur
    np.testing.assert_allclose(agent.radii(), expected, rtol=1e-6)


# Rules ----------------------------------------------------------------------------------------------------------------


def seen(agent, features):
    """For every row: utilities, widths and radii of each layer, one number at a time."""
    settings = agent.settings
    for r, x in enumerate(features.astype(np.float64)):
        scale = [2.0**-level for level in range(1, LAYERS + 1)]
        radii = [
            s * (math.sqrt(settings.prior_precision) * settings.norm + settings.beta * math.sqrt(v))
            for s, v in zip(scale, agent.variance[r], strict=True)
        ]
        utilities = [[float(theta @ x[k]) for k in range(ARMS)] for theta in agent.theta[r]]
        widths = np.zeros((LAYERS, ARMS, ARMS))
        for layer, i, j in np.ndindex(LAYERS, ARMS, ARMS):
            z = x[i] - x[j]
            widths[layer, i, j] = math.sqrt(max(z @ np.linalg.inv(agent._matrices[r, layer]) @ z, 0.0))
        yield r, SimpleNamespace(scale=scale, radii=radii, u=utilities, w=widths)


def test_vacdb_against_loops():
    seen_levels = set()
    for rounds in (20, 90):
        agent, features, _ = played("vacdb", rounds=rounds, beta=0.3)
        actions = agent.act({"features": features})
        for r, layer in seen(agent, features):
            alive, expected = list(range(ARMS)), None
            for level in range(LAYERS):
                u, w = layer.u[level], layer.w[level]
                widest = max((w[i, j], i, j) for i in alive for j in alive)
                if widest[0] > layer.scale[level]:
                    expected = widest[1:]
                elif widest[0] <= layer.scale[-1]:
                    expected = max((u[i] + u[j] + layer.radii[level] * w[i, j], i, j) for i in alive for j in alive)[1:]
                if expected is not None:
                    seen_levels.add(level)
                    break
                top = max(u[i] for i in alive)
                alive = [i for i in alive if u[i] >= top - layer.scale[level] * layer.radii[level]]
            assert tuple(sorted(actions[r])) == tuple(sorted(expected))
    assert len(seen_levels) > 1


def test_adacdb_against_loops():
    deciding = set()
    for rounds in (5, 25, 90):
        agent, features, _ = played("adacdb", rounds=rounds)
        actions = agent.act({"features": features})
        for r, layer in seen(agent, features):
            total = sum(agent._matrices[r])
            theta = np.linalg.inv(total) @ sum(agent._matrices[r, level] @ agent.theta[r, level] for level in range(4))
            best = int(np.argmax([theta @ x for x in features[r].astype(np.float64)]))
            bounds = {}
            for i, j in np.ndindex(ARMS, ARMS):
                bounds[i, j] = min(
                    (layer.u[level][i] + layer.u[level][j] - 2 * layer.u[level][best])
                    + layer.radii[level] * layer.w[level, i, j]
                    for level in range(LAYERS)
                )
            expected = max(bounds, key=lambda pair: bounds[pair])
            assert tuple(sorted(actions[r])) == tuple(sorted(expected))
            assert bounds[expected] >= bounds[best, best] == 0.0
            deciding.add(expected[0] == expected[1])
    assert deciding == {False, True}


@pytest.mark.parametrize("name", LAYERED)
def test_a_part_that_all_candidates_share_changes_nothing(name):
    """Only differences between the candidates of a round are ever compared, layers without labels included."""
    straight, shifted = (played(name, rounds=0, seed=4)[0] for _ in range(2))
    rng = np.random.default_rng(3)
    theta = np.array([1.0, -2.0, 0.5])
    duels = set()
    for _ in range(50):
        features = rng.normal(size=(ROWS, ARMS, DIM)).astype(np.float32)
        moved = features + 4.0 * rng.normal(size=(ROWS, 1, DIM)).astype(np.float32)
        coins = rng.random(ROWS)
        actions = straight.act({"features": features})
        np.testing.assert_array_equal(np.sort(actions), np.sort(shifted.act({"features": moved})))
        margin = (features[np.arange(ROWS), actions[:, 0]] - features[np.arange(ROWS), actions[:, 1]]) @ theta
        labels = (coins < expit(margin)).astype(float)
        straight.update({"features": features}, actions, labels)
        shifted.update({"features": moved}, actions, labels)
        duels.update(map(tuple, actions))
    assert len(duels) > ARMS


@pytest.mark.parametrize(
    "world",
    [
        {"candidates": "corners", "num_candidates": 8, "dim": 3, "fixed": True, "utility": "linear_sparse"},
        {"candidates": "hypercube", "num_candidates": 16, "dim": 4, "utility": "linear", "scale": 2.0},
    ],
    ids=["fixed", "fresh"],
)
def test_adacdb_pays_ever_less_with_layers_that_never_learn(world):
    """Once it paid more again the longer it played: a layer without labels decided, by the level it did not know."""
    env = make_vector(WORLD, 16, horizon=600, **world)
    agent = duelenv.agents.make("adacdb", env, seed=0, num_layers=6)
    observation, _ = env.reset(seed=0)
    regret = np.empty((600, 16))
    for step in range(600):
        actions = agent.act(observation)
        following, labels, *_, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation, regret[step] = following, info["regret"]["utility"]
    assert (agent.num_labels[:, -1] == 0).all()
    cost = regret.mean(axis=1)
    assert cost[-150:].mean() < 0.35 * cost[:100].mean()
    total = np.log(cost.cumsum()[299:])
    slope = np.polyfit(np.log(np.arange(300, 601)), total, 1)[0]
    assert slope < 0.7
