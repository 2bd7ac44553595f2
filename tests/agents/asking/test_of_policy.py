"""Ask rules that look at the policy: against slow computations, and what they do where nothing is known yet."""

import numpy as np
import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv.agents.asking.of_policy import (
    GradientDistance,
    GradientSettings,
    furthest_pair,
    implicit_gap_pair,
    predictive_entropy,
)
from duelenv.agents.pieces import Piece
from duelenv.agents.selection import uniform_of_kinds
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

ALIGNMENT = "duelenv/AlignmentDuel-v0"
EVERY = {"policy": 3, "reference": 2, "start": 2, "pilaf_plus": 2, "pilaf_minus": 2}
RULES = ("gradient_distance", "implicit_gap", "offline", "pilaf")


def nudge(policy, size=0.05):
    with torch.no_grad():
        for number, weights in enumerate(policy.parameters()):
            weights += size * torch.sin(torch.arange(weights.numel()) + number).reshape(weights.shape)
    policy.updated()


def world(num_envs=6, policy=None, sources=EVERY, **settings):
    policy = policy or tiny_policy()
    return make_vector(ALIGNMENT, num_envs, policy=policy, sources=sources, num_candidates=None, **settings)


def made(ask, env, **settings):
    return duelenv.agents.make("composed", env, seed=3, ask=ask, **settings)


@pytest.mark.parametrize("ask", RULES)
def test_every_rule_keeps_texts_apart_and_positions_alike(ask):
    env = world(64)
    agent = made(ask, env)
    observation = dict(env.reset(seed=0)[0])
    texts = observation["responses"].copy()
    texts[:32] = "the same"
    texts[16:32, -1] = "another"
    observation["responses"] = texts
    pairs = np.array([agent.act(observation) for _ in range(6)])  # (6, 64, 2)
    assert (pairs[..., 0] != pairs[..., 1]).all()
    differ = np.take_along_axis(texts[None], pairs, axis=2)
    assert (differ[:, 16:, 0] != differ[:, 16:, 1]).all()
    assert abs((pairs[..., 0] < pairs[..., 1]).mean() - 0.5) < 0.12
    again = made(ask, env)
    np.testing.assert_array_equal(again.act(observation), pairs[0])


@pytest.mark.parametrize("ask", RULES)
def test_a_world_without_a_policy_is_refused(ask):
    with pytest.raises(UserError, match=f"ask rule '{ask}' looks at the policy that is trained, and duelenv/Feature"):
        made(ask, make_vector("duelenv/FeatureDuel-v0", 4))


@pytest.mark.parametrize(
    ("ask", "sources", "message"),
    [
        ("pilaf", {"policy": 1, "pilaf_plus": 1, "pilaf_minus": 1}, "needs 2 candidates or more of policy, and 1 come"),
        ("pilaf", {"policy": 2, "pilaf_plus": 1}, r"of pilaf_minus, and 0 .* set sources=\{'policy': 2, 'pilaf_plus'"),
        ("offline", {"policy": 4}, "needs 2 candidates or more of start, and 0 come"),
        ("offline", {"policy": 2, "start": 1, "reference": 2}, "of start, and 1 come"),
    ],
)
def test_missing_sources_are_told(ask, sources, message):
    with pytest.raises(UserError, match=message):
        made(ask, world(2, sources=sources))


# Implicit reward ------------------------------------------------------------------------------------------------------


def test_the_largest_implicit_gap_by_hand():
    streams = RowStreams(0, "rule", 3)
    log_ratio = np.array([[0.0, 2.0, -1.0, 5.0], [1.0, 0.0, 0.0, 0.0], [-3.0, -3.0, -4.0, -3.0]])
    groups = np.array([[0, 1, 2, 3], [0, 0, 2, 2], [0, 1, 2, 3]])
    pairs, worth = implicit_gap_pair(log_ratio, streams, groups)
    assert worth.tolist() == [6.0, 1.0, 1.0]
    assert set(pairs[0]) == {3, 2}
    assert 0 in pairs[1] and pairs[1].max() >= 2  # 1 says the same as 0
    assert 2 in pairs[2]


def test_the_gap_is_that_of_policy_and_reference_as_they_stand():
    policy = tiny_policy()
    nudge(policy)
    env = world(policy=policy)
    agent, (observation, _) = made("implicit_gap", env), env.reset(seed=0)
    pairs = agent.act(observation)
    arguments = list(observation["prompt"]), observation["tokens"], observation["mask"]
    gap = policy.score(*arguments) - tiny_policy().score(*arguments)
    for row in range(6):
        assert set(pairs[row]) == {gap[row].argmax(), gap[row].argmin()}


