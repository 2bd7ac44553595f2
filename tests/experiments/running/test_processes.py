"""How runs end: gently when they are told to, with a sentence when something fails, and nobody outlives them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from interrupts import take_signals
from paid_runs import asked, paid_run, results

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.folder.locks import Lease, hold_cell, hold_run
from duelenv.experiments.results.labels import counts_by_cell
from duelenv.experiments.running.backends import open_backend
from duelenv.experiments.running.processes import Task, outcomes
from duelenv.experiments.running.runner import CellFailed, OutOfBudget, run

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


AWKWARD = """
class Awkward(Exception):
    def __init__(self, code, *, where):
        super().__init__(f"code {code} from {where}")
        self.cannot_be_pickled = lambda: None

raise Awkward(3, where="the service")
"""


def code(name, text):
    """A task that runs a text: functions of a test's own module are unknown to workers."""
    return Task(name, exec, (text, {"__name__": name}))


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_task_raises_is_told_whatever_its_class(jobs):
    refusal = "from duelenv import UserError; raise UserError('too small; make it larger')"
    tasks = [
        code("awkward", AWKWARD),
        code("refused", refusal),
        code("leaves", "raise SystemExit('has had enough')"),
        code("strange", "class Strange(BaseException): pass\nraise Strange('words ' + chr(0xD800))"),
        code("dumb", "class Dumb(Exception):\n    __str__ = None\nraise Dumb"),
        Task("getpid", os.getpid, ()),
    ]
    with open_backend("loky", {}, jobs=jobs, threads=1) as executor:
        ended = {outcome.name: outcome for outcome in outcomes(tasks, executor, jobs=jobs)}
    assert (ended["awkward"].kind, ended["awkward"].message) == ("failed", "Awkward: code 3 from the service")
    assert "Traceback" in ended["awkward"].trace
    assert (ended["refused"].kind, ended["refused"].message) == ("refused", "too small; make it larger")
    assert (ended["leaves"].kind, ended["leaves"].message) == ("failed", "SystemExit: has had enough")
    assert (ended["strange"].kind, ended["strange"].message) == ("failed", "Strange: words \ud800")
    assert (ended["dumb"].kind, ended["dumb"].message) == ("failed", "Dumb: no words: its __str__ fails")
    assert (ended["getpid"].value == os.getpid()) == (jobs == 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_exception_of_an_oracle_is_one_sentence_with_its_traceback_beside_the_cell(tmp_path, capsys, jobs):
    oracle = {"name": "paid", "folder": str(tmp_path), "stop_at": 2, "error": "Awkward(7, where='here')"}
    config = paid_run(tmp_path, oracle=oracle, jobs=jobs)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert main(["run", str(path), "--output", str(tmp_path / "run")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("duelenv: ")]
    assert "stopped with Awkward: code 7 from here (traceback in" in line
    (trace,) = (tmp_path / "run").rglob("error.txt")
    assert "raise eval(error)" in trace.read_text()
    run(config, tmp_path / "run")
    run(paid_run(tmp_path / "whole"), tmp_path / "whole" / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))
    assert asked(tmp_path) == asked(tmp_path / "whole")
    assert not list((tmp_path / "run").rglob("error.txt"))


def test_an_exception_is_raised_with_its_traceback_as_a_note(tmp_path):
    oracle = {"name": "paid", "folder": str(tmp_path), "stop_at": 0, "error": "ZeroDivisionError('why')"}
    with pytest.raises(CellFailed, match="ZeroDivisionError: why") as caught:
        run(paid_run(tmp_path, oracle=oracle), tmp_path / "run")
    assert "raise eval(error)" in caught.value.__notes__[0]


# Budgets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"labels": 7}, 7])
def test_every_agent_has_the_same_labels(tmp_path, budget):
    config = paid_run(tmp_path, budget=budget, env={"id": "PoolDuel", "batch": 2})
    run(config, tmp_path / "run")
    last = [row for row in results(tmp_path / "run").to_pylist() if row["step"] == 4]
    assert [row["queries"] for row in last] == [7] * 4
    assert {held.asked for held in counts_by_cell(RunFolder(tmp_path / "run"), paid_run(tmp_path)).values()} == {14}


def test_a_horizon_in_which_a_budget_cannot_be_spent_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'budget\.labels' is 13, but 6 rounds of 2 ask for 12 at most"):
        run(paid_run(tmp_path, budget=13), tmp_path / "run")


def test_a_budget_is_set_in_one_place(tmp_path):
    with pytest.raises(UserError, match=r"'env\.budget' is set in the wrong place: use 'budget\.labels'"):
        run(paid_run(tmp_path, env={"id": "PoolDuel", "budget": 3}), tmp_path / "run")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fuse_stops_the_run_and_leaves_unfinished_cells_out(tmp_path, capsys, jobs):
    config = paid_run(tmp_path, budget={"run": 30}, jobs=jobs)
    with pytest.raises(
        OutOfBudget, match=r"would exceed the run's 'budget\.run' of 30 labels: \d of 2 cells are unfinished .*run'"
    ) as told:
        run(config, tmp_path / "run")
    assert told.value.exit_code == 3
    assert sum(asked(tmp_path).values()) <= 30
    finished = {row["agent"] for row in results(tmp_path / "run").to_pylist()} if jobs == 1 else None
    assert finished in ({"passive"}, None)
    with pytest.raises(OutOfBudget):
        run(config, tmp_path / "run")
    assert sum(asked(tmp_path).values()) <= 30
    (tmp_path / "run" / "spent.sqlite").write_bytes(b"")
    with pytest.raises(OutOfBudget):
        run(config, tmp_path / "run")
    assert sum(asked(tmp_path).values()) <= 30
    run(paid_run(tmp_path, budget={"run": 48}, jobs=jobs), tmp_path / "run")
    run(paid_run(tmp_path / "whole"), tmp_path / "whole" / "run")
    assert results(tmp_path / "run").equals(results(tmp_path / "whole" / "run"))
    assert asked(tmp_path) == asked(tmp_path / "whole")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"labels": 0}, "'budget.labels' is 0"),
        ({"label": 3}, "did you mean 'labels'"),
        ("much", "'budget' is 'much'"),
        (-1, "'budget.labels' is -1"),
    ],
)
def test_a_wrong_budget_is_one_sentence(tmp_path, budget, message):
    with pytest.raises(UserError) as caught:
        paid_run(tmp_path, budget=budget)
    assert message in str(caught.value)


