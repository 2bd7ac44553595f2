"""A table without a run: read in whatever format, labelled, and written so that `labels:` reads it back."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from label_page import Visitor, desk_of

from duelenv.experiments.commands.cli import main
from duelenv.experiments.labelling.agreement import alpha_of, overview
from duelenv.experiments.labelling.export import export
from duelenv.experiments.labelling.reading import question_id, read_questions
from duelenv.experiments.running.given_labels import read_labels
from duelenv.ground.errors import UserError
from duelenv.oracles.people import Desk, Overlap, Verdict

Rows = list[dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: Rows, name: str = "table.jsonl") -> Path:
        path = tmp_path / name
        if path.suffix == ".csv":
            with path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("\n".join(map(json.dumps, rows)))
        return path

    return write


def triples(path: Path, **settings: Any) -> list[tuple[str, str, str]]:
    return [(one.prompt, one.first, one.second) for one in read_questions(path, **settings).requests]


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ({"prompt": "p", "response_a": "x", "response_b": "y"}, {}),
        ({"question": "p", "answer_1": "x", "answer_2": "y"}, {}),
        ({"prompt": "p", "first": "x", "second": "y"}, {}),
        ({"prompt": "p", "chosen": "x", "rejected": "y"}, {}),
        ({"prompt": "p", "response_a": "x", "response_b": "y", "label": "B"}, {}),  # what was said is not looked at
        ({"prompt": "p", "response_a": "x", "response_b": "y", "score_a": 1, "score_b": 2}, {}),
        ({"prompt": "p", "first": "x", "second": "y", "label": None, "annotator": "A"}, {}),
        ({"prompt": [{"role": "user", "content": "p"}], "response_a": "x", "response_b": "y"}, {}),
        ({"prompt": "p", "responses": ["x", "y"]}, {}),
        ({"prompt": "p", "responses": ["x", "y"], "scores": [1, 2]}, {}),
        ({"prompt": "p", "completions": [{"response": "x"}, {"response": "y"}]}, {}),
        ({"ask": "p", "one": "x", "two": "y"}, {"prompt": "ask", "first": "one", "second": "two"}),
        ({"prompt": "p", "drafts": ["x", "y"]}, {"response": "drafts"}),
    ],
)
def test_whatever_holds_two_responses_is_read(
    write: Callable[..., Path], row: dict[str, Any], settings: dict[str, str]
) -> None:
    assert triples(write([row]), **settings) == [("p", "x", "y")]


def test_csv_and_single_responses_are_read(write: Callable[..., Path]) -> None:
    rows = [{"prompt": "p", "response": "x"}, {"prompt": "q", "response": "u"}, {"prompt": "p", "response": "y"}]
    assert triples(write(rows)) == triples(write(rows, "table.csv")) == [("p", "x", "y")]
    assert read_questions(write(rows)).notes == ["1 prompts have fewer than two different responses and are left out"]
    assert triples(write([{"prompt": "p", "responses": '["x", "y"]'}], "lists.csv")) == [("p", "x", "y")]


def test_every_two_of_several_responses_are_a_pair_and_every_prompt_has_its_turn(write: Callable[..., Path]) -> None:
    found = triples(write([{"prompt": p, "responses": list("wxyz")} for p in "pq"]))
    assert len(found) == len(set(found)) == 12
    assert [prompt for prompt, *_ in found] == list("pq" * 6)
    reordered = triples(write([{"prompt": p, "responses": list("wxyz")} for p in "qp"]))
    assert sorted(reordered) == sorted(found)


def test_equal_and_repeated_pairs_are_asked_once_or_never(write: Callable[..., Path]) -> None:
    row = {"prompt": "p", "response_a": "x", "response_b": "y"}
    found = read_questions(write([row, row, row | {"response_b": "x"}]))
    assert len(found.requests) == 1
    assert found.notes == ["1 pairs of equal responses are not asked", "1 repeated pairs are asked once"]
    with pytest.raises(UserError, match="nothing to label"):
        read_questions(write([row | {"response_b": "x"}]))


def test_a_question_is_known_by_its_texts_wherever_it_stands(write: Callable[..., Path]) -> None:
    rows = [{"prompt": "p", "response_a": "x", "response_b": str(number)} for number in range(3)]
    ids = {one.id for one in read_questions(write(rows)).requests}
    assert ids == {one.id for one in read_questions(write(rows[::-1])).requests}
    assert question_id("p", "x", "y") != question_id("p", "y", "x")


def test_a_table_without_pairs_says_what_is_missing(write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="no pairs of responses among prompt, text_of_it"):
        read_questions(write([{"prompt": "p", "text_of_it": "x"}]))
    with pytest.raises(UserError, match="'prompts'"):
        read_questions(write([{"prompt": "p", "responses": ["x", "y"]}]), prompts="prompt")


# Out again ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(write: Callable[..., Path], tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "desk.sqlite", Overlap(1.0))
    rows = [{"prompt": f"p\n{row}", "response_a": "x, \u2028 z", "response_b": f'"{row}"'} for row in range(5)]
    desk.put(read_questions(write(rows)).requests)
    for number, liked in ((1, "first"), (2, "second"), (3, "tie"), (4, "decline")):
        for name in ("Ann", "Bob"):
            swapped = desk._is_swapped(question_id(f"p\n{number - 1}", "x, \u2028 z", f'"{number - 1}"'), name)
            verdict = {
                "first": Verdict.RIGHT if swapped else Verdict.LEFT,
                "second": Verdict.LEFT if swapped else Verdict.RIGHT,
            }.get(liked) or Verdict(liked)
            if (number, name) == (2, "Bob"):
                verdict = Verdict.TIE
            desk.record(name, number, verdict, f"{name} {number}")
    return desk


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("each", [False, True])
def test_labels_are_read_back_as_they_were_given(labelled: Desk, tmp_path: Path, kind: str, each: bool) -> None:
    path = tmp_path / f"labels.{kind}"
    assert export(labelled, path, each=each) == (8 if each else 3)
    given = read_labels(path)
    if each:
        assert given.labels.tolist() == [1.0, 1.0, 0.0, 0.5, 0.5, 0.5]
        return
    assert given.labels.tolist() == [1.0, 0.25, 0.5]
    assert given.prompts.tolist() == ["p\n0", "p\n1", "p\n2"]
    assert given.first.tolist() == ["x, \u2028 z"] * 3 and given.second.tolist() == ['"0"', '"1"', '"2"']


def test_every_answer_is_written_with_who_gave_it_and_how(labelled: Desk, tmp_path: Path) -> None:
    export(labelled, tmp_path / "each.parquet", each=True)
    rows = pq.read_table(tmp_path / "each.parquet").to_pylist()
    assert [row["annotator"] for row in rows] == ["Ann", "Bob"] * 4
    for row in rows:
        if row["verdict"] in ("left", "right"):
            assert row["label"] == float((row["verdict"] == "left") == (row["left"] == "first"))
    assert rows[-1]["label"] is None and rows[-1]["verdict"] == "decline"


def test_labels_may_be_labelled_anew(labelled: Desk, tmp_path: Path) -> None:
    export(labelled, tmp_path / "labels.jsonl")
    assert len(read_questions(tmp_path / "labels.jsonl").requests) == 3


def test_an_empty_desk_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no answer yet"):
        export(Desk(tmp_path / "desk.sqlite"), tmp_path / "labels.jsonl")
    assert not (tmp_path / "labels.jsonl").exists()


# Agreement ------------------------------------------------------------------------------------------------------------


def test_agreement_is_krippendorffs_alpha() -> None:
    assert alpha_of({1: {"A": 1.0, "B": 1.0}, 2: {"A": 0.0, "B": 0.0}, 3: {"A": 1.0}}) == pytest.approx(1.0)
    # By hand, two values: alpha = 1 - D_o / D_e; four pairs, one of them apart: o = 2 of 8; n0 = 3, n1 = 5 of 8 values:
    # D_e = 2 * 3 * 5 / (8 * 7) = 15/28, D_o = 1/4, alpha = 1 - (1/4) / (15/28) = 8/15.
    values = {1: {"A": 1.0, "B": 1.0}, 2: {"A": 0.0, "B": 0.0}, 3: {"A": 1.0, "B": 0.0}, 4: {"A": 1.0, "B": 1.0}}
    assert alpha_of(values) == pytest.approx(8 / 15)
    assert alpha_of({1: {"A": 1.0, "B": 1.0}}) is None and alpha_of({1: {"A": 1.0}, 2: {"A": 0.0}}) is None


def test_agreement_does_not_depend_on_the_side(labelled: Desk) -> None:
    found = overview(labelled)
    assert found.shared == 3 and [one.name for one in found.people] == ["Ann", "Bob"]
    ann, bob = found.people
    assert (ann.answers, ann.ties, ann.declined) == (4, 1, 1) and bob.ties == 2
    assert found.alpha == alpha_of({1: {"A": 1.0, "B": 1.0}, 2: {"A": 0.0, "B": 0.5}, 3: {"A": 0.5, "B": 0.5}})


# The command ----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_left(write: Callable[..., Path], tmp_path: Path) -> None:
    table = write([{"prompt": f"p{row}", "response_a": "x", "response_b": "y"} for row in range(3)])
    port = free_port()
    words = [
        sys.executable,
        "-m",
        "duelenv.experiments.commands.cli",
        "label",
        str(table),
        "--port",
        str(port),
        "--raters",
        "2",
    ]

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert process.stdout is not None and f"http://127.0.0.1:{port}/" in process.stdout.readline()
        for _ in range(400):
            try:
                httpx.get(f"http://127.0.0.1:{port}/enter")
                return process
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError("the page does not come")

    with start() as killed:
        Visitor(f"http://127.0.0.1:{port}", "Ann").say("left")
        killed.kill()
    assert not (tmp_path / "table.labels.jsonl").exists()
    for number, code in ((signal.SIGINT, 0), (signal.SIGTERM, 0)):
        with start() as process:
            ann = Visitor(f"http://127.0.0.1:{port}", "Ann")
            ann.say("tie")
            process.send_signal(number)
            assert process.wait(30) == code
    given = read_labels(tmp_path / "table.labels.jsonl")
    assert len(given) == 3 and given.labels[1:].tolist() == [0.5, 0.5]
    assert main(["label", str(table), "--export", str(tmp_path / "now.csv"), "--each"]) == 0
    assert len(read_labels(tmp_path / "now.csv")) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--host", "192.0.2.1", "--token", "secret"], "expected env:NAME or file:PATH"),
        (["--host", "192.0.2.1", "--token", "env:DUELENV_NO_SUCH"], "'DUELENV_NO_SUCH'.*not set"),
        (["--port", "70000"], "--port"),
        (["--format", "html"], "--format='html' is unknown"),
        (["--overlap", "-1"], "--overlap"),
        (["--overlap", "2.5"], "--overlap"),
        (["--raters", "1"], "--raters"),
        (["--output", "labels.xlsx"], "ends in .jsonl"),
        (["nonsense"], "expected key=value"),
        (["prompt=ask"], "'ask'"),
        (["--export", "labels.jsonl"], "no answer yet"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    write: Callable[..., Path], words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write([{"prompt": "p", "response_a": "x", "response_b": "y"}])
    assert main(["label", str(table), *words]) == 2
    message = capsys.readouterr().err
    assert re.search(sentence, message) and message.count("\n") == 1 and "secret" not in message


def test_a_port_that_is_taken_is_told(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    table = write([{"prompt": "p", "response_a": "x", "response_b": "y"}])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["label", str(table), "--port", str(taken.getsockname()[1])]) == 2
    assert "give another --port" in capsys.readouterr().err


def test_a_run_that_asks_no_people_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(
        "name: x\nenv: {id: MatrixDuel, matrix: [[0.5]], horizon: 2}\nagents: [passive]\n"
    )
    assert main(["label", str(tmp_path)]) == 2
    assert "asks nobody, expected the oracle 'people'" in capsys.readouterr().err
    assert main(["label", str(tmp_path / "nothing")]) == 2
    assert "expected a table or the folder of a run" in capsys.readouterr().err


def test_a_desk_without_a_run_is_opened_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = desk_of(tmp_path / "desk.sqlite", [("p", "x", "y")])
    question = desk.next_for("ann")
    assert question is not None
    desk.record("ann", question.number, Verdict.LEFT, post="1")
    each = tmp_path / "each.jsonl"
    assert main(["label", str(tmp_path / "desk.sqlite"), "--each", "--export", str(each)]) == 0
    (row,) = map(json.loads, each.read_text().splitlines())
    assert (row["prompt"], row["annotator"]) == ("p", "ann")
    assert main(["label", str(tmp_path / "desk.sqlite"), "--overlap", "2"]) == 2
    assert main(["label", str(tmp_path / "desk.sqlite"), "prompt=q"]) == 2
    assert "is a desk" in capsys.readouterr().err
