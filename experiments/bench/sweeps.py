"""How many small cells a minute each backend plays: `duelenv bench sweeps`."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from duelenv.experiments.config.loading import load
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.backends import BACKENDS, open_backend
from duelenv.experiments.running.backends.local import end_kept_workers
from duelenv.experiments.running.runner import run

__all__ = ["BackendRate", "backend_rates", "rates_text"]

#: Backends that are timed if none is named, with the package that each needs.
_NEEDS: Final = {"loky": "joblib", "ray": "ray", "dask": "distributed"}
_JOBS: Final = 2
#: Copies of each of the suite's agents.
_COPIES: Final = 10


@dataclass(frozen=True)
class BackendRate:
    """What a run of small cells took.

    Attributes:
        backend: Its name.
        cells: How many.
        start: Seconds until the first worker answered.
        whole: Seconds of the run, workers started anew and results put together.
        load: Load average of the machine at the end.
    """

    backend: str
    cells: int
    start: float
    whole: float
    load: float

    @property
    def cells_per_minute(self) -> float:
        """Of the whole run."""
        return 60.0 * self.cells / self.whole


def backend_rates(names: Sequence[str] = (), *, copies: int = _COPIES) -> Iterator[BackendRate]:
    """Time a shrunken suite `features` on backends.

    Args:
        names: Of backends; loky, Ray and Dask if none, as far as they are installed.
        copies: Of each of the suite's agents.

    Raises:
        UserError: An unknown backend, or one that is not installed.
    """
    for name in names:
        BACKENDS[name]
    for name in names or [name for name, module in _NEEDS.items() if importlib.util.find_spec(module) is not None]:
        yield _rate(_config(name, copies))


def _config(backend: str, copies: int) -> RunConfig:
    plain = load("features", [f"jobs={_JOBS}", f"backend={backend}", "env.horizon=100", "seeds=8"]).to_dict()
    agents = {f"{label}{copy or ''}": own for copy in range(copies) for label, own in plain["agents"].items()}
    return RunConfig.from_dict({**plain, "agents": agents})


def _rate(config: RunConfig) -> BackendRate:
    end_kept_workers()
    began = time.perf_counter()
    with open_backend(config.backend.name, config.backend.settings, jobs=_JOBS, threads=1) as executor:
        executor.submit(os.getpid).result()
        start = time.perf_counter() - began
    end_kept_workers()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run(config, Path(folder) / "run", progress=False)
        whole = time.perf_counter() - began
    end_kept_workers()
    return BackendRate(config.backend.name, len(config.agents), start, whole, os.getloadavg()[0])


def rates_text(rates: Sequence[BackendRate]) -> str:
    """Write what was timed, as a table."""
    lines = [f"{'backend':<16}{'cells':>6}{'start':>9}{'run':>9}{'cells a minute':>16}{'load average':>14}"]
    lines += [
        f"{rate.backend:<16}{rate.cells:>6}{rate.start:>7.1f} s{rate.whole:>7.1f} s{rate.cells_per_minute:>16,.0f}"
        f"{rate.load:>14.1f}"
        for rate in rates
    ]
    return "\n".join(lines)
