"""`duelenv serve` as a process: what it says, what it refuses, how it ends, and a run whose server dies."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from paid_runs import asked, labels, paid_run, results
from serving import Counting, served

from duelenv.experiments.commands.cli import main
from duelenv.experiments.running.runner import run
from duelenv.experiments.serving import command
from duelenv.ground.errors import UserError

COMMAND = [sys.executable, "-m", "duelenv.experiments.commands.cli", "serve"]


@contextmanager
def serving(*words, **environment):
    """A server in a process of its own; yields the process and its address."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"^serving (\w+) at (http://\S+)$", line)
        assert found, line + process.stderr.read()
        yield process, found[2]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_says_its_address_and_ends_with_the_code_of_the_signal(number, code) -> None:
    with serving("good_words", "scale=4.0", "--port", 0, "--token-env", "OF_TEST", OF_TEST="very-secret") as (
        process,
        url,
    ):
        duel = {"id": "a", "prompt": "greet", "first": "kind", "second": "rude"}
        bearer = {"authorization": "Bearer very-secret"}
        answer = httpx.post(url + "/v1/duels", json={"duels": [duel]}, headers=bearer)
        assert answer.json()["answers"][0]["win"] > 0.99
        assert httpx.post(url + "/v1/duels", json={"duels": [duel]}).status_code == 401
        process.send_signal(number)
        out, said = process.communicate(timeout=20)
    assert process.returncode == code and out == "" and "secret" not in said and "Traceback" not in said


SLOW = """
import time
from duelenv.oracles import register


def slow(folder):
    def ask(prompts, first, second):
        open(folder + "/begun", "w").close()
        time.sleep(1.0)
        return [0.25] * len(first)

    return ask


register("slow", slow)
"""


@pytest.mark.parametrize("stays", [True, False], ids=["who waits", "who has gone"])
def test_what_the_oracle_is_at_is_finished_and_recorded_before_it_ends(tmp_path, stays) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    config = tmp_path / "slow.yaml"
    config.write_text(
        "env: {id: PoolDuel, horizon: 6}\nagents: [passive]\nmodules: [slow.py]\n"
        f"oracle: {{name: slow, folder: {tmp_path}}}\n"
    )
    duel = {"id": "a", "prompt": "greet", "first": "kind", "second": "rude"}
    words = (config, "--port", 0, "--record", tmp_path / "record", "--seconds", 30.0 if stays else 0.2)
    with serving(*words) as (process, url), ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.post, url + "/v1/duels", json={"duels": [duel]}, timeout=20.0)
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        if not stays:
            assert answer.result().status_code == 504
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        if stays:
            assert answer.result().json()["answers"] == [{"id": "a", "win": 0.25, "tie": 0.0}]
    with closing(sqlite3.connect(tmp_path / "record")) as connection:
        assert connection.execute("SELECT id, win FROM answers").fetchall() == [("a", 0.25)]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["good_words", "--host", "0.0.0.0"], "which others reach"),
        (["good_words", "--token-env", "NOT_SET_OF_TEST"], "not set"),
        (["good_words", "--token-env", "A", "--token-file", "b"], "leave one"),
        (["good_wards"], "good_words"),
        (["good_words", "scales=2"], "no setting 'scales'"),
        (["good_words", "--rate", "0"], "--rate"),
        (["good_words", "--port", "70000"], "--port"),
        (["nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_makes_no_server_is_refused_in_a_sentence(words, sentence, capsys) -> None:
    assert main(["serve", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_that_looks_for_its_answers_equals_one_that_waits_for_them(tmp_path: Path) -> None:
    alone = paid_run(tmp_path / "alone")
    run(alone, tmp_path / "alone" / "run", progress=False)
    oracle = Counting()
    with served(oracle) as url:
        config = paid_run(tmp_path / "later", oracle={"name": "remote", "url": url, "later": True})
        run(config, tmp_path / "later" / "run", progress=False)
    here, there = labels(tmp_path / "alone" / "run"), labels(tmp_path / "later" / "run")
    for column in ("agent", "seed", "step", "row", "first", "second", "label"):
        assert here[column].equals(there[column]), column
    assert len(oracle.asked) > 0


def test_a_run_goes_on_after_its_server_died_and_equals_one_that_asks_by_itself(tmp_path: Path) -> None:
    alone = paid_run(tmp_path / "alone")
    run(alone, tmp_path / "alone" / "run", progress=False)
    # The same oracle behind an address: it dies at its ninth batch, as if the machine had lost its power.
    home = tmp_path / "served"
    paid_run(home)
    served = home / "served.yaml"
    served.write_text(
        "env: {id: PoolDuel, horizon: 6, batch: 2}\n"
        f"data: {home / 'pool.jsonl'}\n"
        f"modules: [{home / 'paid_parts.py'}]\n"
        f"oracle: {{name: paid, folder: {home}, stop_at: 9, error: '__import__(\"os\")._exit(9)'}}\n"
        "agents: [passive]\n"
    )
    words = [served, "--record", home / "record.db", "--port"]
    with serving(*words, 0) as (process, url):
        remote = {"name": "remote", "url": url, "patience": {"attempts": 2, "pause": 0.01}}
        config = paid_run(home, oracle=remote)
        with pytest.raises(UserError, match="the same command goes on"):
            run(config, home / "run", progress=False)
        assert process.wait(timeout=10) == 9
    before = asked(home)
    with serving(*words, url.rpartition(":")[2]):
        run(config, home / "run", progress=False)
    assert results(home / "run").equals(results(tmp_path / "alone" / "run"))
    assert labels(home / "run").equals(labels(tmp_path / "alone" / "run"))
    assert before and set(asked(home).values()) == {1}
    assert set(asked(home)) == set(asked(tmp_path / "alone"))


def test_answers_are_not_held_back_until_their_heads_are_acknowledged() -> None:
    """Nagle's algorithm would hold each of them back for 40 ms: 21 batches a second over one connection."""
    arguments = argparse.Namespace(host="127.0.0.1", port=0)
    with command._listening(arguments) as listener, socket.create_connection(listener.getsockname()):
        with listener.accept()[0] as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
