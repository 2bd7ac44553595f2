"""Pools check what they are made of, and cannot be changed."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from table_files import is_one_sentence

from duelenv import UserError
from duelenv.data import Pairs, Pool


@pytest.mark.parametrize(
    ("prompts", "responses", "utilities", "sentence"),
    [
        ((), [], [], "no prompts"),
        (("p",), [["a"]], [[1.0]], "K=1 responses"),
        (("p", "q"), [["a", "b"], ["c"]], [[1.0, 2.0], [3.0, 4.0]], "unequal numbers"),
        (("p",), [["a", "b"]], [[1.0, 2.0, 3.0]], "utilities of shape (1, 3), expected (1, 2)"),
        (("p",), [["a", "b"]], [[1.0, math.nan]], "the utility nan for response 1 of prompt 0"),
    ],
)
def test_a_pool_checks_itself(prompts: tuple[str, ...], responses: Any, utilities: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        Pool(prompts, responses, utilities)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


def test_a_pool_cannot_be_changed_and_does_not_share_its_arrays() -> None:
    utilities = np.array([[1.0, 2.0]])
    pool = Pool(("p",), np.array([["a", "b"]], dtype=object), utilities)
    utilities[0, 0] = 9.0
    assert pool.utilities[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        pool.utilities[0, 0] = 5.0
    assert copy.deepcopy(pool) is pool


def test_pairs_without_a_difference_are_no_pool() -> None:
    with pytest.raises(UserError, match="margin is 0, expected a number above 0"):
        Pairs(("p",), ("a",), ("b",), rows=np.array([0]), num_rows=1).pool(margin=0)
