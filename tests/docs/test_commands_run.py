"""Every `duelenv` command in the documentation is run, in the order of its page; minutes, and no part of the suite.

A page's commands share a folder, in which the files lie that they name. Runs are shrunk, and on most pages played dry,
which reads every setting; run folders that a page takes for granted are copies of two small runs. What serves until it
is told to end is told so once it has said that it is there.
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

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from interrupts import take_signals
from judge_stub import MODEL as JUDGE
from judge_stub import judge_server, longer
from pages import DOCS, PAGES, blocks, commands, name_of
from transformers import LlamaConfig, LlamaForSequenceClassification

from duelenv.experiments.config.loading import suites
from duelenv.oracles.judge.canaries import canaries
from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.verdicts import Verdict
from duelenv.policies import toy_policy, toy_prompts

pytestmark = pytest.mark.exhaustive

SHRUNK = ("seeds=2", "jobs=1", "env.horizon=4", "evaluate_every=2")
#: Pages whose runs are played, not only tried.
PLAYED = ("docs/tour.md", "docs/regret_study.md", "docs/align_your_model.md", "docs/judges.md", "README.md")
#: Commands that are not run, by their first words, and why.
NOT_RUN = {"duelenv bench faults": "damages hundreds of files, for half an hour; its own tests run it shrunk"}
#: What makes others short, by their first words.
BESIDE = {
    "bench regret": ["--quick"],
    "leaderboard --a": ["--dry"],
    "sweep": ["sweep.labels=4000", "sweep.confirm=2"],
}
MINE = """
from duelenv.agents.asking import ASK
from duelenv.agents.base import register
from duelenv.agents.parts import compose


@ASK.register("mine")
def ask(resources, settings):
    return ASK["best_worst"](resources, settings)


@register("mine")
def mine(view, seed, settings):
    return compose(view, seed, settings, name="mine", ask="mine")
