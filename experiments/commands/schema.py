"""`duelenv schema > duelenv.schema.json`: what an editor needs to complete and check configs, sweeps and studies."""

from __future__ import annotations

import argparse
import json
from typing import Any

__all__ = ["add_parser", "file_schema"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    schema = commands.add_parser(
        "schema",
        help="a JSON schema of configs, sweeps and studies, for editors",
        description="Prints it. Save it beside a config that begins with "
        "'# yaml-language-server: $schema=duelenv.schema.json'.",
    )
    schema.set_defaults(run=_schema)


def file_schema() -> dict[str, Any]:
    """Write the schema of every file that `duelenv run` and `duelenv sweep` take, a study where it has that key.

    Raises:
        UserError: pydantic is not installed.
    """
    from duelenv.experiments.config.schema import config_schema
    from duelenv.experiments.efficiency.schema import study_schema
    from duelenv.experiments.sweeps.schema import sweep_schema

    run = config_schema()
    run["properties"]["sweep"] = sweep_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of duelenv run or duelenv sweep, or a study",
        "type": "object",
        "if": {"required": ["study"]},
        "then": study_schema(),
        "else": run,
    }


def _schema(arguments: argparse.Namespace) -> int:
    print(json.dumps(file_schema(), indent=2, ensure_ascii=False))
    return 0
