"""A YAML file, or a suite by its name, and `key=value` overrides become one `RunConfig`.

What a config may hold and how it is checked is in `duelenv.experiments.config.run_config`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from duelenv.experiments.config.paths import anchor_paths
from duelenv.experiments.config.places import misplaced
from duelenv.experiments.config.prompt_sources import PROMPT_SOURCES
from duelenv.experiments.config.run_config import SHORTHANDS, RunConfig
from duelenv.experiments.config.settings import distinct_labels, spell_out_source
from duelenv.experiments.folder.layout import RunFolder
from duelenv.ground import checks
from duelenv.ground.checks import choices, near
from duelenv.ground.errors import UserError
from duelenv.policies.registry import POLICIES

__all__ = [
    "apply_override",
    "apply_overrides",
    "apply_setting",
    "load",
    "override_mapping",
    "parse_yaml",
    "read_config",
    "read_settings",
    "read_study_file",
    "read_sweep_file",
    "suites",
]

#: Keys of a config that have something inside, which an override can reach.
_SECTIONS = (
    "env",
    "policy",
    "oracle",
    "evaluation_oracle",
    "backend",
    "prompts",
    "data",
    "labels",
    "budget",
    "agents",
    "variants",
)


#: Values that a config may hold. Prompts that are written out in one are far fewer.
_MOST_NODES = 1_000_000


class _RepeatedKey(yaml.MarkedYAMLError):
    """A mapping has a key twice."""

    def __init__(self, key: str, mark: yaml.Mark) -> None:
        super().__init__(problem=f"the key {key!r} twice", problem_mark=mark)
        self.key = key


class _Loader(yaml.SafeLoader):
    """Plain YAML, where 1e-3 is a number: YAML 1.1 takes it for a word, and everybody writes it.

    A key that a mapping has twice is an error, as YAML demands and PyYAML does not.
    """

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise _RepeatedKey(key.value, key.start_mark)
            seen.add((key.tag, key.value))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """Read the value that a YAML text stands for.

    Raises:
        yaml.YAMLError: It is not YAML, a mapping in it has a key twice, or it is nested too deeply or without end, or
            much larger than its text once its aliases are written out.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _MOST_NODES:
            raise yaml.YAMLError(f"more than {_MOST_NODES:,} values once aliases are written out")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or an alias within what it stands for") from None
    finally:
        loader.dispose()


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """Count values in a node with each alias as what it stands for: ten lines of them can stand for 10^9."""
    if id(node) not in known:
        inner = [node.value] if isinstance(node, yaml.SequenceNode) else node.value
        parts = [part for pair in inner for part in pair] if isinstance(node, yaml.CollectionNode) else []
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def suites() -> dict[str, Path]:
    """Find the configs that come with the package: name -> file."""
    folder = Path(str(resources.files("duelenv.experiments"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(config: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a config file, or a suite by its bare name, and apply overrides.

    Args:
        config: Path of a YAML file, or the name of a shipped suite.
        overrides: `key=value` each; dotted keys reach inside, values are YAML. Paths in overrides start from the
            current directory, paths in the file from the file's.

    Raises:
        UserError: No such file, not YAML, a study, or a setting that is unknown or of the wrong kind.
    """
    raw = read_settings(config)
    apply_overrides(raw, overrides)
    return RunConfig.from_dict(raw)


def read_settings(config: str | Path) -> dict[str, Any]:
    """Read the settings in a config file or a suite by its bare name, their paths made absolute; not checked yet.

    Raises:
        UserError: No such file, not YAML, or a study.
    """
    path, raw = read_config(config)
    if "study" in raw:
        raise UserError(f"{str(path)!r} is a study of many runs, expected the config of one: 'duelenv run' plays it")
    return {"name": path.stem, **anchor_paths(raw, path.resolve().parent)}


def read_study_file(config: str | Path) -> dict[str, Any] | None:
    """Read the settings of a study, with the paths in `base` made absolute; None where the file is no study.

    Args:
        config: As for `load`.

    Raises:
        UserError: No such file, or not YAML.
    """
    path, raw = read_config(config)
    if "study" not in raw:
        return None
    base = raw.get("base")
    return {**raw, **({"base": anchor_paths(base, path.resolve().parent)} if isinstance(base, Mapping) else {})}


def read_sweep_file(config: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Any]:
    """Read the settings of the run that a sweep varies, paths absolute, and its section `sweep`.

    Args:
        config: As for `load`.
        overrides: As for `load`; `sweep.KEY=VALUE` reaches into the section.

    Raises:
        UserError: As for `load`, or there is no such section.
    """
    path, raw = read_config(config)
    section = raw.get("sweep")
    own = [override for override in overrides if override.startswith("sweep.")]
    if section is None and not own:
        raise UserError(f"{str(path)!r} has no section 'sweep': add one with 'agent', 'settings' and 'labels'")
    base = {key: value for key, value in raw.items() if key != "sweep"}
    anchored = {"name": path.stem, **anchor_paths(base, path.resolve().parent)}
    apply_overrides(anchored, [override for override in overrides if override not in own])
    return anchored, override_mapping({"sweep": section}, own)["sweep"]


def read_config(config: str | Path) -> tuple[Path, Mapping[str, Any]]:
    """Find the path behind a file's or a suite's name, and read what is written there.

    Raises:
        UserError: No such file, or not YAML.
    """
    path = Path(config).expanduser()
    if not path.is_file():
        shipped = suites()
        if str(config) not in shipped and path.is_dir():
            own = RunFolder(path).config
            kind, way = "directory", "name a file in it"
            if own.is_file():
                kind, way = "run directory", f"write {str(own)!r}, with '--output {path}' to go on in there"
            raise UserError(f"{str(config)!r} is a {kind}, expected a config file or a suite: {way}")
        if str(config) not in shipped:
            raise UserError(f"No config file {str(config)!r} and no suite of that name: {choices(config, shipped)}")
        path = shipped[str(config)]
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except _RepeatedKey as error:
        line = error.problem_mark.line + 1  # type: ignore[union-attr]
        raise UserError(f"{str(path)!r} has the key {error.key!r} twice (again in line {line}): keep one") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{str(path)!r} is not UTF-8 text (byte {error.start + 1}), which a config is: save it as UTF-8, or name "
            "another file"
        ) from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None)
        place = "" if where is None else f" (line {where.line + 1}{f': {problem}' if problem else ''})"
        raise UserError(f"{str(path)!r} is not valid YAML{place}: correct it and try again") from error
    if not isinstance(raw, Mapping):
        held = "is empty" if raw is None else f"holds {raw!r:.60}"
        raise UserError(
            f"{str(path)!r} {held}, expected a mapping of settings; write lines such as 'agents: [passive]'"
        )
    return path, raw


def override_mapping(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Copy parsed settings, in which each `key=value` has its way; dotted keys reach inside.

    Whether there is such a setting, whoever reads the mapping knows.

    Raises:
        UserError: No `=`, or a value that is not YAML.
    """
    changed = dict(raw)
    for override in overrides:
        key, value = _key_and_value(override)
        head, *rest = key.split(".")
        changed[head] = _with_value(checks.mapping(f"'{head}'", changed.get(head)), key, value) if rest else value
    return changed


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Write each `key=value` into a parsed config, in place, with what goes with it.

    A list of seeds replaces the file's count and, unless that is among the overrides too, the file's `first_seed`.

    Raises:
        UserError: As `apply_override`.
    """
    first = "first_seed" in raw
    for override in overrides:
        apply_override(raw, override)
    named = {override.partition("=")[0].strip() for override in overrides}
    if first and "seeds" in named and "first_seed" not in named and isinstance(raw.get("seeds"), list):
        del raw["first_seed"]


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Write one `key=value` into a parsed config, in place; the mappings inside it are copied, not changed.

    Top-level keys and agent labels must exist, and so must variants unless a new one is given as a whole; inside a
    section any key may be set, since the world, oracle or agent that receives it refuses what it does not know. A
    number reaches into a list: `env.stages.0.probability=0.1`. A source that is named inside `policy` or `prompts`
    replaces the one that was there: `policy.path=DIR` on `policy: {toy: {seed: 0}}`.

    Raises:
        UserError: No `=`, an unknown key, or a value that is not YAML.
    """
    apply_setting(raw, *_key_and_value(override))


def apply_setting(raw: dict[str, Any], key: str, value: Any) -> None:
    """Write one value into a parsed config, as `apply_override` does.

    Args:
        raw: The parsed config.
        key: Dotted keys reach inside.
        value: Plain containers.

    Raises:
        UserError: An unknown key.
    """
    head, *rest = key.split(".")
    top = [item.name for item in dataclasses.fields(RunConfig)] + [*SHORTHANDS]
    if head not in top:
        raise UserError(f"Unknown setting {key!r}: {misplaced(key, raw, top) if not rest else choices(head, top)}")
    if rest and head not in _SECTIONS:
        raise UserError(f"Unknown setting {key!r}: {head!r} is a single value")
    if "" in rest:
        raise UserError(f"The key {key!r} has an empty part: write it like 'env.horizon=20'")
    if not rest:
        raw[head] = value
        return
    section = _spelled_out(head, raw.get(head))
    if not isinstance(section, Mapping):
        raise UserError(f"Cannot set {key!r}: {head!r} is {section!r}, expected a mapping of settings")
    if head == "agents" and len(rest) > 1 and rest[0] not in section:
        raise UserError(f"Unknown setting {key!r}: no agent has the label {rest[0]!r}, {choices(rest[0], section)}")
    if head == "variants" and section and rest[0] not in section:
        _refuse_slips(key, rest, value, section)
    sources = {"policy": POLICIES.names(), "prompts": PROMPT_SOURCES.names()}.get(head, ())
    if rest[0] in sources:
        others = [name for name in sources if name in section and name != rest[0]]
        if others:  # settings beside a path are the path's
            section = {}
    raw[head] = _with_value(section, key, value)


def _refuse_slips(key: str, rest: Sequence[str], value: Any, variants: Mapping[str, Any]) -> None:
    """Refuse a new variant whose name is near to one that is there, or that is not given as a whole.

    Names that differ by a number alone, such as `d10` and `d20`, are no slips of each other.
    """
    name = rest[0]
    is_slip = any(not _differ_by_number(name, one) for one in near(name, variants))
    if is_slip or len(rest) > 1 or not isinstance(value, Mapping):
        way = (
            "of so near a name is written in the file" if is_slip else f"is given as a whole, 'variants.{name}={{...}}'"
        )
        raise UserError(
            f"Unknown setting {key!r}: no variant is named {name!r}, {choices(name, variants)}; a new one {way}"
        )


def _differ_by_number(one: str, other: str) -> bool:
    return one != other and re.sub(r"[0-9]+", "", one) == re.sub(r"[0-9]+", "", other)


def _key_and_value(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise UserError(f"The override {override!r} is not key=value: write for example 'seeds=4'")
    try:
        return key, parse_yaml(text)
    except _RepeatedKey as error:
        raise UserError(f"The value in {override!r} has the key {error.key!r} twice: keep one") from error
    except yaml.YAMLError as error:
        raise UserError(f"The value in {override!r} is not valid YAML: quote it if it is meant as text") from error


def _spelled_out(head: str, section: Any) -> Any:
    """Spell out a section as a mapping, if it is as short as `oracle: length`, `policy: toy` or `agents: [real]`."""
    if section is None:
        return {}
    if head == "budget" and isinstance(section, int):
        return {"labels": section}
    if isinstance(section, str) and head not in ("agents", "variants"):
        key = {"env": "id", "data": "path", "labels": "path"}.get(head, "name")
        return spell_out_source(section) if head in ("policy", "prompts") else {key: section}
    if isinstance(section, list) and head == "agents":
        return dict.fromkeys(distinct_labels(section), None)
    return section


def _with_value(section: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Copy a section, in which the dotted `key`, whose first part names the section, has a value."""
    head, *rest = key.split(".")
    changed: dict[str, Any] = _replaced(section, head, rest, key, value)
    return changed


def _replaced(node: Any, where: str, parts: Sequence[str], key: str, value: Any) -> Any:
    """Copy a mapping or a list, in which what `parts` lead to is the value."""
    if not parts:
        return value
    part, *rest = parts
    if node is None:
        node = {}
    if isinstance(node, Mapping):
        return {**node, part: _replaced(node.get(part), f"{where}.{part}", rest, key, value)}
    if not isinstance(node, list | tuple) or not node:
        raise UserError(f"Unknown setting {key!r}: {where!r} is {node!r} and has nothing inside")
    if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(node):
        there = "the number 0" if len(node) == 1 else f"a number from 0 to {len(node) - 1}"
        raise UserError(
            f"Unknown setting {key!r}: {where!r} is a list of {len(node)}, write {there} in place of {part!r}"
        )
    place = int(part)
    return [*node[:place], _replaced(node[place], f"{where}.{part}", rest, key, value), *node[place + 1 :]]
