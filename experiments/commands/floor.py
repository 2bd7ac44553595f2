"""`duelenv floor SIZE_OR_DIR`: the least time and memory of a round, from sizes alone."""

from __future__ import annotations

import argparse
from typing import Any

from duelenv.experiments.commands.printing import print_text
from duelenv.ground import checks

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    floor = commands.add_parser(
        "floor",
        help="the least time and memory that a round takes with a model and a card, from sizes alone",
        description="Computes from the sizes of a model and the speed of a card what one round takes at least, and "
        "what bounds it. Nothing is run.",
    )
    floor.add_argument("size", metavar="SIZE_OR_DIR", help="1B, 8B or 70B, or a folder with a config.json")
    floor.add_argument("--prompts", metavar="N", default="64", help="prompts a round (default: 64)")
    floor.add_argument("--candidates", metavar="K", default="20", help="responses to each (default: 20)")
    floor.add_argument("--prompt-tokens", metavar="N", default="512", help="tokens of a prompt (default: 512)")
    floor.add_argument("--response-tokens", metavar="N", default="53", help="tokens of a response (default: 53)")
    floor.add_argument("--card", metavar="NAME", default="h200", help="h100, h200, a100 or rtx4090 (default: h200)")
    floor.add_argument("--gpus", metavar="N", default="1", help="how many (default: 1)")
    floor.add_argument("--tensor", metavar="N", default="1", help="GPUs that hold one sampling copy (default: 1)")
    floor.add_argument("--trainers", metavar="N", help="GPUs that train, besides those that sample")
    floor.add_argument(
        "--network", metavar="GB/S", default="50", help="of a GPU between nodes, each way (default: 50, 400 Gbit/s)"
    )
    floor.add_argument("--agent", metavar="NAME", default="passive", help="passive or thompson (default: passive)")
    floor.add_argument("--lora", metavar="RANK", nargs="?", const="16", help="train an adapter (rank if none: 16)")
    floor.add_argument(
        "--share-training", action="store_true", help="run a prompt once for both responses of a pair that is trained"
    )
    floor.add_argument(
        "--checkpointing", action="store_true", help="keep the inputs of layers alone, and run them again"
    )
    floor.add_argument("--published", action="store_true", help="the card's published figures, not what is reached")
    floor.set_defaults(run=_floor)


def _floor(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.sizing.floor_table import floor_text
    from duelenv.experiments.sizing.floors import AGENTS, NODE, Machine, Round, card_named, floor_of
    from duelenv.experiments.sizing.shapes import shape_named

    def count(name: str, high: int | None = None) -> int:
        return checks.integer(f"--{name}", _number(getattr(arguments, name.replace("-", "_"))), low=1, high=high)

    work = Round(
        prompts=count("prompts"),
        candidates=count("candidates"),
        prompt_tokens=count("prompt-tokens"),
        response_tokens=count("response-tokens"),
        agent=checks.one_of("--agent", arguments.agent, AGENTS),
        lora=None if arguments.lora is None else count("lora"),
        share_training=arguments.share_training,
        checkpointing=arguments.checkpointing,
    )
    network = 1e9 * checks.number("--network", _number(arguments.network), above=0.0)
    card, tensor = card_named(arguments.card), count("tensor", NODE)
    machine = Machine(card, count("gpus"), tensor, network, arguments.published)
    trainers = None
    if arguments.trainers is not None:
        trainers = Machine(card, count("trainers"), 1, network, arguments.published)
    print_text(floor_text(floor_of(shape_named(arguments.size), work, machine, trainers)))
    return 0


def _number(text: str) -> object:
    """Read a word as a number, or else leave it as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
