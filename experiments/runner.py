"""Runs all cells of a config in a run directory, several at a time, and can be called again to go on.

Not for what happens inside a cell (`duelenv.experiments.cell`) nor for tables and figures. A run directory holds:

- `config.yaml`, the resolved config; `run.json`, its identity; `environment.json`, versions and hardware;
- `cells/NAME/`, one folder per cell, with its checkpoint, answers, labels and results;
- `results.parquet` and `labels.parquet`, put together from the finished cells; figures and `report.html`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from duelenv.experiments import assembly, checkpoints
from duelenv.experiments.cell import Cell, CellReport, cells, run_cell, scout_cell, start_policy
from duelenv.experiments.config import EXECUTION_KEYS, RunConfig
from duelenv.experiments.loading import parse_yaml
from duelenv.experiments.metrics import check_measured, is_measured, is_regret
from duelenv.experiments.progress import Progress
from duelenv.ground.checks import choices
from duelenv.ground.errors import UserError

__all__ = ["Interrupted", "assemble", "open_run", "run"]

#: Packages whose versions are written down.
_PACKAGES = ("duelenv", "numpy", "scipy", "torch", "transformers", "gymnasium", "joblib", "pyarrow")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; says how far it came."""


@dataclass(frozen=True)
class _Layout:
    """Where things lie in a run directory."""

    root: Path

    def cell(self, cell: Cell) -> Path:
        return self.root / "cells" / cell.name

    def result(self, cell: Cell) -> Path:
        return self.cell(cell) / "result.parquet"


def run(config: RunConfig, directory: Path | str, *, progress: bool | None = None) -> Path:
    """Runs what is not finished yet of `config` in `directory` and puts the results together.

    Args:
        config: The run.
        directory: Its run directory; made if absent.
        progress: Bars (True), a line per finished cell (False); by default bars on a terminal.

    Returns:
        Path of `results.parquet`.

    Raises:
        UserError: The directory belongs to another config or another process, or a cell refuses its settings.
        Interrupted: Ctrl-C; finished cells and checkpoints are kept.
    """
    layout = _Layout(Path(directory))
    _check_owner(layout.root, config)
    every = cells(config)
    todo = [cell for cell in every if not layout.result(cell).exists()]
    jobs = min(config.jobs or os.cpu_count() or 1, max(len(todo), 1))
    with Progress(
        config.name, len(every), len(every) - len(todo), [layout.cell(cell) for cell in todo], progress
    ) as shown:
        try:
            # Before anything is written, so that a setting which is refused leaves no directory behind.
            environment = _prepare(config, jobs, shown) if todo else None
            _claim(layout.root, config)
            with _lock(layout.root):
                if environment is not None:
                    checkpoints.write_json(layout.root / "environment.json", environment)
                    _check_metric(config, layout, jobs)
                    for report in _parallel(
                        config, jobs, [(run_cell, (config, cell, layout.cell(cell))) for cell in todo]
                    ):
                        assert isinstance(report, CellReport)
                        shown.finished(report)
                return assemble(config, layout.root)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"Interrupted with {sum(layout.result(cell).exists() for cell in every)} of {len(every)} cells "
                "finished; the same command continues where it stopped"
            ) from error


def _prepare(config: RunConfig, jobs: int, shown: Progress) -> dict[str, Any]:
    shown.note(f"{config.name}: preparing")
    environment: dict[str, Any] = next(iter(_parallel(config, jobs, [(prepare, (config,))])))
    return environment


def _check_metric(config: RunConfig, layout: _Layout, jobs: int) -> None:
    """Refuses a `metric` that nothing in this run measures, as soon as that is known.

    What agents measure is not known before they have played, and not all need to measure the same. So the first cell
    plays until it knows, and the others only if it has no such figure. Of regret one cell for each world is enough.

    Raises:
        UserError: The metric is measured nowhere.
    """
    import pyarrow.parquet as pq

    if config.metric is None:
        return
    known: set[str] = set()
    scouts: dict[str, Cell | None] = {}  # None where a cell is finished: its results tell
    for cell in sorted(cells(config), key=lambda cell: not layout.result(cell).exists()):
        world = json.dumps(dict(config.agent(cell.label).env), sort_keys=True, default=str)
        finished = layout.result(cell).exists()
        scouts.setdefault(world if is_regret(config.metric) else cell.label, None if finished else cell)
        if finished:
            known |= set(pq.read_schema(layout.result(cell)).names) - {"agent", "seed", "step"}
    left = [cell for cell in scouts.values() if cell is not None]
    for tried in (left[:1], left[1:]):
        if tried and not is_measured(config.metric, known):
            tasks = [(scout_cell, (config, cell, layout.cell(cell))) for cell in tried]
            known |= {name for names in _parallel(config, jobs, tasks) for name in names}
    check_measured(config.metric, known)


def _parallel(config: RunConfig, jobs: int, tasks: Iterable[tuple[Any, tuple[Any, ...]]]) -> Iterator[Any]:
    """Results of the tasks in the order in which they end, through joblib."""
    import joblib
    from joblib.parallel import BACKENDS, EXTERNAL_BACKENDS

    known = sorted({*BACKENDS, *EXTERNAL_BACKENDS})
    if config.backend not in known:
        raise UserError(f"Unknown backend {config.backend!r}: {choices(config.backend, known)}")
    settings: dict[str, Any] = {"n_jobs": jobs}
    if config.backend == "loky":
        # Set in the environment of each worker, before it loads NumPy.
        settings["inner_max_num_threads"] = config.threads
    with joblib.parallel_config(config.backend, **settings):
        streams = config.backend in ("loky", "threading", "sequential")
        parallel = joblib.Parallel(
            return_as="generator_unordered" if streams else "list", pre_dispatch="all", batch_size=1
        )
        calls = [joblib.delayed(function)(*arguments) for function, arguments in tasks]
        with _interrupts_ignored(config.backend == "loky" and jobs > 1):
            outputs = parallel(calls)
        yield from outputs


