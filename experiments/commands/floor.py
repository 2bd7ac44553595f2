"""`duelenv floor SIZE_OR_DIR`: the least time and memory of a round, from sizes alone."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from duelenv.experiments.commands.printing import print_text
from duelenv.experiments.config.plain import number_in
from duelenv.ground import checks

if TYPE_CHECKING:
    from duelenv.experiments.sizing.floors import Floor

__all__ = ["add_parser"]

#: Options that may be lists.
_LISTS: Final = (
    *("prompts", "candidates", "prompt-tokens", "response-tokens"),
    *("gpus", "tensor", "trainers", "network"),
)


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    floor = commands.add_parser(
        "floor",
        help="the least time and memory that a round takes with a model and a card, from sizes alone",
        description="Computes from the sizes of a model and the speed of a card what one round takes at least, and "
        "what bounds it. Nothing is run. Sizes, counts and --network may be lists, such as 4,20,64: a row each.",
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
    from duelenv.experiments.sizing.floor_grid import grid_text
    from duelenv.experiments.sizing.floor_table import floor_text

    lists = {"size": [arguments.size] if Path(arguments.size).is_dir() else arguments.size.split(",")}
    for name in _LISTS:
        given = getattr(arguments, name.replace("-", "_"))
        lists[name] = [given] if given is None else given.split(",")
    chosen = [dict(zip(lists, words, strict=True)) for words in itertools.product(*lists.values())]
    rows = [(words, _floor_of(arguments, words)) for words in chosen]
    print_text(floor_text(rows[0][1]) if len(rows) == 1 else grid_text(rows))
    return 0


def _floor_of(arguments: argparse.Namespace, words: Mapping[str, Any]) -> Floor:
    from duelenv.experiments.sizing.floors import AGENTS, Round, floor_of
    from duelenv.experiments.sizing.machines import NODE, Machine, card_named
    from duelenv.experiments.sizing.shapes import shape_named

    def count(name: str, word: str, high: int | None = None) -> int:
        return checks.integer(f"--{name}", number_in(word), low=1, high=high)

    sizes = ("prompts", "candidates", "prompt-tokens", "response-tokens")
    work = Round(
        **{name.replace("-", "_"): count(name, words[name]) for name in sizes},
        agent=checks.one_of("--agent", arguments.agent, AGENTS),
        lora=None if arguments.lora is None else count("lora", arguments.lora),
        share_training=arguments.share_training,
        checkpointing=arguments.checkpointing,
    )
    network = 1e9 * checks.number("--network", number_in(words["network"]), above=0.0)
    card, tensor = card_named(arguments.card), count("tensor", words["tensor"], NODE)
    machine = Machine(card, count("gpus", words["gpus"]), tensor, network, arguments.published)
    trainers = None
    if words["trainers"] is not None:
        trainers = Machine(card, count("trainers", words["trainers"]), 1, network, arguments.published)
    return floor_of(shape_named(words["size"]), work, machine, trainers)
