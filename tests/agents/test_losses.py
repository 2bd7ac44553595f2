"""Preference losses: symmetries, minima, published formulas and what missing labels may not do."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from duelenv.agents.losses import LOSSES, PreferenceBatch, RobustDPO, make_loss
from duelenv.ground.errors import UserError

ALL = sorted(LOSSES)


def make_batch(rows: int, seed: int = 0, **changes: Any) -> PreferenceBatch:
    """Random duels in double precision, log-probs with gradient."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch = PreferenceBatch(
        log_prob=(normal(rows, 2) * 3 - 10).requires_grad_(),
        label=torch.rand(rows, generator=generator, dtype=torch.float64),
        length=torch.randint(1, 12, (rows, 2), generator=generator),
        reference_log_prob=normal(rows, 2) * 3 - 10,
        mismatched_log_ratio=normal(1)[0].abs() + 0.5,
    )
    return dataclasses.replace(batch, **changes)


def apply(batch: PreferenceBatch, change: Callable[[Tensor], Tensor]) -> PreferenceBatch:
    """The batch with every tensor in it changed."""
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return PreferenceBatch(**{name: None if value is None else change(value) for name, value in values.items()})


def gradient(name: str, batch: PreferenceBatch, **settings: Any) -> Tensor:
    """d loss / d log_prob, [N, 2]."""
    (result,) = torch.autograd.grad(make_loss(name, **settings)(batch), batch.log_prob)
    return result


@pytest.mark.parametrize("name", ALL)
def test_first_won_counts_exactly_as_second_lost(name: str) -> None:
    batch = make_batch(16)
    loss = make_loss(name)
    torch.testing.assert_close(loss.rows(batch), loss.rows(batch.swapped()), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient(name, batch), gradient(name, batch.swapped()).flip(1), rtol=0, atol=1e-12)


def test_swapping_exchanges_every_column() -> None:
    batch = make_batch(3)
    swapped = batch.swapped()
    assert swapped.reference_log_prob is not None
    assert batch.reference_log_prob is not None
    assert torch.equal(swapped.log_prob, batch.log_prob[:, [1, 0]])
    assert torch.equal(swapped.reference_log_prob, batch.reference_log_prob[:, [1, 0]])
    assert torch.equal(swapped.length, batch.length[:, [1, 0]])
    assert torch.equal(swapped.label, 1 - batch.label)


@pytest.mark.parametrize("name", ALL)
def test_a_soft_label_is_the_mixture_of_the_two_hard_ones(name: str) -> None:
    batch = make_batch(8)
    loss = make_loss(name)
    won, lost = (loss.rows(dataclasses.replace(batch, label=torch.full((8,), y))) for y in (1.0, 0.0))
    torch.testing.assert_close(loss.rows(batch), batch.label * won + (1 - batch.label) * lost)
    tie = loss.rows(dataclasses.replace(batch, label=torch.full((8,), 0.5)))
    torch.testing.assert_close(tie, (won + lost) / 2)


