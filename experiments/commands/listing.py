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
    listing = commands.add_parser("list", help="agents, oracles, worlds and suites")
    listing.set_defaults(run=_list)


def _list(arguments: argparse.Namespace) -> int:
    import duelenv
    from duelenv import agents, oracles
    from duelenv.experiments import trackers
    from duelenv.labels import stage_names
    from duelenv.oracles.links import LINKS
    from duelenv.oracles.matrices import MATRICES
    from duelenv.oracles.utilities import UTILITIES

    sections = {
        "agents": sorted(agents.names()),
        "oracles": sorted(oracles.names()),
        "worlds": list(duelenv.WORLDS),
        "stages of labels (env.stages)": stage_names(),
        "matrices (env.matrix)": sorted(MATRICES),
        "utilities of features (env.utility)": sorted(UTILITIES),
        "links (env.link)": sorted(LINKS),
        "trackers": trackers.names(),
        "suites": [f"{name}  ({_about(path)})" for name, path in suites().items()],
    }
    for title, names in sections.items():
        print(title)
        for name in names:
            print(f"  {printable(name)}")
    return 0


def _about(path: Path) -> str:
    """Find the first sentence of a suite's leading comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").rstrip(".;:, ") if first.startswith("#") else "no description"
