"""The check of losses: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import dataclasses

import pytest
import torch

from duelenv.agents.losses import DPO, LOSSES, make_loss
from duelenv.testing import (
    CheckFailed,
    check_loss,
)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_the_project_pass(name):
    check_loss(lambda: make_loss(name))


def wrong_loss(**methods):
    return dataclasses.dataclass(frozen=True)(type("Wrong", (DPO,), methods))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"first_won": lambda self, batch: -DPO().first_won(batch)}, "expected the winner's up and the loser's down"),
        ({"target": lambda self, label: label**2}, "the mixture of the losses of 0 and 1"),
        ({"__call__": lambda self, batch: self.rows(batch).sum()}, "the mean over two parts of three"),
        ({"__call__": lambda self, batch: self.rows(batch)}, r"has shape \[6\]"),
        ({"rows": lambda self, batch: DPO().rows(batch) + batch.counted().log_prob[:, 0] ** 2}, "exchanged and labels"),
        (
            {
                "__call__": lambda self, batch: torch.where(
                    batch.label.isnan(),
                    0.0,
                    torch.nan_to_num(batch.label) * DPO().first_won(batch)
                    + (1 - torch.nan_to_num(batch.label)) * DPO().first_won(batch.swapped()),
                ).mean()
            },
            "rows without a label",
        ),
        (
            {"first_won": lambda self, batch: -torch.log(torch.sigmoid(self.beta * batch.difference()))},
            "the gradient is not finite",
        ),
        (
            {"first_won": lambda self, batch: DPO().first_won(batch).detach()},
            "expected the winner's up|does not require",
        ),
        ({"reward": lambda self, log_prob, reference, length: -log_prob}, "does not rise with the policy's log-prob"),
        (
            {"first_won": lambda self, batch: DPO().first_won(batch) * (1 + batch.difference().abs().detach())},
            "finite differences give",
        ),
    ],
)
def test_wrong_losses_fail(methods, message):
    with pytest.raises((CheckFailed, RuntimeError), match=message):
        check_loss(wrong_loss(**methods))
