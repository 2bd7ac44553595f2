"""Each contextual rule, and the matrices it stands on, against slow and obvious loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from worlds import make_vector

import duelenv.agents
from duelenv.agents.beliefs.linear_logistic import LinearLogistic
from duelenv.agents.contextual.design import DesignMatrix, measure
from duelenv.agents.contextual.infomax import outcome_variance
from duelenv.agents.contextual.vids import deciding_covariance

ROWS, ARMS, DIM = 12, 6, 3


def trained(name, rounds=8, **settings):
    """An agent after a few random duels, and new candidates."""
    env = make_vector("duelenv/FeatureDuel-v0", ROWS, num_candidates=ARMS, dim=DIM, horizon=100)
    agent = duelenv.agents.make(name, env, seed=1, **settings)
    rng = np.random.default_rng(2)
    for _ in range(rounds):
        features = rng.normal(size=(ROWS, ARMS, DIM)).astype(np.float32)
        agent.act({"features": features})
        actions = rng.integers(ARMS, size=(ROWS, 2))
        agent.update({"features": features}, actions, rng.integers(2, size=ROWS).astype(float))
    return agent, rng.normal(size=(ROWS, ARMS, DIM)).astype(np.float32)


def pieces(agent, features, width="hessian"):
    """For every row: utilities [K] and widths [K, K], one number at a time."""
    for r, x in enumerate(features.astype(np.float64)):
        matrix = agent.design.inverse[r] if width == "design" else agent.belief.covariance[r]
        utility = [float(agent.belief.theta[r] @ x[k]) for k in range(ARMS)]
        widths = np.zeros((ARMS, ARMS))
        for i, j in np.ndindex(ARMS, ARMS):
            z = x[i] - x[j]
            widths[i, j] = np.sqrt(max(z @ matrix @ z, 0.0))
        yield r, utility, widths


def every(pairs):
    return {(i, j) for i, j in np.ndindex(ARMS, ARMS) if pairs is None or pairs(i, j)}


# Matrices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_the_inverse_is_the_inverse(batch):
    rng = np.random.default_rng(0)
    design = DesignMatrix(4, replicates=5, precision=0.5)
    slow = np.tile(0.5 * np.eye(4), (5, 1, 1))
    for _ in range(60):
        z, w = rng.normal(size=(5 * batch, 4)), rng.random(5 * batch) * rng.integers(2, size=5 * batch)
        z[w == 0] = np.nan  # whatever an unlabelled row holds stays out
        design.update(z, w)
        for n in range(5 * batch):
            if w[n] > 0:
                slow[n // batch] += w[n] * np.outer(z[n], z[n])
    np.testing.assert_allclose(design.inverse, np.linalg.inv(slow), rtol=1e-9, atol=1e-12)
    probe = rng.normal(size=(5 * batch, 4))
    direct = [v @ np.linalg.inv(slow[n // batch]) @ v for n, v in enumerate(probe)]
    np.testing.assert_allclose(design.square(probe), direct, rtol=1e-9)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("width", ["hessian", "design"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_widths_are_those_of_the_formula(batch, width, offset):
    """Also with a large part that all features share, as text embeddings have."""
    rng = np.random.default_rng(1)
    rows = 4 * batch
    belief = LinearLogistic(5, replicates=4, batch=batch, root=0)
    design = DesignMatrix(5, 4, 1.0) if width == "design" else None
    for _ in range(10):
        first, second = rng.normal(size=(2, rows, 5))
        belief.update(first, second, rng.integers(2, size=rows).astype(float))
        if design is not None:
            design.update(first - second, np.ones(rows))
    features = (rng.normal(size=(rows, 7, 5)) + offset).astype(np.float32)
    ties = np.zeros((rows, 7), np.float32)
    geometry = measure(features, belief, design, ties)
    arms = rng.integers(7, size=rows)
    widths, to = geometry.widths(), geometry.widths_to(arms)
    centred = measure(features, belief, design, ties, centred=True)
    for n, x in enumerate(features.astype(np.float64)):
        matrix = belief.covariance[n // batch] if design is None else design.inverse[n // batch]
        theta = belief.theta[n // batch]
        for i, j in np.ndindex(7, 7):
            z = x[i] - x[j]
            direct = np.sqrt(z @ matrix @ z)
            assert widths[n, i, j] == pytest.approx(direct, rel=2e-3, abs=2e-3)
            assert geometry.mean[n, i] - geometry.mean[n, j] == pytest.approx(theta @ z, rel=1e-3, abs=2e-4)
            if j == arms[n]:
                assert to[n, i] == pytest.approx(direct, rel=1e-3, abs=1e-3)
        from_mean = x - x.mean(axis=0)
        own = np.sqrt(np.einsum("kd,de,ke->k", from_mean, matrix, from_mean))
        np.testing.assert_allclose(centred.own_widths()[n], own, rtol=2e-3, atol=2e-3)


# Rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["hessian", "design"])
@pytest.mark.parametrize("name", ["maxpairucb", "maxfirstucb", "maxinp", "maxminlcb", "deltaucb", "rcdb"])
def test_a_rule_of_widths_against_loops(name, width):
    beta = 0.7
    agent, features = trained(name, width=width, beta=beta)
    actions = agent.act({"features": features})
    for r, u, w in pieces(agent, features, width):
        arms = range(ARMS)
        if name in ("maxpairucb", "rcdb"):
            expected = max((u[i] + u[j] + beta * w[i, j], i, j) for i in arms for j in arms)[1:]
        elif name == "deltaucb":
            expected = max((u[i] - u[j] + beta * w[i, j], i, j) for i in arms for j in arms if i != j)[1:]
        elif name == "maxfirstucb":
            i = max(arms, key=lambda k: u[k])
            expected = i, max(arms, key=lambda k: u[k] + beta * w[k, i])
        else:
            plausible = [i for i in arms if all(u[i] - u[j] + beta * w[i, j] >= 0 for j in arms)]
            if name == "maxinp":
                expected = max((w[i, j], i, j) for i in plausible for j in plausible)[1:]
            else:

                def lcb(i, j, u=u, w=w):
                    return u[i] - u[j] - beta * w[i, j]

                i = max(plausible, key=lambda k: min(lcb(k, j) for j in plausible))
                expected = i, min(plausible, key=lambda j: lcb(i, j))
        chosen = tuple(actions[r])
        if name in ("maxpairucb", "rcdb", "maxinp"):  # unordered
            chosen, expected = tuple(sorted(chosen)), tuple(sorted(expected))
        assert chosen == expected


@pytest.mark.parametrize("width", ["hessian", "design"])
def test_rcdb_weighs_a_label_by_its_width(width):
    agent, features = trained("rcdb", width=width, alpha=0.4)
    rng = np.random.default_rng(0)
    actions, labels = rng.integers(ARMS, size=(ROWS, 2)), rng.integers(2, size=ROWS).astype(float)
    labels[3] = np.nan
    rows = np.arange(ROWS)
    first, second = features[rows, actions[:, 0]], features[rows, actions[:, 1]]
    slow = LinearLogistic(DIM, replicates=ROWS, batch=1, root=1)
    slow.load_state_dict(agent.belief.state_dict())
    weights = np.ones(ROWS)
    matrices = None if agent.design is None else np.linalg.inv(agent.design.inverse)
    for r, _, w in pieces(agent, features, width):
        i, j = actions[r]
        weights[r] = min(1.0, 0.4 / w[i, j]) if w[i, j] > 0 else 1.0
        if matrices is not None and not np.isnan(labels[r]):
            z = (features[r, i] - features[r, j]).astype(np.float64)
            matrices[r] += weights[r] * np.outer(z, z)
    assert (weights < 1).any() and (weights == 1).any()
    slow.update(first, second, labels, weights)
    agent.update({"features": features}, actions, labels)
    np.testing.assert_allclose(agent.belief.theta, slow.theta, rtol=1e-9)
    if matrices is not None:
        np.testing.assert_allclose(agent.design.inverse, np.linalg.inv(matrices), rtol=1e-6, atol=1e-9)


def test_colstim_against_loops():
    agent, features = trained("colstim")
    twin, _ = trained("colstim")
    actions = agent.act({"features": features})
    uniforms = twin.streams.uniform(ARMS + 1, dtype=np.float32).astype(np.float64)
    probability = min(1.0, np.sqrt(DIM * np.log(DIM * 100) / agent.round))
    threshold = np.sqrt(DIM * np.log(100))
    for r, u, w in pieces(agent, features):
        x = features[r].astype(np.float64)
        x = x - x.mean(axis=0)
        scores = []
        for k in range(ARMS):
            draw = uniforms[r, 0] if uniforms[r, ARMS] < probability else uniforms[r, k]
            gumbel = np.clip(-np.log(-np.log(draw)), -threshold, threshold)
            scores.append(u[k] + gumbel * np.sqrt(x[k] @ agent.belief.covariance[r] @ x[k]))
        i = int(np.argmax(scores))
        assert tuple(actions[r]) == (i, max(range(ARMS), key=lambda k: u[k] + 2.0 * w[k, i]))


def test_colstim_shares_its_perturbation_less_and_less():
    agent, features = trained("colstim", random_rounds=3)
    assert agent.round == 8
    own = agent.measure(features, centred=True).own_widths()
    assert (own > 0).all()
    fresh, _ = trained("colstim", rounds=0, random_rounds=50)
    pairs = np.concatenate([fresh.act({"features": features}) for _ in range(50)])
    assert len(np.unique(pairs[:, 0] * ARMS + pairs[:, 1])) == ARMS**2  # random duels at the start


def exact_variance(m, s):
    """Var[sigma(m + s eps)] by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = expit(m + s * nodes)
    weights = weights / weights.sum()
    return float(weights @ p**2 - (weights @ p) ** 2)