def test_of_a_policy_that_is_its_reference_any_pair_is_as_good():
    """Not the longest, or whatever two programs round apart."""
    env = world(64)
    agent, (observation, _) = made("implicit_gap", env), env.reset(seed=0)
    seen = np.concatenate([agent.act(observation) for _ in range(30)])
    counts = np.bincount(seen.ravel(), minlength=11)
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


def test_predictive_entropy_is_largest_of_the_least_predictable():
    """A policy that says one thing has none, one with 8 equally likely answers log 8."""
    found = predictive_entropy(np.array([[0.0, 0.0], [np.log(1 / 8)] * 2, [np.log(0.5), np.log(0.25)]]))
    np.testing.assert_allclose(found, [0.0, np.log(8), 1.5 * np.log(2)])


def selective(sources=EVERY, **settings):
    policy = tiny_policy()
    nudge(policy)
    return world(8, policy=policy, sources=sources, selective=True, **settings)


def test_the_rows_of_the_highest_entropy_ask():
    """The least certain prompts, not the most certain ones: over the policy's own draws alone."""
    env = selective()
    agent, (observation, _) = made("random", env, asked=3, prompts="entropy"), env.reset(seed=0)
    asked = agent.act(observation)[:, 2] == 1
    own = observation["source"][0] == list(EVERY).index("policy")
    entropy = -observation["log_prob"][:, own].mean(axis=1)
    assert asked.sum() == 3
    assert entropy[asked].min() > entropy[~asked].max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": 0.7}, "at temperature 1, and .* drawn at 0.7"), ({"sources": {"start": 4}}, "1 candidates or")],
)
def test_entropy_of_other_draws_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        made("random", selective(**settings), asked=3, prompts="entropy")


@pytest.mark.parametrize("ask", ["implicit_gap", "gradient_distance"])
def test_rules_that_compare_rows_say_what_their_pairs_are_worth(ask):
    env = selective({"policy": 4})
    agent, (observation, _) = made(ask, env, asked=3, prompts="own"), env.reset(seed=0)
    actions = agent.act(observation)
    rows, pairs = np.arange(8), actions[:, :2]
    if ask == "implicit_gap":
        ratio = observation["log_prob"] - observation["reference_log_prob"]
        worth = np.abs(ratio[rows, pairs[:, 0]] - ratio[rows, pairs[:, 1]])
    else:
        rule = agent._listeners["gradients"]
        points = rule.gradients(observation, observation["tokens"], observation["mask"])
        worth = np.linalg.norm(points[rows, pairs[:, 0]] - points[rows, pairs[:, 1]], axis=1)
    asked = actions[:, 2] == 1
    assert asked.sum() == 3
    assert worth[asked].min() > worth[~asked].max()


def test_two_phases_are_draws_of_the_reference_only_if_both_are():
    env = world(sources={"policy": 2, "reference": 2})
    for other, known in (("against_reference", True), ("random", False)):
        for find, exploit in ((other, "against_reference"), ("against_reference", other)):
            agent = made("two_phases", env, bonus="selm", find=find, exploit=exploit)
            assert agent.learner.draws_per_pair == (0 if known else 1)


# Gradients ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_a_projected_gradient_is_that_of_autograd(architecture):
    from duelenv.policies import CausalLMPolicy, tiny_model

    policy = CausalLMPolicy(*tiny_model(architecture, 0), max_new_tokens=6)
    prompts = ["tell me about the garden", "how is the king"]
    drawn = policy.sample(prompts, 3, generator=torch.Generator().manual_seed(0))
    drawn.mask[0, 0, 2:] = 0
    projection = policy.head_projection(3, 5)
    found = policy.head_gradients(prompts, drawn.tokens, drawn.mask, projection)
    assert found.shape == (2, 3, 9)
    head = policy.model.get_output_embeddings().weight
    log_prob = policy.log_prob(prompts, drawn.tokens, drawn.mask)
    for b in range(2):
        for k in range(3):
            inside = policy.model.get_input_embeddings().weight is head
            assert not inside  # or the gradient would be that of both
            (slow,) = torch.autograd.grad(log_prob[b, k], head, retain_graph=True)
            expected = (projection.tokens.T @ slow @ projection.states).flatten()
            np.testing.assert_allclose(found[b, k], expected, atol=1e-4)


def test_random_directions_keep_squares_on_average():
    from duelenv.policies.scoring import Projection

    full = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    device = torch.device("cpu")
    drawn = [Projection.draw(40, 12, 8, seed, device) for seed in range(300)]
    squares = torch.stack([((each.tokens.T @ full @ each.states) ** 2).sum() for each in drawn])
    assert abs(squares.mean() / (full**2).sum() - 1) < 4 * squares.std() / squares.mean() / 300**0.5
    assert (Projection.draw(40, 12, 8, 7, device).tokens == drawn[7].tokens).all()


