"""Tables of responses with scores: what becomes a pool, what is dropped, and the sentence for what does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_files import REAL, ROWS, is_one_sentence, write

from duelenv import UserError
from duelenv.data import load_pool, load_responses, read_table


def test_columns_are_found_by_usual_names_or_named(tmp_path: Path) -> None:
    rows = [{"Instruction": "p", "output": text, "rating": n, "other": -n} for n, text in enumerate("ab")]
    path = write(tmp_path / "t.jsonl", rows)
    assert load_responses(path).utilities.tolist() == [[0.0, 1.0]]
    assert load_responses(path, score="other").utilities.tolist() == [[0.0, -1.0]]


def test_probabilities_become_clipped_logits(tmp_path: Path) -> None:
    probabilities = [0.0, 0.25, 0.5, 1.0]
    rows = [{"prompt": "p", "response": str(p), "p_beats_reference": p} for p in probabilities]
    path = write(tmp_path / "t.parquet", rows)
    extreme = math.log((1 - 1e-6) / 1e-6) / 3
    expected = [[-extreme, math.log(1 / 3) / 3, 0.0, extreme]]
    np.testing.assert_allclose(load_responses(path).utilities, expected)
    np.testing.assert_allclose(load_responses(path, transform="identity").utilities, [probabilities])
    softer = load_responses(path, clip=0.1, temperature=1.0).utilities
    np.testing.assert_allclose(softer[0, [0, 3]], [-math.log(9), math.log(9)])


def test_a_score_is_taken_as_it_is_unless_its_name_says_probability(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response": str(n), "score": n} for n in range(2)]
    assert load_responses(write(tmp_path / "t.jsonl", rows)).utilities.tolist() == [[0.0, 1.0]]


def test_short_prompts_are_dropped_and_counted_and_rows_still_align(tmp_path: Path) -> None:
    sizes = {"p": 3, "q": 2, "r": 3, "s": 1}
    rows = [
        {"prompt": prompt, "response": f"{prompt}{n}", "score": 10 * n}
        for prompt, size in sizes.items()
        for n in range(size)
    ]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.warns(UserWarning, match="2 of 4 prompts dropped for fewer than 3 responses"):
        pool = load_responses(path)
    assert pool.prompts == ("p", "r") and pool.num_rows == 9
    source = np.array([row["response"] for row in rows], dtype=object)
    assert (source[pool.rows] == pool.responses).all()


def test_which_responses_are_kept_does_not_depend_on_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": p, "response": f"{p}{n}", "score": n} for p in "pqr" for n in range(9)]
    kept = []
    for name, order in (("a.jsonl", rows), ("b.jsonl", rows[::-1])):
        with pytest.warns(UserWarning, match="3 prompts had more than 4"):
            pool = load_responses(write(tmp_path / name, order), num_responses=4)
        kept.append({text for texts in pool.responses for text in texts})
    assert kept[0] == kept[1] and len(kept[0]) == 12
    # Tables are often sorted by score: taking the first or the last would be a biased pool.
    assert kept[0] != {f"{p}{n}" for p in "pqr" for n in range(4)}


def test_equal_texts_of_two_responders_are_two_responses(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "response": "yes", "score": 1.0, "model": m} for m in "xy"]
    assert load_responses(write(tmp_path / "t.jsonl", rows)).responses.tolist() == [["yes", "yes"]]


def test_empty_responses_and_repeated_rows_are_refused_dropped_or_kept(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], {"prompt": "p", "response": " ", "score": 0.0, "model": "z"}]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match="row 4 repeats prompt, response and score of row 0"):
        load_responses(path, empty="keep")
    with pytest.raises(UserError, match=r"row 5 has an empty 'response'.*empty='drop'"):
        load_responses(path, duplicates="keep")
    with pytest.warns(UserWarning, match="1 of 6 rows dropped for"):
        pool = load_responses(path, duplicates="drop", empty="drop")
    assert pool.utilities.tolist() == [[1.0, 2.0], [3.0, 4.0]] and len(pool.notes) == 2
    with pytest.warns(UserWarning, match="1 of 2 prompts dropped"):
        assert load_responses(path, duplicates="keep", empty="keep").num_responses == 4


GOOD = [{"prompt": "p", "response": text, "score": 0.5} for text in "ab"]


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([{"prompt": "p", "text_": "a"}], {}, "no response column among prompt, text_"),
        ([{"prompt": "p", "response": "a"}], {}, "no score column among prompt, response"),
        (GOOD, {"score": "stars"}, "no column 'stars': choose from prompt, response, score"),
        ([*GOOD, GOOD[0] | {"score": math.nan}], {}, "row 2 has score = nan, expected a finite"),
        ([*GOOD, GOOD[0] | {"score": "high"}], {}, "row 2 has score = 'high'"),
        ([*GOOD, {"prompt": "p", "response": "c"}], {}, "row 2 has score = None"),
        ([*GOOD, GOOD[0] | {"response": None}], {}, "row 2 has nothing in 'response'"),
        ([*GOOD, GOOD[0] | {"response": 7}], {}, "row 2 has int '7' in 'response'"),
        ([GOOD[0] | {"prompt": ""}], {}, "row 0 has an empty 'prompt'"),
        ([GOOD[0], GOOD[0] | {"prompt": "q"}], {}, "at most 1 responses to a prompt"),
        (GOOD, {"num_responses": 3}, "at most 2 responses to a prompt, expected at least 3"),
        (GOOD, {"num_responses": 1}, "num_responses is 1, expected an integer of at least 2"),
        ([GOOD[0] | {"score": 1.2}, GOOD[1]], {"transform": "logit"}, "row 0 has score = 1.2"),
        (GOOD, {"transform": "log"}, "transform='log' is unknown"),
        (GOOD, {"empty": "skip"}, "empty='skip' is unknown"),
        (GOOD, {"clip": 0.0}, "clip is 0.0, expected a number in (0, 0.5)"),
        (GOOD, {"temperature": -1.0}, "temperature is -1.0, expected a number above 0"),
        ([{"prompt": "p", "response": " ", "score": 1}], {"empty": "drop"}, "no rows left; 1 of 1"),
    ],
)
def test_a_table_that_does_not_fit_gets_one_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], sentence: str
) -> None:
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError) as caught:
        load_responses(path, **settings)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


def test_a_warning_points_at_the_line_that_asked_for_the_table(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [*ROWS, {"prompt": "r", "response": "a", "score": 1.0, "model": "x"}])
    for load in (load_responses, load_pool):
        with pytest.warns(UserWarning, match=r"t\.jsonl: 1 of 3 prompts dropped for fewer than 2 responses$") as caught:
            load(path)
        # Of a pool there is one more: with two responses a prompt there is nothing to choose.
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)] * (1 + (load is load_pool))


@pytest.mark.skipif(not REAL.is_dir(), reason="the development data (../shared/data) are not here")
def test_a_real_table_of_responses() -> None:
    pool = load_pool(REAL / "alpaca_eval_pool" / "pool.parquet")
    assert pool.responses.shape == (500, 20) and pool.notes == ()
    table = read_table(REAL / "alpaca_eval_pool" / "pool.parquet")
    probability = np.clip(np.array(table["p_beats_reference"]), 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(pool.utilities, (np.log(probability / (1 - probability)) / 3)[pool.rows])
