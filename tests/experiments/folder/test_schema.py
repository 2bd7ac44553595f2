"""What is said of the files of a run folder is what a run leaves."""

import csv
import json
import re
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest
from paid_runs import paid_run

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder import files
from duelenv.experiments.folder.layout import CellFolder, RunFolder
from duelenv.experiments.folder.schema import FILES
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results import metrics
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.runner import run

BY_PATH = {one.path: one for one in FILES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with everything that costs nothing to have: duels, labels that are paid, a fuse, a report."""
    home = tmp_path_factory.mktemp("paid")
    oracle = {"name": "paid", "folder": str(home), "price": 0.01}
    config = paid_run(home, budget={"labels": 12, "run": 1000, "money": 5.0}, oracle=oracle, agents=["passive"])
    run(config, home / "run", progress=False)
    write_report(home / "run")
    return home / "run"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Runs with the tables that the first has not: regret, gains, targets, beliefs, and several worlds."""
    home = tmp_path_factory.mktemp("studies")
    world = {"id": "FeatureDuel", "batch": 4, "dim": 3, "num_candidates": 4, "horizon": 40}
    raw = {"name": "s", "env": world, "agents": ["passive", "thompson"], "seeds": 6, "jobs": 1, "report_at": [20]}
    worlds = {"variants": {"wide": {"dim": 6}, "narrow": {"dim": 2}}}
    made = {"regret": raw | {"metric": "regret"}, "worlds": raw | worlds}
    for name, config in made.items():
        run(RunConfig.from_dict(config), home / name, progress=False)
        write_report(home / name)
    return [home / name for name in made]


def schema_of(path, root):
    name = re.sub(r"^cells/[^/]+/", "cells/CELL/", path.relative_to(root).as_posix())
    name = re.sub(r"^(oracles|trackers)/.*", r"\1/FILE", name)
    name = re.sub(r"^figures/[^/]+\.(svg|png)$", "figures/NAME.svg, NAME.png", name)
    name = re.sub(r"^(table|gains|targets)-[^/]+\.csv$", r"\1.csv", name)
    if path.suffix == ".md" and path.with_suffix(".csv").is_file():
        name = "TABLE.md"
    return BY_PATH.get(name)


def checked(folder):
    """Compare every file of a run, and tell which kinds there were."""
    seen = set()
    for path in folder.rglob("*"):
        if path.is_dir() or path.suffix in (".sqlite-wal", ".sqlite-shm"):  # SQLite's own, beside a file that is open
            continue
        known = schema_of(path, folder)
        assert known is not None, path
        seen.add(known.path)
        check(path, known, Results(folder).primary)
    return seen


@pytest.mark.slow
def test_every_file_is_there_as_it_is_said(folder, studies):
    seen = checked(folder)
    assert {"run.json", "results.parquet", "labels.parquet", "spending.json", "cells/CELL/done.json"} <= seen
    assert {"purse.sqlite", "spent.sqlite", "cells/CELL/ledger.sqlite", "cells/CELL/records.jsonl"} <= seen
    seen = set().union(*map(checked, studies))
    tables = ("table", "regret", "gains", "targets", "beliefs", "informative", "costs")
    assert {f"{name}.csv" for name in tables} <= seen
    assert {"TABLE.md", "figures/NAME.svg, NAME.png"} <= seen


def check(path, known, metric):
    if known.form == "CSV":
        with path.open(encoding="utf-8", newline="") as stream:
            found = next(csv.reader(stream))
        if known.path == "table.csv" and metric.startswith("regret_"):
            known = BY_PATH["regret.csv"]
        metric = next(name for name in found if name.startswith("regret_")) if known.path == "regret.csv" else metric
        metric = metric.removesuffix("_mean")
        told = [name.replace("METRIC", metric) for name in known.columns]
        assert [name for name in found if name in told] == told, path
        further = [name for name in found if name not in told]
        named = re.findall("`([a-z_]+)`", known.others)
        for name in further:
            (of, part) = name.rsplit("_", 1)
            assert known.others and part in ("mean", "low", "high", "seeds") and metrics.is_reserved(of), path
            assert known.path == "table.csv" or of in named, path
    elif known.form == "JSON" and known.columns:
        content = files.read_sealed(path) if known.sealed else json.loads(path.read_text(encoding="utf-8"))
        for one in content if isinstance(content, list) else [content]:
            assert set(one) - {"accelerator"} == set(known.columns), path
    elif known.form == "JSON lines":
        first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        assert set(known.columns) <= set(first)
    elif known.form == "Parquet":
        schema = pq.read_schema(path)
        told = {name: column.kind for name, column in known.columns.items()}
        found = {name: kind_of(schema.field(name).type) for name in schema.names}
        assert {name: kind for name, kind in found.items() if name in told} == told
        further = set(found) - set(told)
        assert not further or known.others
        of_agents = {name for name in further if (schema.field(name).metadata or {}).get(b"source") == b"agent"}
        assert further - of_agents <= {name for name in further if metrics.is_reserved(name)}
    elif known.form == "SQLite":
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {f"{t}.{row[1]}": row[2] for t in tables for row in connection.execute(f"PRAGMA table_info({t})")}
        found = {name: kind for name, kind in found.items() if not name.endswith(".crc")}
        assert found == {name: column.kind for name, column in known.columns.items()}


def kind_of(arrow):
    return "dictionary of string" if "dictionary" in str(arrow) else str(arrow)


def test_every_place_of_the_layout_is_described(tmp_path):
    root, cell = RunFolder(tmp_path), CellFolder(tmp_path / "cells" / "CELL")
    for owner in (root, cell):
        for name, member in vars(type(owner)).items():
            path = getattr(owner, name) if isinstance(member, property) else None
            if hasattr(path, "relative_to") and name != "cells":
                place = path.relative_to(tmp_path).as_posix()
                known = {one.path.removesuffix("/FILE").removesuffix("/") for one in FILES}
                assert place in known or f"{path.parent.relative_to(tmp_path).as_posix()}/FILE" in BY_PATH, place


def test_the_report_lies_where_the_layout_says(folder):
    root = RunFolder(folder)
    assert root.report.is_file() and all(root.table("table", kind).is_file() for kind in ("md", "csv"))
    drawn = [path for path in (folder / "figures").iterdir() if path.suffix == ".svg"]
    assert drawn and all(root.figure(path.stem, kind).is_file() for path in drawn for kind in ("svg", "png"))
