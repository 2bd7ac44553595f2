"""Arguments of the command line: argparse, with the nearest name in the sentence about one that is unknown."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, NoReturn

from duelenv.ground.checks import choices

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser that says what was probably meant, of commands, options and choices."""

    def refuse(self, command: str, words: Sequence[str]) -> NoReturn:
        """End the process because of words that a command does not take.

        Args:
            command: Its name.
            words: What is left of the arguments.
        """
        parser = self._parser_of(command)
        unknown = next((word for word in words if word.startswith("-")), None)
        if unknown is None:
            parser.error(f"too many arguments: {' '.join(words)}")
        options = [name for name in parser._option_string_actions if name.startswith("--")]
        option, given, value = unknown.partition("=")
        key = option.lstrip("-").replace("-", "_")
        takes_settings = any(action.metavar == "key=value" for action in parser._actions)
        value = value if given else next(iter(words[words.index(unknown) + 1 :]), "VALUE")
        if takes_settings and _is_setting(key):
            parser.error(f"unknown option {unknown!r}: {key!r} is a setting, write {key}={value}")
        setting = f"; a setting is written without dashes, {key}={value}" if takes_settings else ""
        parser.error(f"unknown option {unknown!r}: {choices(option, options)}{setting}")

    def _parser_of(self, command: str) -> argparse.ArgumentParser:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen: argparse.ArgumentParser = action.choices[command]
                return chosen
        raise LookupError("the parser has no commands")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = "command" if isinstance(action, argparse._SubParsersAction) else "value"
            raise argparse.ArgumentError(None, f"unknown {what} {value!r}: {choices(value, action.choices)}")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError:
            expected = {int: "a whole number", float: "a number"}.get(action.type)  # type: ignore[call-overload]
            if expected is None:
                raise
            name = "/".join(action.option_strings) or action.metavar
            raise argparse.ArgumentError(None, f"{name} is {text!r}, expected {expected}") from None


def _is_setting(key: str) -> bool:
    """Tell whether a word is a key of configs, or one inside such a key by dots."""
    from duelenv.experiments.config.run_config import SHORTHANDS, RunConfig

    return key.partition(".")[0] in {*(item.name for item in dataclasses.fields(RunConfig)), *SHORTHANDS}
