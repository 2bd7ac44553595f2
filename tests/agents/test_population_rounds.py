"""Teaching rules on average over all rounds: against sums written out by hand, and against the learner's own draws."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from listed_world import Sure, gradient_of, laws, learner_of, listed_world
from scipy.special import expit

from duelenv import UserError
from duelenv.agents.base import SettingsReader
from duelenv.agents.losses import make_loss
from duelenv.agents.population import Listed, expected_loss
from duelenv.agents.population_rounds import Rounds, expected_teaching
from duelenv.agents.roles import Duels, Played, Sets, equal_texts
from duelenv.agents.selection import best_against_worst, uniform_pair
from duelenv.agents.teaching import TEACHING, Resources
from duelenv.ground.randomness import RowStreams

BETA = 0.5
UTILITY = np.array([0.3, -1.0, 1.2])
TIED = np.array([0.3, 0.3, 1.2])
ROWS = 64
DPO = make_loss("dpo", beta=BETA)


def world_of(policy, reference, num_envs=1):
    return listed_world(["kind"], num_envs, {"policy": policy, "reference": reference})


@pytest.fixture(scope="module")
def worlds():
    """By how many candidates the policy and the reference have."""
    return {counts: world_of(*counts) for counts in ((2, 1), (1, 2), (1, 3))}


def taught_by(rule, world, utility, select=None, **settings):
    """What the rule teaches, and the log-probs that its gradient is for."""
    env, policy, responses = world
    given = Listed.of(policy, "kind", responses)
    own = given.log_prob.detach().double().requires_grad_()
    listed = Listed(own, given.reference_log_prob.detach().double(), given.length)
    rounds = Rounds.of(env.view(), "kind", responses, np.eye(3), select)
    assert rounds.probability.sum() == pytest.approx(1.0, abs=1e-9)
    return expected_teaching(rule, rounds, listed, Sure(utility), DPO, settings), listed


def same_as(taught, listed, value, gradient):
    assert taught.loss.item() == pytest.approx(value, rel=1e-5)
    found = torch.autograd.grad(taught.loss, listed.log_prob)[0].numpy()
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-7)


def ratios(listed):
    return (listed.log_prob - listed.reference_log_prob).detach().numpy()


# Sums written out


def pull_of_pair(i, j, win, rho):
    """Soft-label DPO and its gradient, between two responses."""
    h = BETA * (rho[i] - rho[j])
    value = -win * np.log(expit(h)) - (1 - win) * np.log(expit(-h))
    gradient = np.zeros(3)
    gradient[i], gradient[j] = -BETA * (win - expit(h)), BETA * (win - expit(h))
    return value, gradient


def test_mixed_with_uniform_pairs_is_the_sum_over_draws_and_pairs(worlds):
    world = worlds[2, 1]
    own, reference = laws(*world[1:])
    taught, listed = taught_by("mixed", world, UTILITY)
    value, gradient = 0.0, np.zeros(3)
    for drawn in product(range(3), repeat=3):
        weight = own[drawn[0]] * own[drawn[1]] * reference[drawn[2]]
        eligible = [(drawn[a], drawn[b]) for a, b in permutations(range(3), 2) if drawn[a] != drawn[b]]
        for i, j in eligible:  # of three equal texts there is none, and they are taught nothing
            loss, pull = pull_of_pair(i, j, expit(UTILITY[i] - UTILITY[j]), ratios(listed))
            value += weight * loss / len(eligible)
            gradient += weight * pull / len(eligible)
    same_as(taught, listed, value, gradient)
    assert taught.share == pytest.approx(1.0)  # a pair of equals is in the mean, and adds nothing


def test_mixed_with_a_rule_that_draws_nothing_is_the_sum_over_draws(worlds):
    """Best against worst of the belief's mean, labelled by the belief; as many as one likes are the same pair."""
    world = worlds[1, 2]
    own, reference = laws(*world[1:])

    def select(observation, groups):
        return best_against_worst(observation["features"] @ UTILITY, groups)

    value, gradient = 0.0, np.zeros(3)
    for count in (1, 3):
        taught, listed = taught_by("mixed", world, UTILITY, select, taught_pairs=count)
        if count == 1:
            for drawn in product(range(3), repeat=3):
                i, j = max(drawn, key=UTILITY.__getitem__), min(drawn, key=UTILITY.__getitem__)
                weight = own[drawn[0]] * reference[drawn[1]] * reference[drawn[2]] * (i != j)
                loss, pull = pull_of_pair(i, j, expit(UTILITY[i] - UTILITY[j]), ratios(listed))
                value, gradient = value + weight * loss, gradient + weight * pull
        same_as(taught, listed, value, gradient)


