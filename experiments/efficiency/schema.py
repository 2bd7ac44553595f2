"""What an editor knows of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duelenv.experiments.config.schema import (
    COUNT,
    SEED,
    TEXT,
    Schema,
    known_names,
    mapping_schema,
    named_schema,
    properties_schema,
    registry_at,
)
from duelenv.experiments.efficiency.reading import DECIDED, DRAWING, KINDS_OF_WORLDS, LOOKS, PARTS

__all__ = ["study_schema"]

#: Keys under which agents stand.
_ENTRIES: Final = ("cells", "controls")


def study_schema() -> Schema:
    """Write the schema of what `duelenv.experiments.efficiency.reading.read_study` reads.

    Where `modules` in `base` registers parts of a user's own, names are free.

    Raises:
        UserError: pydantic is not installed.
    """
    keys = {key: one for key, one in properties_schema().items() if key not in DECIDED}
    known = {key: one for key, one in known_names().items() if key in keys}
    world = mapping_schema({**keys, "metric": TEXT, "env": {"type": ["object", "string"]}})  # what is different in it
    rules = {part: {"enum": list(registry_at(f"agents.LABEL.{part}").names())} for part in PARTS}
    free = {
        "base": mapping_schema(keys),
        **dict.fromkeys(KINDS_OF_WORLDS, _each(world)),
        **dict.fromkeys(_ENTRIES, _each(_entry(dict.fromkeys(PARTS, TEXT)))),
    }
    named = {
        "base": {"properties": known},
        **dict.fromkeys(KINDS_OF_WORLDS, _each({"properties": known})),
        **dict.fromkeys(_ENTRIES, _each(_entry(rules))),
    }
    seeds = mapping_schema({"count": COUNT, "first": SEED}, required=["count", "first"])
    regime = mapping_schema(
        {
            "per_round": {**COUNT, "description": "Labels a round."},
            "labels": {**COUNT, "description": "At which agents are compared."},
            "every": {**COUNT, "description": "Labels between two evaluations."},
            "most": {"anyOf": [COUNT, {"type": "null"}], "description": "That others than `passive` play at most."},
        },
        required=["per_round", "labels", "every"],
    )
    return {
        **mapping_schema(
            {
                "study": {"type": "string", "pattern": r"^\w[\w.-]*$", "description": "Its name."},
                **free,
                "pools": {"type": ["object", "null"], "description": "Tables of recorded responses."},
                "regimes": {**_each(regime), "description": "How many labels a gradient step has."},
                "tuning": {
                    "type": "object",
                    "additionalProperties": {"type": "array", "minItems": 1},
                    "description": "Values of each setting that every agent is tuned by.",
                },
                "seeds": mapping_schema(dict.fromkeys((*DRAWING, *LOOKS), seeds), required=DRAWING),
                "metric": TEXT,
                "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                **dict.fromkeys(("finalists", "carried", "null_trials"), COUNT),
                "growth": SEED,
                "jobs": {"anyOf": [COUNT, {"type": "null"}]},
            },
            required=["study", "base", "development", "held_out", "regimes", "cells", "tuning", "seeds"],
        ),
        "if": {"not": {"properties": {"base": {"required": ["modules"]}}, "required": ["base"]}},
        "then": {"properties": named},
    }


def _each(one: Schema) -> Schema:
    """Allow a mapping of such by name, any of them null, so that it is left out."""
    return {"type": ["object", "null"], "additionalProperties": {"anyOf": [one, {"type": "null"}]}}


def _entry(rules: Mapping[str, Schema]) -> Schema:
    """Allow an agent by name, or the rules it is made of, lists of which are a cell for each combination."""
    parts: Schema = {}
    for part, name in rules.items():
        one = named_schema(name)
        parts[part] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    regimes = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
    return {"type": "object", "properties": {"name": TEXT, **parts, "env": {"type": "object"}, "regimes": regimes}}