def test_the_furthest_pair_against_loops():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 6, 3))
    groups = np.tile(np.arange(6), (4, 1))
    groups[0, 1:4] = groups[0, 0]
    pairs, distance = furthest_pair(points, RowStreams(0, "rule", 4), groups)
    for row in range(4):
        far = {
            (i, j): np.linalg.norm(points[row, i] - points[row, j])
            for i in range(6)
            for j in range(i)
            if groups[row, i] != groups[row, j]
        }
        assert tuple(sorted(pairs[row], reverse=True)) == max(far, key=far.get)
        assert distance[row] == pytest.approx(max(far.values()))


def test_distances_are_those_under_the_inverse_of_v():
    env = world()
    policy = env.view().policy
    rule = GradientDistance(policy, 0, GradientSettings(gradient_directions=3, gradient_precision=2.0))
    observation, _ = env.reset(seed=0)
    gradients = rule.gradients(observation, observation["tokens"], observation["mask"])
    start = rule.whitened(gradients)
    np.testing.assert_allclose(start, gradients / np.sqrt(2.0), rtol=1e-6)  # nothing was asked: the plain distance
    pairs, labels = np.tile([0, 4], (6, 1)), np.array([1.0, 0.0, np.nan, 0.5, 1.0, np.nan])
    one = np.ones(6, int)
    rule.hear([Piece(observation, pairs, labels, one, one), Piece(observation, pairs, np.full(6, np.nan), one, one)])
    z = (gradients[:, 0] - gradients[:, 4])[~np.isnan(labels)]
    v = z.T @ z + 2.0 * (z**2).mean() * np.eye(9)
    points = rule.whitened(gradients)
    for i, j in ((0, 1), (2, 5)):
        gap = gradients[3, i] - gradients[3, j]
        assert ((points[3, i] - points[3, j]) ** 2).sum() == pytest.approx(gap @ np.linalg.solve(v, gap), rel=1e-5)
    restored = GradientDistance(policy, 0, GradientSettings(gradient_directions=3, gradient_precision=2.0))
    restored.load_state_dict(rule.state_dict())
    np.testing.assert_array_equal(restored.whitened(gradients), points)


def test_what_was_labelled_is_asked_less():
    """The agent's rule hears its labels: a duel that was labelled many times is no longer the furthest."""
    env = world(1, sources={"policy": 5})
    agent, (observation, _) = made("gradient_distance", env, learning_rate=0.0), env.reset(seed=0)
    observation = dict(observation)
    first = set(agent.act(observation)[0].tolist())
    assert all(set(agent.act(observation)[0].tolist()) == first for _ in range(3))
    for _ in range(30):
        agent.update(observation, np.array([sorted(first)]), np.array([1.0]))
    assert set(agent.act(observation)[0].tolist()) != first


# Sources --------------------------------------------------------------------------------------------------------------


def test_pilaf_asks_half_of_its_own_and_half_of_the_mixtures():
    env = world(64)
    agent, (observation, _) = made("pilaf", env), env.reset(seed=0)
    source, names = observation["source"][0], list(EVERY)
    kinds = [
        tuple(sorted(names[source[arm]] for arm in pair)) for _ in range(10) for pair in agent.act(observation).tolist()
    ]
    share = sum(kind == ("policy", "policy") for kind in kinds) / len(kinds)
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(kinds))
    assert set(kinds) == {("policy", "policy"), ("pilaf_minus", "pilaf_plus")}


@pytest.mark.parametrize(("sources", "asked"), [(EVERY, "start"), ({"policy": 2, "reference": 3}, "reference")])
def test_offline_asks_nothing_of_the_live_policy(sources, asked):
    env = world(32, sources=sources)
    agent, (observation, _) = made("offline", env), env.reset(seed=0)
    pairs = np.concatenate([agent.act(observation) for _ in range(10)])
    drawn = set(observation["source"][0][pairs].ravel().tolist())
    assert drawn == {list(sources).index(asked)}


def test_pairs_of_a_kind_are_uniform_and_another_stands_in_where_there_is_none():
    rows = 6000
    kinds = np.zeros((rows, 4, 4), bool)
    kinds[:, 0, 1:] = True
    groups = np.tile([0, 1, 2, 1], (rows, 1))
    groups[:10] = [0, 0, 0, 0]
    groups[10:20] = [0, 0, 2, 0]
    kinds[10:20, 0, 2] = False
    pairs = uniform_of_kinds(kinds, RowStreams(0, "rule", rows), groups)
    assert (pairs[:10, 0] == 0).all()  # one text: of the kind all the same
    assert (np.take_along_axis(groups[10:20], pairs[10:20], axis=1) == 2).any(1).all()
    counts = np.bincount(pairs[20:, 1], minlength=4)
    assert (pairs[20:, 0] == 0).all() and counts[0] == 0
    assert abs(counts[1:] / counts.sum() - 1 / 3).max() < 4 * np.sqrt(2 / 9 / counts.sum())