@contextmanager
def _interrupts_ignored(wanted: bool) -> Iterator[None]:
    """Ignores Ctrl-C for the moment in which worker processes start, which inherit this for good.

    It is the parent that ends them; without it, each would print a traceback of its own.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def prepare(config: RunConfig) -> dict[str, Any]:
    """Makes everything once, so that a wrong setting is found before any work, and describes where it runs.

    Returns:
        Versions and hardware.

    Raises:
        UserError: The first setting that is refused.
    """
    assembly.load_modules(config.modules)
    policy = start_policy(config)
    worlds: dict[str, Any] = {}  # by what an agent changes in them: most agents share one
    for agent in config.agents:
        key = json.dumps(dict(agent.env), sort_keys=True, default=str)
        if key not in worlds:
            worlds[key] = assembly.make_environment(config.for_agent(agent.label), policy=policy)
            _check_changes(config, agent.label, worlds[key])
        assembly.make_agent(config, agent.label, worlds[key], config.seeds[0])
    return describe_environment(with_torch=policy is not None)


def _check_changes(config: RunConfig, label: str, env: Any) -> None:
    """Refuses changes of the truth that a run never reaches: it plays one episode, and rounds count from 0.

    Raises:
        UserError: There is one.
    """
    own = "changes" in config.agent(label).env
    changes = config.for_agent(label).env.settings.get("changes") or ()
    horizon = env.unwrapped.horizon
    late = [number for number in changes if number >= horizon] if config.env.id.startswith("duelenv/") else []
    if late:
        where = f"'changes' of the agent {label!r} (in 'variants' or its 'env')" if own else "'env.changes'"
        raise UserError(
            f"{where} holds {late[0]}, but a run ends after {horizon} rounds, counted from 0, so that this change "
            f"would never happen: give rounds below {horizon}, or a longer 'env.horizon'"
        )


def describe_environment(*, with_torch: bool) -> dict[str, Any]:
    """Versions of the packages that matter, and the machine.

    Args:
        with_torch: Ask torch for its accelerator, which loads it.
    """
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if with_torch:
        import torch

        found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found


def _processor() -> str:
    """The processor's name, where the system tells it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check_owner(root: Path, config: RunConfig) -> None:
    """Refuses a directory that is not this config's and not empty; writes nothing."""
    marker = root / "run.json"
    if marker.exists():
        identity = json.loads(marker.read_text(encoding="utf-8"))["identity"]
        if identity != config.identity():
            raise UserError(
                f"The run directory {str(root)!r} belongs to another config{_difference(root, config)}: choose another "
                "one with --output, or remove it"
            )
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{str(root)!r} is not a run directory and not empty: choose another one with --output")


def _claim(root: Path, config: RunConfig) -> None:
    """Makes the run directory, or takes it on; what is only shown may have changed in its config."""
    _check_owner(root, config)  # again: preparing took its time
    root.mkdir(parents=True, exist_ok=True)
    checkpoints.write_text(root / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
    # Last, so that a directory that has it is complete.
    checkpoints.write_json(root / "run.json", {"identity": config.identity(), "name": config.name})


def _difference(root: Path, config: RunConfig) -> str:
    """Names the settings in which a run directory's config differs, as the end of a clause."""
    before = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))
    now = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    keys = [key for key in now if key not in EXECUTION_KEYS and before.get(key) != now[key]]
    return f" (different: {', '.join(keys)})" if keys else ""


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Keeps a second process out of a run directory, where the system has advisory locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (root / "run.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another process is running in {str(root)!r}: wait for it or stop it") from error
        yield


def open_run(directory: Path | str) -> RunConfig:
    """The config of a run directory.

    Raises:
        UserError: It is not a run directory.
    """
    path = Path(directory) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{str(directory)!r} is not a run directory: it has no config.yaml")
    return RunConfig.from_dict(parse_yaml(path.read_text(encoding="utf-8")))


def assemble(config: RunConfig, directory: Path | str) -> Path:
    """Puts `results.parquet` and `labels.parquet` together from the finished cells.

    Args:
        config: The run.
        directory: Its run directory.

    Returns:
        Path of `results.parquet`.

    Raises:
        UserError: No cell is finished.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = _Layout(Path(directory))
    # By agent first: the order of the table, which need not be the order of running.
    order = {agent.label: number for number, agent in enumerate(config.agents)}
    done = sorted(
        (cell for cell in cells(config) if layout.result(cell).exists()),
        key=lambda cell: (order[cell.label], cell.seeds),
    )
    if not done:
        raise UserError(f"No cell is finished in {str(directory)!r}: run it first")
    tables = [pq.read_table(layout.result(cell)) for cell in done]
    target = layout.root / "results.parquet"
    with checkpoints.atomic(target) as stream:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), stream)
    logs = [layout.cell(cell) / "labels.parquet" for cell in done]
    logs = [path for path in logs if path.exists()]
    if logs:
        with checkpoints.atomic(layout.root / "labels.parquet") as stream:
            writer = None
            for path in logs:  # one at a time: a log may be large
                table = pq.read_table(path)
                writer = writer or pq.ParquetWriter(stream, table.schema)
                writer.write_table(table)
            assert writer is not None
            writer.close()
    return target
