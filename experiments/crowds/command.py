"""`duelenv aggregate`: several annotators' labels of a pair made into one, and what each annotator is worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from duelenv.ground.terminal import printable

__all__ = ["add_parser"]

#: Annotators that are printed; all are in the file of abilities.
_SHOWN = 40


def add_parser(commands: Any) -> None:
    """Add the command's parser.

    Args:
        commands: Of the `duelenv` command.
    """
    parser = commands.add_parser(
        "aggregate",
        help="several annotators' labels of a pair made into one, with the ability of each annotator",
        description="Reads TABLE with the columns prompt, first, second, annotator and label (1, 0, 0.5 a tie, empty "
        "where skipped), and writes one label a pair.",
    )
    parser.add_argument("table", metavar="TABLE", help=".parquet, .jsonl, .csv and what else 'duelenv pairs' reads")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="pairs: .parquet, .jsonl or .csv")
    parser.add_argument("--abilities", metavar="FILE", type=Path, help="annotators, their labels and their ability")
    parser.add_argument(
        "--method", metavar="NAME", default="dawid_skene", help="majority, dawid_skene (default), one_coin or glad"
    )
    parser.set_defaults(run=_aggregate)


def _aggregate(arguments: argparse.Namespace) -> int:
    import pyarrow as pa

    from duelenv.data.aggregation import aggregate
    from duelenv.experiments.results.labels import write_table

    found = aggregate(arguments.table, arguments.method)
    write_table(pa.table(dict(found.pairs)), arguments.out)
    if arguments.abilities is not None:
        write_table(pa.table(dict(found.annotators)), arguments.abilities)
    labels = sum(found.annotators["labels"])
    ties = sum(label == 0.5 for label in found.pairs["label"])
    skipped = f", {found.skipped:,} rows skipped" if found.skipped else ""
    print(f"{labels:,} labels of {len(found.pairs['label']):,} pairs, {ties:,} of them ties{skipped}\n")
    people = sorted(zip(*found.annotators.values(), strict=True), key=lambda row: -row[2])
    names = [printable(row[0]) for row in people[:_SHOWN]]
    width = max(len("annotator"), *map(len, names))
    print(f"{'annotator'.ljust(width)}  labels  ability")
    for name, (_, count, ability) in zip(names, people, strict=False):
        print(f"{name.ljust(width)}  {count:>6,}  {ability:>7.3f}")
    if len(people) > _SHOWN:
        print(f"and {len(people) - _SHOWN} more")
    print(f"\npairs    {printable(str(arguments.out))}")
    return 0
