"""Which settings of a config are paths, and where the relative ones start from. Opens no files.

A path written in a config file starts from the file's folder, one written on the command line from the current one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from duelenv.experiments.config.contents import function_named, functions_named
from duelenv.experiments.config.pools import named_pools
from duelenv.experiments.config.settings import is_word, spell_out_source

__all__ = ["ARRAY_FILES", "anchor_paths"]

#: Settings of worlds that may name a file with an array, and what such a file's name ends in.
_ARRAY_SETTINGS = ("matrix", "features")
ARRAY_FILES = (".npy", ".csv")


def anchor_paths(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the relative paths of a parsed config absolute.

    Whatever is not written as a path is left as it is, for the checks of `RunConfig` to refuse.

    Args:
        raw: Parsed YAML.
        folder: Directory that relative paths start from.
    """
    anchored = dict(raw)
    env, modules = raw.get("env"), raw.get("modules")
    for key in ("data", "labels"):
        if key in raw:
            anchored[key] = _anchored_table(raw[key], folder)
    if "data" in raw and named_pools(raw["data"]) is not None:
        anchored["data"] = _anchored_pools(raw["data"], folder)
    if isinstance(env, Mapping):
        anchored["env"] = _anchored_world(env, folder)
    for key, inner in (("variants", None), ("agents", "env")):
        if isinstance(raw.get(key), Mapping):
            anchored[key] = {name: _anchored_part(value, inner, folder) for name, value in raw[key].items()}
    if isinstance(modules, str):
        anchored["modules"] = _anchored_module(modules, folder)
    elif isinstance(modules, list | tuple):
        anchored["modules"] = [_anchored_module(name, folder) for name in modules]
    for key in ("policy", "prompts"):
        if key in raw:
            # A policy that is no file here may be a name on the Hugging Face hub; whoever loads it says if it is not.
            anchored[key] = _anchored_source(raw[key], folder, hub=key == "policy")
    for key in ("oracle", "evaluation_oracle"):
        if key in raw:
            # As a policy's, its path may be a name on the hub.
            anchored[key] = _anchored_existing(raw[key], folder)
    return anchored


def _is_path(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _absolute(folder: Path, path: str) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def _anchored_table(table: object, folder: Path) -> object:
    if _is_path(table):
        return _absolute(folder, table)
    if isinstance(table, Mapping) and _is_path(table.get("path")):
        return {**table, "path": _absolute(folder, table["path"])}
    return table


def _anchored_existing(section: object, folder: Path) -> object:
    """Make a section's path absolute where there is something."""
    if not isinstance(section, Mapping) or not _is_path(path := section.get("path")):
        return section
    there = (folder / Path(path).expanduser()).exists()
    return {**section, "path": _absolute(folder, path)} if there else section


def _anchored_pools(pools: Any, folder: Path) -> object:
    if isinstance(pools, Mapping):
        return {name: _anchored_table(table, folder) for name, table in pools.items()}
    return [_anchored_table(table, folder) for table in pools]


def _anchored_part(part: object, inner: str | None, folder: Path) -> object:
    """Anchor the settings of the world in one of the variants, or of an agent under `env`."""
    if not isinstance(part, Mapping):
        return part
    if inner is None:
        return _anchored_world(part, folder)
    return {**part, inner: _anchored_world(part[inner], folder)} if isinstance(part.get(inner), Mapping) else part


def _anchored_world(settings: Mapping[Any, Any], folder: Path) -> dict[Any, Any]:
    anchored = {key: _anchored_array(key, value, folder) for key, value in settings.items()}
    tables = {key: _anchored_table(anchored[key], folder) for key in ("data", "recorded") if key in anchored}
    return {**anchored, **tables}


def _anchored_array(key: str, value: object, folder: Path) -> object:
    if isinstance(value, list) and functions_named(key, value):
        return [_anchored_array(key, item, folder) for item in value]
    function = function_named(key, value)
    if function is not None:
        module, name = function
        return f"{_anchored_module(module, folder)}:{name}"
    named = key in _ARRAY_SETTINGS and isinstance(value, str) and value.endswith(ARRAY_FILES)
    return _absolute(folder, str(value)) if named else value


def _anchored_module(name: object, folder: Path) -> object:
    """Anchor paths of Python files; dotted names stay."""
    return _absolute(folder, name) if isinstance(name, str) and name.endswith(".py") else name


def _anchored_source(section: object, folder: Path, *, hub: bool) -> object:
    """Anchor `{path: ..., ...}`, the path alone, or `{path: {path: ..., ...}}` as `RunConfig.to_dict` writes it.

    Where nothing lies there, a word stays, which may be a slip of the pen, and whatever may be a name on a hub.
    """
    if _is_path(section):
        section = spell_out_source(section)
    if not isinstance(section, Mapping) or "path" not in section:
        return section
    path = section["path"]
    if isinstance(path, Mapping):
        return {**section, "path": _anchored_source(path, folder, hub=hub)}
    if not _is_path(path) or ((hub or is_word(path)) and not (folder / Path(path).expanduser()).exists()):
        return section
    return {**section, "path": _absolute(folder, path)}
