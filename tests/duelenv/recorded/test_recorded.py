"""Replay of recorded preferences: strict and nearest, either order, repeats, and what is not in the record."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.labels.ledger import Ledger
from duelenv.oracles import UserError, ask, make
from duelenv.oracles.recorded import Compared, PairRecord
from duelenv.oracles.services.figures import read_figures
from duelenv.oracles.services.home import Home
from duelenv.oracles.sources import Answer, Request
from duelenv.recorded import NearestPairs, Recorded, read_record
from duelenv.testing import check_oracle


def table(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_pair_has_the_mean_of_its_answers_in_either_order():
    record = PairRecord(
        [Compared("p", "a", "b", 1.0), Compared("p", "b", "a", 0.75), Compared("p", "b", "a", 0.0, 1.0)]
    )
    assert (len(record.prompts), record.num_pairs, record.repeated) == (1, 1, 2)
    # a won 1, then 1/4, then tied: (1.25 / 3, 1 / 3).
    assert_allclose(record.find("p", "a", "b"), (1.25 / 3, 1 / 3))
    assert_allclose(record.find("p", "b", "a"), (0.75 / 3, 1 / 3))


def test_what_is_unknown_is_refused_or_declined_and_counted():
    record = PairRecord([Compared("p", "a", "b", 1.0)])
    with pytest.raises(UserError, match="pair 'a' and 'c' for prompt 'p' was never recorded"):
        ask(Recorded(record), ["p"], ["a"], ["c"])
    with pytest.raises(UserError, match="prompt 'q' is none of the 1 recorded ones"):
        ask(Recorded(record, match="nearest"), ["q"], ["a"], ["b"])
    declining = Recorded(record, unknown="decline")
    answer = ask(declining, ["p", "p", "q", "p"], ["b", "a", "a", "c"], ["a", "c", "b", "c"])
    assert_array_equal(answer.win, [0.0, np.nan, np.nan, 0.5])
    tally = declining.tally
    assert (tally.exact, tally.near, tally.declined, tally.equal) == (1, 0, 2, 1)
    assert str(tally) == "1 by the very pair, 0 by a near one, 2 declined; mean similarity 1.000, share of exact 1.000"


NEAR = PairRecord(
    [
        Compared("p", "the red fox runs home", "a blue whale sings", 1.0),
        Compared("p", "stars burn for ages", "rain falls on tin", 0.25),
        Compared("q", "one", "two", 1.0),
    ]
)


def test_the_nearest_pair_answers_in_both_orders():
    oracle = Recorded(NEAR, match="nearest")
    texts = "the red fox runs", "a blue whale sings loudly"
    answer = ask(oracle, ["p", "p"], texts, texts[::-1])
    assert_array_equal(answer.win, [1.0, 0.0])
    assert (oracle.tally.near, oracle.tally.exact) == (2, 0)
    assert 0.5 < oracle.tally.mean_similarity < 1.0
    ask(oracle, ["p"], ["a blue whale sings"], ["the red fox runs home"])
    assert oracle.tally.share_exact == pytest.approx(1 / 3)
    check_oracle(lambda: Recorded(NEAR, match="nearest"), prompts=["p", "q"], responses=[*texts, "one", "three"])


def test_a_pair_is_as_similar_as_its_less_similar_response():
    """Cosine by hand: without idf a text of one word, which is half of another of two words and their pair."""
    record = PairRecord([Compared("p", "one", "two", 1.0)])
    found = NearestPairs(record).find("p", "one", "two two")
    # Both words are in one of two texts, idf log(3/2) + 1; "two two" has "two" twice and the unseen pair once.
    seen, unseen = np.log(3 / 2) + 1, np.log(3) + 1
    twice = (1 + np.log(2)) * seen
    assert found.similarity == pytest.approx(twice / np.hypot(twice, unseen), abs=1e-9)
    # Nothing in common with either: both orders are equally near, so nothing is known.
    assert NearestPairs(record).find("p", "x", "y") == (0.5, 0.0, 0.0)


def test_nothing_depends_on_the_order_of_the_record():
    texts = ["red fox", "red dog", "blue fox", "green owl", "red owl"]
    compared = [Compared("p", a, b, 0.1 * i) for i, (a, b) in enumerate(itertools.pairwise(texts))]
    forward, backward = NearestPairs(PairRecord(compared)), NearestPairs(PairRecord(compared[::-1]))
    for pair in (("red", "owl"), ("fox", "dog"), ("red fox owl", "blue")):
        assert forward.find("p", *pair) == pytest.approx(backward.find("p", *pair))


def test_below_the_floor_it_declines():
    pair = (["p"], ["the red fox runs"], ["a blue whale"])
    near = NearestPairs(NEAR).find("p", pair[1][0], pair[2][0]).similarity
    for floor, known in ((near - 0.01, True), (near + 0.01, False)):
        oracle = Recorded(NEAR, match="nearest", floor=floor)
        assert np.isfinite(ask(oracle, *pair).win[0]) == known
        assert oracle.tally.declined == (not known)


def test_tables_are_read_by_their_columns(tmp_path):
    rows = [
        {"question": "p", "response_a": "x", "response_b": "y", "winner": "y"},
        {"question": "p", "response_a": "x", "response_b": "z", "winner": "tie"},
    ]
    rows.append({"question": "q", "response_a": "x", "response_b": "z", "winner": "x"})
    path = table(tmp_path / "votes.jsonl", *rows)
    oracle = make("recorded", path=str(path), columns={"first_wins": "x"})
    answer = ask(oracle, ["p"] * 2, ["x", "z"], ["y", "x"])
    assert_array_equal(answer.win, [0.0, 0.0])
    assert_array_equal(answer.tie, [0.0, 1.0])


def test_exports_count_what_was_answered_before_what_was_told(tmp_path):
    base = {"prompt": "p", "first": "x", "second": "y", "label": 1.0, "win": 0.7, "tie": 0.1, "id": "k"}
    rows = [
        base,
        base,  # the same question with the same answer
        base | {"second": "z", "label": 0.0, "win": None, "tie": None, "id": None},
        base | {"second": "w", "label": None, "win": None, "tie": None, "id": None},
    ]
    record = read_record(table(tmp_path / "duels.jsonl", *rows))
    assert record.repeated == 0
    assert_allclose(record.find("p", "y", "x"), (0.2, 0.1))
    assert record.find("p", "x", "z") == (0.0, 0.0)
    assert record.find("p", "x", "w") is None


def test_ledgers_are_read_each_question_once(tmp_path):
    requests = [Request("1-a", 0, 0, "p", "x", "y"), Request("1-b", 0, 1, "p", "x", "z")]
    for name in ("agent-seeds2", "agent-seeds4"):  # the second took over what the first had been told
        ledger = Ledger(tmp_path / "run" / "cells" / name)
        ledger.take_in([(requests[0], Answer("1-a", 0.7)), (requests[1], Answer("1-b", np.nan))])
        ledger.take_in([(Request("1-c", 0, 0, "p", "v", "w"), Answer("1-c", 1.0))], "evaluation")
        ledger.close()
    record = read_record(tmp_path / "run")
    assert (record.num_pairs, record.repeated) == (1, 0)
    assert record.find("p", "y", "x") == pytest.approx((0.3, 0.0))


def test_a_run_is_told_how_near_its_answers_were(tmp_path):
    home = Home(tmp_path / "run" / "oracles")
    for _ in range(2):
        ask(Recorded(NEAR, match="nearest", home=home), ["p", "q"], ["red fox", "two"], ["blue whale", "one"])
    figures = {figure.name: figure for figure in read_figures(tmp_path / "run" / "oracles")}
    assert {name: (figure.value, figure.size) for name, figure in figures.items() if name != "similarity"} == {
        "exact": (0.5, 2),  # each duel once, though both were asked twice
        "declined": (0.0, 2),
    }
    assert 0.75 < figures["similarity"].value < 1.0


def test_mistakes_are_one_sentence(tmp_path):
    path = table(tmp_path / "pairs.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    row = {"prompt": "p", "first": "a", "second": "b", "label": 2, "win": None, "tie": 0}
    bad = table(tmp_path / "bad.jsonl", row)
    for settings, message in (
        ({"path": path, "match": "exact"}, "match='exact' is unknown"),
        ({"path": path, "unknown": "guess"}, "unknown='guess' is unknown"),
        ({"path": path, "floor": 0.5}, "floor is 0.5 but match is 'strict'"),
        ({"path": path, "match": "nearest", "floor": 2}, "floor is 2"),
        ({"path": path, "columns": {"promt": "x"}}, "promt"),
        ({"path": tmp_path}, "is a folder without ledgers"),
        ({"path": bad}, "row 0 has the label 2, expected a number from 0 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            make("recorded", **settings)
