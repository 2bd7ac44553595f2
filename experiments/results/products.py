"""What a finished cell leaves: its results as a table, references, examples, and the seal; its records as lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import CellFolder
from duelenv.experiments.results.update_figures import arrow_field

__all__ = ["Measured", "examples_of", "line_of", "references_of", "write_products"]

#: Columns that count; all others are numbers with a fraction.
_COUNTS = ("step", "queries", "gradient_steps")


class Measured(NamedTuple):
    """What a cell measured.

    Attributes:
        label: The agent's.
        seeds: One, or one per replicate.
        records: One each time that the agent was judged; a value is a number or one per replicate.
        by_world: Names that the world measures.
        by_agent: Names of the agent's own figures.
    """

    label: str
    seeds: Sequence[int]
    records: Sequence[Mapping[str, Any]]
    by_world: Sequence[str]
    by_agent: Sequence[str]


def write_products(
    folder: CellFolder,
    measured: Measured,
    *,
    references: Mapping[str, Any] | None,
    examples: Sequence[Mapping[str, Any]],
) -> None:
    """Write all that a finished cell leaves, and seal it."""
    import pyarrow.parquet as pq

    products = [folder.examples, folder.result]
    files.write_json(folder.examples, list(examples))
    if references is not None:
        files.write_json(folder.references, dict(references))
        products.append(folder.references)
    with files.atomic(folder.result) as stream:
        pq.write_table(_table(measured), stream)
    folder.seal([path.name for path in products])


def _table(measured: Measured) -> Any:
    """Make a `pyarrow.Table` of records, one row for each seed of each."""
    import pyarrow as pa

    replicates, records = len(measured.seeds), measured.records
    columns: dict[str, Any] = {
        "agent": pa.array([measured.label] * (len(records) * replicates), pa.string()),
        "seed": pa.array(np.tile(measured.seeds, len(records)), pa.int64()),
    }
    fields = [pa.field("agent", pa.string()), pa.field("seed", pa.int64())]
    for name in dict.fromkeys(name for record in records for name in record):
        values = [np.broadcast_to(record.get(name, np.nan), (replicates,)) for record in records]
        kind = pa.int64() if name in _COUNTS else pa.float64()
        columns[name] = pa.array(np.concatenate(values), kind, from_pandas=True)
        own = name in measured.by_agent and name not in measured.by_world
        fields.append(arrow_field(name, kind, from_agent=own))
    return pa.table(columns, schema=pa.schema(fields))


def references_of(world: Any, split: str) -> dict[str, Any] | None:
    """Measure what rules achieve that learn nothing, to hold agents against; None where the world knows none."""
    if not hasattr(world, "references"):
        return None
    return {name: np.asarray(values).tolist() for name, values in world.references(split).items()}


def examples_of(world: Any, agent: Any, observation: Mapping[str, Any], config: RunConfig) -> list[dict[str, Any]]:
    """Collect responses before and after learning, for the report; none in worlds without text."""
    if config.examples == 0 or "responses" not in world.view().observation_space.spaces:
        return []
    if hasattr(world, "examples"):
        return list(world.examples(config.split, config.examples))
    return _recommended_examples(agent, observation, config.examples)


def _recommended_examples(agent: Any, observation: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Collect for distinct prompts of the last round a random candidate and the one that the agent recommends."""
    arms = np.asarray(agent.recommend(observation))
    examples: dict[str, dict[str, Any]] = {}
    for row, prompt in enumerate(observation["prompt"]):
        if len(examples) < count and prompt not in examples:
            responses = observation["responses"][row]
            # Candidates stand in random order, so the first is any.
            examples[prompt] = {"prompt": str(prompt), "before": str(responses[0]), "after": str(responses[arms[row]])}
    return list(examples.values())


def line_of(record: Mapping[str, Any]) -> bytes:
    """Write a record as a line of JSON; a number that is missing is null."""

    def plain(value: Any) -> Any:
        listed = np.asarray(value, dtype=object).tolist()
        return [plain(item) for item in listed] if isinstance(listed, list) else None if listed != listed else listed

    return json.dumps({name: plain(value) for name, value in record.items()}, default=float).encode() + b"\n"
