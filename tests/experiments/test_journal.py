"""Nothing that was paid for is lost, and nothing is paid for twice."""

import json

import numpy as np
import pytest

from duelenv.experiments.journal import Journal, LabelLog, labels_table
from duelenv.oracles import Preferences, make, utility_of


class Paid:
    """Counts what it is asked; gives a different answer every time, as a person might."""

    def __init__(self):
        self.questions = []

    def __call__(self, prompts, first, second):
        self.questions.append((list(prompts), list(first), list(second)))
        win = np.full(len(prompts), 1 / (2 + len(self.questions)))
        return Preferences(win, np.full(len(prompts), 0.25))


def test_a_second_life_gets_the_same_answers_without_asking(tmp_path):
    path = tmp_path / "answers.jsonl"
    paid = Paid()
    first = Journal(paid, path)
    answers = [first(["p"] * 2, ["a", "b"], ["c", str(number)]) for number in range(3)]
    first.close()
    again = Journal(paid, path)
    for number in range(3):
        answer = again(["p"] * 2, ["a", "b"], ["c", str(number)])
        np.testing.assert_array_equal(answer.win, answers[number].win)
        np.testing.assert_array_equal(answer.tie, answers[number].tie)
    assert len(paid.questions) == 3
    again(["p"], ["new"], ["question"])
    assert len(paid.questions) == 4


def test_it_goes_on_from_a_checkpoint(tmp_path):
    paid = Paid()
    first = Journal(paid, tmp_path / "a.jsonl")
    kept = [first(["p"], ["a"], ["b"]).win[0] for _ in range(4)]
    first.close()
    again = Journal(paid, tmp_path / "a.jsonl")
    again.calls = 2
    assert [again(["p"], ["a"], ["b"]).win[0] for _ in range(2)] == kept[2:]
    assert again.asked == 0


def test_another_question_is_asked_and_then_remembered(tmp_path):
    paid = Paid()
    first = Journal(paid, tmp_path / "a.jsonl")
    first(["p"], ["a"], ["b"])
    first.close()
    second = Journal(paid, tmp_path / "a.jsonl")
    answer = second(["p"], ["a"], ["other"]).win[0]
    second.close()
    third = Journal(paid, tmp_path / "a.jsonl")
    assert third(["p"], ["a"], ["other"]).win[0] == answer
    assert len(paid.questions) == 2


def test_a_line_cut_short_is_dropped(tmp_path):
    path = tmp_path / "a.jsonl"
    paid = Paid()
    first = Journal(paid, path)
    first(["p"], ["a"], ["b"])
    first(["p"], ["a"], ["b"])
    first.close()
    path.write_bytes(path.read_bytes()[:-7])
    again = Journal(paid, path)
    again(["p"], ["a"], ["b"])
    again(["p"], ["a"], ["b"])
    again.close()
    assert len(paid.questions) == 3
    assert [json.loads(line)["call"] for line in path.read_text().splitlines()] == [0, 1]


def test_the_truth_stays_reachable(tmp_path):
    oracle = make("length", noise=0.1)
    assert utility_of(Journal(oracle, tmp_path / "a.jsonl")) is utility_of(oracle)


def test_no_answer_stays_no_answer(tmp_path):
    def silent(prompts, first, second):
        return np.full(len(prompts), np.nan)

    for _ in range(2):
        journal = Journal(silent, tmp_path / "a.jsonl")
        assert np.isnan(journal(["p"], ["a"], ["b"]).win).all()
        journal.close()


def observation(step):
    responses = np.array([["a", "b"], ["c", f"d{step}"]], dtype=object)
    return {"prompt": np.array(["p", "q"], dtype=object), "responses": responses}


ACTIONS = np.array([[0, 1], [1, 0]])
LABELS = np.array([0.5, np.nan])


@pytest.mark.parametrize("stopped_after", [0, 1, 2])
def test_a_log_that_is_continued_equals_one_that_never_stopped(tmp_path, stopped_after):
    whole = LabelLog(tmp_path / "whole.jsonl")
    for step in range(1, 4):
        whole.write(step, observation(step), ACTIONS, LABELS)
    whole.close()
    path = tmp_path / "stopped.jsonl"
    log, length = LabelLog(path), 0
    for step in range(1, 3):
        if step - 1 == stopped_after:
            length = log.length
        log.write(step, observation(step), ACTIONS, LABELS)
    length = log.length if stopped_after == 2 else length
    log.close()
    log = LabelLog(path, length)
    for step in range(stopped_after + 1, 4):
        log.write(step, observation(step), ACTIONS, LABELS)
    log.close()
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_the_table_has_one_row_a_duel(tmp_path):
    log = LabelLog(tmp_path / "log.jsonl")
    log.write(1, observation(1), ACTIONS, LABELS)
    log.write(2, observation(2), ACTIONS, LABELS)
    log.close()
    rows = labels_table(tmp_path / "log.jsonl", "agent", [7, 8]).to_pylist()
    assert len(rows) == 4
    assert rows[3] == {
        "agent": "agent", "seed": 8, "step": 2, "row": 1, "first_arm": 1, "second_arm": 0,
        "prompt": "q", "first": "d2", "second": "c", "label": None, "source": "none",
    }  # fmt: skip
    assert (rows[0]["label"], rows[0]["source"]) == (0.5, "oracle")


def test_worlds_without_text_log_arms(tmp_path):
    log = LabelLog(tmp_path / "log.jsonl")
    log.write(1, {"features": np.zeros((2, 2, 3))}, ACTIONS, np.array([1.0, 0.0]))
    log.close()
    row = labels_table(tmp_path / "log.jsonl", "agent", [0]).to_pylist()[1]
    assert (row["prompt"], row["first_arm"], row["second_arm"], row["label"]) == (None, 1, 0, 0.0)
