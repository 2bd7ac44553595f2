"""The least time and memory that one round of online preference learning takes, from sizes alone; nothing is run.

A round draws K responses to each prompt, scores a pair of them under the reference and takes a gradient step on it. A
phase takes what the slowest of arithmetic, memory and links takes; what else a program does comes on top. The formulas
are in docs/machine.md. Not counted: the oracle, the host, and what an agent computes besides passes of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from duelenv.experiments.sizing.machines import Machine
from duelenv.experiments.sizing.shapes import HALF, ModelShape
from duelenv.ground import checks

__all__ = [
    "AGENTS",
    "Cost",
    "Floor",
    "Memory",
    "Phase",
    "Round",
    "floor_of",
]

#: Bytes of a number in float32.
_FULL: Final = 4
#: What AdamW moves a trained weight: reads gradient, master and two moments, writes the last three, rounds back.
_OPTIMISER_BYTES: Final = 7 * _FULL + HALF


# What is done --------------------------------------------------------------------------------------------------------

#: Whose rounds can be computed.
AGENTS: Final = ("passive", "thompson")


@dataclass(frozen=True)
class Round:
    """What one round does.

    Attributes:
        prompts: Prompts a round.
        candidates: Responses to each, K; 1 is no duel but a limit of the formulas.
        prompt_tokens: Tokens of a prompt.
        response_tokens: Tokens of a response.
        agent: "passive" takes one step on one pair of each prompt; "thompson" runs all responses through the start
            model for the features of its belief, and takes a second step on the best against the worst.
        lora: Rank of an adapter that is trained in place of the weights; None trains all.
        share_training: Run a prompt once for both responses of a pair, where they are scored or trained on.
        checkpointing: Keep the inputs of layers alone and run the forward pass again for the backward pass.
    """

    prompts: int = 64
    candidates: int = 20
    prompt_tokens: int = 512
    response_tokens: int = 53
    agent: str = "passive"
    lora: int | None = None
    share_training: bool = False
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("prompts", "candidates", "prompt_tokens", "response_tokens"):
            checks.integer(name, getattr(self, name), low=1)
        checks.one_of("agent", self.agent, AGENTS)
        if self.lora is not None:
            checks.integer("lora", self.lora, low=1)
        checks.flag("share_training", self.share_training)
        checks.flag("checkpointing", self.checkpointing)

    @property
    def steps(self) -> int:
        """Gradient steps, each on one pair of every prompt."""
        return 2 if self.agent == "thompson" else 1

    @property
    def pair_tokens(self) -> int:
        """Tokens that a pair takes through the model where it is scored or trained on."""
        return (1 if self.share_training else 2) * self.prompt_tokens + 2 * self.response_tokens

    def cached_tokens(self, shared: bool) -> int:
        """Count the tokens of a prompt and its responses that lie in the cache at the end."""
        copies = 1 if shared else self.candidates
        return copies * self.prompt_tokens + self.candidates * self.response_tokens


# What it takes -------------------------------------------------------------------------------------------------------

Bound = Literal["compute", "memory", "links"]


@dataclass(frozen=True)
class Cost:
    """Seconds that the busiest GPU needs for its part of a phase."""

    compute: float = 0.0
    memory: float = 0.0
    links: float = 0.0

    @property
    def seconds(self) -> float:
        """The slowest of the three; they go on side by side."""
        return max(self.compute, self.memory, self.links)

    @property
    def bound(self) -> Bound:
        """Which of them that is."""
        if self.compute >= max(self.memory, self.links):
            return "compute"
        return "memory" if self.memory >= self.links else "links"


@dataclass(frozen=True)
class Phase:
    """A part of the round, with the prompts' keys and values shared by their responses and with a copy for each."""

    name: str
    shared: Cost
    repeated: Cost
    samples: bool = False
    """Whether it is a part of drawing responses."""

    def cost(self, shared: bool) -> Cost:
        """Return one of the two."""
        return self.shared if shared else self.repeated


