"""A scheduler of Dask that is not there, says nothing, has no workers or goes away: one sentence, in bounded time."""

import socket
import time

import pytest

from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.backends import dask_cluster
from duelenv.experiments.running.runner import run
from duelenv.ground.errors import UserError


def small_run(**backend):
    return RunConfig.from_dict(
        {
            "name": "small",
            "env": {"id": "FeatureDuel", "num_candidates": 3, "dim": 2, "horizon": 4},
            "agents": ["passive"],
            "seeds": 2,
            "jobs": 1,
            "backend": {"name": "dask", **backend},
        }
    )


def test_what_takes_connections_and_says_nothing_is_no_scheduler(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(
            UserError, match=rf"No Dask scheduler answers at '{address}' \(what is there does not greet"
        ):
            run(small_run(scheduler=address), tmp_path / "run")
        assert time.monotonic() - begun < 20
    assert not (tmp_path / "run" / "cells").exists()


@pytest.mark.parametrize(
    ("backend", "named"),
    [
        ({"scheduler": 8786}, "'backend.scheduler' is 8786, expected a word or a path"),
        (
            {"scheduler": "tcp://127.0.0.1:1", "worker_seconds": 0},
            "'backend.worker_seconds' is 0, expected a number above",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, backend, named):
    with pytest.raises(UserError, match=named):
        run(small_run(**backend), tmp_path / "run")


def test_a_cluster_without_workers_is_waited_for_so_long_and_no_longer(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(dask_cluster, "_LOOK_SECONDS", 0.1)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(UserError, match=f"at '{address}' had no worker for 1 s; start workers with 'dask worker"):
            run(small_run(scheduler=address, worker_seconds=1), tmp_path / "run")


class Client:
    """Says what a client of Dask says."""

    def __init__(self):
        self.status, self.workers = "running", {}

    def nthreads(self):
        if self.workers is None:
            raise OSError("gone")
        return self.workers


def test_workers_that_come_and_go_begin_the_wait_anew_and_a_closed_client_ends_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(dask_cluster.time, "monotonic", lambda: now[0])
    client = Client()
    look = dask_cluster._look_at(client, "tcp://a:1", patience=10.0)
    now[0] = 9.0
    assert look() is None
    client.workers = {"tcp://b:1": 1}
    assert look() is None
    client.workers = {}
    now[0] = 18.0
    assert look() is None
    now[0] = 20.0
    assert look().startswith("the Dask scheduler at 'tcp://a:1' had no worker for 10 s")
    client.workers = None
    assert look().startswith("the Dask scheduler at 'tcp://a:1' did not answer for 10 s")
    now[0], client.status = 9.0, "closed"
    assert look() == "the Dask scheduler at 'tcp://a:1' went away; start it, then the run again"
