"""Backends: equal results on each, workers that die, clusters that end with their run, backends of a user's own."""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import joblib
import pytest
from joblib.parallel import ThreadingBackend
from paid_runs import asked, paid_run, results

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.backends import BACKENDS, open_backend, register_backend
from duelenv.experiments.running.backends.local import Inline
from duelenv.experiments.running.failures import WorkerDied
from duelenv.experiments.running.processes import RETRIES, Task, outcomes
from duelenv.experiments.running.runner import run

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'duelenv[ray]'"
)
#: Kept small: each starts a cluster, which takes seconds.
CLUSTERS = ["dask", pytest.param("ray", marks=needs_ray)]


def code(name, text, **names):
    """A task that runs a text: functions of a test's own module are unknown to workers."""
    return Task(name, exec, (text, {"__name__": name, **names}))


def small_run(**changes):
    """A run with matrix products and Laplace fits, which numeric libraries may do differently."""
    raw = {
        "name": "small",
        "env": {"id": "FeatureDuel", "num_candidates": 5, "dim": 6, "horizon": 12},
        "agents": ["passive", "thompson", "real"],
        "seeds": 3,
        "evaluate_every": 4,
        "jobs": 2,
    }
    return RunConfig.from_dict({**raw, **changes})


@pytest.fixture(scope="module")
def played_here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here") / "run"
    run(small_run(backend="sequential", jobs=1), folder)
    return results(folder)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading", *CLUSTERS])
def test_results_are_equal_to_the_last_bit_on_each_backend(tmp_path, played_here, backend):
    run(small_run(backend=backend), tmp_path / "run")
    assert results(tmp_path / "run").equals(played_here)


def test_cells_that_train_a_policy_do_so_in_threads_as_one_after_the_other(tmp_path, model_path):
    """A pass over shared prompts changes the model for its time: threads have to have models of their own."""
    policy = {
        "env": {"id": "AlignmentDuel", "num_envs": 4, "num_candidates": 4, "horizon": 6},
        "policy": {"path": str(model_path), "max_new_tokens": 6},
        "prompts": {"toy": {"train": 8, "test": 4}},
        "oracle": "length",
        "agents": {"passive": {"learning_rate": 1e-2}, "thompson": {"learning_rate": 1e-2}},
        "evaluate_every": 3,
    }
    for name, how in (("here", {"backend": "sequential", "jobs": 1}), ("there", {"backend": "threading"})):
        run(small_run(**policy, **how), tmp_path / name)
    assert results(tmp_path / "there").equals(results(tmp_path / "here"))


# Workers that die ----------------------------------------------------------------------------------------------------

#: Dies until it has died so often; where a cell would go on from its checkpoint, this counts in a file.
DIES = """
import os, signal, time
from pathlib import Path
here = Path(folder)
begun = len(list(here.glob(who + "-*")))
(here / f"{who}-{begun}-{os.getpid()}").touch()
if begun < times:
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1.0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", *CLUSTERS])
def test_a_worker_that_dies_is_replaced_and_no_other_task_begins_again(tmp_path, backend):
    tasks = [code(name, DIES, folder=str(tmp_path), who=name, times=times) for name, times in (("a", 1), ("b", 0))]
    said = []
    with open_backend(backend, {}, jobs=2, threads=1) as executor:
        ended = {one.name: one.kind for one in outcomes(tasks, executor, jobs=2, say=said.append)}
    assert ended == {"a": "done", "b": "done"}
    begun = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert begun == ["a", "a", "b"]
    assert len(said) == 1
    assert said[0].startswith("the worker of 'a' ended (")


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_a_task_whose_workers_all_die_is_given_up_after_some_tries(tmp_path, backend):
    tasks = [code(name, DIES, folder=str(tmp_path), who=name, times=times) for name, times in (("a", 99), ("b", 0))]
    with open_backend(backend, {}, jobs=2, threads=1) as executor:
        ended = {one.name: one for one in outcomes(tasks, executor, jobs=2)}
    assert {name: one.kind for name, one in ended.items()} == {"a": "died", "b": "done"}
    assert len(list(tmp_path.glob("a-*"))) == RETRIES + 1


def test_a_worker_that_died_with_nothing_to_do_costs_no_try(tmp_path):
    with open_backend("loky", {}, jobs=2, threads=1) as executor:
        pid = executor.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        assert executor.submit(os.getpid).result() != pid


def test_calls_that_run_when_the_block_ends_are_ended():
    started = time.monotonic()
    with open_backend("loky", {}, jobs=2, threads=1) as executor:
        executor.submit(os.getpid).result()
        future = executor.submit(time.sleep, 60)
    with pytest.raises(RuntimeError):
        future.result(timeout=10)
    assert time.monotonic() - started < 20


def test_a_task_that_is_interrupted_interrupts_the_run():
    with pytest.raises(KeyboardInterrupt):
        list(outcomes([code("a", "raise KeyboardInterrupt")], Inline(), jobs=1))


# Cells that fail -----------------------------------------------------------------------------------------------------

DEADLY = """
import os
from duelenv.oracles import register

@register("dies")
def dies():
    return lambda *_: os._exit(9)