@pytest.mark.parametrize("utility", [UTILITY, TIED], ids=["apart", "tied"])
@pytest.mark.parametrize("partition", ["empirical", "uniform"])
def test_quantile_regression_is_the_sum_over_draws_of_its_squares(worlds, utility, partition):
    """One of the policy and two of the reference: quantiles (k - 1/2) / 2 of its own, (k - 1/2) / 3 of the other."""
    world = worlds[1, 2]
    own, reference = laws(*world[1:])
    taught, listed = taught_by("quantile_regression", world, utility, partition=partition, taught_beta=BETA)
    rho, value, gradient = ratios(listed), 0.0, np.zeros(3)
    for y, *said in product(range(3), repeat=3):
        weight = own[y] * reference[said[0]] * reference[said[1]]

        def place(response, others):  # mid-rank among others and itself
            below = sum(utility[other] < utility[response] for other in others)
            level = sum(utility[other] == utility[response] for other in others)
            return (below + level / 2 + 0.5) / (len(others) + 1)

        quantile = [place(y, said), place(said[0], said[1:]), place(said[1], said[:1])]
        if partition == "empirical":
            log_z = np.log((np.exp(quantile[1] / BETA) + np.exp(quantile[2] / BETA)) / 2)
        else:
            log_z = np.log(BETA * (np.exp(1 / BETA) - 1))
        for response, q in zip((y, *said), quantile, strict=True):
            left = q - BETA * log_z - BETA * rho[response]
            value += weight * left**2 / 3
            gradient[response] -= weight * 2 * BETA * left / 3
    same_as(taught, listed, value, gradient)
    assert taught.share == pytest.approx(1.0)


@pytest.mark.parametrize(("counts", "target"), [((1, 2), 1.0), ((1, 3), 3.0)])
def test_best_and_worst_of_n_is_the_sum_over_the_reference_s_draws(worlds, counts, target):
    """(n - 1) H_{n-1} apart: 1 for two draws, 2 (1 + 1/2) for three; what the policy said does not matter."""
    world = worlds[counts]
    reference = laws(*world[1:])[1]
    taught, listed = taught_by("best_and_worst_of_n", world, UTILITY, imitation=0.25)
    rho, log_prob = ratios(listed), listed.log_prob.detach().numpy()
    value, gradient, share = 0.0, np.zeros(3), 0.0
    for said in product(range(3), repeat=counts[1]):
        weight = np.prod(reference[list(said)])
        best, worst = max(said, key=UTILITY.__getitem__), min(said, key=UTILITY.__getitem__)
        if best == worst:
            continue
        left = rho[best] - rho[worst] - target
        share += weight
        value += weight * (0.75 * left**2 - 0.25 * log_prob[best])
        gradient[best] += weight * (1.5 * left - 0.25)
        gradient[worst] -= weight * 1.5 * left
    same_as(taught, listed, value, gradient)
    assert 0.1 < share < 0.99 and taught.share == pytest.approx(share)


# What the learner does


