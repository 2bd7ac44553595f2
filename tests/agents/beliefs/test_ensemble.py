"""Deep ensemble: masks per sample, priors that matter, disagreement off the data, orders per row, resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duelenv.agents.beliefs import ensemble
from duelenv.agents.beliefs.base import Belief
from duelenv.agents.beliefs.ensemble import DeepEnsemble, DeepEnsembleSettings
from duelenv.calibration import calibration
from duelenv.ground.errors import UserError

DIM = 6


def make(batch=4, root=0, dim=DIM, **settings):
    settings = {"heads": 8, "hidden": (32, 32)} | settings
    return DeepEnsemble(dim, batch=batch, root=root, settings=DeepEnsembleSettings(**settings))


def utility(features):
    return 2 * np.sin(features[..., 0]) + features[..., 1] - features[..., 2]


def duels(count, seed=0):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, count, DIM)).astype(np.float32)
    win = 1 / (1 + np.exp(utility(second) - utility(first)))
    return first, second, (rng.random(count) < win).astype(float)


def learn(belief, updates, count=32, seed=0):
    for t in range(updates):
        belief.update(*duels(count, seed=1000 * seed + t))
    return belief


def loss_inputs(belief, count=5, seed=0):
    first, second, labels = duels(count, seed)
    pairs = torch.from_numpy(np.stack([first, second], axis=1))
    weights = torch.ones(belief.settings.heads, count)
    return pairs, torch.from_numpy(labels).float(), weights, belief._prior_gap(pairs).T


def all_gradients(belief, *inputs):
    """Gradient of the sum of the heads' losses, flattened."""
    belief._optimizer.zero_grad()
    belief._log_loss(*inputs).sum().backward()
    return torch.cat([layer.grad.flatten() for layer in belief._layers])


def gradients(belief, *inputs):
    """Gradient of every head's own loss, flattened to [E, parameters]."""
    all_gradients(belief, *inputs)
    return torch.cat([layer.grad.flatten(1) for layer in belief._layers], dim=1).clone()


def test_is_a_belief():
    assert isinstance(make(), Belief)


def test_a_weight_masks_one_sample_in_one_head():
    """The public SEA code turns (E, B, 1) x (1, B) into (E, B, B): nothing is masked. Here each entry is."""
    belief = make()
    pairs, labels, weights, prior_gap = loss_inputs(belief)
    full = gradients(belief, pairs, labels, weights, prior_gap)
    weights[2, 3] = 0.0
    masked = gradients(belief, pairs, labels, weights, prior_gap)
    others = [head for head in range(8) if head != 2]
    torch.testing.assert_close(masked[others], full[others])
    assert (masked[2] - full[2]).abs().max() > 1e-3
    without = [0, 1, 2, 4]
    alone = gradients(belief, pairs[without], labels[without], weights[:, without], prior_gap[:, without])
    torch.testing.assert_close(masked[2], alone[2] * 4 / 5)  # the mean is over B


def test_weights_of_another_shape_are_caught():
    belief = make()
    pairs, labels, weights, prior_gap = loss_inputs(belief)
    with pytest.raises(AssertionError):
        belief._log_loss(pairs, labels, weights[:1], prior_gap)


def network(layers, x):
    """One head by plain matrix products."""
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        x = torch.relu(x @ weight + bias)
    return (x @ layers[-2] + layers[-1])[..., 0]


