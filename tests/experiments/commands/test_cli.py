"""The command: exit codes, one sentence for a mistake, no traceback, a light start."""

import os
import signal
import subprocess
import sys
import time

import numpy
import pytest
import yaml
from interrupts import take_signals

from duelenv.experiments.commands.cli import main

CONFIG = {
    "name": "tiny",
    "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 6},
    "agents": ["passive", "real"],
    "seeds": 2,
    "evaluate_every": 3,
    "jobs": 1,
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    return "tiny.yaml"


def mistake(capsys, *arguments):
    """Runs the command, which must fail as a user's mistake does; returns its sentence."""
    assert main(arguments) == 2
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith("duelenv: ")
    assert "Traceback" not in error
    return last


def test_run_then_report(config, tmp_path, capsys):
    assert main(["run", config]) == 0
    output = capsys.readouterr()
    assert "passive" in output.out
    assert "report   " in output.out
    assert "tiny: real, 2 seeds" in output.err
    directory = tmp_path / "runs" / "tiny"
    assert {"results.parquet", "report.html", "config.yaml", "table.md", "environment.json"} <= {
        path.name for path in directory.iterdir()
    }
    (directory / "report.html").unlink()
    assert main(["report", str(directory)]) == 0
    assert (directory / "report.html").exists()


def test_overrides_have_a_directory_of_their_own(config, tmp_path, capsys):
    assert main(["run", config, "seeds=1"]) == 0
    assert main(["run", config, "--jobs", "1"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(names) == 2
    assert names[0] == "tiny"
    assert names[1].startswith("tiny-")
    assert "another config" in mistake(capsys, "run", config, "seeds=1", "--output", "runs/tiny")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "dmeo"], "did you mean 'demo'"),
        (["run", "tiny.yaml", "sedes=3"], "did you mean 'seeds'"),
        (["run", "tiny.yaml", "env.dimm=3"], "did you mean 'dim'"),
        (["run", "tiny.yaml", "env.num_candidates=1"], "num_candidates"),
        (["run", "tiny.yaml", "--jobs", "many"], "'jobs' is 'many'"),
        (["run", "pool"], "data=FILE"),
        (["run", "pool", "data=missing.parquet"], "missing.parquet"),
        (["report", "."], "not a run directory: it has no config.yaml; name the folder"),
        (["report", "tiny.yaml"], "not a run directory: it is a file; name the folder"),
        (["watch", "tiny.yaml"], "not a run directory: it is a file; name the folder"),
        (["labels", "nowhere"], "not a run directory: nothing is there; 'duelenv run CONFIG' makes one"),
        (["show", "FeatureDual"], "did you mean 'FeatureDuel'"),
        (["show", "FeatureDuel", "dim=0"], "dim"),
        (["bench", "MatrixDual"], "did you mean 'MatrixDuel'"),
        (["run", "features", "policy.path=x"], "takes no 'policy'"),
        (["show", "features", "policy.path=x"], "takes no 'policy'"),
        (["run", "tiny.yaml", "env.foo=1"], "batch, candidates"),
        (["run", "tiny.yaml", "env.foo=1"], ", utility"),
    ],
)
def test_mistakes_are_one_sentence(config, capsys, monkeypatch, arguments, named):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert named in mistake(capsys, *arguments)


@pytest.mark.parametrize("arguments", [["rnu"], ["run", "demo", "--ouput", "x"], ["list", "all"]])
def test_unknown_arguments_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_config_is_all_that_a_run_requires(capsys):
    with pytest.raises(SystemExit):
        main(["run"])
    assert capsys.readouterr().err.strip().endswith("required: CONFIG")


