"""A JSON schema of configs, by which an editor completes keys and names, and underlines what is mistyped.

Types and descriptions are read from the dataclasses of a config, names from the registries, settings from signatures.
It knows less than `RunConfig.from_dict`, which has the last word and says it in a sentence. What a sweep and a study
add is written where they are read, from what is here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from duelenv.experiments.config.kinds import KINDS
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.settings import BudgetConfig, EnvConfig
from duelenv.experiments.config.worlds import ELSEWHERE, parameters_of, world_class
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry

__all__ = [
    "COUNT",
    "SEED",
    "TEXT",
    "Schema",
    "choice_schema",
    "config_schema",
    "known_names",
    "mapping_schema",
    "named_schema",
    "properties_schema",
    "registry_at",
]

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}
SEED: Schema = {"type": "integer", "minimum": 0}
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
    return {
        **mapping_schema(properties_schema(), required=["env", "agents"]),
        "if": {"not": {"required": ["modules"]}},
        "then": {"properties": known_names()},
    }


def mapping_schema(properties: Schema, required: Iterable[str] = ()) -> Schema:
    """Allow a mapping that has these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def properties_schema() -> Schema:
    """Write what each key of a config may hold, whoever registered the names in it.

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
    properties |= _written(
        {name: {**schema, "description": _descriptions(BudgetConfig)[name]} for name, schema in budget.items()}
    )
    for name, text in about.items():
        properties[name] = {**properties[name], "description": text}
    return properties


def named_schema(name: Schema = TEXT) -> Schema:
    """Allow nothing, a name, or a mapping that has one beside settings."""
    mapping = {"type": "object", "properties": {"name": name}, "required": ["name"]}
    return {"anyOf": [name, mapping, {"type": "null"}]}


def _written(budget: Schema) -> Schema:
    """List the keys that may be written shorter than they are held."""
    table = {"anyOf": [TEXT, {"type": "object", "properties": {"path": TEXT}, "required": ["path"]}]}
    named = named_schema()
    mapping = {"type": ["object", "null"]}
    rows = _descriptions(EnvConfig)
    world = {
        "type": "object",
        "properties": {
            "id": {**TEXT, "description": rows["id"]},
            "num_envs": {**COUNT, "description": rows["num_envs"]},
            "batch": {**COUNT, "description": rows["batch"]},
        },
        "required": ["id"],
    }
    label = {"type": ["object", "null"], "properties": {"name": TEXT, "env": mapping}}
    return {
        "name": {"type": "string", "pattern": r"^\w[\w.-]*$"},
        "env": {"anyOf": [TEXT, world]},
        "agents": {
            "anyOf": [
                {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
                {"type": "object", "additionalProperties": label, "minProperties": 1},
            ]
        },
        "seeds": {"anyOf": [COUNT, {"type": "array", "items": SEED, "minItems": 1, "uniqueItems": True}]},
        "first_seed": {**SEED, "description": "The first of a count of seeds."},
        "variants": {**mapping, "description": "Worlds in which every agent plays: name -> settings of `env`."},
        "policy": {"anyOf": [TEXT, {"type": ["object", "null"]}]},
        "prompts": {"anyOf": [TEXT, {"type": ["object", "null"]}]},
        "oracle": named,
        "evaluation_oracle": named,
        "backend": named,
        "trackers": {"anyOf": [named, {"type": "array", "items": named}]},
        "data": {"anyOf": [*table["anyOf"], {"type": ["array", "object", "null"], "items": table}]},
        "labels": {"anyOf": [*table["anyOf"], {"type": "null"}]},
        "budget": {
            "anyOf": [COUNT, {"type": "object", "properties": budget, "additionalProperties": False}, {"type": "null"}]
        },
        "report_at": {"anyOf": [COUNT, {"type": "array", "items": COUNT, "uniqueItems": True}, {"type": "null"}]},
        "modules": {"anyOf": [TEXT, {"type": "array", "items": TEXT}, {"type": "null"}]},
        "split": {"enum": ["test", "train"]},
        "better": {"enum": ["lower", "higher", None]},
        "save_models": {"enum": ["last", "best", "none"]},
    }


def _source(sources: Registry[Any]) -> Schema:
    one = [{"required": [name]} for name in sources]
    return {"anyOf": [TEXT, {"type": "object", "oneOf": one}, {"type": "null"}]}


def registry_at(where: str) -> Registry[Any]:
    """Find what knows the names at a key of a config, as `duelenv list` has it."""
    return next(kind.registry for kind in KINDS if kind.where == where)


def known_names() -> Schema:
    """List what names may be where nothing of a user's own is registered, by key of a config."""
    import duelenv
    from duelenv import agents

    names = sorted(agents.names())
    settings = {kind.agents_key: {"enum": [*kind.registry.names(), None]} for kind in KINDS if kind.agents_key}
    own = {"type": ["object", "null"], "properties": {"name": {"enum": names}, **settings}}
    another = {**own, "type": "object", "required": ["name"]}
    chosen = {
        "if": {"type": "array"},
        "then": {"items": {"enum": names}},
        "else": {"properties": dict.fromkeys(names, own), "additionalProperties": another},
    }
    stages = {"type": "array", "items": choice_schema(registry_at("env.stages"))}
    worlds: dict[str, Schema] = {}
    for world in duelenv.WORLDS:
        taken = {name: one for name, one in parameters_of(world_class(world)).items() if name not in ELSEWHERE}
        worlds[world] = {
            "properties": {
                "id": {},
                **{name: _of(one) for name, one in taken.items()},
                **({"stages": stages} if "stages" in taken else {}),
                "num_envs": COUNT,
                "batch": COUNT,
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
    beside = registry_at("oracle.NAME").known()
    oracle = choice_schema(registry_at("oracle"), hidden=("home",), beside=beside, none=True)
    tracker = choice_schema(registry_at("trackers"), beside=("strict",), none=True)
    return {
        "agents": chosen,
        "env": env,
        "oracle": oracle,
        "evaluation_oracle": oracle,
        "policy": _source(registry_at("policy")),
        "prompts": _source(registry_at("prompts")),
        "backend": choice_schema(registry_at("backend"), hidden=("jobs", "threads"), none=True),
        "trackers": {"anyOf": [tracker, {"type": "array", "items": tracker}]},
    }


def _spellings(world: str) -> list[str]:
    bare = world.removeprefix("duelenv/")
    return [bare.removesuffix("-v0"), bare, world]


def choice_schema(
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
