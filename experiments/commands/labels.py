"""`duelenv labels RUN_DIR`: counts, prints, exports and takes in what a run asked and was told."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.labels.ledger import Counts

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    labels = commands.add_parser(
        "labels",
        help="what a run asked and was told; exports labels and takes in others",
        description="Counts what the ledgers of RUN_DIR hold, finished or not, and prints its last duels.",
    )
    labels.add_argument("directory", metavar="RUN_DIR", type=Path)
    labels.add_argument("--agent", metavar="LABEL", help="only of this agent")
    labels.add_argument("--seed", metavar="N", type=int, help="only of this seed")
    labels.add_argument("--last", metavar="N", type=int, default=3, help="duels to print (default: 3)")
    labels.add_argument("--export", metavar="FILE", type=Path, help="write the duels to .parquet, .jsonl or .csv")
    labels.add_argument(
        "--pairs", action="store_true", help="export prompt, chosen, rejected, margin and tie instead of duels"
    )
    labels.add_argument(
        "--trl",
        action="store_true",
        help="export prompt, chosen and rejected alone, without ties, as TRL's trainers read them",
    )
    labels.add_argument(
        "--import",
        metavar="FILE",
        type=Path,
        dest="taken",
        help="take in answers: an export gives back what was asked, other labels answer open questions of equal texts",
    )
    labels.set_defaults(run=_labels)


def _labels(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.results import labels

    config, folder = open_run(arguments.directory), RunFolder(arguments.directory)
    for form in ("pairs", "trl"):
        if getattr(arguments, form) and arguments.export is None:
            raise UserError(f"'--{form}' says what is exported: name the file with --export FILE")
    if arguments.pairs and arguments.trl:
        raise UserError("'--pairs' and '--trl' are two forms of an export: leave one of them out")
    if arguments.taken is not None:
        from duelenv.experiments.running.answers import take_in

        taken = take_in(folder, config, arguments.taken)
        waiting = f" ({taken.waiting:,} of them wait for their question)" if taken.waiting else ""
        print(
            f"{taken.new:,} answers taken in{waiting}, {taken.known:,} known before, {taken.strange:,} to no question "
            "here"
        )
        if taken.too_late:
            print(f"finished cells among theirs: {taken.too_late}, whose agents are not told of them any more")
    found = labels.counts_by_cell(folder, config)
    if not found:
        raise UserError(f"{str(arguments.directory)!r} has no ledger: {_why_no_ledger(folder, config)}")
    width = max(len("all"), *map(len, found))
    titles = ("asked", "answered", "open", "superseded", "evaluation", "asked again")
    print("cell".ljust(width) + "".join(title.rjust(13) for title in titles))
    lines = {printable(name): _numbers(held) for name, held in found.items()}
    for name, numbers in {**lines, "all": [sum(column) for column in zip(*lines.values(), strict=True)]}.items():
        print(name.ljust(width) + "".join(f"{number:13,}" for number in numbers))
    if arguments.export is None and arguments.last < 1:
        return 0
    table = labels.table_of(folder, config, arguments.agent, arguments.seed)
    for row in table.slice(max(0, len(table) - max(arguments.last, 0))).to_pylist():
        print(f"\n{printable(row['agent'])}, seed {row['seed']}, step {row['step']}, row {row['row']}")
        for name in ("prompt", "first", "second"):
            if row[name] is not None:
                print(f"  {name:<7}{printable(row[name])}")
        said = "" if row["win"] is None else f" (the source said {row['win']:.3g}, tie {row['tie']:.3g})"
        print(f"  {'label':<7}{'none' if row['label'] is None else format(row['label'], 'g')}{said}")
    if arguments.export is not None:
        written = table
        if arguments.pairs:
            written = labels.preferences_of(table)
        elif arguments.trl:
            chat = config.policy is not None and bool(config.policy.settings.get("chat_template", False))
            written = labels.trl_preferences_of(table, chat=chat)
        labels.write_table(written, arguments.export)
        print(f"\n{len(written):,} rows written to {printable(str(arguments.export))}")
    return 0


def _why_no_ledger(folder: RunFolder, config: RunConfig) -> str:
    from duelenv.experiments.config.cell import cells
    from duelenv.experiments.config.identity import is_of_version_0_1

    if is_of_version_0_1(folder):
        return "version 0.1 wrote it, which kept none"
    if not any(folder.cell(cell.name).owner.is_file() for cell in cells(config)):
        return f"its cells are not in {str(folder.cells)!r}: nothing was played yet, or they were removed"
    return "its world knows every answer, and label_log is off"


def _numbers(held: Counts) -> list[int]:
    return [
        held.asked,
        held.answered,
        held.asked - held.answered,
        held.superseded,
        held.evaluations,
        held.asked_again,
    ]
