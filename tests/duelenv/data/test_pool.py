"""Pools check what they are made of, and cannot be changed."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from table_files import is_one_sentence, write

import duelenv
from duelenv import UserError
from duelenv.data import Pairs, Pool, load_pool


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


def test_a_pool_says_what_cannot_be_compared_on_it() -> None:
    texts = [["a", "b"], ["c", "d"]]
    two = Pool(("p", "q"), texts, [[1.0, 0.0], [0.0, 2.0]]).caution
    assert two is not None and "leave nothing to choose" in two and "margin" not in two
    same = Pool(("p", "q"), texts, [[1.0, 0.0], [4.0, 5.0]]).caution
    assert same is not None and "the same margin (1)" in same and is_one_sentence(same)
    nothing = Pool(("p", "q"), texts, [[1.0, 1.0], [2.0, 2.0]]).caution
    assert nothing is not None and "no agent can be better" in nothing
    assert Pool(("p",), [["a", "b", "c"]], [[0.0, 1.0, 1.0]]).caution is None


def test_of_pairs_with_one_margin_rules_of_asking_do_the_same(tmp_path: Path) -> None:
    """The warning is true: two rules that never duel a response with itself learn the same."""
    rows = [{"prompt": f"p {n}", "chosen": f"a {n} " * (n % 5 + 2), "rejected": f"b {n}"} for n in range(30)]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.warns(UserWarning, match=r"leave nothing to choose: .* the same margin \(3\)"):
        pool = load_pool(path)
    regrets = []
    for name in ("passive", "real"):
        env = gymnasium.make_vec("duelenv/PoolDuel-v0", num_envs=2, data=pool, horizon=20, dim=8)
        agent = duelenv.agents.make(name, env, seed=0)
        observation, _ = env.reset(seed=0)
        for _ in range(20):
            actions = np.sort(agent.act(observation), axis=1)  # which of the two comes first turns the coin around
            following, labels, *_ = env.step(actions)
            agent.update(observation, actions, labels)
            observation = following
        regrets.append(env.unwrapped.evaluate(agent)["simple_regret"])
    np.testing.assert_array_equal(*regrets)
