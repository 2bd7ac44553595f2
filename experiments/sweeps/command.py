"""`duelenv sweep`: plays the trials that a config's section `sweep` asks for, and says which setting was best."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from duelenv.ground.terminal import printable

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser.

    Args:
        commands: Of the `duelenv` command.
    """
    parser = commands.add_parser(
        "sweep",
        help="grid or random search over settings, also by halving, with a budget in labels; the same command goes on",
        description="Plays the trials that the section 'sweep' of CONFIG describes, prints them and the best of them, "
        "and plays that one on seeds that chose nothing.",
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file with a section 'sweep'")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings, such as sweep.labels=20000 seeds=8"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="folder of the runs (default: runs/NAME-sweep)")
    parser.add_argument(
        "--dry",
        action="store_true",
        help="say which cells it will play, what they ask and how long they take, by a short probe; write nothing",
    )
    parser.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.loading import read_sweep_file
    from duelenv.experiments.folder import files
    from duelenv.experiments.sweeps.plan import read_sweep
    from duelenv.experiments.sweeps.sweep import play

    base, section = read_sweep_file(arguments.config, arguments.overrides)
    sweep = read_sweep(base, section)
    if arguments.dry:
        from duelenv.experiments.sweeps.dry import dry_text

        print(printable(dry_text(sweep), newlines=True))
        return 0
    root = arguments.output or Path("runs") / f"{sweep.config.name}-sweep"
    trials, metric, best, confirmed = play(sweep, root)
    text = _text(trials, metric, best, confirmed, sweep)
    files.write_text(root / "sweep.txt", text + "\n")
    print(printable(text, newlines=True))
    return 0


def _text(trials: Sequence[Any], metric: str, best: Any, confirmed: Any, sweep: Any) -> str:
    from duelenv.experiments.tables.text_table import difference_text, value_text

    names = list(best.settings)
    halved = sweep.halving is not None
    rows = [["trial", *names, *(["rungs"] if halved else []), metric]]
    for one in trials:
        settings = [_short(one.settings[name]) for name in names]
        rows.append([str(one.number), *settings, *([str(one.rungs)] if halved else []), value_text(one.value)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [
        "",
        f"best     {_overrides(best.settings)}  (trial {best.number} of {len(trials)}, "
        f"{len(sweep.config.seeds)} seeds)",
    ]
    if confirmed is None:
        lines.append(
            "The best of many is better than it will be again: do not report its figure above. 'sweep.confirm=N' plays "
            "it on N seeds that chose nothing."
        )
    else:
        first, last = confirmed.seeds
        lines += [
            f"confirmed on seeds {first} to {last}, none of which chose: {value_text(confirmed.best)}; as it was "
            f"{value_text(confirmed.before)}; difference {difference_text(confirmed.difference)}",
            "Report these figures, not those of the trials, of which the best is better than it will be again.",
        ]
    return "\n".join(lines)


def _overrides(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
