"""The `duelenv` command: parses and prints, no more.

Whatever goes wrong is one sentence. Exit codes: 0; 1 where code that the run calls has failed; 2 for a user's mistake
and for what the disk refuses; 3 where the labels or the money of the whole run are spent; 130 for Ctrl-C, 143 for
SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from duelenv.experiments.commands import (
    bench,
    export,
    floor,
    judging,
    labels,
    listing,
    pairs,
    report,
    run,
    schema,
    show,
)
from duelenv.experiments.commands.parsing import Parser
from duelenv.experiments.crowds import command as crowds
from duelenv.experiments.labelling import command as labelling
from duelenv.experiments.leaderboard import command as leaderboard
from duelenv.experiments.offline import command as offline
from duelenv.experiments.serving import command as serving
from duelenv.experiments.sweeps import command as sweeps
from duelenv.experiments.watching import command as watching
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable, warn_printably

__all__ = ["command", "main", "make_parser", "read_arguments"]

#: Of what raises no other, and of Ctrl-C outside a run.
_MISTAKE, _INTERRUPTED = 2, 130

#: The commands, in the order of the help.
_COMMANDS = (
    listing,
    run,
    report,
    labels,
    export,
    labelling,
    pairs,
    offline,
    floor,
    leaderboard,
    serving,
    watching,
    show,
    schema,
    judging,
    bench,
    crowds,
    sweeps,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process if absent.

    Returns:
        Exit code, see above.
    """
    arguments = read_arguments(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        return _say(str(error) or "Interrupted.", getattr(error, "exit_code", _INTERRUPTED))
    except OSError as error:
        return _say(f"the system refuses ({error}): correct that and run the same command again")
    except Exception as error:
        if not hasattr(error, "exit_code") and not isinstance(error, UserError):
            raise  # a mistake of ours; `command` prints its traceback
        return _say(str(error), getattr(error, "exit_code", _MISTAKE))


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; a mistake in it ends the process with one sentence.

    Args:
        argv: As of `main`.
    """
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no more positional arguments after an option: `run demo --jobs 2 seeds=4`.
    several = next((name for name in ("overrides", "names") if hasattr(arguments, name)), None)
    if rest and (several is None or any(word.startswith("-") for word in rest)):
        parser.refuse(arguments.command, rest)
    if rest and several is not None:
        setattr(arguments, several, [*getattr(arguments, several), *rest])
    return arguments


def _say(text: str, code: int = _MISTAKE) -> int:
    """Say in one line what went wrong, and return the exit code."""
    print(f"duelenv: {printable(' '.join(text.split()))}", file=sys.stderr)
    return code


def make_parser() -> Parser:
    """Find the parser of all commands."""
    parser = Parser(
        prog="duelenv",
        description="Language-model alignment as a contextual dueling bandit: run, compare and look.",
    )
    parser.add_argument("--version", action="version", version=f"duelenv {importlib.metadata.version('duelenv')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def command() -> NoReturn:
    """Run the command as a process: nothing keeps it from ending once a signal has told it to."""
    warn_printably()
    try:
        code = main()
    except Exception:
        print(printable(traceback.format_exc(), newlines=True), end="", file=sys.stderr)
        code = 1
    if code >= 128:
        from duelenv.experiments.running.processes import leave_in_time

        leave_in_time(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
