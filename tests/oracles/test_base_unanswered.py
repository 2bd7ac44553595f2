"""An oracle that has answers to a part of a batch: they are kept, and only the others are asked again."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from duelenv.labels.ledger import Ledger
from duelenv.labels.path import LabelPath
from duelenv.oracles import Noise, Preferences, Unanswered, ask


class Halting:
    """Answers the first two of its first batch only."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: list[str], first: list[str], second: list[str], /) -> Preferences:
        self.asked.append(list(first))
        win = np.full(len(first), 0.25)
        if len(self.asked) == 1:
            raise Unanswered("the judge is down", Preferences(win, win * 0), np.arange(len(first)) < 2)
        return Preferences(win, win * 0)


def test_answers_before_a_fault_are_written_down_and_not_asked_again(tmp_path: Path) -> None:
    path = LabelPath(rows=4, batch=4, feedback="argmax", stages=(), source=None, empty={}, action_size=2)
    oracle = Halting()
    texts = (["p"] * 4, ["a", "b", "c", "d"], ["x"] * 4)
    path.restart(1)
    path.keep(Ledger(tmp_path), duels=False)
    rows = list(range(4))
    with pytest.raises(Unanswered, match="down"):
        path._at_once(oracle, 0, "duel", texts, rows)
    assert path._at_once(oracle, 0, "duel", texts, rows).win.tolist() == [0.25] * 4
    assert oracle.asked == [["a", "b", "c", "d"], ["c", "d"]]


def test_a_wrapper_changes_the_answers_that_are_there() -> None:
    with pytest.raises(Unanswered) as caught:
        ask(Noise(Halting(), 0.5), ["p"] * 3, ["a", "b", "c"], ["x"] * 3)
    assert caught.value.preferences.win[:2].tolist() == [0.5, 0.5]
    assert caught.value.answered.tolist() == [True, True, False]


def test_it_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Unanswered("down", Preferences(np.zeros(1), np.zeros(1)), np.array([True]))))
    assert str(error) == "down" and error.answered.tolist() == [True]
