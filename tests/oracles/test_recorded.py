"""Recorded scores and pairs: look-up in both orders, and what the record does not hold."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError, ask, make, utility_of
from duelenv.oracles.recorded import RecordedPairs, RecordedScores

SCORES = {("p", "a"): 1.0, ("p", "b"): -0.5, ("q", "a"): -2.0, ("q", "c"): -1.0}


def write(path, records):
    text = "\n".join(json.dumps(record) for record in records) + "\n\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def test_scores_are_utilities():
    oracle = RecordedScores(SCORES)
    assert_array_equal(oracle.utility(["p", "q"], ["b", "a"]), [-0.5, -2.0])
    assert_array_equal(oracle.maximum(["q", "p", "q"]), [-1.0, 1.0, -1.0])
    answer = ask(oracle, ["p", "q"], ["a", "a"], ["b", "c"])
    assert_allclose(answer.win, [1 / (1 + np.exp(-1.5)), 1 / (1 + np.exp(1.0))])


def test_unknown_scores_are_named():
    oracle = RecordedScores(SCORES)
    with pytest.raises(UserError, match="response 'c' to prompt 'p' has no recorded score"):
        oracle.utility(["p"], ["c"])
    with pytest.raises(UserError, match="prompt 'r' has no recorded score"):
        oracle.maximum(["r"])
    with pytest.raises(UserError, match=r"response 'x{57}\.\.\.' to prompt"):
        oracle.utility(["p"], ["x" * 500])


def test_refused_scores():
    for scores, message in (
        ({}, "scores are empty"),
        ({("p", "a"): float("nan")}, "the score of response 'a' is nan"),
        ({("p", "a"): "high"}, "the score of response 'a' is 'high'"),
    ):
        with pytest.raises(UserError, match=message):
            RecordedScores(scores)
    with pytest.raises(UserError, match="link 'x' is unknown"):
        RecordedScores(SCORES, link="x")


def test_pairs_are_found_in_both_orders():
    oracle = RecordedPairs([("p", "good", "bad"), ("q", "bad", "good")])
    answer = ask(oracle, ["p", "p", "q", "q"], ["good", "bad"] * 2, ["bad", "good"] * 2)
    assert_array_equal(answer.win, [1.0, 0.0, 0.0, 1.0])


def test_repeated_pairs_answer_with_their_share():
    oracle = RecordedPairs([("p", "a", "b")] * 3 + [("p", "b", "a")])
    answer = ask(oracle, ["p", "p"], ["a", "b"], ["b", "a"])
    assert_array_equal(answer.win, [0.75, 0.25])


def test_a_response_against_itself_is_even():
    oracle = RecordedPairs([("p", "a", "b")])
    assert ask(oracle, ["other"], ["same"], ["same"]).win[0] == 0.5


def test_unknown_pairs_are_named():
    oracle = RecordedPairs([("p", "a", "b")])
    with pytest.raises(UserError) as error:
        ask(oracle, ["p", "p"], ["a", "b"], ["b", "c"])
    assert str(error.value) == (
        "the pair 'b' and 'c' for prompt 'p' was never recorded, expected a recorded pair; add the choice to the record"
    )
    with pytest.raises(UserError, match="pairs are empty"):
        RecordedPairs([])


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_files(tmp_path, suffix):
    scores = write(
        tmp_path / f"scores{suffix}",
        [{"prompt": p, "response": r, "score": s, "judge": "x"} for (p, r), s in SCORES.items()],
    )
    oracle = make("recorded_scores", path=str(scores), noise=0.5)
    truth = utility_of(oracle)
    assert_array_equal(truth.utility(*zip(*SCORES, strict=True)), list(SCORES.values()))
    assert ask(oracle, ["p"], ["a"], ["b"]).win[0] == 0.5
    pairs = write(tmp_path / f"pairs{suffix}", [{"prompt": "p", "chosen": "é", "rejected": "b"}])
    assert ask(make("recorded_pairs", path=pairs), ["p"], ["b"], ["é"]).win[0] == 0.0


def test_wrong_files_are_named(tmp_path):
    line = {"prompt": "p", "response": "a", "score": 1.0}
    for records, message in (
        ([{"prompt": "p", "score": 1}], "line 1 lacks the field 'response', expected prompt, resp"),
        ([line, {**line, "score": None}], "the score in '.*' line 2 is None"),
        ([line, {**line, "score": 2.0}], "line 2 scores response 'a' 2, expected 1 as on an earl"),
        ([{**line, "prompt": 3}], "line 1 has 3 as 'prompt', expected text"),
        ([[1, 2]], r"line 1 is '\[1, 2\]', expected a JSON object"),
        ([], "scores are empty"),
    ):
        with pytest.raises(UserError, match=message):
            RecordedScores.load(write(tmp_path / "scores.jsonl", records))
    (tmp_path / "broken.jsonl").write_text('{"prompt": \n')
    with pytest.raises(UserError, match="expected a JSON object"):
        RecordedPairs.load(tmp_path / "broken.jsonl")
    with pytest.raises(UserError, match=r"expected \.jsonl or \.jsonl\.gz"):
        RecordedPairs.load(tmp_path / "pairs.csv")
    with pytest.raises(UserError, match="does not exist"):
        RecordedPairs.load(tmp_path / "absent.jsonl")
