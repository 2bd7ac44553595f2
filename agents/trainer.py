"""Trains a policy's weights: optimiser, precision, pieces, clipping, the reference. What is minimised is the caller's.

Weights of less than 32 bits are trained as copies in float32, which are rounded back after each step: a step of 1e-6
would not move most weights in bfloat16, and the sum of many does.

A step is given as terms, losses that add up to the objective; each is made, pulled back and forgotten before the next,
so that a large batch needs no more memory than its largest piece. How large pieces may be is set, or foreseen from the
sizes of the model and the memory that is free.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from duelenv.agents.distributed import PROCESSES, processes_of
from duelenv.agents.divergence import Diverged, finite
from duelenv.agents.passes import Extent, Passes, in_pieces_of, in_pieces_that
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.room import bytes_text, free_bytes
from duelenv.policies.activations import Activations, PassSize
from duelenv.policies.causal_lm import CausalLMPolicy
from duelenv.policies.passes import Shortcuts
from duelenv.policies.scoring import checkpointing
from duelenv.policies.sharding import own_share, shared_like, whole

REFERENCES: Final = ("fixed", "moving")
PRECISIONS: Final = {"float32": None, "bfloat16": torch.bfloat16}

_log = logging.getLogger(__name__)

#: The part of the free memory that a step may take; the rest is for what is not foreseen, and for others.
_TAKEN: Final = 0.8
#: Bytes of a pass that is run at once without looking at what is free.
_SMALL: Final = 2**26

_LARGE_MODEL = 50_000_000
_LARGE_RATE = 1e-4
#: Weights that the typical one is taken of.
_LOOKED_AT = 100_000


@dataclass(frozen=True)
class TrainerSettings:
    """How weights are trained, whatever the objective.

    Attributes:
        learning_rate: Of AdamW. The default suits small models; full fine-tuning of 1 to 8 billion parameters is
            published with 5e-7 to 5e-6, and a large rate on a large model draws a warning.
        weight_decay: Of AdamW.
        gradient_steps: Optimiser steps that the labels asked for in a round are worth together, all on the same pairs;
            see `duelenv.agents.lessons` for labels that come late, or never.
        max_grad_norm: Gradients are clipped to this norm, above 0; None leaves them as they are.
        micro_batch: Pairs in one forward pass, or as many responses in larger sets; gradients add up to those of the
            whole batch. None sets no limit.
        max_tokens: Tokens in one forward pass, prompts and padding included, so that long responses make small pieces;
            one pair, or set, at least. None sets no limit. Where neither limit is set, a batch that is foreseen to take
            more memory than is free is split, and that is logged.
        precision: "float32" computes in the model's own type; "bfloat16" lets matrix products run in that type, over
            weights and optimiser that stay as they are.
        reference: "fixed" keeps the start model as the reference; "moving" copies the policy into it.
        reference_every: Rounds' worth of steps between two copies when the reference moves.
        processes: "one" trains in this process alone; with "all" the processes of torch's default group, which play the
            same rounds, share each step: see `duelenv.agents.distributed`.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    gradient_steps: int = 1
    max_grad_norm: float | None = 1.0
    micro_batch: int | None = None
    max_tokens: int | None = None
    precision: str = "float32"
    reference: str = "fixed"
    reference_every: int = 20
    processes: str = "one"

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, low=0.0)
        checks.number("weight_decay", self.weight_decay, low=0.0)
        if self.max_grad_norm is not None:
            checks.number("max_grad_norm", self.max_grad_norm, above=0.0)
        checks.integer("gradient_steps", self.gradient_steps, low=1)
        checks.integer("reference_every", self.reference_every, low=1)
        if self.micro_batch is not None:
            checks.integer("micro_batch", self.micro_batch, low=1)
        if self.max_tokens is not None:
            checks.integer("max_tokens", self.max_tokens, low=1)
        checks.one_of("precision", self.precision, PRECISIONS)
        checks.one_of("reference", self.reference, REFERENCES)
        checks.one_of("processes", self.processes, PROCESSES)
        if self.reference == "fixed" and self.reference_every != type(self).reference_every:
            raise UserError(
                f"reference_every={self.reference_every} is read only with reference='moving'; set that or leave it out"
            )


