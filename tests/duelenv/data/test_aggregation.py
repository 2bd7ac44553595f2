"""Labels of several annotators: what is a pair, what is a tie, and whether knowing abilities helps as it should."""

from __future__ import annotations

import numpy as np
import pytest

from duelenv import UserError
from duelenv.data import aggregate
from duelenv.data.aggregation import METHODS

ABILITIES = {"ann": 0.95, "bob": 0.9, "cem": 0.6, "dia": 0.55, "eve": 0.55, "fay": 0.5}


def table(*rows):
    return [dict(zip(("prompt", "first", "second", "annotator", "label"), row, strict=True)) for row in rows]


def crowd(seed: int, pairs: int = 300):
    """Labels of annotators of known ability, each pair shown in either order; and which response of each is better."""
    rng = np.random.default_rng(seed)
    rows, truth = [], set()
    for number in range(pairs):
        better, worse = (f"{number} {text}" for text in rng.permutation(["a", "b"]))
        truth.add(better)
        for name, ability in ABILITIES.items():
            first, second = (better, worse) if rng.random() < 0.5 else (worse, better)
            right = rng.random() < ability
            rows.append(("p", first, second, name, float(right == (first == better))))
    return table(*rows), truth


def share_right(found, truth) -> float:
    pairs = zip(found.pairs["first"], found.pairs["second"], found.pairs["label"], strict=True)
    return float(np.mean([0.5 if y == 0.5 else float((a if y else b) in truth) for a, b, y in pairs]))


@pytest.mark.parametrize("method", ["dawid_skene", "one_coin"])
def test_known_abilities_are_found_and_beat_the_majority(method: str) -> None:
    rows, truth = crowd(0)
    found, majority = aggregate(rows, method), aggregate(rows, "majority")
    assert share_right(found, truth) > share_right(majority, truth) + 0.05
    assert share_right(found, truth) > 0.93  # ann alone: 0.95
    abilities = dict(zip(found.annotators["annotator"], found.annotators["ability"], strict=True))
    assert np.corrcoef([abilities[name] for name in ABILITIES], list(ABILITIES.values()))[0, 1] > 0.98
    assert max(abs(abilities[name] - ABILITIES[name]) for name in ABILITIES) < 0.08
    assert found.annotators["labels"] == [300] * 6 and set(found.pairs["votes"]) == {6}


@pytest.mark.parametrize("method", METHODS)
def test_the_order_in_which_a_pair_is_shown_does_not_matter(method: str) -> None:
    rows = [("p", "x", "y", name, 1.0) for name in "ab"] + [("q", "x", "y", name, 0.0) for name in "ab"]
    turned = [(p, b, a, name, 1.0 - label) if name == "b" else (p, a, b, name, label) for p, a, b, name, label in rows]
    one, other = aggregate(table(*rows), method), aggregate(table(*turned), method)
    assert one.pairs["label"] == other.pairs["label"] == [1.0, 0.0]
    assert one.pairs["first"] == other.pairs["first"] == ["x", "x"]
    assert np.allclose(one.pairs["probability"], other.pairs["probability"])


def test_a_pair_stands_as_it_was_first_seen() -> None:
    found = aggregate(table(("p", "y", "x", "a", 1), ("p", "x", "y", "b", 0), ("p", "y", "x", "c", "0")), "majority")
    assert (found.pairs["first"], found.pairs["second"], found.pairs["label"]) == (["y"], ["x"], [1.0])
    assert found.pairs["probability"] == pytest.approx([2 / 3]) and found.pairs["votes"] == [3]
    assert found.annotators["ability"] == pytest.approx([2 / 3, 2 / 3, 1 / 3])


def test_ties_are_votes_and_equal_votes_are_ties() -> None:
    rows = [("t", "x", "y", "a", 0.5), ("t", "x", "y", "b", 0.5), ("t", "x", "y", "c", 1.0)]
    rows += [("e", "x", "y", "a", 1.0), ("e", "x", "y", "b", 0.0)]
    found = aggregate(table(*rows), "majority")
    assert found.pairs["label"] == [0.5, 0.5]
    assert found.pairs["probability"] == pytest.approx([(1 + 0.5 + 0.5) / 3, 0.5])


def test_skipped_rows_are_no_labels() -> None:
    rows = table(("p", "x", "y", "a", 1.0), ("p", "x", "y", "b", None), ("q", "x", "y", "b", float("nan")))
    found = aggregate(rows, "majority")
    assert found.skipped == 2 and found.pairs["prompt"] == ["p"] and found.annotators["annotator"] == ["a"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (table(("p", "x", "y", "a", 2)), r"row 0 has the label 2"),
        (table(("p", "x", "y", "a", "yes")), "has the label 'yes'"),
        (table(("p", "x", "y", "a", None)), "holds no label"),
        ([{"prompt": "p", "first": "x", "second": "y", "label": 1}], "annotator"),
    ],
)
def test_what_is_no_table_of_labels_is_refused(rows: object, match: str) -> None:
    with pytest.raises(UserError, match=match):
        aggregate(rows, "majority")
    with pytest.raises(UserError, match="method='vote' is unknown"):
        aggregate(rows, "vote")
