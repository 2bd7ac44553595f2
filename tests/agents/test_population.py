"""Population values against hand formulas, and against what the real learner does on average over every draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from listed_world import Sure, flat, laws, learner_of, listed_world
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from duelenv.agents.base import SettingsReader
from duelenv.agents.bonuses import BONUSES, make_bonus
from duelenv.agents.losses import LOSSES, make_loss
from duelenv.agents.population import Listed, every_draw, expected_bonus, expected_loss, expected_set_loss
from duelenv.agents.roles import Duels, Sets
from duelenv.agents.set_losses import BestAndWorstOfN, Boltzmann, PolicyGradient, Regression, RewardDistillation
from duelenv.exact import optimum

BETA = 0.5
UTILITY = np.array([0.3, -1.0, 1.2])
REFERENCE = np.log([0.6, 0.3, 0.1])
WINS = expit(UTILITY[:, None] - UTILITY[None])
#: COPO's also looks at features.
OF_TEXTS = [name for name in sorted(BONUSES.names()) if name != "copo"]
SET_LOSSES = [Regression(BETA), RewardDistillation(BETA), Boltzmann(BETA), BestAndWorstOfN(2), PolicyGradient()]


def listed(log_prob, reference=REFERENCE):
    return Listed(
        torch.tensor(log_prob, dtype=torch.float64).requires_grad_(),
        torch.from_numpy(reference),
        torch.tensor([1, 2, 2]),
    )


def gradient(value, given):
    return torch.autograd.grad(value, given.log_prob)[0].numpy()


def uniform_pairs():
    return (1 - np.eye(3)) / 6


# Hand formulas


def test_dpo_pulls_with_beta_times_what_the_label_surprises():
    own = np.log([0.2, 0.5, 0.3])
    given, law = listed(own), np.outer([0.2, 0.5, 0.3], [0.6, 0.3, 0.1])
    found = gradient(expected_loss(make_loss("dpo", beta=BETA), given, law, WINS), given)
    ratio, expected = own - REFERENCE, np.zeros(3)
    for i in range(3):
        for j in range(3):
            pull = -BETA * law[i, j] * (WINS[i, j] - expit(BETA * (ratio[i] - ratio[j])))
            expected[i] += pull
            expected[j] -= pull
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", OF_TEXTS)
def test_a_bonus_pushes_every_response_down_as_often_as_the_reference_says_it(name):
    own, law, bonus = np.log([0.2, 0.5, 0.3]), np.exp(REFERENCE), make_bonus(name, alpha=0.1)
    given = listed(own)
    found = gradient(expected_bonus(bonus, given, given.reference_log_prob.exp()), given)

    def alone(log_prob, response):
        return float(bonus(torch.tensor([log_prob]).double(), torch.tensor(REFERENCE[response : response + 1])))

    step = 1e-6
    slopes = [(alone(own[y] + step, y) - alone(own[y] - step, y)) / (2 * step) for y in range(3)]
    np.testing.assert_allclose(found, law * slopes, atol=1e-8)
    assert (found > 0).all()  # what is minimised grows with log pi
    if hasattr(bonus, "coefficient"):
        np.testing.assert_allclose(found, bonus.coefficient * law, atol=1e-12)


def test_set_losses_have_the_gradients_of_their_formulas():
    own = np.log([0.2, 0.5, 0.3])
    rho, arms, law = own - REFERENCE, np.array([[0, 1, 2]]), np.ones(1)
    values = UTILITY[np.newaxis]
    expected = {
        Regression: -2 * BETA * (UTILITY - BETA * rho) / 3,
        Boltzmann: np.exp(log_softmax(rho)) - np.exp(log_softmax(UTILITY / BETA)),
        PolicyGradient: -UTILITY,
        RewardDistillation: 2 * BETA * ((BETA * rho - UTILITY) - (BETA * rho - UTILITY).mean()),
    }
    for loss in SET_LOSSES:
        if type(loss) in expected:
            given = listed(own)
            np.testing.assert_allclose(
                gradient(expected_set_loss(loss, given, arms, values, law), given), expected[type(loss)], atol=1e-12
            )


def test_every_draw_is_there_once_with_its_probability():
    laws = [np.array([0.2, 0.8]), np.array([0.5, 0.5])]
    drawn, probability = every_draw(laws)
    assert drawn.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    np.testing.assert_allclose(probability, [0.1, 0.1, 0.4, 0.4])


# What the learner does on average


@pytest.fixture(scope="module")
def world():
    env, policy, responses = listed_world()
    return env.view(), policy, responses


def round_of(responses, arms, prompt="kind"):
    """An observation of one row whose candidates are these responses."""
    return {
        "prompt": np.array([prompt], dtype=object),
        "responses": responses.texts[arms][np.newaxis],
        "tokens": responses.tokens[arms][np.newaxis],
        "mask": responses.mask[arms][np.newaxis],
        "source": np.array([[0, 1]], np.int8),
    }


CASES = [{"loss": name} for name in sorted(LOSSES.names()) if name != "kto"]
CASES += [{"bonus": name, "bonus_settings": {"alpha": 0.3}} for name in OF_TEXTS]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_the_learner_moves_by_the_population_gradient_on_average(world, settings):
    """Every draw of policy against reference with every label, each weighed by how probable it is."""
    view, policy, responses = world
    learner = learner_of(view, **settings)
    mean = 0.0
    for arms, probability in zip(*every_draw(laws(policy, responses)), strict=True):
        for label in (0.0, 1.0):
            duel = Duels(np.zeros(1, np.int64), np.array([[0, 1]]), np.array([label]))
            lesson = learner._lesson(round_of(responses, arms), duel, asked=True)
            learner.trainer.gradient = 0.0  # of a duel between equal texts, which takes no step
            learner._train(lesson, 1)
            win = WINS[tuple(arms)]
            mean = mean + probability * (win if label else 1 - win) * learner.trainer.gradient
    given = Listed.of(policy, "kind", responses)
    law = np.outer(*laws(policy, responses))
    value = expected_loss(learner.loss, given, law, WINS)
    if learner._bonus is not None:
        value = value + expected_bonus(learner._bonus, given, given.reference_log_prob.exp())
    expected = flat(policy, torch.autograd.grad(value, policy.parameters(), allow_unused=True))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(mean, expected, atol=2e-5 * max(1, np.abs(expected).max()))


def test_kto_on_average_over_both_prompts_rows(world):
    """Its z0 is of the batch, so that the mean is over whole batches of two prompts; responses and z0 by hand."""
    view, policy, responses = world
    learner = learner_of(view, loss="kto")
    by_prompt = {prompt: Listed.of(policy, prompt, responses) for prompt in ("kind", "rude")}
    found = expected = 0.0
    pairs = [(0, 1), (1, 2)]
    for first in pairs:
        for second in pairs:
            rounds = [
                round_of(responses, np.array(arms), prompt) for arms, prompt in ((first, "kind"), (second, "rude"))
            ]
            both = {name: np.concatenate([one[name] for one in rounds]) for name in rounds[0]}
            duels = Duels(np.arange(2), np.array([[0, 1]] * 2), np.array([1.0, 0.0]))
            learner._train(learner._lesson(both, duels, asked=False), 1)
            found = found + learner.trainer.gradient / 4
            ratios = [
                (by_prompt[prompt].log_prob - by_prompt[prompt].reference_log_prob)[list(arms)]
                for arms, prompt in ((first, "rude"), (second, "kind"))
            ]
            z0 = torch.cat(ratios).mean()
            for arms, prompt, win in ((first, "kind", 1.0), (second, "rude", 0.0)):
                law = np.zeros((3, 3))
                law[arms] = 1.0
                expected = expected + expected_loss(learner.loss, by_prompt[prompt], law, np.full((3, 3), win), z0) / 8
    wanted = flat(policy, torch.autograd.grad(expected, policy.parameters(), allow_unused=True))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("loss", SET_LOSSES, ids=lambda loss: type(loss).__name__)
def test_the_learner_moves_by_the_population_gradient_of_sets(world, loss):
    view, policy, responses = world
    learner, mean = learner_of(view), 0.0
    arms, probability = every_draw(laws(policy, responses))
    for drawn, weight in zip(arms, probability, strict=True):
        sets = Sets(np.zeros(1, np.int64), np.array([[0, 1]]), UTILITY[drawn][np.newaxis], loss)
        learner.teach_sets(round_of(responses, drawn), sets)
        mean = mean + weight * learner.trainer.gradient
    given = Listed.of(policy, "kind", responses)
    value = expected_set_loss(loss, given, arms, UTILITY[arms], probability)
    expected = flat(policy, torch.autograd.grad(value, policy.parameters(), allow_unused=True))
    np.testing.assert_allclose(mean, expected, atol=2e-5 * max(1, np.abs(expected).max()))


# Where the population loss is least


def minimiser(law, wins=WINS, bound=None, name="dpo"):
    def objective(logits):
        given = torch.tensor(logits, requires_grad=True)
        one = replace(listed(REFERENCE), log_prob=given.log_softmax(0))
        value = expected_loss(make_loss(name, beta=BETA), one, law, wins)
        return float(value.detach()), torch.autograd.grad(value, given)[0].numpy()

    bounds = None if bound is None else [(-bound, bound)] * 3
    return log_softmax(minimize(objective, REFERENCE, jac=True, bounds=bounds, tol=1e-14).x)


def ask_laws():
    """Who duels whom, with full support: at random, best against worst half of the time, mostly the dissimilar."""
    extreme, apart = np.zeros((3, 3)), np.zeros((3, 3))
    extreme[2, 1] = extreme[1, 2] = 0.5
    apart[0, 1] = apart[1, 0] = 0.5
    own = np.outer([0.9, 0.05, 0.05], [0.9, 0.05, 0.05])
    return {
        "random": uniform_pairs(),
        "best against worst": 0.5 * uniform_pairs() + 0.5 * extreme,
        "dissimilar": 0.2 * uniform_pairs() + 0.8 * apart,
        "policy against policy": own,
        "policy against reference": np.outer([0.1, 0.1, 0.8], np.exp(REFERENCE)),
    }


@pytest.mark.parametrize("rule", sorted(ask_laws()))
def test_dpo_has_one_minimiser_whoever_is_asked_about(rule):
    """pi_ref exp(u / beta) / Z under every ask rule with full support: the rule changes speed, not the limit."""
    gibbs = optimum(REFERENCE[np.newaxis], UTILITY[np.newaxis], BETA)[1][0]
    np.testing.assert_allclose(minimiser(ask_laws()[rule]), gibbs, atol=2e-5)


def test_the_invariance_is_dpo_s_and_ipo_does_not_have_it():
    gibbs = optimum(REFERENCE[np.newaxis], UTILITY[np.newaxis], BETA)[1][0]
    assert np.abs(minimiser(uniform_pairs(), name="ipo") - gibbs).max() > 0.1


def test_hard_labels_of_the_best_against_the_worst_have_no_finite_minimiser():
    law = np.zeros((3, 3))
    law[2, 1] = 1.0
    gaps = []
    for bound in (10.0, 20.0, 40.0):
        found = minimiser(law, np.ones((3, 3)), bound)
        gaps.append(found[2] - found[1])
    assert gaps[0] > 15 and np.diff(gaps).min() > 5  # as far as it is let
    soft = minimiser(law)
    assert soft[2] - soft[1] - (REFERENCE[2] - REFERENCE[1]) == pytest.approx(
        (UTILITY[2] - UTILITY[1]) / BETA, abs=1e-4
    )


# Teaching rules


@pytest.mark.parametrize("name", ["best_worst", "reward_distillation", "boltzmann", "policy_gradient"])
def test_a_teaching_rule_pulls_at_every_draw_s_sets_as_the_sum_over_them_says(world, name):
    """All draws at once, one a row: the rule's own choice, the learner's step; by hand the sum over draws."""
    from duelenv.agents.roles import Played
    from duelenv.agents.teaching import TEACHING, Resources

    view, policy, responses = world
    learner = learner_of(view, beta=BETA)
    given = {"anchor": 0.0} if name == "policy_gradient" else {}
    teach = TEACHING[name](Resources(view, Sure(UTILITY), None), SettingsReader("test", given))
    arms, probability = every_draw(laws(policy, responses))
    mean = 0.0
    for drawn, weight in zip(arms, probability, strict=True):
        observation = round_of(responses, drawn) | {"features": np.eye(3)[drawn][np.newaxis]}
        duel = Duels(np.zeros(1, np.int64), np.array([[0, 1]]), np.array([1.0]))
        taught = teach(Played(observation, None, duel, np.zeros(1, np.bool_)))
        learner.trainer.gradient = 0.0  # of a pair of equal texts, which takes no step
        if isinstance(taught, Sets):
            learner.teach_sets(observation, taught)
        else:
            learner.teach(observation, taught)
        mean = mean + weight * learner.trainer.gradient
    all_of_them = Listed.of(policy, "kind", responses)
    utility = UTILITY[arms]
    if name == "best_worst":  # the order of a pair does not matter, and a pair of equals pulls at nothing
        value = expected_loss(learner.loss, all_of_them, probability.reshape(3, 3), WINS)
    elif name == "policy_gradient":  # the duel, and the best against the worst: twice p - 1/2
        signal = 2 * (expit(utility - utility[:, ::-1]) - 0.5)
        value = expected_set_loss(PolicyGradient(), all_of_them, arms, signal, probability)
    else:
        loss = RewardDistillation(0.1) if name == "reward_distillation" else Boltzmann(0.1)
        value = expected_set_loss(loss, all_of_them, arms, utility, probability)
    expected = flat(policy, torch.autograd.grad(value, policy.parameters(), allow_unused=True))
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(mean, expected, atol=2e-5 * max(1, np.abs(expected).max()))
