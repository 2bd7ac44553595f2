"""`duelenv bench belief`: what is timed, what is left out, its command."""

import numpy as np
import pytest
import torch

from duelenv.experiments.bench import belief as bench
from duelenv.experiments.commands.cli import main


class Sleeper:
    """A belief that takes as long as it is told, on a clock of its own; its first round longer."""

    now = 0.0

    def __init__(self, heads):
        self.heads, self.labels, self.samples, self.threads = heads, [], [], set()

    def update(self, first, second, labels):
        assert first.shape == second.shape == (len(labels), 3)
        self.labels.append(len(labels))
        self.threads.add(torch.get_num_threads())
        Sleeper.now += 9.0 if len(self.labels) <= 2 else 0.01 * len(self.labels)

    def sample(self, features, count):
        self.samples.append((features.shape, count))
        Sleeper.now += 9.0 if len(self.samples) == 1 else 0.002 * self.heads


def test_times_are_of_one_round_each_and_the_first_does_not_count(monkeypatch):
    made = []
    monkeypatch.setattr(bench, "_BELIEFS", {"sleeper": lambda dim, heads: made.append(Sleeper(heads)) or made[-1]})
    monkeypatch.setattr(bench, "perf_counter", lambda: Sleeper.now)
    threads = torch.get_num_threads()
    speeds = list(bench.bench_belief((3,), (1, 10), repeats=3))
    assert torch.get_num_threads() == threads
    assert [(speed.belief, speed.dim, speed.heads) for speed in speeds] == [("sleeper", 3, 1), ("sleeper", 3, 10)]
    assert [speed.update_ms for speed in speeds] == pytest.approx([40.0, 40.0])  # the third, fourth and fifth update
    assert [speed.sample_ms for speed in speeds] == pytest.approx([2.0, 20.0])
    for belief in made:
        assert belief.labels == [bench.LABELS] + 4 * [bench.ROWS]
        assert belief.samples == 4 * [((bench.ROWS, bench.CANDIDATES, 3), belief.heads)]
        assert belief.threads == {1}


def test_all_beliefs_are_measured():
    speeds = list(bench.bench_belief((4,), (2, 3), repeats=1))
    assert [(speed.belief, speed.heads) for speed in speeds] == [
        *(("ensemble", 2), ("ensemble", 3)),
        *(("10 trunks", 2), ("10 trunks", 3)),
        *(("laplace", 2), ("laplace", 3)),
    ]
    assert np.isfinite([[speed.update_ms, speed.sample_ms] for speed in speeds]).all()
    assert all(speed.update_ms > 0 and speed.sample_ms > 0 for speed in speeds)


@pytest.fixture
def one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def test_the_command_prints_multiples_of_the_first_of_a_dimension(one_thread, monkeypatch, capsys):
    measured = [bench.BeliefSpeed("ensemble", 64, 20, 4.0, 1.0), bench.BeliefSpeed("10 trunks", 64, 100, 10.0, 5.0)]
    monkeypatch.setattr(bench, "bench_belief", lambda: iter(measured))
    assert main(["bench", "belief"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["ensemble", "64", "20", "4.00", "x1.00", "1.00", "x1.00"]
    assert lines[-1].split() == ["10", "trunks", "64", "100", "10.00", "x2.50", "5.00", "x5.00"]


@pytest.mark.parametrize("arguments", [["belief", "ensemble"], ["belief", "--quick"], ["belief", "--replicates", "3"]])
def test_mistakes_are_one_sentence(one_thread, capsys, arguments):
    assert main(["bench", *arguments]) == 2
    assert "'duelenv bench belief' takes no" in capsys.readouterr().err