"""


def fails_at(tmp_path, calls, **changes):
    """A run of two cells whose oracle raises an error in its first call, once."""
    oracle = {"name": "paid", "folder": str(tmp_path), "stop_at": calls, "error": "ZeroDivisionError('why')"}
    return paid_run(tmp_path, oracle=oracle, **changes)


def test_a_cell_that_fails_lets_the_others_end_and_is_listed_with_its_command(tmp_path, capsys):
    import shlex

    import yaml

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(fails_at(tmp_path, 0).to_dict()))
    assert main(["run", str(path), "--output", str(tmp_path / "run")]) == 1
    assert {row["agent"] for row in results(tmp_path / "run").to_pylist()} == {"thompson"}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "is played again by: " in line]
    assert line.startswith("paid: 'passive-seeds2' is played")
    words = shlex.split(line.partition("again by: ")[2])
    assert words[:2] == ["duelenv", "run"]
    assert main(words[1:]) == 0
    run(paid_run(tmp_path / "whole"), tmp_path / "whole" / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))
    assert asked(tmp_path) == asked(tmp_path / "whole")


def test_with_fail_fast_a_cell_that_fails_stops_the_others(tmp_path):
    with pytest.raises(RuntimeError, match="'passive-seeds2' stopped with ZeroDivisionError: why"):
        run(fails_at(tmp_path, 0, fail_fast=True), tmp_path / "run")
    assert not list((tmp_path / "run" / "cells").glob("*/result.parquet"))


def test_only_the_named_cell_is_played(tmp_path):
    run(paid_run(tmp_path), tmp_path / "run", only=["thompson-seeds2"])
    assert {path.parent.name for path in (tmp_path / "run").rglob("result.parquet")} == {"thompson-seeds2"}
    with pytest.raises(UserError, match="no cell 'thomson-seeds2': did you mean 'thompson-seeds2'"):
        run(paid_run(tmp_path), tmp_path / "run", only=["thomson-seeds2"])


@pytest.mark.parametrize("jobs", [2])
def test_a_cell_whose_worker_is_killed_goes_on_to_the_same_results(tmp_path, capsys, jobs):
    oracle = {
        "name": "paid",
        "folder": str(tmp_path),
        "stop_at": 2,
        "error": "__import__('os').kill(__import__('os').getpid(), 9)",
    }
    run(paid_run(tmp_path, oracle=oracle, jobs=jobs), tmp_path / "run")
    assert "ended (TerminatedWorkerError" in capsys.readouterr().err
    run(paid_run(tmp_path / "whole"), tmp_path / "whole" / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))


def test_cells_whose_workers_all_die_are_a_sentence(tmp_path):
    (tmp_path / "dies.py").write_text(DEADLY)
    config = paid_run(tmp_path, oracle={"name": "dies"}, modules=[str(tmp_path / "dies.py")], jobs=2)
    with pytest.raises(WorkerDied, match=r"2 of 2 cells failed: The workers of '\w+-seeds2' ended 3 times") as caught:
        run(config, tmp_path / "run")
    assert caught.value.exit_code == 1


# Names and settings --------------------------------------------------------------------------------------------------


class CountingBackend(ThreadingBackend):
    """As somebody registers one with joblib."""

    calls = 0

    def submit(self, func, callback=None):
        CountingBackend.calls += 1
        return super().submit(func, callback)


def test_a_backend_that_is_registered_with_joblib_is_found_by_name(tmp_path, played_here):
    joblib.register_parallel_backend("counting", CountingBackend)
    CountingBackend.calls = 0
    run(small_run(backend="counting"), tmp_path / "run")
    assert CountingBackend.calls == 4  # the preparation, and three cells
    assert results(tmp_path / "run").equals(played_here)


OWN = """
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from duelenv.experiments.running.backends import register_backend

@register_backend("own_threads")
@contextmanager
def own_threads(jobs: int, threads: int, mark: str = ""):
    Path(mark).touch()
    with ThreadPoolExecutor(jobs) as executor:
        yield executor
"""


def test_a_backend_of_a_users_module_is_found_by_name_and_takes_settings(tmp_path, played_here):
    (tmp_path / "own.py").write_text(OWN)
    mark = str(tmp_path / "mark")
    run(small_run(backend={"name": "own_threads", "mark": mark}, modules=[str(tmp_path / "own.py")]), tmp_path / "run")
    assert Path(mark).exists()
    assert results(tmp_path / "run").equals(played_here)


def test_backend_may_change_between_two_starts_of_a_run():
    assert small_run(backend="dask", fail_fast=True).identity() == small_run().identity()
    with_settings = small_run(backend={"name": "dask", "scheduler": "tcp://a:1"})
    assert RunConfig.from_dict(with_settings.to_dict()) == with_settings


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("dusk", "backend 'dusk' is unknown: did you mean 'dask'"),
        ({"name": "dask", "schedular": "x"}, "did you mean 'scheduler'"),
        ({"name": "loky", "jobs": 3}, "'backend.jobs' is set in the wrong place"),
        ({"name": "dask", "scheduler": "nonsense://x"}, "No Dask scheduler answers at 'nonsense://x'"),
    ],
)
def test_a_wrong_backend_is_one_sentence(tmp_path, backend, message):
    with pytest.raises(UserError) as caught:
        run(small_run(backend=backend), tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run" / "cells").exists()


@pytest.mark.parametrize(("backend", "module"), [("ray", "ray"), ("dask", "distributed"), ("slurm", "dask_jobqueue")])
def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'duelenv\[{backend}\]'"):
        run(small_run(backend=backend), tmp_path / "run")


def test_names_are_registered_once():
    with pytest.raises(UserError, match="registered already"):
        register_backend("loky", lambda jobs, threads: None)
    assert "slurm" in BACKENDS


# Clusters ------------------------------------------------------------------------------------------------------------


def test_a_scheduler_that_runs_already_is_used_and_left_alone(tmp_path, played_here):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster:
        run(small_run(backend={"name": "dask", "scheduler": cluster.scheduler_address}), tmp_path / "run")
        assert cluster.status.name == "running"
        assert len(cluster.scheduler_info["workers"]) == 1
    assert results(tmp_path / "run").equals(played_here)