@pytest.mark.parametrize("name", ALL)
def test_raising_the_winner_and_lowering_the_loser_lowers_the_loss(name: str) -> None:
    start = torch.full((4, 2), -10.0, dtype=torch.float64)
    batch = make_batch(4, label=torch.ones(4), log_prob=start.clone().requires_grad_(), reference_log_prob=start)
    direction = gradient(name, batch)
    assert (direction[:, 0] < 0).all()
    assert (direction[:, 1] > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_gradients_match_finite_differences(name: str) -> None:
    batch = make_batch(6)

    def value(log_prob: Tensor) -> Tensor:
        return make_loss(name)(dataclasses.replace(batch, log_prob=log_prob))

    assert torch.autograd.gradcheck(value, (batch.log_prob,))


@pytest.mark.parametrize("name", ALL)
def test_rows_without_a_label_do_not_exist(name: str) -> None:
    whole = make_batch(6)
    counted = torch.tensor([True, False, True, True, False, True])
    label = torch.where(counted, whole.label, math.nan)
    # Values that would poison a mask made of multiplications by 0.
    log_prob = whole.log_prob.detach().clone()
    log_prob[1], log_prob[4] = math.nan, -math.inf
    masked = dataclasses.replace(whole, label=label, log_prob=log_prob.requires_grad_())
    without = apply(whole, lambda value: value[counted].detach() if value.ndim else value)
    without.log_prob.requires_grad_()
    loss = make_loss(name)
    torch.testing.assert_close(loss(masked), loss(without))
    masked_gradient = gradient(name, masked)
    torch.testing.assert_close(masked_gradient[counted], gradient(name, without))
    assert torch.equal(masked_gradient[~counted], torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", ALL)
def test_a_batch_without_any_label_has_loss_and_gradient_zero(name: str) -> None:
    batch = make_batch(3, label=torch.full((3,), math.nan))
    assert make_loss(name)(batch).item() == 0
    assert torch.equal(gradient(name, batch), torch.zeros(3, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", ALL)
def test_the_reward_is_what_the_labels_logit_moves_with(name: str) -> None:
    """A loss looks at a pair through the difference of two rewards (but for length and KTO's two sides)."""
    batch = make_batch(5, label=torch.ones(5))
    loss = make_loss(name)
    shift = torch.tensor([[0.7, 0.0]], dtype=torch.float64) * batch.length  # a nat of so much per token
    moved = loss.reward(batch.log_prob + shift, batch.reference_log_prob, batch.length)
    before = loss.reward(batch.log_prob, batch.reference_log_prob, batch.length)
    per_nat = {"simpo": 2.0, "ipo_mean": 0.1, "slic": 0.2}.get(name, 0.1)
    tokens = torch.ones(5) if name in ("simpo", "ipo_mean") else batch.length[:, 0]
    torch.testing.assert_close((moved - before)[:, 0], (0.7 * per_nat * tokens).double())
    torch.testing.assert_close((moved - before)[:, 1], torch.zeros(5, dtype=torch.float64))
    up = dataclasses.replace(batch, log_prob=batch.log_prob + shift)
    assert (loss.rows(up) <= loss.rows(batch) + 1e-12).all() or name.startswith("ipo")


def test_dpo_is_the_published_formula_with_its_closed_form_gradient() -> None:
    batch = make_batch(5, label=torch.ones(5))
    beta = 0.3
    h = batch.difference().detach()
    expected = -torch.log(torch.sigmoid(beta * h))
    torch.testing.assert_close(make_loss("dpo", beta=beta).rows(batch), expected)
    slope = -beta * torch.sigmoid(-beta * h) / 5
    torch.testing.assert_close(gradient("dpo", batch, beta=beta), torch.stack([slope, -slope], 1))


def test_dpo_stays_finite_where_the_sigmoid_underflows() -> None:
    log_prob = torch.tensor([[-5000.0, 0.0]], requires_grad=True)
    batch = make_batch(1, label=torch.ones(1), log_prob=log_prob, reference_log_prob=torch.zeros(1, 2))
    assert make_loss("dpo", beta=1.0)(batch).item() == pytest.approx(5000)
    assert gradient("dpo", batch, beta=1.0).tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_robust_is_unbiased_under_label_flips(noise: float) -> None:
    clean = make_batch(3, label=torch.tensor([1.0, 0.0, 1.0]))
    loss = RobustDPO(noise=noise)
    expectation = torch.zeros((), dtype=torch.float64)
    for flips in itertools.product([0.0, 1.0], repeat=3):
        flipped = torch.tensor(flips)
        probability = math.prod(noise if flip else 1 - noise for flip in flips)
        noisy = dataclasses.replace(clean, label=(clean.label - flipped).abs())
        expectation = expectation + probability * loss(noisy)
    torch.testing.assert_close(expectation, make_loss("dpo")(clean))


def test_robust_undoes_what_conservative_does() -> None:
    labels = torch.tensor([0.0, 0.2, 1.0])
    smoothed = make_loss("conservative", noise=0.2).target(labels)
    torch.testing.assert_close(smoothed, torch.tensor([0.2, 0.32, 0.8]))
    torch.testing.assert_close(make_loss("robust", noise=0.2).target(smoothed), labels)


def test_conservative_stops_where_the_policy_gives_the_label_its_own_probability() -> None:
    beta, noise = 0.5, 0.2
    h = math.log((1 - noise) / noise) / beta  # sigma(beta h) = 1 - noise
    log_prob = torch.tensor([[h, 0.0]], dtype=torch.float64, requires_grad=True)
    batch = make_batch(1, label=torch.ones(1), log_prob=log_prob, reference_log_prob=torch.zeros(1, 2))
    assert gradient("conservative", batch, beta=beta, noise=noise).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "tokens"), [("ipo", 1), ("ipo_mean", 7)])
def test_ipo_has_its_minimum_at_half_of_one_over_beta(name: str, tokens: int) -> None:
    beta = 0.25
    h = tokens / (2 * beta)  # nats for ipo; nats per token, both of 7 tokens, for ipo_mean
    log_prob = torch.tensor([[h, 0.0]], dtype=torch.float64, requires_grad=True)
    batch = make_batch(
        1,
        label=torch.ones(1),
        log_prob=log_prob,
        reference_log_prob=torch.zeros(1, 2),
        length=torch.full((1, 2), 7),
    )
    assert make_loss(name, beta=beta)(batch).item() == pytest.approx(0, abs=1e-12)
    assert gradient(name, batch, beta=beta).abs().max() < 1e-12


def test_the_two_ipos_differ_unless_every_response_is_one_token() -> None:
    batch = make_batch(4)
    assert not torch.allclose(make_loss("ipo")(batch), make_loss("ipo_mean")(batch))
    short = dataclasses.replace(batch, length=torch.ones(4, 2))
    torch.testing.assert_close(make_loss("ipo")(short), make_loss("ipo_mean")(short))


def test_slic_is_flat_beyond_its_margin() -> None:
    log_prob = torch.tensor([[4.9, 0.0], [5.1, 0.0]], dtype=torch.float64, requires_grad=True)
    batch = make_batch(2, label=torch.ones(2), log_prob=log_prob, reference_log_prob=torch.zeros(2, 2))
    torch.testing.assert_close(make_loss("slic", beta=0.2).rows(batch), torch.tensor([0.02, 0.0], dtype=torch.float64))
    assert gradient("slic", batch, beta=0.2).tolist() == [[-0.1, 0.1], [0.0, 0.0]]


def test_simpo_needs_no_reference_and_ignores_one() -> None:
    batch = make_batch(4, label=torch.ones(4))
    mean = (batch.log_prob / batch.length).detach()
    expected = -torch.log(torch.sigmoid(1.5 * (mean[:, 0] - mean[:, 1]) - 0.4))
    loss = make_loss("simpo", beta=1.5, gamma=0.4)
    assert not loss.needs_reference
    torch.testing.assert_close(loss.rows(batch), expected)
    torch.testing.assert_close(loss.rows(dataclasses.replace(batch, reference_log_prob=None)), expected)


def test_length_regularisation_learns_less_from_a_winner_that_is_longer() -> None:
    batch = make_batch(1, label=torch.ones(1), length=torch.tensor([[12, 4]]))
    longer = gradient("length_dpo", batch, length_weight=0.1).norm()
    shorter = gradient("length_dpo", dataclasses.replace(batch, length=torch.tensor([[4, 12]])), length_weight=0.1)
    plain = gradient("dpo", batch).norm()
    assert longer < plain < shorter.norm()
    torch.testing.assert_close(gradient("length_dpo", batch, length_weight=0), gradient("dpo", batch))
    h = batch.difference()
    expected = -torch.log(torch.sigmoid(0.1 * h + 0.1 * 8))
    torch.testing.assert_close(make_loss("length_dpo", length_weight=0.1).rows(batch), expected)


def test_kto_matches_a_computation_response_by_response() -> None:
    batch = make_batch(3, label=torch.tensor([1.0, 0.0, 1.0]))
    assert batch.mismatched_log_ratio is not None
    beta, ratio = 0.3, batch.log_ratio().tolist()
    z0 = max(0.0, batch.mismatched_log_ratio.item())
    assert z0 > 0
    values = []
    for row, label in enumerate([1, 0, 1]):
        winner, loser = ratio[row] if label else reversed(ratio[row])
        values.append(1 - 1 / (1 + math.exp(-beta * (winner - z0))))
        values.append(1 - 1 / (1 + math.exp(-beta * (z0 - loser))))
    assert make_loss("kto", beta=beta)(batch).item() == pytest.approx(sum(values) / 6)


def test_kto_takes_no_gradient_through_its_baseline_nor_a_negative_one() -> None:
    mismatched = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    batch = make_batch(2, mismatched_log_ratio=mismatched)
    make_loss("kto")(batch).backward()
    assert mismatched.grad is None
    negative, zero = (make_batch(2, mismatched_log_ratio=torch.tensor(value)) for value in (-3.0, 0.0))
    torch.testing.assert_close(make_loss("kto")(negative), make_loss("kto")(zero))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dop", {}, "loss 'dop' is unknown"),
        ("dpo", {"tau": 1.0}, "no setting 'tau': choose from beta"),
        ("dpo", {"beta": 0}, "beta is 0, expected a number above 0"),
        ("ipo", {"beta": -1.0}, "beta is -1.0"),
        ("slic", {"beta": math.nan}, "beta is nan"),
        ("dpo", {"beta": "0.1"}, "beta is '0.1', expected a number"),
        ("robust", {"noise": 0.5}, "noise is 0.5"),
        ("conservative", {"noise": -0.1}, "noise is -0.1"),
        ("simpo", {"gamma": -1}, "gamma is -1"),
        ("length_dpo", {"length_weight": math.inf}, "length_weight is inf"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_loss(name, **settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": torch.tensor([0.0, 1.2])}, "a label is 1.2"),
        ({"label": torch.zeros(2, 1)}, r"label has shape \[2, 1\], expected \[N\]"),
        ({"label": torch.zeros(3)}, r"log_prob has shape \[2, 2\], expected \[3, 2\]"),
        ({"reference_log_prob": torch.zeros(2)}, "reference_log_prob has shape"),
        ({"length": torch.tensor([[3, 0], [2, 2]])}, "length 0"),
        ({"mismatched_log_ratio": torch.zeros(2)}, r"mismatched_log_ratio has shape \[2\], expected \[\]"),
    ],
)
def test_malformed_batches_are_refused(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_batch(2, **changes)


def test_a_missing_reference_is_named() -> None:
    for name in (name for name in ALL if LOSSES[name].needs_reference):
        with pytest.raises(UserError, match="reference_log_prob is None"):
            make_loss(name)(make_batch(2, reference_log_prob=None))
    with pytest.raises(UserError, match="mismatched_log_ratio is None"):
        make_loss("kto")(make_batch(2, mismatched_log_ratio=None))