@pytest.mark.parametrize("name", ["mixed", "quantile_regression", "best_and_worst_of_n"])
def test_the_learner_s_own_draws_agree_within_their_standard_error(name):
    """Twenty batches of 64 rows of the world against the sum, along the sum and along directions at random."""
    env, policy, responses = world_of(2, 2, ROWS)
    view, settings = env.view(), {"taught_beta": BETA} if name == "quantile_regression" else {}
    learner, streams = learner_of(view, beta=BETA), RowStreams(5, "test", ROWS)
    teach = TEACHING[name](
        Resources(view, Sure(UTILITY), lambda observation, groups: uniform_pair(4, streams, groups)),
        SettingsReader("test", dict(settings)),
    )
    place = {text: number for number, text in enumerate(responses.texts.tolist())}
    taken = []
    for seed in range(20):
        shown, _ = env.reset(seed=seed)
        arms = np.vectorize(place.__getitem__)(shown["responses"])
        observation = {key: shown[key] for key in ("prompt", "responses", "tokens", "mask", "source")}
        observation["features"] = np.eye(3)[arms]
        duels = Duels(np.arange(ROWS), np.tile([0, 1], (ROWS, 1)), np.full(ROWS, np.nan))
        taught = teach(Played(observation, equal_texts(view, observation), duels, np.zeros(ROWS, np.bool_)))
        (learner.teach_sets if isinstance(taught, Sets) else learner.teach)(observation, taught)
        taken.append(learner.trainer.gradient)
    rounds = Rounds.of(view, "kind", responses, np.eye(3))
    listed = Listed.of(policy, "kind", responses)
    mean = expected_teaching(name, rounds, listed, Sure(UTILITY), learner.loss, settings)
    expected = gradient_of(policy, mean.loss) / mean.share * (1 - (1 - mean.share) ** ROWS)
    directions = np.random.default_rng(0).normal(size=(4, len(expected)))
    directions[0] = expected
    along = np.stack(taken) @ (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T  # (batches, 4)
    wanted = directions @ expected / np.linalg.norm(directions, axis=1)
    error = along.std(0, ddof=1) / np.sqrt(len(along))
    assert wanted[0] > 10 * error[0]  # an absent or halved pull would be seen
    assert np.abs((along.mean(0) - wanted) / error).max() < 3.5


def test_rows_that_nobody_asks_are_taught_as_the_belief_labels_them(worlds):
    env, policy, responses = worlds[1, 2]
    listed = Listed.of(policy, "kind", responses)
    rounds = replace(Rounds.of(env.view(), "kind", responses, np.eye(3)), asked=False)
    taught = expected_teaching("duel", rounds, listed, Sure(UTILITY), DPO, {"target": "mean"})
    law = np.zeros((3, 3))
    np.add.at(law, tuple(np.take_along_axis(rounds.arms, rounds.pairs, axis=1).T), rounds.probability)
    differs = 1.0 - np.eye(3)  # a pair of equals is in the mean, and adds nothing
    wins = expit(UTILITY[:, np.newaxis] - UTILITY)
    expected = expected_loss(DPO, listed, law * differs, wins)
    assert taught.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert taught.share == pytest.approx(1.0)


# Wrong input


def test_what_cannot_be_listed_is_refused():
    env, _, responses = world_of(6, 6)
    with pytest.raises(UserError, match=r"3 responses and 12 candidates make 7\.02e\+07 rounds, at most 1,000,000"):
        Rounds.of(env.view(), "kind", responses, np.eye(3))
    env, _, responses = listed_world(["kind"], 1, {"policy": 1, "pilaf_plus": 1})
    with pytest.raises(UserError, match="come from 'pilaf_plus', and only those of policy, reference, start"):
        Rounds.of(env.view(), "kind", responses, np.eye(3))


def test_a_rule_that_teaches_labels_alone_and_a_loss_of_several_prompts_are_refused(worlds):
    with pytest.raises(UserError, match="'duel' teaches the labels alone; their mean is expected_loss"):
        taught_by("duel", worlds[1, 2], UTILITY)
    with pytest.raises(UserError, match="reads no setting 'taught_pair' in this world: did you mean 'taught_pairs'"):
        taught_by("mixed", worlds[1, 2], UTILITY, taught_pair=2)
    env, policy, responses = worlds[1, 2]
    rounds, listed = Rounds.of(env.view(), "kind", responses, np.eye(3)), Listed.of(policy, "kind", responses)
    with pytest.raises(UserError, match="KTO compares a pair with those of other prompts"):
        expected_teaching("mixed", rounds, listed, Sure(UTILITY), make_loss("kto"))
