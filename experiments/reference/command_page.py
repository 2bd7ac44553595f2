"""The page of the command line, from its parsers."""

from __future__ import annotations

import argparse
import re

from duelenv.experiments.commands.cli import make_parser
from duelenv.experiments.reference.markdown import cell, code, table

__all__ = ["command_page", "parsers"]

_INTRODUCTION = """# Command line

`duelenv COMMAND --help` says the same in a terminal. `key=value` changes a setting of a config, such as
`seeds=4 env.dim=20`; values are read as YAML, so lists and mappings need quotes: `'agents=[passive, real]'`.
A mistake is one sentence and exit code 2; the other codes are in [Runs](../runs.md#stopping-and-going-on).
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Find the parser of each command, by name, in the order of `duelenv --help`."""
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise LookupError("the parser has no commands")


def command_page() -> str:
    """Write all commands with what they take."""
    about = {}
    for action in make_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
    parts = [_INTRODUCTION]
    parts.append(table(["command", "what it does"], [[f"[`{n}`](#{_anchor(n)})", cell(t)] for n, t in about.items()]))
    for name, parser in parsers().items():
        parts.append(f"## duelenv {name}\n")
        parts.append(f"```text\n{_usage(parser)}\n```\n")
        parts.append(f"{_sentence(parser.description or about[name])}\n")
        arguments = [one for one in parser._actions if not isinstance(one, argparse._HelpAction)]
        parts.append(table(["argument", "meaning"], [_row(parser, one) for one in arguments]))
    return "\n".join(parts)


def _anchor(name: str) -> str:
    return f"duelenv-{name}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith(".") else f"{text[0].upper()}{text[1:]}."


def _usage(parser: argparse.ArgumentParser) -> str:
    """Find the usage on as many lines as fit 100 characters, whatever the terminal."""
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    formatter.add_usage(None, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return re.sub(r" ?\[-h\]", "", formatter.format_help()).strip()


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    meant = formatter._expand_help(action) if action.help else ""
    if not action.option_strings:
        return [code(action.metavar if isinstance(action.metavar, str) else action.dest), cell(meant)]
    value = "" if action.nargs == 0 else formatter._format_args(action, (action.dest or "").upper())
    return [code(f"{', '.join(action.option_strings)} {value}".strip()), cell(meant)]
