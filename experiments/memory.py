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
        cache: Keys and values of the responses that are drawn at the same time, at their longest.
        trained: The part of `parameters` that trains.
    """

    parameters: int
    gradients: int
    optimiser: int
    copies: int
    cache: int
    trained: int

    @property
    def total(self) -> int:
        """All of them together."""
        return self.parameters + self.gradients + self.optimiser + self.copies + self.cache

    @property
    def checkpoint(self) -> int:
        """What a checkpoint of it takes on the disk."""
        return self.trained + self.optimiser

    @property
    def model(self) -> int:
        """What its model takes on the disk, or its adapter; an untrained one is not left."""
        return self.parameters if self.trained and self.copies else self.trained

    def parts(self) -> dict[str, int]:
        """Bytes by what they are for."""
        return {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "AdamW's moments": self.optimiser,
            "frozen copies (start, reference)": self.copies,
            "keys and values of responses": self.cache,
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
    sequences = view.num_envs * view.num_candidates
    sequences = min(sequences, policy.max_sequences or sequences)
    longest = max(len(ids) for ids in policy.tokenizer(prompts)["input_ids"]) if prompts else 0
    length = longest + policy.max_new_tokens
    return Footprint(
        everything, trained, 2 * trained, copies, sequences * length * _cache_of_a_token(policy.model), trained
    )


def _size(parameters: list[Any]) -> int:
    return sum(one.numel() * one.element_size() for one in parameters)


def _cache_of_a_token(model: Any) -> int:
    """Bytes of the keys and values of one token in all layers; 0 where the config does not say."""
    config = model.config.get_text_config()
    layers, heads = getattr(config, "num_hidden_layers", 0), getattr(config, "num_attention_heads", 0)
    if not layers or not heads:
        return 0
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * layers * groups * width * next(model.parameters()).element_size())
