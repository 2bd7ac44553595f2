"""`duelenv list`: the names that a config may use."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.experiments.config.loading import suites
from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    listing = commands.add_parser("list", help="parts of every kind by name, and suites")
    listing.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.kinds import KINDS

    sections = {
        kind.title if kind.where == kind.title else f"{kind.title} ({kind.where})": kind.registry.known()
        for kind in KINDS
    }
    sections["suites"] = tuple(f"{name}  ({_about(path)})" for name, path in suites().items())
    for title, names in sections.items():
        print(title)
        for name in names:
            print(f"  {printable(name)}")
    return 0


def _about(path: Path) -> str:
    """Find the first sentence of a suite's leading comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").rstrip(".;:, ") if first.startswith("#") else "no description"
