"""Small runs with an oracle that is paid: it has no utility, and writes down every duel that it is asked."""

import json
from collections import Counter

import pyarrow.parquet as pq

from duelenv.experiments.config.run_config import RunConfig

MODULE = '''
import json
import os
from pathlib import Path

import numpy as np

from duelenv.oracles import register


def paid(folder: str, stop_at: int = -1, error: str = ""):
    log = Path(folder) / "asked.jsonl"

    def ask(prompts, first, second):
        calls = len(log.read_text().splitlines()) if log.exists() else 0
        if calls == stop_at and not (Path(folder) / "stopped").exists():
            (Path(folder) / "stopped").touch()
            raise eval(error)
        with log.open("a") as stream:
            stream.write(json.dumps(list(zip(prompts, first, second))) + "\\n")
        return np.array([0.8 if len(a) > len(b) else 0.3 for a, b in zip(first, second)])

    return ask


class Awkward(Exception):
    """Cannot be made again of what it says."""

    def __init__(self, code, *, where):
        super().__init__(f"code {code} from {where}")
        self.lock = __import__("threading").Lock()


register("paid", paid)
'''


def paid_run(folder, **changes):
    """A config whose oracle keeps its books in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    module = folder / "paid_parts.py"
    if not module.exists():
        module.write_text(MODULE)
    table = folder / "pool.jsonl"
    if not table.exists():
        rows = [
            {"prompt": f"q{p}\u2028", "response": f"{p} {'x' * (3 * k % 7)}", "score": k}
            for p in range(8)
            for k in range(4)
        ]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "name": "paid",
        "env": {"id": "PoolDuel", "horizon": 6, "batch": 2},
        "data": str(table),
        "oracle": {"name": "paid", "folder": str(folder)},
        "modules": [str(module)],
        "agents": ["passive", "thompson"],
        "seeds": 2,
        "evaluate_every": 3,
        "jobs": 1,
    }
    return RunConfig.from_dict({**raw, **changes})


def asked(folder):
    """How often each duel was asked, by its texts."""
    log = folder / "asked.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(tuple(duel) for line in lines for duel in json.loads(line))


def results(folder):
    """The results of a run, but for times."""
    return pq.read_table(folder / "results.parquet").drop_columns(["seconds"])


def labels(folder):
    """The labels of a run."""
    return pq.read_table(folder / "labels.parquet")
