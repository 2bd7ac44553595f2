"""`duelenv export RUN_DIR AGENT SEED DIR`: the model that a cell trained, as a folder of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    export = commands.add_parser(
        "export",
        help="the model that an agent trained in a run, as a folder that transformers loads",
        description="Copies the model of a finished cell, with tokenizer, generation config and model card.",
    )
    export.add_argument("directory", metavar="RUN_DIR", type=Path)
    export.add_argument("agent", metavar="AGENT", help="its label in the run")
    export.add_argument("seed", metavar="SEED", type=int)
    export.add_argument("target", metavar="DIR", type=Path, help="made; must not exist, or be empty")
    export.add_argument("--merge", action="store_true", help="of an adapter: the base model with it merged in")
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.results.export import export_model

    export_model(arguments.directory, arguments.agent, arguments.seed, arguments.target, merge=arguments.merge)
    print(f"model   {printable(str(arguments.target))}")
    return 0
