"""Two processes take a step together: what becomes of the weights is what one process makes of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_steps import CASES, ROUNDS, play

from duelenv import UserError
from duelenv.agents.distributed import Alone, Together, processes_of
from duelenv.agents.trainer import TrainerSettings

SCRIPT = Path(__file__).parents[1] / "support" / "shared_steps.py"
CLOSE = 1e-5
# Weights that are rounded to 8 bits after each step.
TOLERANCE = {"bfloat16": 2e-3}


def launched(*arguments, processes=2, timeout=240):
    """Run a script as `accelerate launch` does; --multi_gpu is its launcher of several processes, on a CPU too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    launched(SCRIPT, folder)
    return folder


def distance(one, other, number):
    return float(np.abs(one[f"weights {number}"] - other[f"weights {number}"]).max())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_step_of_two_processes_is_that_of_one(folder, case):
    alone = play(**CASES[case])
    first, second = (np.load(folder / f"{case}-{rank}.npz") for rank in range(2))
    for number in (1, ROUNDS):
        assert distance(first, second, number) == 0.0
        assert distance(alone, first, number) <= TOLERANCE.get(case, CLOSE)
    assert (
        distance(alone, {f"weights {ROUNDS}": alone["weights 1"]}, ROUNDS) > 10 * CLOSE
    )  # which is not standing still
    assert first["steps"] == alone["steps"]


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case != "bfloat16"])
def test_figures_are_those_of_the_whole_lesson_on_every_process(folder, case):
    alone = play(**CASES[case])
    for rank in range(2):
        shared = np.load(folder / f"{case}-{rank}.npz")
        assert set(shared.files) == set(alone)
        for name in alone:
            if not name.startswith("weights"):
                assert shared[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(("case", "wrong"), [("odd", "MeanOfMeans"), ("clipped", "ClippedApart")])
def test_other_ways_to_combine_gradients_are_seen_to_be_wrong(folder, case, wrong):
    shared = np.load(folder / f"{case}-{wrong}-0.npz")
    assert distance(play(**CASES[case]), shared, 1) > 10 * CLOSE


@pytest.mark.slow
def test_processes_that_play_different_rounds_are_refused(folder):
    for rank in range(2):
        said = (folder / f"different-{rank}.txt").read_text(encoding="utf-8")
        assert said.startswith("the processes are to train the policy on different lessons")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_every_item_is_counted_by_one_process(monkeypatch, size, count, at_once):
    found = []
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        process = Together(torch.device("cpu"))
        parts = list(process.counted(count, at_once))
        assert [part for part, _ in parts] == list(process.scored(count, at_once))
        for part, weight in parts:
            assert 0 < part.stop - part.start <= at_once
            assert weight == 1.0
            found += range(part.start, part.stop)
    assert found == list(range(count))


def test_all_processes_are_one_where_there_are_no_others():
    assert isinstance(processes_of("all", torch.device("cpu")), Alone)


def test_processes_that_torch_was_not_told_of_are_missed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="no group yet"):
        processes_of("all", torch.device("cpu"))
    assert isinstance(processes_of("one", torch.device("cpu")), Alone)


def test_an_unknown_choice_is_refused():
    with pytest.raises(UserError, match="processes"):
        TrainerSettings(processes="some")