# Locks ---------------------------------------------------------------------------------------------------------------


def test_a_lease_says_whether_its_run_goes_on(tmp_path):
    path = tmp_path / "run.lock"
    with hold_run(path) as lock:
        assert lock.lease.own
        assert lock.lease.state() == "held"
        lock.ask_to_stop()
        assert lock.lease.state() == "stopping"
        other = Lease(path, "another start", os.getpid(), lock.lease.host)
        assert other.state() == "gone"
    assert lock.lease.state() == "gone"
    with hold_run(path) as again:
        assert lock.lease.state() == "gone"
        assert again.lease.state() == "held"
        path.unlink()
        assert again.lease.state() == "held"  # whoever deletes the file ends no run


def test_a_lease_of_a_dead_process_is_gone(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with hold_run(tmp_path / "run.lock") as lock:
        assert Lease(lock.lease.path, lock.lease.token, child.pid, lock.lease.host).state() == "gone"


def test_who_holds_a_lock_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("duelenv.experiments.folder.locks._RUN_SECONDS", 0.0)
    monkeypatch.setattr("duelenv.experiments.folder.locks._CELL_SECONDS", 0.0)
    with hold_run(tmp_path / "run.lock"), pytest.raises(UserError, match=rf"process {os.getpid()} on "):
        with hold_run(tmp_path / "run.lock"):
            pass
    cell = tmp_path / "cells" / "one" / "cell.lock"
    with hold_cell(cell, lambda: False), pytest.raises(UserError, match="'one' is still played by a process"):
        with hold_cell(cell, lambda: False):
            pass


@pytest.mark.parametrize(("fails", "message"), [(True, "has no locks"), (False, "takes locks and does not keep them")])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, fails, message):
    import errno

    def flock(stream, how):
        if fails:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("duelenv.experiments.folder.locks.fcntl.flock", flock)
    with pytest.raises(UserError, match=message):
        run(paid_run(tmp_path), tmp_path / "run")
    assert not asked(tmp_path)


def test_a_network_file_system_gets_a_journal_that_works_there(tmp_path, monkeypatch):
    from duelenv.ground import files
    from duelenv.labels.ledger_file import LedgerFile

    for kind, journal in (("ext4", "wal"), ("nfs4", "delete")):
        mounts = tmp_path / kind
        mounts.write_text(
            f"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / {tmp_path} rw,relatime shared:2 - {kind} host:/x rw\n"
        )
        monkeypatch.setattr(files, "_MOUNTS", mounts)
        ledger = LedgerFile(tmp_path / f"ledger-{kind}")
        assert ledger.connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
        ledger.close()


# Signals -------------------------------------------------------------------------------------------------------------

SLOW = """
import time
from duelenv.oracles import register

def slow(folder: str):
    def ask(prompts, first, second):
        with open(f"{folder}/seconds") as stream:
            seconds = float(stream.read())
        with open(f"{folder}/begun", "a") as stream:
            stream.write(f"{time.monotonic()}\\n")
        time.sleep(seconds)
        with open(f"{folder}/ended", "a") as stream:
            stream.write(f"{time.monotonic()}\\n")
        return [0.7] * len(prompts)
    return ask

register("slow", slow)
"""


