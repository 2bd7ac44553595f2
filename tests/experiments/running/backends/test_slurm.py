"""SLURM, played by stub commands on this machine: jobs that work, and those that are refused, wait, end or go wrong."""

import os
import shlex
import stat
import time
import warnings
from pathlib import Path

import pytest
from paid_runs import results

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.backends import slurm
from duelenv.experiments.running.failures import CellsRefused
from duelenv.experiments.running.runner import run

#: A job is a process, its number its id. As SLURM does, it keeps the script, which is deleted once it is submitted.
SBATCH = """#!/bin/bash
script=$(mktemp {log}.XXXXXX)
cp "${@: -1}" "$script"
setsid bash "$script" >>{log} 2>&1 &
echo $! >> {jobs}
echo "Submitted batch job $!"
"""
#: As SLURM does it sends SIGKILL to what outlives SIGTERM.
SCANCEL = """#!/bin/bash
for job in "$@"; do
    echo "$job" >> {cancelled}
    kill -TERM -- "-$job"
    (sleep 5; kill -KILL -- "-$job") </dev/null >/dev/null 2>&1 &
done
"""
#: Takes jobs of which none ever begins.
TAKES = "#!/bin/bash\necho Submitted batch job 4$(date +%N)\n"


def small_run(**backend):
    raw = {
        "name": "small",
        "env": {"id": "FeatureDuel", "num_candidates": 4, "dim": 3, "horizon": 4},
        "agents": ["passive", "thompson"],
        "seeds": 2,
        "evaluate_every": 4,
        "jobs": 2,
        "backend": {"name": "slurm", "memory": "1GB", "walltime": "00:05:00", "interface": "lo", **backend},
    }
    return RunConfig.from_dict(raw)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A function that puts commands before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.1)

    def put(**texts):
        for name, text in texts.items():
            for place in ("log", "jobs", "cancelled"):
                text = text.replace("{" + place + "}", str(tmp_path / place))
            (folder / name).write_text(text)
            (folder / name).chmod(stat.S_IRWXU)

    put(scancel="#!/bin/bash\n")
    return put


def test_jobs_are_submitted_used_and_cancelled(tmp_path, commands):
    commands(sbatch=SBATCH, scancel=SCANCEL)
    # No nanny: one process less to start. Should a stub not get going, the run ends with a sentence.
    run(small_run(queue="short", nanny=False, queue_seconds=120.0), tmp_path / "run")
    jobs = [int(line) for line in (tmp_path / "jobs").read_text().split()]
    assert len(jobs) == 2
    assert sorted(jobs) == sorted(int(line) for line in (tmp_path / "cancelled").read_text().split())
    until = time.monotonic() + 20
    while any(Path(f"/proc/{job}/cmdline").exists() and Path(f"/proc/{job}/cmdline").read_bytes() for job in jobs):
        assert time.monotonic() < until, "a job goes on"
        time.sleep(0.1)
    here = RunConfig.from_dict({**small_run().to_dict(), "backend": "sequential"})
    run(here, tmp_path / "here")
    assert results(tmp_path / "run").equals(results(tmp_path / "here"))


def test_where_there_is_no_slurm_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no command 'sbatch'"):
        run(small_run(), tmp_path / "run")


REJECTS = "#!/bin/bash\necho 'sbatch: error: invalid partition specified: shrot' >&2\nexit 1\n"
PENDING = "#!/bin/bash\necho '77 PENDING (Priority)'\n"
TAKES_77 = "#!/bin/bash\necho Submitted batch job 77\n"


@pytest.mark.parametrize(
    ("stubs", "message"),
    [
        (
            {"sbatch": REJECTS},
            "SLURM took no job: 'sbatch' exited with 1 and said 'sbatch: error: invalid partition specified: shrot'",
        ),
        (
            {"sbatch": TAKES_77, "squeue": PENDING},
            "no worker came from jobs 77, 77 of SLURM in 0.5 s ('squeue' says 77 PENDING (Priority)); give more "
            "'backend.queue_seconds'",
        ),
        ({"sbatch": TAKES_77, "squeue": "#!/bin/bash\nexit 1\n"}, "no worker came from jobs 77, 77 of SLURM in 0.5 s;"),
        (
            {
                "sbatch": TAKES_77,
                "squeue": "#!/bin/bash\n",
                "sacct": "#!/bin/bash\necho '77|CANCELLED by 1000|0:0'\n",
            },
            "jobs 77, 77 of SLURM ended ('sacct' says 77 CANCELLED by 1000 0:0); see what they printed",
        ),
        ({"sbatch": "#!/bin/bash\necho no number here\n"}, "SLURM took no job: Could not parse job id from submission"),
    ],
)
def test_without_any_job_it_is_one_sentence_and_the_cells_are_named(tmp_path, commands, stubs, message):
    commands(**stubs)
    with pytest.raises(CellsRefused) as caught:
        run(small_run(queue_seconds=0.5), tmp_path / "run")
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(
        "; no cell was begun (passive-seeds2, thompson-seeds2), and the same command begins them"
    )
    assert not (tmp_path / "run").exists()