def test_the_variance_of_an_outcome():
    """Symmetric in the sign of the margin, 0 without uncertainty, and near the exact value."""
    m, s = np.meshgrid(np.linspace(-4, 4, 17), [0.0, 0.1, 0.5, 1.0, 2.0, 3.0])
    approximate = outcome_variance(m.astype(np.float32), (s**2).astype(np.float32))
    exact = np.vectorize(exact_variance)(m, s)
    np.testing.assert_allclose(approximate, approximate[:, ::-1], rtol=1e-5)
    np.testing.assert_allclose(approximate[s == 0], 0.0, atol=1e-9)
    near = np.abs(m) <= 2
    np.testing.assert_allclose(approximate[near & (s > 0)], exact[near & (s > 0)], rtol=0.3)
    np.testing.assert_allclose(approximate, exact, atol=0.012)


def test_infomax_finds_the_most_uncertain_outcome():
    agent, features = trained("infomax", rounds=3)
    actions = agent.act({"features": features})
    for r, u, w in pieces(agent, features):
        values = {(i, j): exact_variance(u[i] - u[j], w[i, j]) for i, j in every(lambda i, j: i != j)}
        assert values[tuple(actions[r])] > 0.93 * max(values.values())


def test_ids_against_loops():
    beta = 1.0
    agent, features = trained("ids", beta=beta)
    twin, _ = trained("ids", beta=beta)
    actions = agent.act({"features": features})
    uniforms = twin.streams.uniform()
    for r, u, w in pieces(agent, features):
        best = int(np.argmax(u))
        base = max(u[a] - u[best] + beta * w[a, best] for a in range(ARMS))
        ratios = {}
        for i, j in every(lambda i, j: i < j):
            gap = u[best] - (u[i] + u[j]) / 2
            p = expit(u[i] - u[j])
            information = 0.5 * np.log1p(p * (1 - p) * w[i, j] ** 2)
            mixtures = np.linspace(1e-4, 1, 20_001)  # the definition, over all probabilities of playing (i, j)
            ratios[i, j] = ((base + mixtures * gap) ** 2 / (mixtures * information)).min(), gap
        pair = min(ratios, key=lambda pair: ratios[pair][0])
        probability = min(1.0, base / ratios[pair][1])
        expected = pair if uniforms[r] < probability else (best, best)
        assert tuple(sorted(actions[r])) == expected


