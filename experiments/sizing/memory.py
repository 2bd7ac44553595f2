"""What the training of a policy takes in memory and on the disk, from the sizes of the model; nothing is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from duelenv.ground.room import bytes_text

__all__ = ["Footprint", "bytes_text", "footprint_of"]


@dataclass(frozen=True)
class Footprint:
    """Bytes of one cell.

    Attributes:
        parameters: Of the model that is trained.
        gradients: Of what of it trains.
        optimiser: AdamW's two moments of that.
        copies: Of frozen models: the start, and a reference that moves. Under PEFT there are none.
        cache: Keys and values of the responses that are drawn at the same time, at their longest; a prompt's once
            where its responses share it.
        activations: What a training step takes besides, at its longest; 0 where nothing trains, or where the config
            does not say the sizes of the model.
        kept: The part of that which the forward pass leaves for the backward pass.
        trained: The part of `parameters` that trains.
    """

    parameters: int
    gradients: int
    optimiser: int
    copies: int
    cache: int
    activations: int
    kept: int
    trained: int

    @property
    def sampling(self) -> int:
        """What is there while responses are drawn."""
        return self.parameters + self.optimiser + self.copies + self.cache

    @property
    def training(self) -> int:
        """What is there in a training step, gradients counted beside all activations."""
        return self.parameters + self.optimiser + self.copies + self.gradients + self.activations

    @property
    def total(self) -> int:
        """The most that is there at once."""
        return max(self.sampling, self.training)

    @property
    def floor(self) -> int:
        """The least that a step needs at once: gradients appear while activations go."""
        return self.parameters + self.optimiser + self.copies + max(self.gradients, self.kept)

    @property
    def checkpoint(self) -> int:
        """What a checkpoint of it takes on the disk."""
        return self.trained + self.optimiser

    @property
    def model(self) -> int:
        """What its model takes on the disk, or its adapter; an untrained one is not left."""
        return self.parameters if self.trained and self.copies else self.trained

    def parts(self) -> dict[str, int]:
        """Count bytes by what they are for."""
        return {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "AdamW's moments": self.optimiser,
            "frozen copies (start, reference)": self.copies,
            "keys and values of responses": self.cache,
            "activations of a training step": self.activations,
        }


def footprint_of(view: Any, agent: Any, prompts: list[str]) -> Footprint:
    """Return what a cell takes.

    Args:
        view: Of a world with a policy.
        agent: Says, where it trains the policy, whether its reference moves.
        prompts: All of them; the longest counts.
    """
    policy = view.policy
    parameters = list(policy.model.parameters())
    everything, trained = _size(parameters), _size([one for one in parameters if one.requires_grad])
    trainer = getattr(getattr(agent, "learner", None), "trainer", None)
    if trainer is None:
        trained = 0
    moving = trainer is not None and trainer.settings.reference == "moving"
    copies = 0 if hasattr(policy.model, "peft_config") else everything * (2 if moving else 1)
    drawn = view.num_envs * view.num_candidates
    drawn = min(drawn, policy.max_sequences or drawn)
    longest = int(policy.prompt_lengths(prompts).max()) if prompts else 0
    # Responses of a prompt stay together as far as they may.
    shared = policy.shortcuts.cache and policy.shortcuts.sharing and view.num_candidates > 1
    copies_of_prompts = -(-drawn // view.num_candidates) if shared else drawn
    cached = copies_of_prompts * longest + drawn * policy.max_new_tokens
    activations, kept = (0, 0) if trainer is None else _activations(view, agent.learner, longest)
    return Footprint(
        parameters=everything,
        gradients=trained,
        optimiser=2 * trained,
        copies=copies,
        cache=cached * _cache_of_a_token(policy.model),
        activations=activations,
        kept=kept,
        trained=trained,
    )


def _activations(view: Any, learner: Any, longest: int) -> tuple[int, int]:
    """Return bytes at the peak, and of what is kept: of the largest piece of a round's labels, each at its longest.

    That a piece may be split for want of memory is not counted.
    """
    from duelenv.agents.trainer import PRECISIONS
    from duelenv.policies.activations import Activations, PassSize

    policy, settings = view.policy, learner.trainer.settings
    found = Activations.of(policy.model, policy.shortcuts, PRECISIONS[settings.precision])
    if found is None:
        return 0, 0
    draws, old = getattr(learner, "draws_per_pair", 0), getattr(learner, "replayed", 0)
    pairs = view.num_envs + old
    if settings.micro_batch is not None:
        pairs = min(pairs, settings.micro_batch)
    size = PassSize(pairs, longest, 2 + draws, policy.max_new_tokens)
    if settings.max_tokens is not None:
        of_one = size._replace(rows=1).tokens(found.sharing)
        size = size._replace(rows=min(pairs, max(1, settings.max_tokens // of_one)))
    return found.bytes(size), found.kept(size)


def _size(parameters: list[Any]) -> int:
    return sum(one.numel() * one.element_size() for one in parameters)


def _cache_of_a_token(model: Any) -> int:
    """Count the bytes of the keys and values of one token in all layers; 0 where the config does not say."""
    config = model.config.get_text_config()
    layers, heads = getattr(config, "num_hidden_layers", 0), getattr(config, "num_attention_heads", 0)
    if not layers or not heads:
        return 0
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * layers * groups * width * next(model.parameters()).element_size())
