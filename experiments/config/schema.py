"""A JSON schema of configs, by which an editor completes keys and names, and underlines what is mistyped.

Types and descriptions are read from the dataclasses of a config, names from the registries, settings from signatures.
It knows less than `RunConfig.from_dict`, which has the last word and says it in a sentence.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import BudgetConfig, EnvConfig
from duelenv.experiments.config.worlds import ELSEWHERE, parameters_of, world_class
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = ["config_schema", "schema_text"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 1}
_SEED: Schema = {"type": "integer", "minimum": 0}
#: Annotations that say a type of JSON.
_PLAIN: Mapping[str, Schema] = {
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "str": {"type": "string"},
    "None": {"type": "null"},
}


def config_schema() -> Schema:
    """Write the schema, of JSON Schema 2020-12, that every config of a run satisfies.

    Where `modules` registers parts of a user's own, names are free.

    Raises:
        UserError: pydantic is not installed.
    """
    try:
        from pydantic import TypeAdapter
    except ImportError as error:
        raise UserError("the schema needs pydantic: pip install 'duelenv[editor]'") from error
    drawn = TypeAdapter(RunConfig).json_schema()
    about = _descriptions(RunConfig)
    properties: Schema = {
        name: {key: value for key, value in schema.items() if key != "title"}
        for name, schema in drawn["properties"].items()
    }
    budget = TypeAdapter(BudgetConfig).json_schema()["properties"]
    written = _written(
        {name: {**schema, "description": _descriptions(BudgetConfig)[name]} for name, schema in budget.items()}
    )
    properties |= written
    for name, text in about.items():
        properties[name] = {**properties[name], "description": text}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of duelenv run",
        "type": "object",
        "properties": properties,
        "required": ["env", "agents"],
        "additionalProperties": False,
        "if": {"not": {"required": ["modules"]}},
        "then": {"properties": _known_names()},
    }


def _written(budget: Schema) -> Schema:
    """List the keys that may be written shorter than they are held."""
    table = {"anyOf": [_TEXT, {"type": "object", "properties": {"path": _TEXT}, "required": ["path"]}]}
    named = {
        "anyOf": [_TEXT, {"type": "object", "properties": {"name": _TEXT}, "required": ["name"]}, {"type": "null"}]
    }
    mapping = {"type": ["object", "null"]}
    rows = _descriptions(EnvConfig)
    world = {
        "type": "object",
        "properties": {
            "id": {**_TEXT, "description": rows["id"]},
            "num_envs": {**_COUNT, "description": rows["num_envs"]},
            "batch": {**_COUNT, "description": rows["batch"]},
        },
        "required": ["id"],
    }
    label = {"type": ["object", "null"], "properties": {"name": _TEXT, "env": mapping}}
    return {
        "name": {"type": "string", "pattern": r"^\w[\w.-]*$"},
        "env": {"anyOf": [_TEXT, world]},
        "agents": {
            "anyOf": [
                {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True},
                {"type": "object", "additionalProperties": label, "minProperties": 1},
            ]
        },
        "seeds": {"anyOf": [_COUNT, {"type": "array", "items": _SEED, "minItems": 1, "uniqueItems": True}]},
        "first_seed": {**_SEED, "description": "The first of a count of seeds."},
        "variants": {**mapping, "description": "Worlds in which every agent plays: name -> settings of `env`."},
        "policy": {"anyOf": [_TEXT, {"type": ["object", "null"]}]},
        "prompts": {"anyOf": [_TEXT, {"type": ["object", "null"]}]},
        "oracle": named,
        "evaluation_oracle": named,
        "backend": named,
        "trackers": {"anyOf": [named, {"type": "array", "items": named}]},
        "data": {"anyOf": [*table["anyOf"], {"type": ["array", "object", "null"], "items": table}]},
        "labels": {"anyOf": [*table["anyOf"], {"type": "null"}]},
        "budget": {
            "anyOf": [_COUNT, {"type": "object", "properties": budget, "additionalProperties": False}, {"type": "null"}]
        },
        "report_at": {"anyOf": [_COUNT, {"type": "array", "items": _COUNT, "uniqueItems": True}, {"type": "null"}]},
        "modules": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "null"}]},
        "split": {"enum": ["test", "train"]},
        "better": {"enum": ["lower", "higher", None]},
        "save_models": {"enum": ["last", "best", "none"]},
    }


def _source(sources: Registry[Any]) -> Schema:
    one = [{"required": [name]} for name in sources]
    return {"anyOf": [_TEXT, {"type": "object", "oneOf": one}, {"type": "null"}]}


def _known_names() -> Schema:
    """List what names may be where nothing of a user's own is registered."""
    import duelenv
    from duelenv import agents
    from duelenv.agents.asking import ASK, PROMPTS
    from duelenv.agents.parts import BELIEFS
    from duelenv.agents.registry import BONUSES, LOSSES
    from duelenv.agents.teaching import TEACHING
    from duelenv.experiments.config.prompt_sources import PROMPT_SOURCES
    from duelenv.labels.stage import STAGES
    from duelenv.oracles.base import ORACLES
    from duelenv.oracles.wrappers import WRAPPERS
    from duelenv.policies.registry import POLICIES

    names = sorted(agents.names())
    rules: Mapping[str, Registry[Any]] = {
        "ask": ASK,
        "prompts": PROMPTS,
        "belief": BELIEFS,
        "teach": TEACHING,
        "loss": LOSSES,
        "bonus": BONUSES,
    }
    settings = {key: {"enum": [*registry.names(), None]} for key, registry in rules.items()}
    own = {"type": ["object", "null"], "properties": {"name": {"enum": names}, **settings}}
    another = {**own, "type": "object", "required": ["name"]}
    chosen = {
        "if": {"type": "array"},
        "then": {"items": {"enum": names}},
        "else": {"properties": dict.fromkeys(names, own), "additionalProperties": another},
    }
    stages = {"type": "array", "items": _choice(STAGES)}
    worlds: dict[str, Schema] = {}
    for world in duelenv.WORLDS:
        taken = {name: one for name, one in parameters_of(world_class(world)).items() if name not in ELSEWHERE}
        worlds[world] = {
            "properties": {
                "id": {},
                **{name: _of(one) for name, one in taken.items()},
                **({"stages": stages} if "stages" in taken else {}),
                "num_envs": _COUNT,
                "batch": _COUNT,
            },
            "additionalProperties": False,
        }
    spelt = {world: _spellings(world) for world in worlds}
    every = [name for several in spelt.values() for name in several]
    env = {
        "if": {"type": "string"},
        "then": {"enum": every},
        "else": {
            "properties": {"id": {"enum": every}},
            "allOf": [
                {"if": {"properties": {"id": {"enum": spelt[world]}}, "required": ["id"]}, "then": schema}
                for world, schema in worlds.items()
            ],
        },
    }
    oracle = _choice(ORACLES, hidden=("home",), beside=WRAPPERS.known(), none=True)
    return {
        "agents": chosen,
        "env": env,
        "oracle": oracle,
        "evaluation_oracle": oracle,
        "policy": _source(POLICIES),
        "prompts": _source(PROMPT_SOURCES),
    }