def test_drts_duels_best_against_worst_of_two_draws():
    agent, features = trained("drts")
    twin, _ = trained("drts")
    actions = agent.act({"features": features})
    one, two = twin.belief.sample(features, 2)
    for r in range(ROWS):
        i = int(np.argmax(one[r]))
        j = min((k for k in range(ARMS) if k != i), key=lambda k: two[r, k])
        assert set(actions[r]) == {i, j}


def test_apl_duels_the_largest_gap():
    agent, features = trained("apl")
    actions = agent.act({"features": features})
    for r, u, _ in pieces(agent, features):
        assert set(actions[r]) == {int(np.argmax(u)), int(np.argmin(u))}


# Feel-good Thompson sampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [1.0, 0.25])
def test_langevin_draws_have_the_posterior_covariance(eta):
    agent, _ = trained("fgts", eta=eta, mu=0.0)
    draws = []
    for _ in range(4000):
        agent._move()
        draws.append(agent.chains.copy())
    draws = np.array(draws)[20:]
    centred = draws - agent.belief.theta[:, None]
    for r in range(3):
        flat = centred[:, r].reshape(-1, DIM)
        np.testing.assert_allclose(flat.mean(axis=0), 0.0, atol=0.1 / np.sqrt(eta))
        np.testing.assert_allclose(np.cov(flat.T), agent.belief.covariance[r] / eta, rtol=0.15, atol=0.05 / eta)
    assert abs(np.corrcoef(centred[:, 0, 0, 0], centred[:, 0, 1, 0])[0, 1]) < 0.1  # two chains are independent