def of_head(layers, head):
    """The layers of one of 8 heads; those on the same trunk are adjacent."""
    return [layer[head * len(layer) // 8] for layer in layers]


@pytest.mark.parametrize("trunks", [None, 1, 2, 8])
@pytest.mark.parametrize("hidden", [(32,), (32, 16)])
def test_heads_are_the_networks_one_by_one(hidden, trunks):
    """Batched heads equal a loop over heads with plain matrix products."""
    belief = make(hidden=hidden, trunks=trunks)
    assert [len(layer) for layer in belief._layers] == [trunks or 8] * 2 + [8] * 2 * len(hidden)
    x = torch.from_numpy(duels(7)[0])
    for layers in (belief._layers, belief._prior):
        output = ensemble.forward(layers, x)
        for head in range(8):
            torch.testing.assert_close(output[head].detach(), network(of_head(layers, head), x).detach())


@pytest.mark.parametrize(
    ("hidden", "trunks"), [((), None), ((32,), None), ((32, 16), None), ((32,), 1), ((32,), 4), ((32, 16), 2)]
)
def test_an_update_is_that_of_every_head_by_itself(hidden, trunks, monkeypatch):
    """Weights and the last step's gradients, against a loop over heads with a loss and a penalty of its own each."""
    count, drawn = 300, []
    belief = make(hidden=hidden, trunks=trunks, bootstrap="exponential", prior_precision=3.0)
    step = belief._step
    monkeypatch.setattr(belief, "_step", lambda rows: drawn.append(rows) or step(rows))
    first, second, labels = duels(count)
    reported = belief.update(first, second, labels)["log_loss"]
    assert len(drawn) == 5 and all(len(np.unique(rows)) < len(rows) == 64 for rows in drawn)  # some come twice
    x, y = belief._standardised(torch.from_numpy(np.stack([first, second], 1))), torch.from_numpy(labels).float()
    variances = [v for *_, v in belief._sizes() for _ in range(2)]
    own = [layer.clone().requires_grad_() for layer in belief._anchor]
    adam = torch.optim.Adam(own, lr=3e-3)
    for rows in drawn:
        total = weight_sum = objective = 0.0
        for head in range(8):
            layers, anchor = of_head(own, head), of_head(belief._anchor, head)
            utility = network(layers, x) + 0.5 * network(of_head(belief._prior, head), x)
            gap = (utility.view(count, 2)[:, 0] - utility.view(count, 2)[:, 1])[rows]
            weights = belief._replay.weights[rows, head]
            losses = weights * torch.nn.functional.softplus(gap) - weights * y[rows] * gap
            penalty = sum(
                3.0 / 2 * ((value - start) ** 2).sum() / variance
                for value, start, variance in zip(layers, anchor, variances, strict=True)
            )
            objective = objective + losses.mean() + penalty / count
            total, weight_sum = total + float(losses.detach().mean()), weight_sum + float(weights.mean())
        adam.zero_grad()
        objective.backward()
        adam.step()
    for i, (layer, value) in enumerate(zip(belief._layers, own, strict=True)):
        torch.testing.assert_close(layer.grad, value.grad, atol=2e-6, rtol=1e-4)
        if i < len(own) - 1:  # the last bias cancels in every gap: Adam scales up what rounding leaves of it
            torch.testing.assert_close(layer.detach(), value.detach(), atol=2e-5, rtol=1e-4)
    assert reported == pytest.approx(total / weight_sum, rel=1e-5)


def test_a_trunk_for_every_head_is_none_shared():
    one, other = (learn(make(trunks=trunks), 3) for trunks in (None, 8))
    for layer, same in zip(one._layers, other._layers, strict=True):
        assert torch.equal(layer, same)


@pytest.mark.parametrize("trunks", [None, 2])
def test_gradients_are_the_same_with_and_without_kept_memory(trunks):
    """Also where the memory held another step's, of more duels."""
    belief = make(hidden=(32, 16), trunks=trunks)
    learn(belief, 2, count=64)
    inputs = loss_inputs(belief)
    fresh = all_gradients(belief, *inputs)
    memory = belief._memory
    for gradient in memory.gradients:
        gradient.fill_(1.0)
    belief._optimizer.zero_grad()
    belief._log_loss(*inputs, memory=memory).sum().backward()
    assert all(layer.grad is None for layer in belief._layers)
    kept = torch.cat([gradient.flatten() for gradient in memory.gradients])
    torch.testing.assert_close(kept - 1.0, fresh, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("hidden", "trunks"), [((), None), ((32, 16), None), ((32,), 2)])
def test_what_cancels_in_every_gap_stays_where_it_was(hidden, trunks):
    """Rounding of a gradient that is zero would be a whole step of Adam."""
    belief = learn(make(hidden=hidden, trunks=trunks, bootstrap="exponential"), 20)
    assert (belief._layers[-1] == 0).all()
    assert (belief._layers[-2] != belief._anchor[-2]).all()


def test_utilities_before_any_label_have_the_prior_deviation():
    """Head and prior network both have deviation of about 1, whatever the scale of the features."""
    for scale in (0.01, 100.0):
        belief = make(batch=300, heads=100, prior_scale=2.0)
        features = scale * (5 + np.random.default_rng(0).normal(size=(300, 2, DIM)))
        samples = belief.sample(features, 100)
        assert samples.std() == pytest.approx(5**0.5, rel=0.15)


@pytest.mark.parametrize("trunks", [None, 2])
def test_distance_to_the_anchor_is_a_sum_over_all_weights(trunks):
    """In prior deviations: moving every weight by one of its deviations costs half the number of weights."""
    belief = make(prior_precision=3.0, trunks=trunks)
    assert (belief._distance_to_anchor() == 0).all()
    with torch.no_grad():
        for (fan_in, _, variance), layer in zip(belief._sizes(), belief._layers[::2], strict=True):
            assert variance in (1 / fan_in, 2 / fan_in)
            layer += variance**0.5
    count = DIM * 32 + 32 * 32 + 32
    torch.testing.assert_close(belief._distance_to_anchor().detach(), torch.full((8,), 3.0 / 2 * count))


def test_stronger_anchor_stays_nearer():
    distance = [
        float(sum(((a - b) ** 2).sum() for a, b in zip(m._layers, m._anchor, strict=True)).detach())
        for m in (learn(make(prior_precision=value), 30) for value in (0.01, 100.0))
    ]
    assert distance[1] < 0.2 * distance[0]


@pytest.mark.parametrize("trunks", [None, 4, 1])
def test_heads_disagree_more_off_the_data_than_on_it(trunks):
    belief = learn(make(heads=16, trunks=trunks), 60)
    first, second, _ = duels(400, seed=9)

    def disagreement(scale):
        pairs = np.stack([first, second], axis=1) * scale
        utilities = belief._utilities(torch.from_numpy(pairs)).numpy()
        return (utilities[..., 0] - utilities[..., 1]).std(0).mean()

    on = disagreement(1.0)
    assert disagreement(4.0) > 2 * on
    untrained = make(heads=16, trunks=trunks)
    untrained.sample(np.stack([first, second], axis=1)[:4], 2)
    gap = untrained._utilities(torch.from_numpy(np.stack([first, second], axis=1))).numpy()
    assert on < 0.8 * (gap[..., 0] - gap[..., 1]).std(0).mean()


@pytest.mark.parametrize("trunks", [None, 2])
def test_prior_networks_keep_heads_apart_off_the_data(trunks):
    """Without bootstrap and anchor, what is left to disagree on far from the data comes from the priors."""
    far = np.random.default_rng(0).normal(size=(50, 1, DIM)).astype(np.float32) * 5
    spread = []
    for scale in (0.0, 3.0):
        belief = learn(make(trunks=trunks, prior_scale=scale, prior_precision=0.0, bootstrap="none"), 30)
        spread.append(belief._utilities(torch.from_numpy(far)).std(0).mean())
    assert spread[1] > 1.5 * spread[0]


def test_learns_a_nonlinear_utility():
    belief = learn(make(), 60)
    first, second, _ = duels(1000, seed=99)
    gap = belief.mean(np.stack([first, second], axis=1))
    accuracy = ((gap[:, 0] > gap[:, 1]) == (utility(first) > utility(second))).mean()
    assert accuracy > 0.85


def test_sample_takes_heads_in_an_order_of_its_own_for_every_row():
    belief = make(batch=200)
    row = np.random.default_rng(0).normal(size=(1, 3, DIM))
    belief.update(*duels(256))  # fixes the normalisation
    features = row.repeat(200, 0)
    heads = belief._utilities(torch.from_numpy(row).float()).numpy()[:, 0]  # (E, K)
    samples = belief.sample(features, 8)
    assert samples.shape == (8, 200, 3)
    for n in (0, 1, 199):  # a permutation of the heads, whole rows of utilities
        np.testing.assert_allclose(np.sort(samples[:, n], axis=0), np.sort(heads, axis=0), rtol=1e-5, atol=1e-5)
    order = np.abs(samples[:, :, None, 0] - heads[None, None, :, 0]).argmin(-1)  # (S, N)
    assert len({tuple(o) for o in order.T}) > 190
    assert np.bincount(order[0], minlength=8).min() > 10  # every head leads somewhere, 25 expected


def test_few_draws_are_the_first_of_many(monkeypatch):
    """Only the heads that some row draws are computed, where that is less than half of them."""
    few, many = (learn(make(batch=3, heads=40), 5) for _ in range(2))
    features = np.random.default_rng(0).normal(size=(3, 4, DIM))
    computed, forward = [], ensemble.forward
    monkeypatch.setattr(ensemble, "forward", lambda layers, *x: computed.append(len(layers[0])) or forward(layers, *x))
    np.testing.assert_allclose(few.sample(features, 2), many.sample(features, 40)[:2], rtol=1e-5, atol=1e-5)
    assert max(computed[:2]) <= 6 and computed[2:] == [40, 40]


def test_few_draws_of_heads_that_share_trunks_are_the_first_of_many():
    few, many = (learn(make(batch=3, heads=40, trunks=4), 5) for _ in range(2))
    features = np.random.default_rng(0).normal(size=(3, 4, DIM))
    assert np.array_equal(few.sample(features, 2), many.sample(features, 40)[:2])


def test_many_heads_on_few_trunks_are_as_well_calibrated_as_independent_ones():
    """On a linear utility of 16 features; on a single trunk they agree too much, and are not."""
    rng, weights = np.random.default_rng(0), np.random.default_rng(1).normal(size=16) / 2
    settings = {"heads": 40, "hidden": (32,), "batch": 64, "dim": 16, "minibatches": 10}
    beliefs = {trunks: make(trunks=trunks, **settings) for trunks in (None, 8, 1)}
    for _ in range(40):
        first, second = rng.normal(size=(2, 16, 16)).astype(np.float32)
        labels = (rng.random(16) < 1 / (1 + np.exp((second - first) @ weights))).astype(float)
        for belief in beliefs.values():
            belief.update(first, second, labels)
    features = rng.normal(size=(64, 6, 16)).astype(np.float32)
    found = {trunks: calibration(belief.sample(features, 40), features @ weights) for trunks, belief in beliefs.items()}
    assert 0.75 < found[8].error / found[None].error < 1.25 < 1.3 < found[1].error / found[None].error
    assert found[8].log_loss < 1.1 * found[None].log_loss


def test_more_draws_than_heads_go_round_again():
    belief = make(batch=2, heads=3)
    samples = belief.sample(np.random.default_rng(0).normal(size=(2, 4, DIM)), 8)
    assert samples.shape == (8, 2, 4)
    assert len(np.unique(samples[:3, 0, 0])) == len(np.unique(samples[3:6, 0, 0])) == 3


def test_unlabelled_rows_are_not_learnt():
    first, second, labels = duels(10)
    labels[::2] = np.nan
    masked, without = make(), make()
    masked.update(first, second, labels)
    without.update(first[1::2], second[1::2], labels[1::2])
    assert masked.num_labels == 5
    for one, other in zip(masked._layers, without._layers, strict=True):
        assert torch.equal(one, other)
    metrics = make().update(first, second, np.full(10, np.nan))
    assert metrics["labels"] == 0 and np.isnan(metrics["log_loss"])


def test_a_win_of_the_first_is_a_loss_of_the_second():
    one, other = make(), make()
    for t in range(5):
        first, second, labels = duels(16, seed=t)
        labels[3] = 0.5
        one.update(first, second, labels)
        other.update(second, first, 1 - labels)
    features = np.random.default_rng(0).normal(size=(4, 3, DIM))
    np.testing.assert_allclose(one.mean(features), other.mean(features), atol=1e-4)


def test_a_tie_has_the_mean_loss_of_both_outcomes():
    belief = make()
    pairs, _, weights, prior_gap = loss_inputs(belief)
    tie, win, loss = (belief._log_loss(pairs, torch.full((5,), y), weights, prior_gap) for y in (0.5, 1.0, 0.0))
    torch.testing.assert_close(tie, (win + loss) / 2)


def test_kept_prior_gaps_equal_new_ones():
    """Also those stored while the normalisation still moved."""
    belief = learn(make(), 12, count=16)
    replay = belief._replay
    torch.testing.assert_close(replay.prior_gap[: replay.size], belief._prior_gap(replay.pairs[: replay.size]))


def test_normalisation_is_that_of_the_first_vectors_and_then_fixed():
    belief = make(batch=16)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(4, 16, 4, DIM)) * np.arange(1, DIM + 1) + 10
    seen[..., 0] = 7.0  # does not vary
    for features in seen:
        belief.sample(features, 2)
    flat = seen.reshape(-1, DIM).astype(np.float32)
    normalised = belief._standardised(torch.from_numpy(flat))
    torch.testing.assert_close(normalised.mean(0), torch.zeros(DIM), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(0, correction=0)[1:], torch.ones(DIM - 1), atol=1e-3, rtol=0)
    assert (normalised[:, 0] == 0).all()
    before = belief.mean(seen[0])
    belief.sample(seen[1] * 100, 2)
    assert np.array_equal(belief.mean(seen[0]), before)


def test_mean_changes_nothing():
    belief, other = make(), make()
    features = np.random.default_rng(0).normal(size=(4, 3, DIM))
    belief.mean(features * 50)
    assert np.array_equal(belief.sample(features, 5), other.sample(features, 5))


@pytest.mark.parametrize(("updates", "trunks"), [(3, None), (12, None), (12, 2)])
def test_resuming_continues_exactly(updates, trunks):
    """Before and after the normalisation is fixed (256 vectors); the state holds no pickles."""
    belief = make(trunks=trunks)
    features = np.random.default_rng(0).normal(size=(4, 3, DIM))
    for t in range(updates):
        belief.sample(features, 5)
        belief.update(*duels(16, seed=t))
    state = belief.state_dict()
    resumed = make(root=0, trunks=trunks)
    resumed.load_state_dict(state)
    for t in range(updates, updates + 3):
        assert np.array_equal(belief.sample(features, 5), resumed.sample(features, 5))
        for one in (belief, resumed):
            one.update(*duels(16, seed=t))
    assert np.array_equal(belief.mean(features), resumed.mean(features))

    def leaves(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from leaves(item)
        else:
            yield value

    assert all(isinstance(leaf, int | float | str | np.ndarray) for leaf in leaves(state))
    assert all(leaf.dtype != object for leaf in leaves(state) if isinstance(leaf, np.ndarray))


def test_the_state_is_a_copy():
    belief = learn(make(), 2)
    state = belief.state_dict()
    before = state["layers"][0].copy()
    learn(belief, 2, seed=1)
    assert np.array_equal(state["layers"][0], before)


def test_roots_differ_and_repeat():
    features = np.random.default_rng(0).normal(size=(4, 3, DIM))
    one, same, other = (learn(make(root=root), 2).mean(features) for root in (1, 1, 2))
    assert np.array_equal(one, same) and not np.allclose(one, other)


@pytest.mark.parametrize("kind", ["exponential", "double_or_nothing", "none"])
def test_bootstrap_weights_have_mean_one(kind):
    weights = ensemble._bootstrap_weights(np.random.default_rng(0), (5000, 4), kind).numpy()
    assert weights.mean() == pytest.approx(1, abs=0.03)
    assert weights.var() == pytest.approx(0 if kind == "none" else 1, abs=0.06)
    if kind != "none":
        assert np.abs(np.corrcoef(weights.T) - np.eye(4)).max() < 0.06  # own weights in every head


def test_every_label_keeps_its_bootstrap_weight_in_every_head():
    """Drawn once: the weights of the first labels do not change when more arrive."""
    belief = make(bootstrap="exponential")
    belief.update(*duels(10))
    weights = belief._replay.weights[:10].clone()
    assert len(weights.unique()) == 80
    belief.update(*duels(300, seed=1))  # the buffers grow
    assert torch.equal(belief._replay.weights[:10], weights)
    assert (belief._replay.weights[:310] > 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"heads": 0},
        {"hidden": (0,)},
        {"prior_scale": -1.0},
        {"prior_precision": np.inf},
        {"belief_learning_rate": 0.0},
        {"minibatches": 0},
        {"minibatch_size": 0},
        {"bootstrap": "poisson"},
        {"trunks": 0},
        {"trunks": 3},  # of 20 heads
        {"trunks": 4, "hidden": ()},
    ],
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        DeepEnsembleSettings(**settings)


def test_bad_data_are_refused():
    belief = make()
    first, second, labels = duels(4)
    with pytest.raises(UserError, match="given 3 rows; give the 4 of the batch"):
        belief.sample(np.zeros((3, 2, 6)), 2)
    with pytest.raises(UserError, match="last axis must be 6"):
        belief.mean(np.zeros((2, 3, 5)))
    with pytest.raises(UserError, match=r"labels range from"):
        belief.update(first, second, labels - 0.25)
    with pytest.raises(UserError, match="first, second and labels"):
        belief.update(first, second, labels[:3])
    with pytest.raises(UserError, match="same settings"):
        belief.load_state_dict(make(heads=3).state_dict())
    with pytest.raises(UserError, match="same settings"):
        belief.load_state_dict(make(trunks=2).state_dict())
