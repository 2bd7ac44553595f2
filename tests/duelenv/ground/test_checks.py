"""Checks of values: what passes, what is refused, and that the sentence says what would have passed."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from duelenv.ground import checks
from duelenv.ground.errors import UserError


def test_choices_ends_every_sentence_with_what_is_possible():
    assert "choose from a, b" in checks.choices("zzz", ["b", "a"])
    assert "none can be set" in checks.choices("zzz", [])


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [
        (0.0, {"above": 0.0}, "a number above 0"),
        (0.5, {"low": 0.0, "below": 0.5}, r"a number in \[0, 0.5\)"),
        (-0.1, {"low": 0.0, "high": 1.0}, r"a number in \[0, 1\]"),
        (2.0, {"above": 0.0, "high": 1.0}, r"a number in \(0, 1\]"),
        (1.0, {"below": 1.0}, "a number below 1"),
        (float("nan"), {}, "a finite number"),
        (float("inf"), {"low": 0.0}, "a number of at least 0"),
        (10**400, {"low": 0.0}, "a number of at least 0"),
        ("1", {}, "a finite number"),
        (True, {}, "a finite number"),
    ],
)
def test_a_number_outside_is_refused_with_its_range(value, bounds, expected):
    with pytest.raises(UserError, match=f"expected {expected}; change width$"):
        checks.number("width", value, **bounds)


def test_bounds_that_are_closed_hold_their_ends_and_open_ones_do_not():
    assert checks.number("x", 0, low=0.0) == 0.0
    assert checks.number("x", 1, high=1.0) == 1.0
    assert checks.number("x", 5e-324, above=0.0) == 5e-324
    assert checks.number("x", np.float32(0.25), above=0.0, below=0.5) == 0.25


def test_integers_have_two_ends():
    assert checks.integer("n", np.int8(3), low=1, high=3) == 3
    for value in (0, 4, 2.0, True, "2"):
        with pytest.raises(UserError, match="expected an integer from 1 to 3; change n"):
            checks.integer("n", value, low=1, high=3)


def complain(what):
    return UserError(f"got {what}")


@pytest.mark.parametrize(
    "values",
    [
        [0.25, 1],
        (Fraction(1, 4), 1),
        np.array([0.25, 1.0], np.float16),
        torch.tensor([0.25, 1.0], requires_grad=True),
        torch.tensor([0.25, 1.0], dtype=torch.bfloat16),
        [torch.tensor(0.25, requires_grad=True), torch.tensor(1.0)],
        np.ma.array([0.25, 1.0], mask=[False, False]),
    ],
)
def test_numbers_of_any_make_are_taken(values):
    array = checks.real_array(values, complain)
    assert array.dtype == np.float64
    assert array.tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    "values",
    [
        ["0.25", "1"],
        ["0.25", 1],
        np.array([b"1", b"0"]),
        np.array([0.25 + 0j, 1]),
        np.array([1, 2], "timedelta64[s]"),
        np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"),
        np.ma.array([0.25, 1.0], mask=[True, False]),
        [np.ma.masked, 1.0],
        [0.25, None],
        [10**400, 1],
        [[0.25], [1.0, 2.0]],
        {"a": 1},
        None,
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_only_looks_like_numbers_is_refused(values):
    with pytest.raises(UserError, match=r"^got "):
        checks.real_array(values, complain)