@dataclass(frozen=True)
class Memory:
    """Bytes on the busiest GPU.

    Attributes:
        room: What it has; where training runs on other GPUs they are of the same kind.
        sampling_weights: The model that samples.
        weights: The trained model's part.
        reference: The frozen reference's part; 0 with an adapter, which is switched off for it.
        masters: Trained weights in float32.
        moments: AdamW's.
        gradients: In float32.
        activations: Of one pair, everything that the backward pass reads, logits of responses among it.
        cache_shared: Keys and values at the end of drawing, each prompt's once.
        cache_repeated: The same, each prompt's K times.
        cache_prompt_shared: Of `cache_shared`, one prompt with its responses.
        cache_prompt_repeated: Of `cache_repeated`, the same.
        apart: Whether sampling and training have GPUs of their own.
    """

    room: float
    sampling_weights: float
    weights: float
    reference: float
    masters: float
    moments: float
    gradients: float
    activations: float
    cache_shared: float
    cache_repeated: float
    cache_prompt_shared: float
    cache_prompt_repeated: float
    apart: bool
    one_copy: bool
    """Whether the model that samples is the trained one, in the same place."""

    @property
    def resident(self) -> float:
        """What lies on a sampling GPU besides the cache."""
        if self.apart:
            return self.sampling_weights
        own = 0.0 if self.one_copy else self.weights
        return self.sampling_weights + own + self.reference + self.masters + self.moments

    @property
    def training(self) -> float:
        """What a training step takes."""
        held = (self.weights, self.reference, self.masters, self.moments, self.gradients, self.activations)
        return sum(held)

    def cache(self, shared: bool) -> float:
        """Count the bytes of keys and values."""
        return self.cache_shared if shared else self.cache_repeated

    def sampling(self, shared: bool) -> float:
        """Estimate what drawing responses takes."""
        return self.resident + self.cache(shared)

    def prompts_at_once(self, shared: bool) -> int:
        """Count a copy's prompts whose responses can be drawn at the same time; 0 if the rest alone does not fit."""
        one = self.cache_prompt_shared if shared else self.cache_prompt_repeated
        return max(0, math.floor((self.room - self.resident) / one))

    def fits(self, shared: bool) -> bool:
        """Tell whether the round runs as it is, all prompts at once."""
        return max(self.sampling(shared), self.training) <= self.room


@dataclass(frozen=True)
class Floor:
    """What a round takes at least."""

    shape: ModelShape
    round: Round
    machine: Machine
    trainers: Machine | None
    """GPUs of their own for all that is not sampling; None where both have the same."""
    phases: tuple[Phase, ...]
    memory: Memory

    def seconds(self, shared: bool = True) -> float:
        """Sum the seconds of the whole round, one phase after the other."""
        return self.sampling(shared) + self.training(shared)

    def sampling(self, shared: bool = True) -> float:
        """Sum the seconds of drawing responses."""
        return sum(phase.cost(shared).seconds for phase in self.phases if phase.samples)

    def training(self, shared: bool = True) -> float:
        """Sum the seconds of everything else."""
        return sum(phase.cost(shared).seconds for phase in self.phases if not phase.samples)

    def phase(self, name: str) -> Phase:
        """Find one by its name."""
        return next(phase for phase in self.phases if phase.name == name)

    @property
    def dominant(self) -> Phase:
        """The longest, with shared prompts."""
        return max(self.phases, key=lambda phase: phase.shared.seconds)


def floor_of(shape: ModelShape, work: Round, machine: Machine, trainers: Machine | None = None) -> Floor:
    """Compute what a round takes at least.

    Args:
        shape: The model.
        work: The round.
        machine: The GPUs that draw responses, and do the rest too unless `trainers` do.
        trainers: GPUs for features, reference and training.
    """
    training = trainers or machine
    phases = [_prefill(shape, work, machine), *_decode(shape, work, machine)]
    if work.agent == "thompson":
        phases.append(_features(shape, work, training))
    phases += _learning(shape, work, training)
    return Floor(shape, work, machine, trainers, tuple(phases), _memory(shape, work, machine, trainers))


def _products_and_attention(
    shape: ModelShape, work: Round, *, copies: int, responses: int, heads: bool
) -> tuple[float, float]:
    """Count operations of a forward pass over one prompt, run `copies` times, and so many responses behind it.

    A weight takes two for each token. Attention takes four for each token before it, layer and number in a head: a
    product with its key, another with its value.
    """
    before, length = work.prompt_tokens, work.response_tokens
    tokens = copies * before + responses * length
    seen = copies * before * (before + 1) / 2 + responses * length * (before + (length + 1) / 2)
    products = 2.0 * tokens * shape.body + (2.0 * responses * length * shape.head if heads else 0.0)
    return products, 4.0 * shape.layers * shape.queries * seen


def _prefill(shape: ModelShape, work: Round, machine: Machine) -> Phase:
    busiest = _share(work.prompts, machine.copies)

    def cost(copies: int) -> Cost:
        operations = sum(_products_and_attention(shape, work, copies=copies, responses=0, heads=False))
        tokens = busiest * copies * work.prompt_tokens
        moved = HALF * shape.body / machine.tensor + tokens * _cache_part(shape, machine)
        return Cost(
            busiest * operations / machine.tensor / machine.flops,
            moved / machine.bandwidth,
            _summing(shape, machine, tokens),
        )

    return Phase("prefill", cost(1), cost(work.candidates), samples=True)


