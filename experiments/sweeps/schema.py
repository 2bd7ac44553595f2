"""What an editor knows of the section `sweep` of a config."""

from __future__ import annotations

from duelenv.experiments.config.schema import COUNT, SEED, TEXT, Schema, mapping_schema
from duelenv.experiments.sweeps.halving import RESOURCES
from duelenv.experiments.sweeps.plan import SEARCHES
from duelenv.experiments.sweeps.space import RANGES

__all__ = ["sweep_schema"]


def sweep_schema() -> Schema:
    """Write the schema of what `duelenv.experiments.sweeps.plan.read_sweep` reads."""
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    axis = {
        "anyOf": [
            {"type": "array", "minItems": 1},
            {**mapping_schema(dict.fromkeys(RANGES, ends)), "minProperties": 1, "maxProperties": 1},
        ]
    }
    halving = mapping_schema(
        {
            "over": {"enum": list(RESOURCES), "description": "What grows from rung to rung."},
            "factor": {"type": "integer", "minimum": 2, "description": "By how much; 1 / factor of the trials go on."},
            "least": {**COUNT, "description": "Seeds, or labels of each seed, that no rung goes below."},
        }
    )
    sweep = mapping_schema(
        {
            "agent": {**TEXT, "description": "Label of the agent whose settings are chosen."},
            "settings": {
                "type": "object",
                "additionalProperties": axis,
                "minProperties": 1,
                "description": "What is tried, by dotted key: a list of values, or a range such as "
                "`{log_uniform: [low, high]}`.",
            },
            "search": {"enum": list(SEARCHES)},
            "labels": {**COUNT, "description": "That the whole sweep may ask for, confirmation included."},
            "seed": {**SEED, "description": "Of a random search."},
            "confirm": {
                **SEED,
                "description": "Seeds that play the best setting and the agent as it was, none of which chose.",
            },
            "halving": {"anyOf": [{"enum": list(RESOURCES)}, halving, {"type": "null"}]},
        },
        required=["agent", "settings", "labels"],
    )
    return {**sweep, "description": "What `duelenv sweep` tries around this run."}
