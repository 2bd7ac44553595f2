"""`duelenv schema > duelenv.schema.json`: what an editor needs to complete and check configs."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    schema = commands.add_parser(
        "schema",
        help="a JSON schema of configs, for editors",
        description="Prints it. Save it beside a config that begins with "
        "'# yaml-language-server: $schema=duelenv.schema.json'.",
    )
    schema.set_defaults(run=_schema)


def _schema(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.schema import schema_text

    print(schema_text())
    return 0
