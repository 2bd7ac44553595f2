"""`duelenv show WORLD_OR_CONFIG`: one duel of a world as text."""

from __future__ import annotations

import argparse
from typing import Any

from duelenv.experiments.commands.printing import print_text

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    show = commands.add_parser("show", help="print one duel of a world as text")
    show.add_argument(
        "target", metavar="WORLD_OR_CONFIG", help="such as FeatureDuel, mine/World-v0 with modules=FILE, or a config"
    )
    show.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings, such as seeds=4 num_candidates=5"
    )
    show.set_defaults(run=_show)


def _show(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.commands.shown_duel import show_config, show_duel

    print_text(show_duel(show_config(arguments.target, arguments.overrides)))
    return 0