def _spellings(world: str) -> list[str]:
    bare = world.removeprefix("duelenv/")
    return [bare.removesuffix("-v0"), bare, world]


def _choice(
    registry: Registry[Any], *, hidden: Iterable[str] = (), beside: Iterable[str] = (), none: bool = False
) -> Schema:
    """Allow a name, or a mapping with a name and the settings that the part of that name takes."""
    settings = []
    for name in registry.names():
        signature = inspect.signature(registry[name])
        taken = {key: _of(one) for key, one in signature.parameters.items() if key not in hidden}
        open_ended = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
        then = {"properties": {"name": {}, **taken, **{key: {} for key in beside}}, "additionalProperties": open_ended}
        settings.append({"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": then})
    names = list(registry.names())
    mapping = {"type": "object", "required": ["name"], "properties": {"name": {"enum": names}}, "allOf": settings}
    return {"anyOf": [{"enum": names}, mapping, *([{"type": "null"}] if none else [])]}


def _of(parameter: inspect.Parameter) -> Schema:
    """Write what an annotation says, where it names plain types alone; a default that JSON can hold."""
    written = parameter.annotation if isinstance(parameter.annotation, str) else ""
    parts = [part.strip() for part in written.split("|")]
    schema: Schema = {}
    if all(part in _PLAIN for part in parts):
        schema["anyOf"] = [dict(_PLAIN[part]) for part in parts]
    if isinstance(parameter.default, bool | int | float | str):
        schema["default"] = parameter.default
    return schema


def _descriptions(kind: Callable[..., Any]) -> dict[str, str]:
    """Find the docstrings beside the fields of a dataclass, each on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def schema_text() -> str:
    """Write the schema as text of a file."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False)
