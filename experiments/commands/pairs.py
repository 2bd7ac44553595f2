"""`duelenv pairs FILE`: what a table of preferences holds, and how well it can be predicted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.experiments.commands.printing import print_text

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    pairs = commands.add_parser(
        "pairs",
        help="what a table of preferences holds, how well it can be predicted, and what to do with it",
        description="Reads FILE, says how it was read, and how well the longer response, a belief and an oracle "
        "predict the pairs of prompts that are held out.",
    )
    pairs.add_argument("file", metavar="FILE", help="a table with two responses a row, or with ranked ones in a list")
    pairs.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="how to read it, such as prompt=question label=vote; test_share, limit; oracle=length oracle.path=DIR",
    )
    pairs.add_argument("--export", metavar="FILE", type=Path, help="write prompt, first, second and label")
    pairs.set_defaults(run=_pairs)


def _pairs(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.commands.pair_table import about_pairs
    from duelenv.experiments.config.loading import apply_override

    raw: dict[str, Any] = {"data": {}}
    for override in arguments.overrides:
        apply_override(raw, override if override.partition("=")[0].split(".")[0] == "oracle" else f"data.{override}")
    oracle = {"name": raw["oracle"]} if isinstance(raw.get("oracle"), str) else raw.get("oracle")
    print_text(about_pairs(arguments.file, oracle=oracle, export=arguments.export, **raw["data"]))
    return 0