def test_the_feel_good_gradient_is_that_of_the_term():
    """With the whole memory looked at, against a numerical derivative."""
    agent, _ = trained("fgts", mu=0.3, memory=8)
    contexts, pairs = agent._contexts, agent._pairs
    chains = agent.chains.reshape(ROWS, 2, DIM)
    gradient = agent._feel_good_gradient(chains, contexts, pairs)

    def term(theta, r, chain):
        other = 1 - chain
        return 0.3 * sum(
            max(theta @ (contexts[r, s, a].astype(float) - pairs[r, s, other]) for a in range(ARMS)) for s in range(8)
        )

    for r in range(4):
        for chain in range(2):
            theta = chains[r, chain]
            for k in range(DIM):
                step = 1e-6 * np.eye(DIM)[k]
                slope = (term(theta + step, r, chain) - term(theta - step, r, chain)) / 2e-6
                assert gradient[r, chain, k] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_feeling_good_makes_the_favourite_look_better():
    """A larger mu moves the draws towards parameters under which something good was on offer."""
    best = {}
    for mu in (0.0, 1.0):
        agent, features = trained("fgts", mu=mu, memory=8, minibatch=8)
        values = []
        for _ in range(300):
            agent._move()
            values.append((features.astype(float) @ agent.chains.swapaxes(1, 2)).max(axis=1).mean())
        best[mu] = np.mean(values)
    assert best[1.0] > best[0.0] + 0.1


# Late labels ----------------------------------------------------------------------------------------------------------


def test_rcdp_counts_a_duel_when_it_is_played_and_weighs_it_when_its_label_comes():
    agent, features = trained("rcdp", rounds=0, alpha=0.4)
    played = np.tile(np.eye(DIM), (ROWS, 1, 1))
    rows = np.arange(ROWS)
    rounds = []
    for _ in range(5):  # no label yet
        actions = agent.act({"features": features})
        z = features[rows, actions[:, 0]].astype(float) - features[rows, actions[:, 1]]
        played += z[:, :, None] * z[:, None, :]
        agent.update({"features": features}, actions, np.full(ROWS, np.nan))
        rounds.append((actions, z))
    np.testing.assert_allclose(np.linalg.inv(agent.played.inverse), played, rtol=1e-6)
    assert (agent.belief.theta == 0).all()
    slow = LinearLogistic(DIM, replicates=ROWS, batch=1, root=0)
    for actions, z in rounds:  # all of them come now
        others = played - z[:, :, None] * z[:, None, :]  # W without the duel itself
        widths = np.sqrt([z[r] @ np.linalg.inv(others[r]) @ z[r] for r in rows])
        weights = np.minimum(1.0, 0.4 / np.maximum(widths, 1e-12))
        slow.update(z, np.zeros_like(z), np.ones(ROWS), weights)
        agent.update({"features": features}, actions, np.ones(ROWS))
    np.testing.assert_allclose(np.linalg.inv(agent.played.inverse), played, rtol=1e-6)
    np.testing.assert_allclose(agent.belief.theta, slow.theta, rtol=1e-5, atol=1e-7)


def test_vids_against_loops():
    settings = {"num_samples": 8, "memory": 3}
    agent, features = trained("vids", **settings)
    twin, _ = trained("vids", **settings)
    before = agent.deciding.copy()
    actions = agent.act({"features": features})
    draws, uniforms = twin.belief.sample_parameters(8), twin.streams.uniform()
    for r in range(ROWS):
        x = features[r].astype(np.float64) * agent.scale[r]
        theta = agent.belief.theta[r]
        best = max(range(ARMS), key=lambda k: theta @ x[k])
        named = [max(range(ARMS), key=lambda k: draw @ x[k]) for draw in draws[r]]
        base = np.mean([draw @ (x[a] - x[best]) for draw, a in zip(draws[r], named, strict=True)])
        covariance = np.zeros((DIM, DIM))
        for a in set(named):
            mean = np.mean([draw for draw, name in zip(draws[r], named, strict=True) if name == a], axis=0) - theta
            covariance += named.count(a) / 8 * np.outer(mean, mean)
        np.testing.assert_allclose(agent.deciding[r], before[r] + (covariance - before[r]) / 3, rtol=1e-4, atol=1e-7)
        ratios = {}
        for i, j in every(lambda i, j: i < j):
            z, gap = x[i] - x[j], theta @ (x[best] - (x[i] + x[j]) / 2)
            p = expit(theta @ z)
            variance = (p * (1 - p)) ** 2 * (z @ agent.deciding[r] @ z)
            mixtures = np.linspace(1e-4, 1, 20_001)
            ratios[i, j] = ((base + mixtures * gap) ** 2 / (mixtures * variance)).min(), gap
        pair = min(ratios, key=lambda pair: ratios[pair][0])
        expected = pair if uniforms[r] < min(1.0, base / ratios[pair][1]) else (best, best)
        assert tuple(actions[r]) == expected


