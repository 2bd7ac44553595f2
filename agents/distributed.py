"""What one process of several does of a step on a policy, and what it adds up with the others; not what is minimised.

All processes play the same rounds: prompts, draws, labels and beliefs are the same on each, by equal seeds. A step is
divided: each process takes its share of a lesson's items, whose terms are weighted by the whole lesson, and gradients
are summed, never averaged. Then every process clips the same gradient by the same norm and makes the same step.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, distributed

from duelenv.agents.passes import Cut
from duelenv.ground.errors import UserError
from duelenv.policies.causal_lm import CausalLMPolicy

PROCESSES: Final = ("one", "all")


class Processes(Protocol):
    """The processes that make a policy's steps together, as one of them sees it."""

    def share(self, count: int) -> range:
        """Return this process's share of `count` items, which may be empty."""
        ...

    def counted(self, count: int, cut: Cut) -> Iterator[tuple[slice, float]]:
        """Cut this process's share of `count` items into pieces.

        Yields:
            A piece, and the weight of its terms: 0 where another process counts them.
        """
        ...

    def scored(self, count: int, cut: Cut) -> Iterator[slice]:
        """Cut what this process scores, without gradients, of `count` items."""
        ...

    def collected(self, scores: Tensor) -> Tensor:
        """Return the scores of all items, from those that each process has written into zeros."""
        ...

    def add_gradients(self, parameters: Sequence[Tensor]) -> bool:
        """Give every process the sum of the gradients in place of its own; True where any process had one."""
        ...

    def total(self, values: Sequence[float]) -> list[float]:
        """Add up figures, each over the processes."""
        ...

    def summed(self, value: Tensor) -> Tensor:
        """Add up a value over the processes, without waiting for a device of its own."""
        ...

    def least(self, value: float) -> float:
        """Return the smallest of the processes' values."""
        ...

    def check_same(self, *arrays: Any) -> None:
        """Raise `UserError` unless all processes call this with equal arrays."""
        ...


class Alone:
    """A process that makes its steps by itself."""

    def share(self, count: int) -> range:
        return range(count)

    def counted(self, count: int, cut: Cut) -> Iterator[tuple[slice, float]]:
        for part in cut(range(count)):
            yield part, 1.0

    def scored(self, count: int, cut: Cut) -> Iterator[slice]:
        yield from cut(range(count))

    def collected(self, scores: Tensor) -> Tensor:
        return scores

    def add_gradients(self, parameters: Sequence[Tensor]) -> bool:
        return any(parameter.grad is not None for parameter in parameters)

    def total(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def summed(self, value: Tensor) -> Tensor:
        return value

    def least(self, value: float) -> float:
        return value

    def check_same(self, *arrays: Any) -> None:
        pass


class Together:
    """One of the processes of torch's default group, each with all of the weights.

    Args:
        device: Where the weights lie, and what is added up.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._rank, self._size = distributed.get_rank(), distributed.get_world_size()

    def share(self, count: int, rank: int | None = None) -> range:
        """Return a process's share of `count` items, by default this one's; shares differ by one, and may be empty."""
        rank = self._rank if rank is None else rank
        return range(rank * count // self._size, (rank + 1) * count // self._size)

    def counted(self, count: int, cut: Cut) -> Iterator[tuple[slice, float]]:
        for part in cut(self.share(count)):
            yield part, 1.0

    def scored(self, count: int, cut: Cut) -> Iterator[slice]:
        yield from cut(self.share(count))

    def collected(self, scores: Tensor) -> Tensor:
        distributed.all_reduce(scores)
        return scores

    def add_gradients(self, parameters: Sequence[Tensor]) -> bool:
        # A weight without a gradient is passed over by the optimiser: it has to have none anywhere.
        reached = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
        reached = reached.to(self._device)
        distributed.all_reduce(reached)
        summed = [parameter for parameter, any_has in zip(parameters, reached.tolist(), strict=True) if any_has]
        for parameter in summed:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
        return bool(summed)

    def total(self, values: Sequence[float]) -> list[float]:
        # Not every accelerator has float64, and these are figures.
        summed = torch.tensor(values, dtype=torch.float32, device=self._device)
        distributed.all_reduce(summed)
        return list(map(float, summed.tolist()))

    def summed(self, value: Tensor) -> Tensor:
        distributed.all_reduce(value)
        return value

    def least(self, value: float) -> float:
        found = torch.tensor(value, dtype=torch.float32, device=self._device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return float(found)

    def check_same(self, *arrays: Any) -> None:
        digest = 0
        for array in arrays:
            values = np.asarray(array)
            text = "\x1f".join(values.ravel().tolist()).encode() if values.dtype == object else values.tobytes()
            digest = zlib.crc32(text, digest)
        own = torch.tensor([digest, -digest], device=self._device)
        distributed.all_reduce(own, distributed.ReduceOp.MAX)
        if int(own[0]) != -int(own[1]):
            raise UserError(
                "the processes are to train the policy on different lessons; all of them have to play the same rounds: "
                "make world, oracle and agent with the same arguments and seeds on each, and answer alike"
            )


class Sharing(Together):
    """One of the processes of torch's default group, each with its share of the weights (FSDP2).

    A pass is one of all processes, so each makes as many pieces, some of them of no weight, and scores everything.
    """

    def counted(self, count: int, cut: Cut) -> Iterator[tuple[slice, float]]:
        left = max(len(cut(self.share(count, rank))) for rank in range(self._size))
        for part, weight in super().counted(count, cut):
            yield part, weight
            left -= 1
        for _ in range(left):
            yield slice(0, 1), 0.0

    def scored(self, count: int, cut: Cut) -> Iterator[slice]:
        yield from cut(range(count))

    def collected(self, scores: Tensor) -> Tensor:
        return scores

    def add_gradients(self, parameters: Sequence[Tensor]) -> bool:
        reached = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in reached:
            gradient.mul_(self._size)  # FSDP has averaged it over the processes
        return bool(reached)


def processes_of(choice: str, policy: CausalLMPolicy) -> Processes:
    """Return the processes that train a policy together.

    Args:
        choice: One of `PROCESSES`; "all" is one process where there are no others.
        policy: That policy.

    Raises:
        UserError: There are others, which torch has not been told of; or one is to train what many hold.
    """
    device = policy.device
    if policy.sharded:
        if choice == "one":
            raise UserError("the policy's weights are sharded over processes, and processes='one'; set 'all'")
        return Sharing(device)
    if choice == "one":
        return Alone()
    if distributed.is_available() and distributed.is_initialized():
        return Together(device) if distributed.get_world_size() > 1 else Alone()
    others = int(os.environ.get("WORLD_SIZE", "1"))
    if others > 1:
        raise UserError(
            f"processes='all' in one of {others} processes, and torch.distributed has no group yet; make an "
            "accelerate.Accelerator() before the agent, or call torch.distributed.init_process_group()"
        )
    return Alone()
