"""Run directories with made-up numbers, as a run leaves them, for tests of what is read from them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from duelenv.experiments.config.cell import cells
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.update_figures import arrow_field

NASTY = '<script>alert(1)</script> & "quoted" <b>'
STEPS = np.array([0, 5, 10])
# Final win rate of each agent by seed.
FINAL = {
    "passive": [0.70, 0.72, 0.71, 0.69],
    "better": [0.80, 0.83, 0.81, 0.78],
    "alike": [0.71, 0.70, 0.73, 0.68],
}
MATRIX = {"name": "bradley_terry", "utilities": [1.0, 0.5, 0.0, -1.0]}
LONG_STEPS = np.arange(0, 1001, 50)


def policy_run(folder, seeds=4, agents=FINAL, text=NASTY):
    """A run directory as a policy run leaves it, with made-up numbers."""
    config = RunConfig.from_dict(
        {
            "name": "made-up",
            "env": {"id": "AlignmentDuel", "num_envs": 2, "horizon": 10},
            "policy": "toy",
            "prompts": "toy",
            "oracle": "length",
            "agents": {agent: {"name": "passive" if agent == "passive" else "thompson"} for agent in agents},
            "seeds": seeds,
        }
    )
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    tables, labels = [], []
    for cell in cells(config):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True)
        seed = cell.seeds[0]
        rates = 0.5 + (agents[cell.label][seed] - 0.5) * STEPS / 10
        table = pa.table(
            {
                "agent": [cell.label] * 3,
                "seed": [seed] * 3,
                "step": STEPS,
                "queries": 2 * STEPS,
                "gradient_steps": STEPS,
                "seconds": STEPS * 0.1,
                "win_rate": rates,
                "kl": (rates - 0.5) * 10,
                "regret_average": [None, 4.0, 7.0 + seed],
            }
        )
        pq.write_table(table, place / "result.parquet")
        tables.append(table)
        (place / "examples.json").write_text(json.dumps([{"prompt": text, "before": text, "after": text}]))
        for step in range(1, 11):
            where = {"agent": cell.label, "seed": seed, "step": step}
            labels.append({**where, "row": 0, "prompt": text, "first": text, "second": "other", "label": 1.0})
            labels.append({**where, "row": 1, "prompt": "q", "first": "y", "second": "x", "label": 0.5})
    pq.write_table(pa.Table.from_pylist(labels), folder / "labels.parquet")
    pq.write_table(pa.concat_tables(tables), folder / "results.parquet")
    return folder


def numeric_run(folder, primary=(3.0, 2.0, 1.0)):
    """A run directory of a world with replicates, with references."""
    config = RunConfig.from_dict(
        {"name": "numbers", "env": {"id": "PoolDuel"}, "data": "x.parquet", "agents": ["passive", "real"], "seeds": 3}
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    rows = []
    for cell in cells(config):
        place = folder / "cells" / cell.name
        place.mkdir(parents=True)
        (place / "result.parquet").touch()
        (place / "references.json").write_text(json.dumps({"longest_response": [1.0, 2.0, 3.0]}))
        for seed in cell.seeds:
            for step, regret in enumerate(primary):
                shift = 0.1 * seed if cell.label == "real" else 0.0
                rows.append(
                    {"agent": cell.label, "seed": seed, "step": step, "queries": step, "gradient_steps": 0,
                     "seconds": 0.1, "simple_regret": regret - shift, "regret_utility": 2.0 * step}
                )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "results.parquet")
    return folder


def regret_run(folder, powers, metric="regret_average", env=None, seeds=6, steps=LONG_STEPS, **settings):
    """A run directory in which agent number n has regret (1 + n) s t^power, s a factor of the replicate's own."""
    config = RunConfig.from_dict(
        {
            "name": "made-up",
            "env": {"id": "MatrixDuel", "matrix": MATRIX, "horizon": int(steps[-1]), **(env or {})},
            "agents": {agent: {"name": "random"} if agent == "random" else {"name": "rucb"} for agent in powers},
            "seeds": seeds,
            "baseline": "random",
            "metric": metric,
            **settings,
        }
    )
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    spreads = np.linspace(0.9, 1.1, seeds)
    rows = []
    for number, cell in enumerate(cells(config)):
        (folder / "cells" / cell.name).mkdir(parents=True)
        (folder / "cells" / cell.name / "result.parquet").touch()
        name = cell.label.partition("-")[0]
        for seed in cell.seeds:
            for step in steps:
                regret = (1 + number) * spreads[seed] * float(step) ** powers[name]
                rows.append(
                    {"agent": cell.label, "seed": seed, "step": int(step), "queries": int(step), "gradient_steps": 0,
                     "seconds": 0.6, "simple_regret": 0.1, metric: regret}
                )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "results.parquet")
    return folder


def add_column(folder, name, values, from_agent=False):
    """Gives the results in a run directory one more column, one value per row or the same in all."""
    table = pq.read_table(folder / "results.parquet")
    column = pa.array(np.broadcast_to(values, len(table)), from_pandas=True)
    field = arrow_field(name, column.type, from_agent=from_agent)
    pq.write_table(table.append_column(field, column), folder / "results.parquet")
    return folder


def change_config(folder, **changes):
    """Changes settings in the config of a run directory."""
    config = yaml.safe_load((folder / "config.yaml").read_text()) | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder
