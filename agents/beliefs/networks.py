"""Small networks side by side, as batched products, on the same inputs, which take no gradient. Loads torch.

A layer has a leading axis of E networks; the first may have one of T trunks, each that of E / T adjacent networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Layers = list[Tensor]  # weight [E, in, out], bias [E, 1, out], weight, bias, ...; T for E in the first two


class Memory:
    """What a step or a sample fills, kept for the next: fresh memory of that size takes longer to get than to fill.

    Attributes:
        gradients: One for each of the layers.
    """

    def __init__(self, layers: Layers) -> None:
        self.gradients = [torch.empty_like(layer, requires_grad=False) for layer in layers]
        self._scratch: dict[str, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        """Return itself: nothing in it is worth a copy."""
        return Memory(self.gradients)

    def room(self, name: str, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of this shape with anything in it; the next of the same name lies in the same place."""
        size = math.prod(shape)
        if name not in self._scratch or len(self._scratch[name]) < size:
            self._scratch[name] = like.new_empty(size)
        return self._scratch[name][:size].view(shape)


class _Networks(torch.autograd.Function):
    """All heads on both members of pairs: one batched product a layer, the last one, of width 1, element by element.

    A trunk that heads share is computed once, and the layer above it in one product for all heads that stand on it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, memory: Memory | None, *layers: Tensor) -> Tensor:
        """Return [E, M] for x [M, d]; for `backward` the members of a pair lie next to each other."""
        memory = Memory([]) if memory is None else memory
        h = x.expand(layers[0].shape[0], -1, -1)
        given = []  # to each layer but the first, [E, M, in], the first [T, M, in]
        for depth, (weight, bias) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
            if depth:
                given.append(h.relu_())
            shape = (*h.shape[:2], weight.shape[2])
            if len(h) < len(weight):
                beside = _side_by_side(weight, len(h))
                shape = (*h.shape[:2], beside.shape[2])
                h = torch.bmm(h, beside, out=memory.room(f"output {depth}", h, shape))
                h = _one_by_one(h, len(weight)).add_(bias)
            elif depth and weight.shape[2] == 1:
                h = torch.mul(h, weight.mT, out=memory.room("product", h, h.shape)).sum(2, keepdim=True).add_(bias)
            else:
                h = torch.baddbmm(bias, h, weight, out=memory.room(f"output {depth}", h, shape))
        ctx.memory = memory
        ctx.save_for_backward(x, *given, *layers)
        return h[..., 0].clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the layers, or add them to those in `memory`; x has none."""
        memory: Memory = ctx.memory
        x, *saved = ctx.saved_tensors
        depth = (len(saved) - 2) // 3
        given, layers = saved[:depth], saved[depth:]
        into = memory.gradients or [torch.zeros_like(layer) for layer in layers]
        g = upstream[0].unsqueeze(2)  # (E, M, out)
        for i in range(depth, 0, -1):
            h, weight = given[i - 1], layers[2 * i]
            below = memory.room(f"below {i}", h, h.shape)
            if len(h) < len(weight):
                beside = _side_by_side(g, len(h))
                into[2 * i] += _one_by_one(h.mT @ beside, len(weight))
                torch.bmm(beside, _side_by_side(weight, len(h)).mT, out=below)
            elif weight.shape[2] == 1:
                into[2 * i] += torch.mul(h, g, out=below).sum(1).unsqueeze(2)
                torch.mul(g, weight.mT, out=below)
            else:
                into[2 * i].baddbmm_(h.mT, g)
                torch.bmm(g, weight.mT, out=below)
            into[2 * i + 1] += _over_pairs(g, memory)
            g = torch.ops.aten.threshold_backward.grad_input(below, h, 0, grad_input=below)
        into[0].baddbmm_(x.T.contiguous().expand(len(g), -1, -1), g)
        into[1] += _over_pairs(g, memory)
        return None, None, *([None] * len(layers) if memory.gradients else into)


def _side_by_side(each: Tensor, trunks: int) -> Tensor:
    """Return [E, n, out] of heads, those of a trunk adjacent, as columns of their trunk: [T, n, E / T * out]."""
    return each.view(trunks, -1, *each.shape[1:]).transpose(1, 2).reshape(trunks, each.shape[1], -1)


def _one_by_one(beside: Tensor, heads: int) -> Tensor:
    """Undo `_side_by_side`."""
    trunks, rows, columns = beside.shape
    return (
        beside.view(trunks, rows, heads // trunks, -1).transpose(1, 2).reshape(heads, rows, columns * trunks // heads)
    )


def _over_pairs(g: Tensor, memory: Memory) -> Tensor:
    """Sum gradients [E, M, out] over M, each pair first: what cancels leaves no rounding that Adam would scale up."""
    pairs = memory.room("pairs", g, (len(g), g.shape[1] // 2, g.shape[2]))
    return torch.add(g[:, ::2], g[:, 1::2], out=pairs).sum(1, keepdim=True)


def forward(layers: Sequence[Tensor], x: Tensor, memory: Memory | None = None) -> Tensor:
    """Return all networks' outputs [E, M] for the same inputs x [M, d].

    Args:
        layers: See `Layers`; the last has one output.
        x: Inputs; for `backward` the members of a pair lie next to each other, M even.
        memory: What `backward` adds the gradients of the layers to, and the next call overwrites.
    """
    return _Networks.apply(x, memory, *layers)
