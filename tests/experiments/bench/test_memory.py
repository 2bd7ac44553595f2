"""`duelenv bench memory`: numbers mean what they say, and its command."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from duelenv import UserError
from duelenv.experiments.bench import memory as bench
from duelenv.experiments.commands.cli import main

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
SMALL = {"rows": 4, "tokens": 8, "layers": 1, "hidden": 128, "heads": 2}


def peak(agent="passive", candidates=2, resting=5, sampling=30, update=40, **floors):
    floors = {"floor_sampling": 20, "floor_update": 32, **floors}
    parts = {"parameters": 12, "the belief": 0}
    return bench.RoundPeak(agent, candidates, resting, sampling, update, floor=parts, **floors)


@linux
def test_the_mark_is_set_back_and_a_peak_that_is_gone_is_seen():
    megabytes = 2**20
    kept = np.ones(4 * megabytes, np.uint8)
    np.ones(64 * megabytes, np.uint8).sum()
    before = bench._settled()
    bench._set_back()
    assert abs(bench._most() - before) < 8 * megabytes
    np.ones(64 * megabytes, np.uint8).sum()
    assert 60 * megabytes < bench._most() - before < 80 * megabytes
    bench._set_back()
    assert bench._most() - before < 8 * megabytes
    assert kept.any()


@pytest.mark.slow
@linux
def test_a_row_is_measured_in_a_process_of_its_own_and_lies_above_its_floor():
    (found,) = bench.bench_memory(("thompson",), (3,), **SMALL)
    assert (found.agent, found.candidates) == ("thompson", 3)
    weights = 4 * 2 * 96 * 128  # embedding and head alone
    assert found.floor["parameters"] > weights
    assert found.floor["AdamW's moments"] == 2 * found.floor["parameters"]
    assert found.floor["the belief"] > 0
    assert found.peak >= found.resting > 4 * weights  # the model, its frozen start, two moments
    assert found.least < 2 * found.peak  # nothing is counted in another unit


@pytest.mark.slow
@linux
def test_a_round_that_cannot_be_played_is_one_sentence():
    with pytest.raises(UserError, match="the round of 'nobody' with 2 candidates was not played"):
        list(bench.bench_memory(("nobody",), (2,), **SMALL))


def test_a_system_without_a_mark_is_refused(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(UserError, match="which is not here"):
        list(bench.bench_memory())


def test_the_larger_half_of_a_round_is_its_peak_and_its_floor():
    assert (peak().peak, peak().least, peak().ratio) == (40, 32, 1.25)
    assert (peak(sampling=50).peak, peak(floor_sampling=60).least) == (50, 60)


def test_bytes_of_nested_state_are_counted():
    state = {"a": [np.zeros(3), {"b": torch.zeros(2)}], "c": 7, "d": None, "e": (np.zeros(1, np.int8),)}
    assert bench._bytes_of(state) == 24 + 8 + 1


def test_the_command_prints_the_ratio_and_what_the_floor_is_made_of(monkeypatch, capsys):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(bench, "bench_memory", lambda: iter([peak("selm", 20)]))
    assert main(["bench", "memory"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("selm"))
    assert row.split() == ["selm", "20", "5", "B", "30", "B", "40", "B", "40", "B", "32", "B", "x1.25"]
    assert lines[-1].split() == ["12", "B", "parameters"]  # what is 0 is left out
    assert main(["bench", "memory", "--quick"]) == 2
    assert "'duelenv bench memory' takes no" in capsys.readouterr().err