def test_vids_does_not_depend_on_the_unit_of_the_features():
    plays = []
    for feature_scale in (1.0, 64.0):  # a power of 2, so that rounding is the same
        env = make_vector("duelenv/FeatureDuel-v0", 4, num_candidates=5, dim=3, horizon=40)
        agent, rng = duelenv.agents.make("vids", env, seed=3), np.random.default_rng(0)
        for _ in range(30):
            features = np.float32(feature_scale) * rng.normal(size=(4, 5, 3)).astype(np.float32)
            plays.append(agent.act({"features": features}))
            agent.update({"features": features}, plays[-1], rng.integers(2, size=4).astype(float))
    np.testing.assert_array_equal(plays[:30], plays[30:])


def test_what_decides_is_the_covariance_between_the_winners_draws():
    """Two candidates that differ in the first feature: the half-normal mean, squared, in it, and nothing across it."""
    draws = np.random.default_rng(0).normal(size=(3, 20_000, 2))
    best = (draws[:, :, 0] < 0).astype(np.int64)
    covariance = deciding_covariance(draws, best, 2)
    np.testing.assert_allclose(covariance, np.tile(np.diag([2 / np.pi, 0.0]), (3, 1, 1)), atol=0.03)
    surely = deciding_covariance(draws, np.zeros_like(best), 2)
    np.testing.assert_allclose(surely, 0.0, atol=1e-3)


# Networks -------------------------------------------------------------------------------------------------------------


def test_gradients_of_the_networks_are_those_of_the_loss():
    from duelenv.agents.contextual.neural import Networks, NeuralSettings

    networks = Networks(3, 2, 0, NeuralSettings(hidden=6))
    rng = np.random.default_rng(0)
    networks.weights = {name: weight.astype(np.float64) for name, weight in networks.weights.items()}
    for name in ("b1", "b2"):
        networks.weights[name] += 0.1 * rng.normal(size=networks.weights[name].shape)
    first, second = rng.normal(size=(2, 2, 7, 3))
    labels, counts = rng.random((2, 7)), rng.random((2, 7))
    counts[0, 3] = 0.0

    def loss():
        utilities = [networks.utility(networks.last_layer(x)) for x in (first, second)]
        p = expit(utilities[0] - utilities[1])
        return -(counts * (labels * np.log(p) + (1 - labels) * np.log(1 - p))).sum(axis=1)

    gradients = networks.gradients(first, second, labels, counts)
    for name, weight in networks.weights.items():
        for place in np.ndindex(weight.shape[1:]):
            at = (slice(None), *place)
            kept = weight[at].copy()
            weight[at] = kept + 1e-6
            up = loss()
            weight[at] = kept - 1e-6
            slope = (up - loss()) / 2e-6
            weight[at] = kept
            np.testing.assert_allclose(gradients[name][at], slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["neural_ucb", "neural_ts"])
def test_neural_rules_against_loops(name):
    agent, features = trained(name, rounds=24, beta=0.7)
    twin, _ = trained(name, rounds=24, beta=0.7)
    before, _ = trained(name, rounds=19, beta=0.7)  # training is in round 20, after its duel has entered V
    actions = agent.act({"features": features})
    noise = twin._streams.normal(ARMS, dtype=np.float32) if name == "neural_ts" else np.ones((ROWS, ARMS))
    last = agent.networks.last_layer(features)
    utility = agent.networks.utility(last)
    # Each duel enters V with the features of its own round.
    matrix = np.tile(np.eye(50), (ROWS, 1, 1))
    for slot in range(24):
        networks = before.networks if slot < 20 else agent.networks
        g = networks.last_layer(agent._pairs[:, slot]) / np.sqrt(50)
        z = (g[:, 0] - g[:, 1]).astype(np.float64)
        matrix += z[:, :, None] * z[:, None, :]
    np.testing.assert_allclose(agent.inverse, np.linalg.inv(matrix), rtol=1e-3, atol=1e-5)
    for r in range(ROWS):
        i = int(np.argmax(utility[r]))
        g = last[r].astype(np.float64) / np.sqrt(50)
        widths = [np.sqrt((g[k] - g[i]) @ np.linalg.inv(matrix[r]) @ (g[k] - g[i])) for k in range(ARMS)]
        j = int(np.argmax(utility[r] + 0.7 * np.array(widths) * noise[r]))
        assert tuple(actions[r]) == (i, j)