def test_cells_that_lose_all_jobs_are_listed_with_their_commands(tmp_path, commands, capsys):
    """The first start plays one cell here; the second finds no job, and names what is left."""
    here = RunConfig.from_dict({**small_run().to_dict(), "backend": "sequential"})
    run(here, tmp_path / "run", only=["passive-seeds2"])
    commands(sbatch=REJECTS)
    capsys.readouterr()
    with pytest.raises(CellsRefused, match="invalid partition"):
        run(small_run(), tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "is played again by: " in line]
    assert line.startswith("small: 'thompson-seeds2' is played again by: duelenv run ")
    words = shlex.split(line.partition("again by: ")[2])
    assert main([*words[1:], "backend=sequential"]) == 0
    run(here, tmp_path / "whole")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queue_seconds": 0}, "'backend.queue_seconds' is 0, expected a number above 0"),
        ({"walltme": "1"}, "'backend' of SLURM is refused"),
    ],
)
def test_a_wrong_setting_is_one_sentence(tmp_path, commands, settings, message):
    commands(sbatch=TAKES)
    with pytest.raises(UserError) as caught:
        run(small_run(**settings), tmp_path / "run")
    assert message in str(caught.value)


# What is known of jobs, without any -----------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def made(wanted, accepted=(), rejected=()):
    clock = Clock()
    jobs = slurm._Jobs(wanted, 10.0, clock)
    jobs.accepted += accepted
    jobs.rejected += rejected
    return jobs, clock


def test_the_wait_counts_from_the_last_worker(commands):
    commands(squeue="#!/bin/bash\necho '7 RUNNING None'\n")
    jobs, clock = made(1, ["7"])
    clock.now = 10.0
    assert jobs.hopeless(0) is None
    clock.now = 15.0
    assert jobs.hopeless(1) is None
    clock.now = 25.0
    assert jobs.hopeless(0) is None
    clock.now = 25.1
    assert jobs.hopeless(0).startswith("no worker came from job 7 of SLURM in 10 s ('squeue' says 7 RUNNING None)")


def test_jobs_that_are_gone_are_given_up_at_the_second_look_and_only_where_all_are(commands):
    commands(squeue="#!/bin/bash\necho '7 PENDING (Resources)'\n", sacct="#!/bin/bash\nexit 1\n")
    jobs, _ = made(2, ["7", "8"])
    assert [jobs.hopeless(0) for _ in range(3)] == [None] * 3
    commands(squeue="#!/bin/bash\necho '9 RUNNING None'\n")  # somebody else's
    assert jobs.hopeless(0) is None
    assert jobs.hopeless(1) is None  # a worker after all
    assert jobs.hopeless(0) is None
    assert jobs.hopeless(0) == "jobs 7, 8 of SLURM ended; see what they printed, and start the run again"


def test_jobs_that_are_still_being_submitted_are_waited_for(commands):
    commands(squeue="#!/bin/bash\n")
    jobs, clock = made(3, ["7"], ["no"])
    assert [jobs.hopeless(0) for _ in range(3)] == [None] * 3
    clock.now = 11.0
    assert jobs.hopeless(0).startswith("no worker came from job 7 of SLURM in 10 s; give more")


def test_a_run_goes_on_with_the_jobs_that_were_taken_and_says_so_once(commands):
    commands(squeue="#!/bin/bash\necho '7 PENDING x'\n")
    jobs, _ = made(2, ["7"], ["'sbatch' exited with 1 and said 'limit'"])
    with pytest.warns(UserWarning, match="SLURM took 1 of 2 jobs, and the run goes on with these: 'sbatch' exited"):
        assert jobs.hopeless(0) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jobs.hopeless(0) is None
