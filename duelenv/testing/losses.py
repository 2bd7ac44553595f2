"""The check of preference losses. Loads torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from duelenv.testing.failure import require

_ROWS = 6


def check_loss(make: Callable[[], Any]) -> None:
    """Check a preference loss.

    A first response that won counts as a second that lost; a soft label is the mixture of the hard ones, rows without a
    label do not exist, not even for gradients; the mean over parts is the whole's; a winner's log-prob is pushed up and
    a loser's down where the policy is undecided; gradients are those of finite differences and stay finite.

    Args:
        make: Makes the loss, of the contract of `duelenv.agents.losses.PreferenceLoss`.

    Raises:
        CheckFailed: It breaks its contract.
    """
    import torch

    loss = make()
    batch = _batch(loss, seed=0)
    value = loss(batch)
    require(
        value.shape == () and bool(value.isfinite()),
        f"the loss of a batch has shape {list(value.shape)} and the value {value.detach().tolist()}, expected one "
        "finite number",
    )
    # Labels
    hard = [loss(_batch(loss, seed=0, label=torch.full((_ROWS,), label))) for label in (0.0, 1.0)]
    for label in (0.25, 0.5):
        soft = loss(_batch(loss, seed=0, label=torch.full((_ROWS,), label)))
        mixed = (1 - label) * hard[0] + label * hard[1]
        require(
            torch.isclose(soft, mixed, atol=1e-9),
            f"the loss of the label {label:g} is {_told(soft)}, expected {_told(mixed)}, the mixture of the "
            "losses of 0 and 1",
        )
    turned = loss(_turned(loss, batch))
    require(
        torch.isclose(value, turned, atol=1e-9),
        f"the loss is {_told(value)}, and {_told(turned)} with first and second response exchanged and labels "
        "turned, expected the same",
    )
    _check_missing(loss)
    # Parts
    halves = [loss(_batch(loss, seed=0, rows=rows)) for rows in (slice(0, 3), slice(3, 6))]
    require(
        torch.isclose(value, (halves[0] + halves[1]) / 2, atol=1e-9),
        f"the loss of six rows is {_told(value)}, expected {_told((halves[0] + halves[1]) / 2)}, the mean over "
        "two parts of three",
    )
    one = loss(_batch(loss, seed=0, rows=slice(0, 1)))
    require(one.isfinite(), "the loss of a batch of one row is not finite")
    # Gradients
    level = torch.full((_ROWS, 2), -8.0, dtype=torch.float64)
    even = torch.full((_ROWS, 2), 4)
    for label, winner in ((1.0, 0), (0.0, 1)):
        undecided = _batch(
            loss, seed=0, log_prob=level, reference=level, label=torch.full((_ROWS,), label), length=even
        )
        pull = -_gradient(loss, undecided)
        require(
            bool((pull[:, winner] >= 0).all() and (pull[:, 1 - winner] <= 0).all() and pull.abs().sum() > 0),
            f"at log-ratio 0 and label {label:g} the loss moves the log-probs by {pull[0].tolist()} of its rate, "
            "expected the winner's up and the loser's down",
        )
    _check_differences(loss, batch)
    for size in (1e5, -1e5):
        far = _batch(loss, seed=0, log_prob=level + torch.tensor([size, -size]).clamp_max(0.0))
        require(
            bool(_gradient(loss, far).isfinite().all()),
            f"the gradient is not finite where log-probs are {abs(size):g} nats apart",
        )
    reward = loss.reward(batch.log_prob.detach(), batch.reference_log_prob, batch.length)
    higher = loss.reward(batch.log_prob.detach() + 1.0, batch.reference_log_prob, batch.length)
    require(
        reward.shape == batch.log_prob.shape and bool((higher > reward).all()),
        "the reward that the loss reads off a policy does not rise with the policy's log-prob",
    )


def _told(value: Any) -> str:
    return f"{float(value.detach()):.6g}"


def _check_missing(loss: Any) -> None:
    import torch

    label = torch.tensor([1.0, math.nan, 0.0, 1.0, math.nan, 0.5])
    kept = ~label.isnan()
    poisoned = _batch(loss, seed=0).log_prob.detach().clone()
    poisoned[~kept] = math.nan
    with_gaps = _batch(loss, seed=0, label=label, log_prob=poisoned)
    without = _batch(loss, seed=0, label=label, rows=kept)
    found, expected = loss(with_gaps), loss(without)
    require(
        torch.isclose(found, expected, atol=1e-9),
        f"the loss with rows without a label is {_told(found)}, expected {_told(expected)}, as if they were not there",
    )
    gradient = _gradient(loss, with_gaps)
    require(
        bool((gradient[~kept] == 0).all()) and torch.allclose(gradient[kept], _gradient(loss, without), atol=1e-9),
        "rows without a label have a gradient, or change that of others",
    )
    nothing = _batch(loss, seed=0, label=torch.full((_ROWS,), math.nan))
    require(
        float(loss(nothing).detach()) == 0.0 and bool((_gradient(loss, nothing) == 0).all()),
        "a batch without any label has a loss or a gradient, expected 0",
    )


def _check_differences(loss: Any, batch: Any) -> None:
    gradient, step = _gradient(loss, batch), 1e-6
    for row in range(2):
        for side in range(2):
            values = []
            for sign in (1, -1):
                moved = batch.log_prob.detach().clone()
                moved[row, side] += sign * step
                values.append(float(loss(_batch(loss, seed=0, log_prob=moved)).detach()))
            slope = (values[0] - values[1]) / (2 * step)
            require(
                math.isclose(slope, float(gradient[row, side]), rel_tol=1e-4, abs_tol=1e-7),
                f"the gradient at row {row} is {float(gradient[row, side]):.6g}, and finite differences give "
                f"{slope:.6g}",
            )


def _batch(
    loss: Any,
    *,
    seed: int,
    rows: Any = slice(None),
    log_prob: Any = None,
    reference: Any = None,
    label: Any = None,
    length: Any = None,
) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    own = {
        "log_prob": normal(_ROWS, 2) * 2 - 10,
        "label": torch.rand(_ROWS, generator=generator, dtype=torch.float64),
        "length": torch.randint(2, 9, (_ROWS, 2), generator=generator),
        "reference_log_prob": normal(_ROWS, 2) * 2 - 10,
    }
    given = {"log_prob": log_prob, "label": label, "length": length, "reference_log_prob": reference}
    values = {name: own[name] if value is None else value for name, value in given.items()}
    values = {name: value[rows] for name, value in values.items()}
    values["label"] = values["label"].double()
    values["log_prob"] = values["log_prob"].detach().clone().requires_grad_()
    return loss.batch_type(**values, mismatched_log_ratio=torch.tensor(0.3, dtype=torch.float64))


def _turned(loss: Any, batch: Any) -> Any:
    return loss.batch_type(
        log_prob=batch.log_prob.flip(1),
        label=1 - batch.label,
        length=batch.length.flip(1),
        reference_log_prob=batch.reference_log_prob.flip(1),
        mismatched_log_ratio=batch.mismatched_log_ratio,
    )


def _gradient(loss: Any, batch: Any) -> Any:
    import torch

    (gradient,) = torch.autograd.grad(loss(batch), batch.log_prob, allow_unused=True)
    return torch.zeros_like(batch.log_prob) if gradient is None else gradient