class Trainer:
    """The optimiser of one policy.

    Args:
        policy: The live policy; its weights change in `train`.
        settings: How.

    Attributes:
        gradient_steps: Optimiser steps taken so far.
        processes: Those that make a step together.
        weight: Of the piece at hand: 0 where it is another process's, whose terms are not counted twice; else 1.
    """

    def __init__(self, policy: CausalLMPolicy, settings: TrainerSettings) -> None:
        self.policy = policy
        self.settings = settings
        self.gradient_steps = 0
        self.processes = processes_of(settings.processes, policy)
        if policy.sharded and settings.reference == "moving":
            raise UserError("reference='moving' copies the policy, and a sharded one cannot be copied; set 'fixed'")
        self.weight = 1.0
        self._said_pieces = 1
        self._known_activations: dict[tuple[Shortcuts, bool], Activations | None] = {}
        trained = policy.parameters()
        if not trained:
            raise UserError(
                "the policy has no weights that train (merge_and_unload and requires_grad_(False) leave none); call "
                "model.requires_grad_(True), or add an adapter"
            )
        self._masters = [
            (weights, weights.detach().float().requires_grad_()) if _is_low(weights) else (weights, weights)
            for weights in trained
        ]
        masters = [master for _, master in self._masters]
        _warn_of_steps(masters, settings.learning_rate)
        # A step of AdamW moves a weight by about its rate: one within the size of the weights leaves a model.
        size = math.sqrt(sum(master.numel() for master in masters))
        self._leaps = settings.learning_rate * size > float(_norm_of(masters))
        self._optimizer = torch.optim.AdamW(
            masters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=_may_be_fused(masters)
        )

    def passes(self, prompts: Sequence[str], mask: NDArray[np.int8], width: int = 2) -> Passes:
        """Decide how items go through the model, in training as in scoring: ask once for all that is compared.

        Args:
            prompts: Of each item, M.
            mask: [M, J, L], 1 on the tokens of its responses.
            width: Responses of an item that `micro_batch` counts.
        """
        count, settings = len(prompts), self.settings
        if not count:
            return Passes(0, in_pieces_of(1))
        most = max(1, 2 * settings.micro_batch // width) if settings.micro_batch else count
        if settings.micro_batch and settings.max_tokens is None:
            return Passes(count, in_pieces_of(most))
        extent = Extent.of(self.policy.prompt_lengths(prompts), mask)
        if settings.max_tokens is None:
            return self._foreseen(extent)
        tokens = settings.max_tokens
        sharing = self.policy.shortcuts.sharing and extent.responses > 1
        return Passes(count, in_pieces_that(lambda size: size.tokens(sharing) <= tokens, extent, most))

    def _foreseen(self, extent: Extent) -> Passes:
        """Split what is foreseen to take more memory than is free."""
        count = len(extent)
        at_once = Passes(count, in_pieces_of(count))
        activations = self._activations()
        if activations is None or activations.bytes(extent.size(range(count))) <= _SMALL:
            return at_once
        free = free_bytes(self.policy.device)
        free_everywhere = self.processes.least(float("inf") if free is None else float(free))
        room = _TAKEN * free_everywhere - self._beside()

        def fits(size: PassSize) -> bool:
            return activations.bytes(size) <= room

        passes = Passes(count, in_pieces_that(fits, extent, count))
        own = self.processes.share(count)
        if own:
            self._say(extent, passes.cut(own), activations.bytes(extent.size(own)), free_everywhere)
        return passes

    def _activations(self) -> Activations | None:
        """Return what a pass takes, as the model is run now."""
        model, shortcuts = self.policy.model, self.policy.shortcuts
        key = shortcuts, checkpointing(model)
        if key not in self._known_activations:
            kind = PRECISIONS[self.settings.precision]
            self._known_activations[key] = Activations.of(model, shortcuts, kind)
        return self._known_activations[key]

    def _beside(self) -> int:
        """Count the bytes that a step takes besides its passes: gradients, and moments where there are none yet."""
        taken = 0
        for weights, master in self._masters:
            share = own_share(weights.detach())
            taken += share.numel() * (share.element_size() + (0 if master is weights else 4))
            taken += 0 if self._optimizer.state else 2 * 4 * share.numel()
        return taken

    def _say(self, extent: Extent, parts: Sequence[slice], foreseen: int, free: float) -> None:
        """Log that a batch is split, once for each number of pieces that is larger than those before."""
        if len(parts) <= self._said_pieces:
            return
        self._said_pieces = len(parts)
        what = "pairs" if extent.responses == 2 else f"prompts with {extent.responses} responses each"
        sizes = [part.stop - part.start for part in parts]
        _log.warning(
            "a batch of %d %s would take about %s and %s are free: it is split into %d pieces of %d; set micro_batch "
            "or max_tokens to decide that yourself",
            *(sum(sizes), what, bytes_text(foreseen), bytes_text(free), len(parts), max(sizes)),
        )

    def pieces(self, items: int | Passes, width: int = 2) -> Iterator[slice]:
        """Cut items into what goes through the model at once, at least one item.

        These are the items that this process makes terms of; others may make those of the rest.

        Args:
            items: As `passes` decided, or a number of items whose lengths nobody looks at.
            width: Responses of an item that `micro_batch` counts, beside a number of items.
        """
        passes = self._counted(items, width)
        for part, weight in self.processes.counted(passes.count, passes.cut):
            self.weight = weight
            yield part
        self.weight = 1.0

    def scores(
        self, shape: tuple[int, int], score: Callable[[slice], Tensor], width: int = 2, *, passes: Passes | None = None
    ) -> Tensor:
        """Score items as they are trained, in the same pieces and precision but without gradients.

        Args:
            shape: Items and scores of each, [M, J].
            score: Returns the scores of a piece, float32 [m, J].
            width: Responses of an item that `micro_batch` counts, where no passes are given.
            passes: As they were decided for the items.

        Returns:
            float32 [M, J], of all items on every process.
        """
        found = torch.zeros(shape, device=self.policy.device)
        passes = self._counted(shape[0] if passes is None else passes, width)
        with torch.no_grad(), self.precise():
            for part in self.processes.scored(shape[0], passes.cut):
                found[part] = score(part)
        return self.processes.collected(found)

    def _counted(self, items: int | Passes, width: int) -> Passes:
        if isinstance(items, Passes):
            return items
        pairs = self.settings.micro_batch
        return Passes(items, in_pieces_of(max(1, 2 * pairs // width if pairs else items)))

    def precise(self) -> AbstractContextManager[Any]:
        """Compute in the precision of training, for whatever is compared with what is trained."""
        kind = PRECISIONS[self.settings.precision]
        return nullcontext() if kind is None else torch.autocast(self.policy.device.type, kind)

    def train(
        self, terms: Callable[[], Iterable[Tensor]], steps: int, *, outcome: Callable[[], Tensor] | None = None
    ) -> list[float]:
        """Take steps, each on the sum of terms that are made anew; then move the reference where it is due.

        Where the learning rate is larger than the weights, root mean square, one step may leave a model that says
        nothing: then the state from before each step is held, and put back where its outcome is not finite.

        Args:
            terms: Makes a step's terms, scalars with gradient. A generator goes on after its term was pulled back, when
                gradients lie where it retained them. No terms are no step.
            steps: How many.
            outcome: Scores what the steps are taken on with the weights that stand, such as losses and log-probs. None
                has the weights alone looked at.

        Returns:
            The norm of the gradient of each step that was taken, over all processes, before clipping.

        Raises:
            Diverged: A step's loss or gradient is not finite, or its outcome. It was not taken; all processes raise
                alike.
        """
        before, norms = self.gradient_steps, []
        for _ in range(steps):
            norms += self._step(terms(), outcome)
        if self.settings.reference == "moving":
            between = self.settings.reference_every * self.settings.gradient_steps
            if self.gradient_steps // between > before // between:
                self.policy.move_reference()
        return norms

    def _step(self, terms: Iterable[Tensor], outcome: Callable[[], Tensor] | None) -> list[float]:
        for weights, master in self._masters:
            weights.grad = master.grad = None
        loss = torch.zeros((), device=self.policy.device)
        for term in self._made(terms):
            loss += term.detach().float() * self.weight
            torch.autograd.backward(term * self.weight)
        limit = float("inf") if self.settings.max_grad_norm is None else self.settings.max_grad_norm
        for weights, master in self._masters:
            if master is not weights and weights.grad is not None:
                master.grad = weights.grad.float()
                weights.grad = None
        masters = [master for _, master in self._masters]
        if not self.processes.add_gradients(masters):
            return []  # an empty step would still move the weights by what the optimiser remembers
        norm = whole(torch.nn.utils.clip_grad_norm_(masters, limit)).float()
        figures = torch.stack([self.processes.summed(loss), norm]).tolist()  # waits for the device once
        if not finite(*figures):
            self._optimizer.zero_grad(set_to_none=True)
            raise self._diverged(*figures)
        before = self.state_dict() if self._leaps else None
        self._optimizer.step()
        self._round_back()
        self._optimizer.zero_grad(set_to_none=True)
        if before is not None and not self._stands(outcome):
            self.load_state_dict(before)
            raise self._diverged(*figures, afterwards="log-probs")
        self.policy.updated()
        self.gradient_steps += 1
        return figures[1:]

    def _stands(self, outcome: Callable[[], Tensor] | None) -> bool:
        """Tell whether the weights are finite, and what they make of what they were moved by."""
        largest = float(_norm_of(self.policy.parameters(), math.inf))
        return finite(largest) and (outcome is None or bool(outcome().isfinite().all()))

    def _diverged(self, loss: float, norm: float, *, afterwards: str = "") -> Diverged:
        settings = self.settings
        changes = [f"set a smaller learning_rate (here {settings.learning_rate:g})"]
        if settings.max_grad_norm is None and not afterwards:  # the length of a step of AdamW is not the gradient's
            changes.append("clip gradients (max_grad_norm=1.0)")
        if settings.precision != "float32":
            changes.append("compute in precision='float32'")
        if not afterwards:
            changes.append("look at what those rows hold")
        return Diverged(
            "the policy",
            step=self.gradient_steps + 1,
            loss=loss,
            gradient_norm=norm,
            advice=", or ".join(changes),
            afterwards=afterwards,
        )

    @torch.no_grad()
    def _round_back(self) -> None:
        for weights, master in self._masters:
            if master is not weights:
                weights.copy_(master)

    def _made(self, terms: Iterable[Tensor]) -> Iterator[Tensor]:
        """Make terms in the precision of training; they are pulled back outside of it."""
        waiting = iter(terms)
        while True:
            with self.precise():
                term = next(waiting, None)
            if term is None:
                return
            yield term

    def state_dict(self) -> dict[str, Any]:
        """Return policy, reference, optimiser and counter; tensors in nested dicts and lists, in main memory."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": on_the_host(self._optimizer.state_dict()),
            "masters": [on_the_host(master) for weights, master in self._masters if master is not weights],
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; restore the policy's weights as well."""
        self.policy.load_state_dict(state["policy"])
        kept = iter(state["masters"])
        with torch.no_grad():
            for weights, master in self._masters:
                if master is not weights:
                    master.copy_(shared_like(next(kept), master))
        # Torch takes moments over that lie where the weights do, and would go on changing the caller's.
        optimizer = on_the_host(state["optimizer"])
        for number, moments in optimizer["state"].items():
            master = self._masters[number][1]
            for name, value in moments.items():
                if value.shape == master.shape:
                    moments[name] = shared_like(value, master)
        self._optimizer.load_state_dict(optimizer)
        self.gradient_steps = int(state["gradient_steps"])


def on_the_host(state: Any) -> Any:
    """Return nested state with copies of its tensors in main memory: a second copy has no room beside a large model."""
    if isinstance(state, Tensor):
        return whole(state.detach()).to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: on_the_host(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(on_the_host(value) for value in state)
    return state


def _is_low(weights: Tensor) -> bool:
    return weights.is_floating_point() and torch.finfo(weights.dtype).bits < 32


def _norm_of(tensors: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """Return the norm of all weights together, wherever their shares lie."""
    return whole(torch.nn.utils.get_total_norm([tensor.detach() for tensor in tensors], order)).float()


def _warn_of_steps(masters: Sequence[Tensor], learning_rate: float) -> None:
    """Warn of a rate that is likely to break the policy, or to leave it as it is; a step of AdamW is about the rate."""
    size = sum(master.numel() for master in masters)
    if size > _LARGE_MODEL and learning_rate > _LARGE_RATE:
        warnings.warn(
            f"learning_rate={learning_rate:g} on {size:,} trainable parameters is likely to break the policy; "
            "full fine-tuning of such models is published with 5e-7 to 5e-6",
            stacklevel=4,
        )
    largest = own_share(max(masters, key=Tensor.numel).detach())
    if not largest.numel():
        return
    typical = float(largest.flatten()[:_LOOKED_AT].abs().float().median())
    spacing = typical * torch.finfo(torch.float32).eps
    if 0.0 < learning_rate < spacing / 2:
        warnings.warn(
            f"learning_rate={learning_rate:g} is less than half of what separates a typical weight ({typical:.2g}) "
            f"from the next number in float32 ({spacing:.1g}), so that most will stay as they are; take a larger one",
            stacklevel=4,
        )


def _may_be_fused(masters: Sequence[Tensor]) -> bool:
    """Tell whether one kernel may take the whole step, which spares a pass over memory for each of its parts."""
    return all(master.is_floating_point() and master.device.type in ("cpu", "cuda") for master in masters)