def test_a_wrong_bench_prints_no_table(capsys, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert main(["bench", "Foo"]) == 2
    assert capsys.readouterr().out == ""


def test_a_wrong_metric_can_be_corrected_in_the_same_directory(config, tmp_path, capsys):
    assert "'metric' is 'foo'" in mistake(capsys, "run", config, "metric=foo")
    assert not list(tmp_path.glob("runs/*/cells/*/result.parquet"))
    assert main(["run", config, "metric=regret_utility"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]


def test_overrides_may_follow_options(config, capsys):
    assert "did you mean 'seeds'" in mistake(capsys, "run", config, "--jobs", "1", "sedes=1")


def test_interrupts_exit_with_130(config, capsys, monkeypatch):
    from duelenv.experiments.running import play

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(play._Run, "_round", interrupted)
    assert main(["run", config]) == 130
    error = capsys.readouterr().err
    assert "0 of 2 cells finished; the same command continues" in error
    assert "Traceback" not in error


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    output = capsys.readouterr().out
    named = ("passive", "thompson", "selm", "real", "good_words", "duelenv/PoolDuel-v0", "demo", "features")
    parts = ("delay", "mallows", "ackley", "probit", "slurm", "wandb", "tie_band", "best_worst", "dpo", "completions")
    for name in (*named, *parts):
        assert f"\n  {name}" in output
    assert "\nbackends (backend)\n  dask\n" in output
    assert "\ntrackers\n  mlflow\n" in output


def test_list_and_help_load_nothing_heavy():
    code = (
        "import sys; from duelenv.experiments.commands.cli import main; main(['list']); "
        "print([name for name in ('torch', 'transformers', 'stable_baselines3', 'matplotlib', 'pandas', 'pyarrow', "
        "'joblib') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["FeatureDuel", "num_candidates=3"], ["features of each candidate", "P(", "regret   average"]),
        (["MatrixDuel"], ["duel     ", "label    "]),
        (["duelenv/FeatureDuel-v0", "seeds=[4]", "selective=true"], ["seed 4"]),
        (["tiny.yaml", "env.num_candidates=5"], ["5 candidates"]),
    ],
)
def test_show_prints_a_duel(config, capsys, arguments, named):
    assert main(["show", *arguments]) == 0
    output = capsys.readouterr().out
    for text in named:
        assert text in output


def test_show_prints_texts(config, tmp_path, capsys):
    rows = [{"prompt": f"p{p}", "response": f"answer {p} {k}", "score": float(k)} for p in range(4) for k in range(3)]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    assert main(["show", "PoolDuel", "data=pool.parquet"]) == 0
    output = capsys.readouterr().out
    assert "prompt" in output
    assert output.count("answer") == 3


def test_bench_measures(monkeypatch):
    from duelenv.experiments.bench import worlds as bench

    monkeypatch.setattr(bench, "STRETCH", 0.01)
    speeds = bench.bench()
    assert [speed.world for speed in speeds] == ["MatrixDuel", "FeatureDuel", "PoolDuel"]
    assert all(speed.slowest <= speed.row_steps_per_second <= speed.fastest for speed in speeds)


@pytest.mark.skipif(os.name != "posix", reason="signals as a POSIX terminal sends them")
def test_ctrl_c_ends_workers_quietly_and_keeps_checkpoints(config, tmp_path):
    command = [sys.executable, "-m", "duelenv.experiments.commands.cli", "run", config, "--output", "run", "jobs=2"]
    long = [*command, "env.horizon=1000000", "checkpoint_seconds=0.2", "evaluate_every=1000000"]
    settings = {"start_new_session": True, "preexec_fn": take_signals}
    with subprocess.Popen(long, stderr=subprocess.PIPE, text=True, **settings) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("run/cells/*/checkpoint.npz")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers as well
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("duelenv: Interrupted with 0 of 2 cells finished")
    assert list(tmp_path.glob("run/cells/*/checkpoint.npz"))
    assert not (tmp_path / "run" / "results.parquet").exists()


@pytest.mark.parametrize("key", ["oracle.token", "env.api_key", "agents.real.secret"])
def test_a_secret_on_the_command_line_is_refused_before_anything_is_written(config, tmp_path, capsys, key):
    sentence = mistake(capsys, "run", config, f"{key}=sk-very-secret")
    assert "holds a secret itself" in sentence
    assert "sk-very-secret" not in sentence
    assert [path.name for path in tmp_path.iterdir()] == [config]


def test_what_a_run_was_played_on_stands_under_its_table(config, capsys):
    assert main(["run", config, "--output", "run"]) == 0
    ran = capsys.readouterr().out
    assert main(["report", "run"]) == 0
    for output in (ran, capsys.readouterr().out):
        line = " ".join(output[output.index("\nplayed   on ") : output.index("\nreport ")].split())
        assert " threads: " in line and f" numpy {numpy.__version__}, " in line and line.count("python 3.") == 1
        assert max(map(len, output[output.index("\nplayed ") : output.index("\nreport ")].splitlines())) <= 100
        assert "\ncaution" not in output
