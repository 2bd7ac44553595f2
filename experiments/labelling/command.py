"""`duelenv label`: parses, opens the desk, and serves the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duelenv.experiments.config.plain import number_in
from duelenv.ground import checks
from duelenv.ground.addresses import is_loopback
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.oracles.services.secrets import Secret, read_secret

if TYPE_CHECKING:
    from duelenv.oracles.people.desk import Desk

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        "label",
        help="open a page on which people compare responses of a table, or answer the questions of a run",
        description="Serves a page on this machine: for a table with two responses a row or several to a prompt, for "
        "the folder of a run whose oracle is 'people', or for a desk (.sqlite). Every answer is on the disk before the "
        "page goes on; the same command goes on where it was left.",
    )
    parser.add_argument("target", metavar="TABLE_OR_RUN_OR_DESK")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[],
        help="columns of a table, such as prompt=question first=answer_x second=answer_y, or response=text",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FILE", type=Path,
        help=".jsonl, .parquet or .csv with the labels of a table, written when the page is closed; the answers "
        "themselves lie beside it in FILE's name with .sqlite (default: TABLE.labels.jsonl)",
    )  # fmt: skip
    parser.add_argument("--export", metavar="FILE", type=Path, help="write the labels so far, and open no page")
    parser.add_argument("--each", action="store_true", help="export every answer, not one label a pair")
    parser.add_argument("--format", metavar="text|markdown", default="text", help="how texts are shown (default: text)")
    parser.add_argument("--strength", action="store_true", help="ask how much better one is, clearly or slightly")
    parser.add_argument(
        "--overlap", metavar="N", help="of a table: pairs that several people label, a share below 1 or a number"
    )
    parser.add_argument("--raters", metavar="N", help="of a table: how many people label one of these (default: 2)")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="(default: 127.0.0.1)")
    parser.add_argument("--port", metavar="N", default="8765", help="0 for any that is free (default: 8765)")
    parser.add_argument(
        "--token", metavar="env:NAME|file:PATH", help="where the token stands that lets in; needed beyond this machine"
    )
    parser.set_defaults(run=_label)


def _label(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.labelling.rendering import FORMATS

    port = checks.integer("--port", number_in(arguments.port), low=0, high=65_535)
    look = checks.one_of("--format", arguments.format, FORMATS)
    token = _token(arguments.token)
    if token is None and not is_loopback(arguments.host):
        raise UserError(
            f"--host {arguments.host!r} opens the page to other machines; give a token with --token env:NAME or "
            "--token file:PATH, or leave --host out"
        )
    desk, output = _desk(arguments)
    if arguments.export is not None:
        _export(desk, arguments.export, arguments.each)
        return 0
    try:
        from duelenv.experiments.labelling.app import Look, make_app
        from duelenv.experiments.labelling.serving import serve
    except ImportError as error:
        raise UserError(
            f"the page needs a package that is missing ({error.name}); pip install 'duelenv[web]'"
        ) from error

    app = make_app(
        desk,
        Look(Path(arguments.target).name or arguments.target, look, arguments.strength, output is None, token),  # type: ignore[arg-type]
    )

    def say(url: str) -> None:
        print(f"page     {url}\nanswers  {printable(str(desk.store.path))}\nCtrl-C closes the page.", flush=True)

    serve(app, arguments.host, port, say)
    if output is not None:
        from duelenv.oracles.people.figures import said

        if said(desk):
            _export(desk, output, arguments.each)
    return 0


def _export(desk: Desk, path: Path, each: bool) -> None:
    from duelenv.experiments.labelling.export import export

    count = export(desk, path, each=each)
    print(f"labels   {printable(str(path))} ({count:,} rows)")


def _desk(arguments: argparse.Namespace) -> tuple[Desk, Path | None]:
    """Make the desk, and find where its labels go when the page is closed; None for one that a run collects from."""
    target = Path(arguments.target)
    a_desk = target.suffix == ".sqlite"
    if target.is_dir() or a_desk:
        for option in ("output", "overlap", "raters"):
            if getattr(arguments, option) is not None:
                raise UserError(f"--{option} is for tables; a run has its own settings under 'oracle' in its config")
        if arguments.overrides:
            which = "a desk" if a_desk else "a run"
            raise UserError(f"{arguments.overrides[0]!r} names a column of a table, and {str(target)!r} is {which}")
        if not a_desk:
            return _desk_of_run(target), None
        from duelenv.oracles.people.desk import Desk

        # One that is not there yet is made: whoever asks may begin later.
        return Desk(target), None
    if not target.exists():
        raise UserError(f"there is no {str(target)!r}, expected a table or the folder of a run")
    return _desk_of_table(target, arguments)


def _desk_of_run(target: Path) -> Desk:
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.folder.layout import RunFolder
    from duelenv.oracles.people.desk import Desk
    from duelenv.oracles.people.source import FILE

    oracle = open_run(target).oracle
    if oracle is None or oracle.name != "people":
        raise UserError(
            f"the run {str(target)!r} asks {'nobody' if oracle is None else repr(oracle.name)}, expected the oracle "
            "'people'; set oracle: {name: people} in its config"
        )
    return Desk(Path(oracle.settings.get("desk") or RunFolder(target).home / FILE))


def _desk_of_table(table: Path, arguments: argparse.Namespace) -> tuple[Desk, Path]:
    from duelenv.experiments.labelling.reading import read_questions
    from duelenv.oracles.people.desk import Desk, Overlap

    output = arguments.output or table.with_name(f"{table.name.partition('.')[0]}.labels.jsonl")
    if output.suffix not in (".jsonl", ".parquet", ".csv"):
        raise UserError(f"--output is {str(output)!r}, expected a name that ends in .jsonl, .parquet or .csv")
    columns = {}
    for override in arguments.overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"{override!r} is no setting, expected key=value, such as prompt=question")
        columns[key] = value
    found = read_questions(table, **columns)
    for note in found.notes:
        print(f"duelenv: {printable(str(table))}: {printable(note)}", file=sys.stderr)
    desk = Desk(output.with_suffix(".sqlite"))
    raters = checks.integer("--raters", number_in(arguments.raters or "2"), low=2)
    overlap = checks.number("--overlap", number_in(arguments.overlap or "0"), low=0.0)
    if overlap >= 1.0:
        count = checks.integer("--overlap", number_in(arguments.overlap), low=1)
        overlap = desk.share_of(count, [request.id for request in found.requests])
    desk.overlap = Overlap(overlap, raters)
    desk.put(found.requests, alone=True)
    return desk, output


def _token(place: str | None) -> Secret | None:
    if place is None:
        return None
    kind, colon, where = place.partition(":")
    if not colon or kind not in ("env", "file"):
        raise UserError("--token is not a place, expected env:NAME or file:PATH, where the token stands")
    return read_secret("--token", {kind: where})
