"""Where models can live on this machine. Loads torch."""

from __future__ import annotations

import torch

from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError


def usable_device(device: str | torch.device) -> torch.device:
    """Check that a device is there.

    Raises:
        UserError: It is not, or no device has that name.
    """
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("holds no numbers")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise UserError(f"device is {str(device)!r}, which is not there: {choices(str(device), there)}") from error
    return found
