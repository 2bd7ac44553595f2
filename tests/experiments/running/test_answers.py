"""Answers from elsewhere: of another folder, of an export, and of cells that somebody removed."""

import json
import shutil

import pytest
from paid_runs import MODULE, asked, labels, paid_run, results

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.labels import counts_by_cell, write_table
from duelenv.experiments.running.answers import take_in
from duelenv.experiments.running.runner import CellFailed, OutOfBudget, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    place = tmp_path_factory.mktemp("finished")
    run(paid_run(place), place / "run")
    return place


def broken(place):
    """A run whose oracle raises an exception after three rounds, and its config."""
    config = paid_run(
        place,
        oracle={"name": "paid", "folder": str(place), "stop_at": 3, "error": "ZeroDivisionError('late')"},
        fail_fast=True,
    )
    with pytest.raises(CellFailed, match=r"ZeroDivisionError: late.*--output NEW --answers .*run'"):
        run(config, place / "run")
    return config


def mended(place):
    """The same run with other code, which answers as it did."""
    module = place / "mended.py"
    module.write_text(MODULE.replace('register("paid"', 'register("mended"'))  # a name is taken once in a process
    return paid_run(place, modules=[str(module)], oracle={"name": "mended", "folder": str(place)})


@pytest.mark.parametrize("kind", ["folder", "parquet", "csv", "jsonl"])
def test_a_run_whose_code_was_mended_pays_for_nothing_twice(tmp_path, finished, kind):
    place = tmp_path / "p"
    broken(place)
    before = asked(place)
    assert before.total() == 12
    source = place / "run"
    if kind != "folder":
        source = tmp_path / f"all.{kind}"
        assert main(["labels", str(place / "run"), "--export", str(source)]) == 0
    config = mended(place)
    with pytest.raises(UserError, match=r"'oracle\.name' is 'paid' there .*--output NEW, which with '--answers"):
        run(config, place / "run")
    run(config, place / "new", answers=source)
    assert asked(place) == asked(finished)
    assert results(place / "new").equals(results(finished / "run"))
    assert labels(place / "new").equals(labels(finished / "run"))


def test_the_command_begins_with_answers_and_says_how_many(tmp_path, finished, capsys):
    place = tmp_path / "p"
    broken(place)
    mended(place)
    (place / "c.yaml").write_text(json.dumps(paid_run(place).to_dict()))
    words = ["run", str(place / "c.yaml"), "--output", str(place / "new"), "--answers", str(place / "run")]
    assert main(words) == 0
    assert "12 answers taken in from" in capsys.readouterr().err
    assert asked(place) == asked(finished)
    assert main(words) == 0  # finished, and nothing to be taken in
    assert asked(place) == asked(finished)


def test_what_evaluate_was_told_is_taken_along(tmp_path):
    """By a judge that is paid, and from a folder only: a table holds duels."""
    place = tmp_path / "p"
    (place / "judge").mkdir(parents=True)
    config = paid_run(
        place,
        env={"id": "AlignmentDuel", "num_envs": 2, "horizon": 2, "num_candidates": 2},
        policy="toy",
        prompts={"toy": {"train": 2, "test": 2}},
        data=None,
        agents=["passive"],
        evaluate_every=1,
        evaluation_oracle={"name": "paid", "folder": str(place / "judge")},
    )
    run(config, place / "run")
    before = asked(place / "judge")
    assert before
    run(config, place / "new", answers=place / "run")
    assert asked(place / "judge") == before
    assert results(place / "new").equals(results(place / "run"))
    found = counts_by_cell(RunFolder(place / "new"), config)
    assert {held.spent for held in found.values()} == {0}
    assert all(held.evaluations for held in found.values())


def test_cells_that_were_removed_are_made_good_from_the_labels(tmp_path, finished, capsys):
    place = tmp_path / "p"
    shutil.copytree(finished, place)
    config = paid_run(finished)
    before = asked(finished)
    shutil.rmtree(place / "run" / "cells")
    assert main(["labels", str(place / "run")]) == 2
    assert "nothing was played yet, or they were removed" in capsys.readouterr().err
    run(config, place / "run")
    assert "48 answers taken from labels.parquet" in capsys.readouterr().err
    assert asked(finished) == before
    assert labels(place / "run").equals(labels(finished / "run"))
    assert results(place / "run").equals(results(finished / "run"))


def test_answers_that_are_not_there_leave_nothing_behind(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(json.dumps(paid_run(tmp_path).to_dict()))
    words = ["run", str(tmp_path / "c.yaml"), "--output", str(tmp_path / "new"), "--answers", str(tmp_path / "nope")]
    assert main(words) == 2
    assert "there is no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_answers_from_elsewhere_are_not_spent(tmp_path, finished):
    config = paid_run(tmp_path, budget={"run": 4})
    with pytest.raises(OutOfBudget, match=r"exceed the run's 'budget.run' of 4 labels: 2 of 2"):
        run(config, tmp_path / "run")
    write_table(labels(finished / "run"), tmp_path / "all.parquet")
    taken = take_in(RunFolder(tmp_path / "run"), config, tmp_path / "all.parquet")
    assert (taken.new, taken.known, taken.waiting) == (44, 4, 44)
    run(config, tmp_path / "run")
    assert asked(tmp_path).total() == 4
    assert labels(tmp_path / "run").equals(labels(finished / "run"))


def test_two_answers_to_one_question_are_refused(tmp_path, finished):
    rows = labels(finished / "run").to_pylist()
    rows.append({**rows[5], "win": 0.125})
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"row 48 answers the question of row 5 otherwise \(win 0.125 and 0\.[38]\)"):
        take_in(RunFolder(finished / "run"), paid_run(finished), tmp_path / "two.jsonl")
    rows[-1] = rows[5]  # twice the same is once
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert take_in(RunFolder(finished / "run"), paid_run(finished), tmp_path / "two.jsonl") == (0, 48, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "zero", "a whole number"),
        ("seed", None, "a whole number"),
        ("seed", True, "a whole number"),
        ("step", None, "a whole number"),
        ("step", "x", "a whole number"),
        ("row", [0], "a whole number"),
        ("win", "yes", "a number from 0 to 1"),
        ("win", 2.0, "a number from 0 to 1"),
        ("win", [0.5], "a number from 0 to 1"),
        ("tie", "x", "a number from 0 to 1"),
        ("tie", -0.5, "a number from 0 to 1"),
        ("tie", 0.9, "no more than 1 together"),
        ("agent", ["x"], "a text"),
        ("id", 3, "a text"),
    ],
)
def test_a_value_that_no_export_holds_is_named_with_its_row(tmp_path, finished, name, value, expected):
    rows = labels(finished / "run").to_pylist()
    rows[7][name] = value
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=rf"bad.jsonl.* row 7 has .*\b{name} .*{expected}"):
        take_in(RunFolder(finished / "run"), paid_run(finished), tmp_path / "bad.jsonl")


def test_what_is_no_export_is_refused_before_anything_is_asked(tmp_path):
    config = paid_run(tmp_path)
    with pytest.raises(UserError, match=r"'.*pool.jsonl' has no column 'id', expected a run folder or an export"):
        run(config, tmp_path / "run", answers=tmp_path / "pool.jsonl")
    with pytest.raises(UserError, match="is not a run directory"):
        run(config, tmp_path / "run", answers=tmp_path)
    assert not asked(tmp_path) and not (tmp_path / "run").exists()
