"""Losses over sets of responses: against sums over all responses of a small world, where the minimiser is known."""

import itertools

import numpy as np
import pytest
import torch

from duelenv import UserError
from duelenv.agents.set_losses import BestAndWorstOfN, Boltzmann, PolicyGradient, Regression, RewardDistillation

RNG = np.random.default_rng(3)
REFERENCE = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
UTILITY = torch.tensor([0.3, -0.6, 1.1, 0.4])


def minimised(loss, values_of, draws, arms=range(4), weight=lambda drawn: 1.0):
    """The logits of a policy over four responses that minimise a loss over all sets of so many, by Newton's method."""
    sets = list(itertools.product(arms, repeat=draws))
    index = torch.tensor(sets)
    weights = torch.tensor([weight(drawn) for drawn in sets], dtype=torch.float64)
    values = values_of(index).double()
    reference = REFERENCE.double()[index]

    def objective(logits):
        log_prob = torch.log_softmax(logits, 0)[index]
        return (weights * loss(log_prob, reference, values)).sum() / weights.sum() + 1e-12 * (logits**2).sum()

    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, history_size=20)

    def closure():
        optimizer.zero_grad()
        value = objective(logits)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    return torch.softmax(logits.detach(), 0)


def boltzmann(beta):
    return torch.softmax(REFERENCE.double() + UTILITY.double() / beta, 0)


@pytest.mark.parametrize("draws", [2, 3])
@pytest.mark.parametrize("drawn_by", [lambda drawn: 1.0, lambda drawn: float(np.prod([1 + 3 * arm for arm in drawn]))])
@pytest.mark.parametrize(("kind", "beta"), [(RewardDistillation, 0.8), (Boltzmann, 0.8), (Boltzmann, 0.5)])
def test_the_minimiser_is_the_reference_tilted_by_the_utility_whoever_drew_the_responses(kind, beta, draws, drawn_by):
    found = minimised(kind(beta), lambda index: UTILITY[index], draws, weight=drawn_by)
    np.testing.assert_allclose(found, boltzmann(beta), atol=2e-4)


def test_a_regression_reaches_the_log_ratio_that_each_response_is_given():
    beta, reward = 0.7, UTILITY.double()
    log_z = torch.logsumexp(REFERENCE.double() + reward / beta, 0)
    found = minimised(Regression(beta), lambda index: (reward - beta * log_z)[index], 1)
    np.testing.assert_allclose(found, boltzmann(beta), atol=1e-5)


def test_the_set_losses_in_numbers():
    log_prob = torch.tensor([[-1.0, -2.0, -4.0]])
    reference = torch.tensor([[-1.5, -1.0, -3.0]])
    values = torch.tensor([[0.2, 0.1, -0.3]])
    rho = np.array([0.5, -1.0, -1.0])
    given = values[0].numpy().astype(float)
    assert float(Regression(0.5)(log_prob, reference, values)) == pytest.approx(((given - 0.5 * rho) ** 2).mean())
    gaps = [(0.5 * (rho[i] - rho[j]) - (given[i] - given[j])) ** 2 for i, j in itertools.combinations(range(3), 2)]
    assert float(RewardDistillation(0.5)(log_prob, reference, values)) == pytest.approx(np.mean(gaps), rel=1e-5)
    target = np.exp(given / 0.5) / np.exp(given / 0.5).sum()
    expected = -(target * (rho - np.log(np.exp(rho).sum()))).sum()
    assert float(Boltzmann(0.5)(log_prob, reference, values)) == pytest.approx(expected, rel=1e-5)
    assert float(PolicyGradient()(log_prob, None, values)) == pytest.approx(0.2 * 1.0 + 0.1 * 2.0 - 0.3 * 4.0)
    pair = BestAndWorstOfN(3, imitation=0.25)(log_prob[:, :2], reference[:, :2], values[:, :2])
    assert float(pair) == pytest.approx(0.75 * (1.5 - 3.0) ** 2 + 0.25 * 1.0)


def test_two_responses_under_boltzmann_are_dpo_with_the_soft_label():
    from duelenv.agents.losses import DPO, PreferenceBatch

    beta = 0.3
    log_prob, reference = torch.from_numpy(RNG.normal(size=(2, 5, 2)) - 4)
    log_prob.requires_grad_()
    utility = torch.from_numpy(RNG.normal(size=(5, 2)))
    gap = utility[:, 0] - utility[:, 1]
    ones = torch.ones(5, 2)
    dpo = DPO(beta)(PreferenceBatch(log_prob, torch.sigmoid(gap), ones, reference))
    by_dpo = torch.autograd.grad(dpo, log_prob)[0]
    # DPO reads beta h where Boltzmann reads h; its labels are Boltzmann's of tau = 1.
    scaled = reference + (log_prob - reference) * beta
    by_set = torch.autograd.grad(Boltzmann(1.0)(scaled, reference, utility).mean(), log_prob)[0]
    torch.testing.assert_close(by_dpo, by_set)


def test_the_best_and_worst_of_n_are_as_far_apart_as_the_best_of_n_puts_them():
    """E[log pi_n / ref (best) - (worst)] of n draws, with pi_n / ref = n U^(n - 1) at the quantile U."""
    for draws in (2, 3, 8):
        uniform = np.sort(np.random.default_rng(0).random((200_000, draws)), axis=1)
        ratio = (draws - 1) * (np.log(uniform[:, -1]) - np.log(uniform[:, 0]))
        assert BestAndWorstOfN(draws).target == pytest.approx(ratio.mean(), rel=0.01)
    assert 1 / (2 * BestAndWorstOfN(8).target) == pytest.approx(0.0275482, abs=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Boltzmann(0.0), "tau is 0"),
        (lambda: Regression(-1.0), "beta is -1"),
        (lambda: BestAndWorstOfN(1), "draws is 1"),
        (lambda: BestAndWorstOfN(4, imitation=1.5), "imitation is 1.5"),
        (lambda: Boltzmann()(torch.zeros(1, 2), None, torch.zeros(1, 2)), "reference_log_prob is None"),
    ],
)
def test_a_wrong_setting_is_one_sentence(make, message):
    with pytest.raises(UserError, match=message):
        make()
