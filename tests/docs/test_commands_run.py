"""Every `duelenv` command in the documentation is run, in the order of its page; minutes, and no part of the suite.

A page's commands share a folder, in which the files lie that they name. Runs are shrunk, and on most pages played dry,
which reads every setting. What serves until it is told to end is told so once it has said that it is there.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from pages import DOCS, PAGES, blocks, commands, name_of

from duelenv.experiments.config.loading import suites
from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.verdicts import Verdict

pytestmark = pytest.mark.exhaustive

SHRUNK = ("seeds=2", "env.horizon=4", "evaluate_every=2", "jobs=1")
#: Pages whose runs are played, not only tried.
PLAYED = ("docs/tour.md", "docs/regret_study.md")
#: Commands that nobody here can run, by their first words, and why.
NOT_RUN = {
    "duelenv judge": "needs a judge's server",
    "duelenv bench": "measures for minutes; its own tests run it shrunk",
    "duelenv sweep": "its own tests play one; the pages name a file of the reader's",
    "duelenv export": "needs a policy that a long run has trained",
}
MODEL = {
    "env": {"id": "AlignmentDuel", "num_envs": 4, "num_candidates": 4, "selective": True, "horizon": 4},
    "policy": "toy",
    "prompts": "toy",
    "oracle": "good_words",
    "agents": {"passive": {"asked": 2}},
}


def config_on(page, name):
    """The config that a page shows under a name, in a form that runs here."""
    shown = [yaml.safe_load(block.text) for block in blocks(DOCS / page) if block.language == "yaml"]
    return next(one for one in shown if one.get("name") == name)


@pytest.fixture
def folder(tmp_path):
    pairs = [
        {
            "prompt": f"Why {n}?",
            "first": f"so {n}",
            "second": f"since {n} it is",
            "label": n % 2,
            "annotator": f"a{n % 2}",
        }
        for n in range(8)
    ]
    lines = "".join(json.dumps({k: one[k] for k in ("prompt", "first", "second", "label")}) + "\n" for one in pairs)
    (tmp_path / "pairs.jsonl").write_text(lines)
    head = ",".join(pairs[0])
    rows = "\n".join(",".join(str(value) for value in one.values()) for one in pairs)
    for name in ("labels.csv", "each.csv"):
        (tmp_path / name).write_text(f"{head}\n{rows}\n")
    named = rows.replace("prompt", "question")
    (tmp_path / "pairs.csv").write_text(f"question,answer_x,answer_y,label,annotator\n{named}\n")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config_on("regret_study.md", "study")))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", **MODEL}))
    (tmp_path / "CONFIG.yaml").write_text(
        yaml.safe_dump({"name": "first", "env": "FeatureDuel", "agents": ["passive"]})
    )
    return tmp_path


def labelled_by_somebody(desk):
    """Every pair on a desk gets a label, as on its page."""
    desk = Desk(desk)
    while (question := desk.next_for("Ann")) is not None:
        desk.record("Ann", question.number, Verdict.LEFT, str(question.number))


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "LABEL_TOKEN": "0123456789abcdef"}


def duelenv(words, folder):
    """Run a command to its end, or to where it serves; its exit code and what it printed."""
    command = [str(Path(sys.executable).with_name("duelenv")), *words]
    if words[0] in ("label", "serve") and "--export" not in words:
        port = ["--port", "0"] if "--port" not in words else []
        running = subprocess.Popen(
            [*command, *port],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, ends = "", time.monotonic() + 120
        while "http://" not in said and running.poll() is None and time.monotonic() < ends:
            said += running.stdout.readline()
        running.send_signal(signal.SIGINT)
        said += running.communicate(timeout=120)[0]
        return (0 if running.returncode in (0, 130) else running.returncode), said
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=900
    )
    return done.returncode, done.stdout + done.stderr


def shrunk(words, played):
    if words[0] != "run":
        return words
    given = [
        word
        for word in words
        if re.split("[=.]", word)[0] not in ("seeds", "jobs", "backend") and not word.startswith("env.horizon")
    ]
    study = words[1].startswith("efficiency")
    # The length of an episode follows from a budget, and a study sets its own.
    return [*given, *(SHRUNK if not study else ())] + ([] if played or "--dry" in given else ["--dry"])


def is_runnable(words, folder):
    """Whether the files that a command names are there: other pages name a reader's own."""
    if any(" ".join(["duelenv", *words]).startswith(one) for one in NOT_RUN):
        return False
    if words[0] in ("run", "label", "pairs", "report", "watch", "labels", "aggregate", "offline"):
        return words[1] in suites() or (folder / words[1]).exists()
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_of_a_page(page, folder):
    ran = 0
    for line, (_, *words) in commands(page):
        if not words or any(mark in word for word in words for mark in ("[", "...", "DIR", "HASH", ".parquet", ".npy")):
            continue
        if not is_runnable(words, folder):
            continue
        code, said = duelenv(shrunk(words, name_of(page) in PLAYED), folder)
        for desk in folder.glob("*.labels.sqlite"):
            labelled_by_somebody(desk)
        assert code == 0, f"{name_of(page)}:{line}: duelenv {' '.join(words)}\n{said[-2000:]}"
        ran += 1
    shutil.rmtree(folder / "runs", ignore_errors=True)
    if name_of(page) in (*PLAYED, "docs/label_a_table.md"):
        assert ran >= 2
