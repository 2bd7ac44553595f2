"""`duelenv bench regret`: its worlds, its figures on a case with a known answer, its command."""

from dataclasses import replace

import numpy as np
import pytest

from duelenv import UserError, agents
from duelenv.agents import base
from duelenv.experiments.bench import regret as bench
from duelenv.experiments.commands.cli import main
from duelenv.oracles.matrices import bradley_terry, cyclic


def test_no_bandit_agent_is_forgotten():
    for family, listed in (("karmed", bench.KARMED), ("contextual", bench.CONTEXTUAL)):
        own = {name for name in agents.names() if base.AGENTS[name].__module__.startswith(f"duelenv.agents.{family}.")}
        assert own <= set(listed)
    assert {*bench.KARMED, *bench.CONTEXTUAL} <= set(agents.names())


def test_random_pairs_regret_the_mean_gap_of_every_round():
    matrix = bradley_terry([1.0, 0.0, -1.0])
    measured = bench.measure("random", bench.matrix_world(matrix, replicates=64, horizon=200))
    expected = 200 * np.mean(matrix[0] - 0.5)
    assert abs(measured.regret.mean() - expected) < 4 * measured.standard_error
    assert measured.duels_per_second > 0


def test_world_a_sums_the_regret_of_both_arms():
    small = replace(bench.WORLD_A, horizon=20, replicates=4)
    both = bench.measure("random", small).regret
    average = bench.measure("random", replace(small, factor=1.0)).regret
    assert both == pytest.approx(2 * average)


def words(capsys, *arguments):
    assert main(["bench", "regret", *arguments]) == 0
    return capsys.readouterr()


@pytest.fixture
def one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def test_the_command_measures_the_agents_it_is_given(one_thread, capsys):
    output = words(capsys, "--quick", "rucb", "maxinp")
    lines = output.out.splitlines()
    assert sum(line.startswith("rucb") for line in lines) == 1
    assert sum(line.startswith("maxinp") for line in lines) == 1
    assert not any(line.startswith("dts") for line in lines)
    assert "T = 200, 8 replicates" in output.out
    assert "maxinp, world B" in output.err


def test_the_command_takes_a_matrix(one_thread, tmp_path, capsys):
    np.save(tmp_path / "matrix.npy", bradley_terry([1.0, 0.0, -1.0]))
    output = words(capsys, "rmed1", "--quick", "--replicates", "3", "--matrix", str(tmp_path / "matrix.npy"))
    assert output.out.splitlines()[-2] == "K = 3: T = 200, 3 replicates, average regret"


def test_a_matrix_is_played_by_all_agents_for_k_arms_and_by_no_other(tmp_path, monkeypatch):
    np.save(tmp_path / "matrix.npy", bradley_terry([1.0, 0.0, -1.0]))
    played = []

    def noted(name, world, **_):
        played.append((name, len(world.settings["matrix"])))
        return bench.Measured(name, world, np.ones(2), 1.0)

    monkeypatch.setattr(bench, "measure", noted)
    (table,) = bench.bench_regret(matrix=str(tmp_path / "matrix.npy"))
    assert played == [(name, 3) for name in bench.KARMED]
    assert "K = 20" not in table


def test_without_a_matrix_both_families_play_two_worlds_each(monkeypatch):
    played = []

    def noted(name, world, **_):
        played.append((name, world.title))
        return bench.Measured(name, world, np.ones(2), 1.0)

    monkeypatch.setattr(bench, "measure", noted)
    assert len(list(bench.bench_regret(["rucb", "maxinp"]))) == 2
    assert played == [
        ("rucb", "K = 10"),
        ("rucb", "K = 20"),
        ("maxinp", bench.WORLD_A.title),
        ("maxinp", bench.WORLD_B.title),
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["regret", "rucbb"], "did you mean 'rucb'"),
        (["regret", "--matrix", "gone.npy"], "gone.npy"),
        (["regret", "rucb", "maxinp", "--matrix", "gone.npy"], "'maxinp' is an agent for features"),
        (["regret", "--replicates", "1"], "at least 2"),
        (["--quick"], "duelenv bench regret"),
    ],
)
def test_mistakes_are_one_sentence(one_thread, capsys, arguments, named):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


def test_average_regret_needs_a_condorcet_winner():
    with pytest.raises(UserError, match="no Condorcet winner"):
        bench.measure("random", bench.matrix_world(cyclic(3), replicates=2, horizon=3))
