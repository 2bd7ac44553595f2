"""Runs whose labels people give: answers flow in, and a run that dies loses, doubles and invents none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from duelenv.experiments.commands.cli import main
from duelenv.oracles.people import Desk, Verdict
from duelenv.oracles.people.figures import asked, said
from duelenv.oracles.people.source import FILE


def prefers_first(first: str, second: str) -> bool:
    return (len(first), first) > (len(second), second)


class Scripted(threading.Thread):
    """Somebody at the desk who likes long responses, finds some alike and cannot say of others."""

    def __init__(self, path: Path, most: int | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.path, self.most, self.pause = path, most, pause
        self.answered = 0
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.path.exists():
            if self.enough.wait(0.01):
                return
        desk = Desk(self.path)
        while not self.enough.is_set() and (self.most is None or self.answered < self.most):
            question = desk.next_for("Ann")
            if question is None:
                self.enough.wait(0.01)
                continue
            self.enough.wait(self.pause)
            desk.record("Ann", question.number, verdict(question.left, question.right), f"{question.number}")
            self.answered += 1

    def __enter__(self) -> Scripted:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.enough.set()
        self.join()


def verdict(left: str, right: str) -> Verdict:
    if left[0] == right[0] == "a":
        return Verdict.DECLINE
    if len(left) == len(right):
        return Verdict.TIE
    return Verdict.LEFT if len(left) > len(right) else Verdict.RIGHT


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    words = ["a one", "a longer one", "b", "b is the longest of all", "c c c"]
    rows = [{"prompt": f"prompt {p}", "responses": words, "scores": [1, 2, 3, 4, 5]} for p in range(5)]
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def write(agents: tuple[str, ...] = ("passive",), horizon: int = 8, **oracle: object) -> Path:
        path = tmp_path / "run.yaml"
        plain = {
            "name": "people",
            "env": {"id": "PoolDuel", "batch": 3, "horizon": horizon},
            "data": {"path": str(tmp_path / "pool.jsonl")},
            "oracle": {"name": "people", **oracle},
            "agents": list(agents),
            "seeds": 1,
            "checkpoint_seconds": 1,
        }
        path.write_text(yaml.safe_dump(plain))
        return path

    return write


def check_labels(run: Path, cells: int = 1, horizon: int = 8) -> None:
    """Every question has one answer, the one that was given, and each label is it and nothing else."""
    desk = Desk(run / "oracles" / FILE)
    texts = {one.number: one for one in asked(desk)}
    given = {texts[one.question].id: one for one in said(desk)}
    assert len(given) == len(said(desk)) == len(texts)
    rows = pq.read_table(run / "labels.parquet").to_pylist()
    assert len(rows) == cells * horizon * 3
    for row in rows:
        answer = given.pop(row["id"]) if cells == 1 else given[row["id"]]
        assert row["win"] == answer.win or (answer.win is None and row["label"] is None)
        if answer.win is not None:
            expected = 0.5 if len(row["first"]) == len(row["second"]) else float(len(row["first"]) > len(row["second"]))
            assert row["label"] == expected
    if cells == 1:
        assert not given  # nothing was asked in vain


def test_a_run_plays_on_with_what_people_say(config: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Scripted(run / "oracles" / FILE):
        assert main(["run", str(config(open=4, patience=60)), "--output", str(run)]) == 0
    check_labels(run)
    told = [row["told_step"] - row["step"] for row in pq.read_table(run / "labels.parquet").to_pylist() if row["label"]]
    assert max(told) >= 0  # late or in time


def test_a_run_that_cannot_go_on_says_so_and_goes_on_later(
    config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["run", str(config(open=4, patience=0)), "--output", str(run)]
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("duelenv: ")]
    assert "6 questions wait for people" in line and "at most 4" in line and "the same command goes on" in line
    with Scripted(run / "oracles" / FILE, most=4) as scripted:
        scripted.join()
    # Patience decides no answer: it may be changed on the way.
    assert main([*words, "oracle.patience=0.1"]) == 2
    with Scripted(run / "oracles" / FILE):
        assert main([*words, "oracle.patience=60"]) == 0
    check_labels(run)


def test_one_desk_serves_all_cells(config: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Scripted(run / "oracles" / FILE):
        words = ["run", str(config(("passive", "random"), open=0, patience=60)), "--output", str(run), "jobs=1"]
        assert main(words) == 0
    check_labels(run, cells=2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_dies_while_people_answer_loses_nothing(
    config: Callable[..., Path], tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    words = ["run", str(config(open=4, patience=120)), "--output", str(run), "jobs=1"]
    command = [sys.executable, "-m", "duelenv.experiments.commands.cli", *words]
    path = run / "oracles" / FILE
    with Scripted(path, most=15, pause=0.03) as scripted:
        for deaths in (5, 11):
            process = subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ)
            )
            while scripted.answered < deaths:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(number)
            process.wait(timeout=60)
            assert process.returncode in (-number, 128 + number)
    with Scripted(path) as rest:
        assert main(words) == 0
    assert scripted.answered + rest.answered == 24  # 8 rounds of 3: nobody was asked twice
    check_labels(run)