def start_slow(folder, jobs, seconds=0.4):
    """A run whose oracle takes its time, in a group of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "slow_parts.py").write_text(SLOW)
    (folder / "seconds").write_text(str(seconds))
    oracle = {"name": "slow", "folder": str(folder)}
    config = paid_run(folder, oracle=oracle, jobs=jobs, modules=[str(folder / "slow_parts.py")])
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    command = [sys.executable, "-m", "duelenv.experiments.commands.cli", "run", str(folder / "config.yaml")]
    return subprocess.Popen(
        [*command, "--output", str(folder / "run")],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=take_signals,
    )


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def processes_of(session):
    """Live processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after = path.read_text().rpartition(") ")[2].split()
            if int(after[3]) == session and after[0] != "Z":
                found.append(int(path.parent.name))
    return found


def end_all(started):
    for pid in processes_of(started.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    started.wait()


@linux
@pytest.mark.parametrize(
    ("jobs", "number", "code", "word"),
    [
        (1, signal.SIGTERM, 143, "Terminated"),
        (2, signal.SIGTERM, 143, "Terminated"),
        (2, signal.SIGINT, 130, "Interrupted"),
        (1, signal.SIGHUP, 129, "Terminated"),
    ],
)
def test_a_signal_ends_a_run_after_the_questions_that_are_being_asked(tmp_path, jobs, number, code, word):
    started = start_slow(tmp_path, jobs)
    try:
        wait_for(lambda: len(lines_of(tmp_path / "begun")) > jobs)
        started.send_signal(number)
        said = started.communicate(timeout=30)[1].splitlines()
        assert started.returncode == code
        assert said[-1] == f"duelenv: {word} with 0 of 2 cells finished; the same command continues where it stopped"
        assert "Traceback" not in "".join(said)
        assert len(lines_of(tmp_path / "begun")) == len(lines_of(tmp_path / "ended"))
        wait_for(lambda: not processes_of(started.pid), 5)
        held = counts_by_cell(RunFolder(tmp_path / "run"), paid_run(tmp_path)).values()
        assert sum(one.answered for one in held) == sum(one.asked for one in held) > 0
    finally:
        end_all(started)


@linux
def test_a_second_signal_ends_a_run_at_once(tmp_path):
    started = start_slow(tmp_path, 2, seconds=60)
    try:
        wait_for(lambda: lines_of(tmp_path / "begun"))
        started.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert started.poll() is None
        started.send_signal(signal.SIGINT)
        said = started.communicate(timeout=10)[1]
        assert started.returncode == 130
        assert "Traceback" not in said
        wait_for(lambda: not processes_of(started.pid), 5)
        assert not lines_of(tmp_path / "ended")
    finally:
        end_all(started)


@pytest.mark.slow
@linux
def test_workers_end_with_their_parent_and_a_restart_waits_for_them(tmp_path):
    started = start_slow(tmp_path, 2, seconds=1.5)
    try:
        wait_for(lambda: len(lines_of(tmp_path / "begun")) >= 2)
        os.kill(started.pid, signal.SIGKILL)
        died = time.monotonic()
        again = start_slow(tmp_path, 2, seconds=0.0)
        try:
            again.communicate(timeout=60)
            assert again.returncode == 0
        finally:
            end_all(again)
        started.wait()
        assert not processes_of(started.pid)
        begun, ended = ([float(line) for line in lines_of(tmp_path / name)] for name in ("begun", "ended"))
        # What was being asked was answered, and its answers kept: nothing is asked twice.
        assert len(begun) == len(ended) == 12
        # The dead run's workers ask no more, and the new run takes each cell on when its old worker is through.
        assert not [moment for moment in begun if died + 0.7 < moment < ended[0]]
        assert {
            held.asked_again for held in counts_by_cell(RunFolder(tmp_path / "run"), paid_run(tmp_path)).values()
        } == {0}
    finally:
        end_all(started)


@linux
def test_a_worker_that_starts_after_its_parent_died_ends_at_once():
    child = subprocess.run(
        [sys.executable, "-c", "from duelenv.experiments.running.processes import start_worker as s; import time; "
         "s(1 << 22); time.sleep(20)"],
        timeout=15,
        check=False,
    )  # fmt: skip
    assert child.returncode == 1


def test_processes_that_a_backend_forks_leave_signals_to_their_parent(tmp_path):
    config = paid_run(tmp_path, backend="multiprocessing", jobs=2)
    for number in range(4):
        run(config, tmp_path / str(number))
    assert results(tmp_path / "0").equals(results(tmp_path / "3"))


def test_a_fuse_where_nobody_is_paid_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"'budget\.run' is 3, a limit on answers"):
        run(paid_run(tmp_path, oracle=None, budget={"run": 3}), tmp_path / "run")


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.copy"])
def test_a_directory_in_the_place_of_a_ledger_is_set_aside_or_said(tmp_path, capsys, name):
    config = paid_run(tmp_path)
    run(config, tmp_path / "run")
    before = asked(tmp_path)
    place = tmp_path / "run" / "cells" / "passive-seeds2"
    (place / name).unlink()
    (place / name).mkdir()
    (place / "result.parquet").unlink()
    if name == "ledger.sqlite":
        run(config, tmp_path / "run")
    else:
        with pytest.raises(UserError, match=name):
            run(config, tmp_path / "run")
    assert asked(tmp_path) == before
