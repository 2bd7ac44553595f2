"""Optimistic bonus terms: their sign, their size beside the loss, and where they agree."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from duelenv.agents.bonuses import BONUSES, gradient_ratio, make_bonus
from duelenv.agents.losses import PreferenceBatch, make_loss
from duelenv.ground.errors import UserError


def start_of_training(rows: int) -> PreferenceBatch:
    """Duels of a policy that still equals its reference; the second response is the reference's."""
    log_prob = -10 - torch.rand(rows, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return PreferenceBatch(
        log_prob=log_prob.clone().requires_grad_(),
        label=torch.arange(rows).remainder(2).double(),
        length=torch.full((rows, 2), 8),
        reference_log_prob=log_prob,
    )


def ratio_at_start(name: str, beta: float, settings: dict[str, Any]) -> float:
    """The ratio of a bonus to the DPO loss, the bonus on the reference's half of the duels."""
    batch = start_of_training(6)
    assert batch.reference_log_prob is not None
    by_reference = batch.log_prob[:, 1]
    bonus = make_bonus(name, **settings)(by_reference, batch.reference_log_prob[:, 1])
    (of_loss,) = torch.autograd.grad(make_loss("dpo", beta=beta)(batch), batch.log_prob, retain_graph=True)
    (of_bonus,) = torch.autograd.grad(bonus, by_reference)
    return gradient_ratio(float(of_loss.abs().sum()), float(of_bonus.abs().sum()))


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
@pytest.mark.parametrize("alpha", [1e-3, 0.5])
def test_selm_is_two_alpha_of_the_dpo_gradient_at_the_start(alpha: float, beta: float) -> None:
    assert ratio_at_start("selm", beta, {"alpha": alpha, "beta": beta}) == pytest.approx(2 * alpha)


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_xpo_is_two_alpha_over_beta_of_the_dpo_gradient_at_the_start(beta: float) -> None:
    assert ratio_at_start("xpo", beta, {"alpha": 1e-3}) == pytest.approx(2e-3 / beta)


def test_the_ratio_of_nothing_is_none() -> None:
    assert gradient_ratio(0.5, 0.5) == 2.0
    assert gradient_ratio(0.0, 0.5) == math.inf
    assert math.isnan(gradient_ratio(0.0, 0.0))


@pytest.mark.parametrize("name", sorted(BONUSES))
def test_minimising_pushes_down_what_the_other_policy_says(name: str) -> None:
    log_prob = torch.tensor([-3.0, -5.0], requires_grad=True)
    bonus = make_bonus(name, alpha=0.2)
    (gradient,) = torch.autograd.grad(bonus(log_prob, torch.tensor([-3.0, -4.0])), log_prob)
    assert (gradient > 0).all()
    assert gradient.sum().item() == pytest.approx(bonus.coefficient)


def test_selm_is_alpha_beta_times_the_mean_log_ratio_and_zero_at_the_reference() -> None:
    bonus = make_bonus("selm", alpha=0.5, beta=0.1)
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    assert bonus(log_prob, reference).item() == pytest.approx(0.05 * (1 + 4) / 2)
    assert bonus(reference, reference).item() == 0


def test_xpo_differs_from_selm_by_beta_and_a_constant() -> None:
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    selm = make_bonus("selm", alpha=2.0, beta=0.1)(log_prob, reference)
    xpo = make_bonus("xpo", alpha=0.2)(log_prob, reference)
    assert xpo.item() == pytest.approx(selm.item() + 0.2 * reference.mean().item())


def test_vpo_is_optimistic_online_and_pessimistic_offline() -> None:
    log_prob, reference = torch.tensor([-3.0, -5.0]), torch.tensor([-4.0, -9.0])
    online, offline = (make_bonus("vpo", alpha=0.3, online=flag)(log_prob, reference) for flag in (True, False))
    assert online.item() == -offline.item() == make_bonus("selm", alpha=0.3)(log_prob, reference).item()


@pytest.mark.parametrize("name", sorted(BONUSES))
def test_no_strength_or_no_responses_is_no_bonus(name: str) -> None:
    log_prob = torch.tensor([-3.0, -5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(make_bonus(name, alpha=0)(log_prob, log_prob.detach()), log_prob)
    assert gradient.tolist() == [0, 0]
    empty = make_bonus(name)(log_prob[:0], log_prob[:0].detach())
    assert empty.item() == 0
    (gradient,) = torch.autograd.grad(empty, log_prob)
    assert gradient.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("slem", {}, "bonus 'slem' is unknown: did you mean 'selm'"),
        ("xpo", {"beta": 0.1}, "no setting 'beta': choose from alpha"),
        ("selm", {"alpha": -1e-3}, "alpha is -0.001"),
        ("selm", {"beta": 0}, "beta is 0"),
        ("vpo", {"online": "no"}, "online is 'no', expected true or false"),
        ("vpo", {"alpha": math.nan}, "alpha is nan"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_bonus(name, **settings)


def test_unequal_shapes_are_refused_rather_than_broadcast() -> None:
    for name in ("selm", "vpo"):
        with pytest.raises(UserError, match="same responses"):
            make_bonus(name)(torch.zeros(3, 1), torch.zeros(3))
        with pytest.raises(UserError, match="reference_log_prob is None"):
            make_bonus(name)(torch.zeros(3, 1), None)
    assert make_bonus("xpo", alpha=0.5)(torch.full((3, 1), -2.0), None) == -1.0