def _decode(shape: ModelShape, work: Round, machine: Machine) -> list[Phase]:
    """List the arithmetic of all steps beside reading the weights in each, then reading all keys and values once."""
    busiest, steps = _share(work.prompts, machine.copies), work.response_tokens
    tokens = busiest * work.candidates * steps
    seen = work.prompt_tokens + (steps + 1) / 2  # tokens before one, in the middle
    operations = tokens * (2.0 * (shape.body + shape.head) + 4.0 * shape.layers * shape.queries * seen)
    products = Cost(
        operations / machine.tensor / machine.flops,
        steps * HALF * (shape.body + shape.head) / machine.tensor / machine.bandwidth,
        _summing(shape, machine, tokens),
    )

    def reading(copies: int) -> Cost:
        prompts = busiest * copies * steps * work.prompt_tokens
        responses = tokens * (steps + 1) / 2
        return Cost(memory=(prompts + responses) * _cache_part(shape, machine) / machine.bandwidth)

    return [
        Phase("decode, arithmetic", products, products, samples=True),
        Phase("decode, keys and values", reading(1), reading(work.candidates), samples=True),
    ]


def _features(shape: ModelShape, work: Round, machine: Machine) -> Phase:
    """Run all responses through the frozen start model, for the features of a belief."""

    def cost(copies: int) -> Cost:
        operations = _products_and_attention(shape, work, copies=copies, responses=work.candidates, heads=False)
        return _sharded(work, machine, sum(operations), HALF * shape.body, passes=1)

    return Phase("features", cost(1), cost(work.candidates))


def _learning(shape: ModelShape, work: Round, machine: Machine) -> list[Phase]:
    """List reference, forward and backward pass on the pairs, and AdamW; the two columns do not differ."""
    products, attention = _products_and_attention(
        shape, work, copies=1 if work.share_training else 2, responses=2, heads=True
    )
    weights = HALF * (shape.body + shape.head)
    reference = _sharded(work, machine, products + attention, weights, passes=1)
    trained = _trained(shape, work)
    again = 1 if work.checkpointing else 0
    if work.lora is None:  # the backward pass makes gradients of activations and of weights
        step = _sharded(work, machine, (3 + again) * (products + attention), weights, passes=3 + again)
    else:  # of activations alone, and of the adapter's few weights
        operations = (2 + again) * products + (3 + again) * attention + 6.0 * trained * work.pair_tokens
        step = _sharded(work, machine, operations, weights, passes=2 + again)
    optimiser = Cost(memory=_OPTIMISER_BYTES * trained / machine.gpus / machine.bandwidth)
    found = {"reference": reference, "training": step, "optimiser": optimiser}
    return [
        Phase(name, cost, cost) for name, cost in ((name, _times(cost, work.steps)) for name, cost in found.items())
    ]


def _sharded(work: Round, machine: Machine, operations: float, weights: float, *, passes: int) -> Cost:
    """Estimate a pass over weights that are sharded: each GPU has its prompts, and gets every layer from the others.

    `passes` counts how often the weights, or gradients as large, go through memory and over the links.
    """
    away = weights * (machine.gpus - 1) / machine.gpus
    return Cost(
        _share(work.prompts, machine.gpus) * operations / machine.flops,
        passes * weights / machine.bandwidth,
        passes * away / machine.collective,
    )


def _times(cost: Cost, count: int) -> Cost:
    return Cost(count * cost.compute, count * cost.memory, count * cost.links)


def _trained(shape: ModelShape, work: Round) -> int:
    return shape.parameters if work.lora is None else shape.adapter(work.lora)


def _share(count: int, parts: int) -> int:
    """Count the items of the part that has most."""
    return -(-count // parts)


def _cache_part(shape: ModelShape, machine: Machine) -> float:
    """Count the bytes of a token's keys and values on one GPU: heads are not cut further."""
    return shape.cache_bytes / min(machine.tensor, shape.groups)


def _summing(shape: ModelShape, machine: Machine, tokens: float) -> float:
    """Estimate the seconds in which a copy's GPUs add up their parts, after each layer's attention and feed-forward."""
    once = 2 * (machine.tensor - 1) / machine.tensor * tokens * shape.hidden * HALF
    return 2 * shape.layers * once / machine.card.link


def _memory(shape: ModelShape, work: Round, machine: Machine, trainers: Machine | None) -> Memory:
    training = trainers or machine
    trained = _trained(shape, work) / training.gpus
    whole = HALF * shape.parameters
    # Logits of the response tokens and their gradient.
    logits = 2 * _FULL * 2 * work.response_tokens * shape.vocabulary
    one = {shared: work.cached_tokens(shared) * _cache_part(shape, machine) for shared in (True, False)}
    prompts = _share(work.prompts, machine.copies)
    return Memory(
        room=machine.card.memory,
        sampling_weights=whole / machine.tensor,
        weights=whole / training.gpus,
        reference=0.0 if work.lora is not None else whole / training.gpus,
        masters=_FULL * trained,
        moments=2 * _FULL * trained,
        gradients=_FULL * trained,
        activations=work.pair_tokens * shape.kept_bytes(work.checkpointing) + logits,
        cache_shared=prompts * one[True],
        cache_repeated=prompts * one[False],
        cache_prompt_shared=one[True],
        cache_prompt_repeated=one[False],
        apart=trainers is not None,
        one_copy=machine.tensor == machine.gpus,
    )
