"""The page of configs: every key with type, default and meaning, from the schema and the dataclasses behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from duelenv.experiments.config.run_config import EXECUTION_KEYS, RunConfig
from duelenv.experiments.config.schema import config_schema
from duelenv.experiments.config.settings import BudgetConfig
from duelenv.experiments.reference.docstrings import settings_of
from duelenv.experiments.reference.markdown import cell, code, table

__all__ = ["config_page", "type_of"]

_INTRODUCTION = """# Config

A config is a YAML file that `duelenv run` plays. [Configs explained](../configs.md) goes through them one by one; this
page lists every key, and `duelenv schema` prints the same for editors. Names that a config may use, and what each of
them takes, are in [Parts](parts.md) and [Agents](agents.md).

Only `env` and `agents` are needed, and `name` where the file's own name will not do. Keys marked with * may change
between two starts of a run; any other change makes it another run.
"""

_SECTIONS: Final = {
    "budget": ("`budget`: a number of labels, or a mapping of these", BudgetConfig),
}


def config_page() -> str:
    """Write all keys of a config, and what stands inside those that are mappings."""
    schema = config_schema()
    defaults = {item.name: _default(item) for item in dataclasses.fields(RunConfig)}
    parts = [_INTRODUCTION, "## Keys\n"]
    rows = []
    for name, one in sorted(schema["properties"].items(), key=lambda item: item[0] not in ("env", "agents", "name")):
        mark = "*" if name in EXECUTION_KEYS else ""
        rows.append([code(name) + mark, cell(type_of(one)), defaults.get(name, ""), cell(one.get("description", ""))])
    parts.append(table(["key", "type", "default", "meaning"], rows))
    for name, (title, kind) in _SECTIONS.items():
        inside = schema["properties"][name]["anyOf"][1]["properties"]
        fields = {item.name: _default(item) for item in dataclasses.fields(kind)}
        parts.append(f"## {title}\n")
        rows = [[code(n), cell(type_of(one)), fields[n], cell(one["description"])] for n, one in inside.items()]
        parts.append(table(["key", "type", "default", "meaning"], rows))
    for title, (text, factory) in _sources().items():
        parts.append(f"## {title}\n\n{text}\n")
        rows = [[code(n), _shown(default), cell(meaning)] for n, default, meaning in settings_of(factory)]
        parts.append(table(["setting", "default", "meaning"], rows))
    return "\n".join(parts)


def _sources() -> Mapping[str, tuple[str, Callable[..., Any]]]:
    """Say what stands inside the keys whose settings belong to a function."""
    from duelenv.data.pairs import load_pairs
    from duelenv.data.responses import load_responses
    from duelenv.experiments.config.prompts import read_prompts
    from duelenv.policies.causal_lm import CausalLMPolicy
    from duelenv.policies.toy import toy_policy

    return {
        "`policy: {path: ...}`": (
            "A model of transformers; see [Models](../models.md).",
            CausalLMPolicy.from_pretrained,
        ),
        "`policy: {toy: ...}`": ("The toy policy, built on first use.", toy_policy),
        "`prompts: {path: ...}`": (
            "Prompts from a file. `prompts: {toy: {train, test, seed}}` are those of the toy policy, "
            "`prompts: {list: {train: [...], test: [...]}}` stand in the config itself.",
            read_prompts,
        ),
        "`data` of responses": (
            "A table with one response a row, or several in a list; [Tables](../tables.md) has the forms.",
            load_responses,
        ),
        "`data` of pairs, and `labels`": ("A table with two responses a row.", load_pairs),
    }


def type_of(schema: Mapping[str, Any]) -> str:
    """Put a JSON schema's type in words, such as "whole number / list of whole number / null"."""
    return " / ".join(dict.fromkeys(_types(schema)))


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    for one in schema.get("anyOf", ()):
        yield from _types(one)
    for value in schema.get("enum", ()):
        yield "null" if value is None else str(value)
    if "anyOf" in schema or "enum" in schema:
        return
    kinds = schema.get("type", "anything")
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        items = [*_types(schema.get("items") or {})] if kind == "array" else []
        yield f"list of {items[0]}" if len(items) == 1 and items != ["anything"] else _WORDS.get(kind, kind)


_WORDS: Final = {
    "integer": "whole number",
    "string": "text",
    "object": "mapping",
    "boolean": "true / false",
    "array": "list",
}


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is not dataclasses.MISSING:
        return _shown(repr(item.default))
    if item.default_factory is not dataclasses.MISSING:
        made = item.default_factory()
        return code(made.name) if hasattr(made, "name") else ""
    return ""


def _shown(default: str) -> str:
    """Write a default as YAML does."""
    plain = {"None": "null", "True": "true", "False": "false", "()": "[]", "(0,)": "[0]"}.get(default, default)
    return code(plain) if plain and plain != "<factory>" else ""
