"""What a round is run on: kinds of GPU with their published figures, and how many of them work together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["CARDS", "NODE", "Card", "Machine", "card_named"]

#: GPUs behind one switch; those of other nodes are reached over the network.
NODE: Final = 8


@dataclass(frozen=True)
class Card:
    """One kind of GPU.

    Attributes:
        name: What it is called in a table.
        peak_flops: Published, in bfloat16 with sums in float32 and without sparsity, per second.
        peak_bandwidth: Published, of its memory, bytes per second.
        memory: Bytes.
        link: To the GPUs of its node, bytes per second and direction.
        measured: Whether the shares of the published figures that a round reaches were measured on this kind; of the
            others those of an H200 are assumed.
    """

    name: str
    peak_flops: float
    peak_bandwidth: float
    memory: float
    link: float
    measured: bool = False


#: As their makers publish them.
CARDS: Final = {
    "h100": Card("H100 SXM", 989e12, 3.35e12, 80e9, 450e9),
    "h200": Card("H200", 989e12, 4.8e12, 141e9, 450e9, measured=True),
    "a100": Card("A100 80GB", 312e12, 2.039e12, 80e9, 300e9),
    "rtx4090": Card("RTX 4090", 165.2e12, 1.008e12, 24e9, 32e9),
}
#: What an H200 reaches of its published figures: 790 TFLOP/s and 4.3 TB/s.
_FLOPS_SHARE, _BANDWIDTH_SHARE = 790 / 989, 4.3 / 4.8


def card_named(name: str) -> Card:
    """Return a card by name.

    Raises:
        UserError: There is none.
    """
    if name.lower() not in CARDS:
        raise UserError(f"no card {name!r} is known: {checks.choices(name.lower(), CARDS)}")
    return CARDS[name.lower()]


@dataclass(frozen=True)
class Machine:
    """GPUs of one kind.

    Attributes:
        card: Their kind.
        gpus: How many. Training shards its state over all of them.
        tensor: How many of them hold one copy of the model for sampling, each a part of every layer.
        network: Between nodes of eight, bytes per second, GPU and direction.
        published: Take the card's published figures in place of what can be reached.
    """

    card: Card
    gpus: int = 1
    tensor: int = 1
    network: float = 50e9
    published: bool = False

    def __post_init__(self) -> None:
        checks.integer("gpus", self.gpus, low=1)
        checks.integer("tensor", self.tensor, low=1, high=NODE)
        checks.number("network", self.network, above=0.0)
        if self.gpus % self.tensor:
            raise UserError(
                f"{self.gpus} GPUs cannot be cut into copies of {self.tensor}: make one a multiple of the other"
            )

    @property
    def copies(self) -> int:
        """Copies of the model that sample, each for its own prompts."""
        return self.gpus // self.tensor

    @property
    def flops(self) -> float:
        """Operations per second of a GPU."""
        return self.card.peak_flops * (1.0 if self.published else _FLOPS_SHARE)

    @property
    def bandwidth(self) -> float:
        """Bytes per second between a GPU and its memory."""
        return self.card.peak_bandwidth * (1.0 if self.published else _BANDWIDTH_SHARE)

    @property
    def collective(self) -> float:
        """Bytes per second at which each GPU takes in what all of them hold; a node takes over the network but once."""
        return self.card.link if self.gpus <= NODE else min(self.card.link, NODE * self.network)
