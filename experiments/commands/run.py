"""`duelenv run CONFIG`: plays a config, or a study of many, and writes its report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duelenv.experiments.commands.printing import print_provenance, print_tables, print_text
from duelenv.experiments.config.loading import load, parse_yaml, read_study_file
from duelenv.experiments.config.run_config import EXECUTION_KEYS, RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.spending import spending_of
from duelenv.ground import checks
from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    run = commands.add_parser(
        "run",
        help="run a config and write a report; the same command continues an interrupted run",
        description="Runs CONFIG, a YAML file or the name of a suite, and writes results, figures and report.html.",
    )
    run.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a suite (see 'duelenv list')")
    run.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="settings, such as seeds=4 env.horizon=20 data=FILE",
    )
    run.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="run directory (default: runs/NAME; runs/NAME-HASH where key=value changes what is computed)",
    )
    run.add_argument(
        "--answers",
        metavar="RUN_DIR_OR_FILE",
        type=Path,
        help="begin with the answers of another run, or of an export of its labels: they are not asked again",
    )
    run.add_argument(
        "--dry",
        action="store_true",
        help="say what it will ask, cost and take in memory, disk and time, by a short probe; ask and write nothing",
    )
    run.add_argument("--jobs", metavar="N", help="cells that run at the same time (default: one per core)")
    run.add_argument(
        "--only", metavar="CELL", action="append", help="play this cell alone, named as its folder; may come again"
    )
    run.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    study = read_study_file(arguments.config)
    if study is not None:
        from duelenv.experiments.efficiency.command import run_study

        jobs = None if arguments.jobs is None else checks.integer("'jobs'", parse_yaml(arguments.jobs), low=1)
        print_text(run_study(study, arguments.overrides, arguments.output, jobs=jobs, dry=arguments.dry))
        return 0
    overrides = list(arguments.overrides)
    if arguments.jobs is not None:
        overrides.append(f"jobs={arguments.jobs}")
    config = load(arguments.config, overrides)
    directory = arguments.output or _default_directory(config, arguments.config, arguments.overrides)
    if arguments.dry:
        from duelenv.experiments.running.forecast import dry_run

        print_text(dry_run(config, directory))
        return 0
    from duelenv.experiments.report.page import write_report
    from duelenv.experiments.results.measurements import Results
    from duelenv.experiments.running.runner import run

    run(config, directory, only=arguments.only, answers=arguments.answers)
    page = write_report(directory)
    results = Results(directory)
    print_tables(results)
    print_provenance(results)
    spending = spending_of(RunFolder(directory), config)
    for kind, text in [] if spending is None else spending.lines():
        print(f"\nspent    {text} in {kind}", end="")
    print(f"\nreport   {printable(str(page))}")
    return 0


def _default_directory(config: RunConfig, source: str, overrides: Sequence[str]) -> Path:
    """Name `runs/NAME`, or for a run with overrides a directory of its own that the same command finds again."""
    execution = tuple(f"{key}{end}" for key in EXECUTION_KEYS for end in "=.")
    plain = all(override.startswith(execution) for override in overrides)
    return Path("runs") / (config.name if plain else f"{config.name}-{config.identity()[:8]}")