"""


def config_on(page, name):
    """The config that a page shows under a name."""
    shown = [yaml.safe_load(block.text) for block in blocks(DOCS / page) if block.language == "yaml"]
    return next(one for one in shown if one.get("name") == name)


def wise(prompt, a, b):
    """A judge that knows the answers of the canaries, and else likes what is long."""
    better = {text for one in canaries() for text in (one.first, one.second)[one.better :][:1] if one.prompt == prompt}
    return 0.95 if a in better else 0.05 if b in better else longer(prompt, a, b)


@pytest.fixture(scope="module")
def judge_url():
    with judge_server(wise) as (server, _):
        yield f"{server.url}/v1"


def write_models(folder):
    """The model and the reward model of the page, which are the toy one and one with random weights."""
    policy = toy_policy()
    policy.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    policy.export(folder / "model")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = LlamaForSequenceClassification(
            LlamaConfig(
                vocab_size=len(policy.tokenizer), num_labels=1, pad_token_id=policy.tokenizer.pad_token_id, **size
            )
        )
    judge.save_pretrained(folder / "reward-model")
    policy.tokenizer.save_pretrained(folder / "reward-model")


def write_pools(folder):
    """Tables of scored responses in every form that a page names."""
    rows = [
        {"prompt": f"Why {n}?", "response": f"since {'so ' * k}{n}", "score": k + n / 20, "model": f"m{k}"}
        for n in range(20)
        for k in range(4)
    ]
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    pyarrow.csv.write_csv(pa.Table.from_pylist(rows), folder / "b.csv")
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (embedding,) = (block.text for block in blocks(DOCS / "pools.md") if block.text.startswith("def embed"))
    (folder / "encoder.py").write_text(embedding)
    np.save(folder / "P.npy", np.array([[0.5, 0.6, 0.9], [0.4, 0.5, 0.7], [0.1, 0.3, 0.5]]))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


def write_configs(folder, models, judge_url):
    mine = config_on("align_your_model.md", "mine")
    mine["policy"] |= {"path": str(models / "model"), "max_new_tokens": 16}  # the toy reads 64
    mine["oracle"]["path"] = str(models / "reward-model")
    judged = config_on("judges.md", "judged")
    judged["oracle"] |= {"url": judge_url, "model": JUDGE}
    first = {"name": "first", "env": "FeatureDuel", "agents": ["passive"]}
    study, sweep = config_on("regret_study.md", "study"), config_on("runs.md", "tuned")
    people = config_on("people.md", "people")
    for name, config in {
        "mine": mine,
        "judged": judged,
        "CONFIG": first,
        "study": study,
        "sweep": sweep,
        "people": people,
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "prompts.txt").write_text("\n".join(toy_prompts(30)))
    (folder / "mine.py").write_text(MINE)


@pytest.fixture(scope="module")
def played(tmp_path_factory, models, judge_url):
    """Run folders that pages take for granted, by name."""
    folder = tmp_path_factory.mktemp("played")
    write_configs(folder, models, judge_url)
    two = "agents={passive: {asked: 2}, thompson: {asked: 2, belief: linear_logistic}}"
    for words in (["run", "demo", two], ["run", "mine.yaml"]):
        code, said = duelenv([*words, *SHRUNK, "--output", f"runs/{words[1].removesuffix('.yaml')}"], folder)
        assert code == 0, said
    shutil.copytree(folder / "runs/mine", folder / "runs/paid")
    code, said = duelenv(["labels", "runs/paid", "--export", "answers.jsonl"], folder)
    assert code == 0, said
    return folder


@pytest.fixture
def folder(tmp_path, models, judge_url):
    write_pools(tmp_path)
    write_configs(tmp_path, models, judge_url)
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
    return tmp_path


def labelled_by_somebody(desk):
    """Every pair on a desk gets a label, as on its page."""
    desk = Desk(desk)
    while (question := desk.next_for("Ann")) is not None:
        desk.record("Ann", question.number, Verdict.LEFT, str(question.number))


def environment():
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "LABEL_TOKEN": "0123456789abcdef",
        "JUDGE_KEY": "secret",
    }


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
            preexec_fn=take_signals,  # or one that comes before the server has its own is lost, where SIGINT is ignored
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


def shrunk(words, is_played):
    line = " ".join(words)
    beside = [word for start, more in BESIDE.items() if line.startswith(start) for word in more if word not in words]
    if words[0] != "run":
        return [*words, *beside]
    given = [word for word in words if re.split("[=.]", word)[0] not in ("seeds", "jobs", "backend")]
    if words[1].startswith("efficiency"):  # a study sets its own
        return [*given, *([] if "--dry" in given else ["--dry"])]
    if "--dry" in given or not is_played or "oracle=people" in given:
        return [*given, *SHRUNK[:2], *([] if "--dry" in given else ["--dry"])]
    return [*(word for word in given if not word.startswith("env.horizon")), *SHRUNK]


def is_usage(words):
    """Whether it stands for several: brackets around what may be left out, capitals for what is the reader's own."""
    return not words or any(
        word.startswith("[")
        or word.count("[") != word.count("]")
        or re.search(r"\.\.\.|\bDIR\b|HASH|\b(LOG|CONFIG)$", word)
        for word in words
    )


def is_runnable(words, folder):
    """Whether the files that a command names are there: other pages name a reader's own."""
    if any(" ".join(["duelenv", *words]).startswith(one) for one in NOT_RUN):
        return False
    if words[0] in ("run", "judge", "sweep", "label", "pairs", "report", "watch", "labels", "export", "aggregate"):
        return words[1] in suites() or (folder / words[1]).exists()
    return True


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_of_a_page(page, folder, judge_url, request):
    is_played, left_out = name_of(page) in PLAYED, []
    everything = [(line, words) for line, (_, *words) in commands(page) if not is_usage(words)]
    for name in ("demo", "mine", "paid"):
        if not is_played and any(f"runs/{name}" in words for _, words in everything):
            played = request.getfixturevalue("played")
            shutil.copytree(played / "runs" / name, folder / "runs" / name)
            shutil.copy(played / "answers.jsonl", folder)
    for line, words in everything:
        if not is_runnable(words, folder):
            left_out.append(" ".join(words))
            continue
        if words == ["judge", "mine.yaml"]:  # where the page has named one before
            words = [*words, f"oracle={{name: judge, url: '{judge_url}', model: {JUDGE}}}"]
        code, said = duelenv(shrunk(words, is_played), folder)
        for desk in folder.glob("*.labels.sqlite"):
            labelled_by_somebody(desk)
        assert code == 0, f"{name_of(page)}:{line}: duelenv {' '.join(words)}\n{said[-2000:]}"
    shutil.rmtree(folder / "runs", ignore_errors=True)
    allowed = ("label runs/", "bench faults")  # nobody has asked people yet where the page says so
    assert [one for one in left_out if not one.startswith(allowed)] == []
