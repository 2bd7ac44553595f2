"""The checks of rules: what to ask, and what to teach. Both choose pairs of candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duelenv.testing.failure import frozen, require, same

_ROWS, _ARMS, _DIM = 6, 5, 3

Select = Callable[[Any, "NDArray[np.int64] | None"], Any]
"""From an observation and the groups of equal texts, or None, to pairs int64 [N, 2], or those with their worth [N]."""


def check_ask_rule(make: Callable[[Any, int], Select]) -> None:
    """Check a rule that chooses which two candidates duel.

    Pairs of the right shape and range, equal texts kept apart wherever a row has two texts, the same pairs from the
    same seed, nothing written into what it is shown.

    Args:
        make: Makes the rule from a belief (with `sample`, `mean`, `update`) and a seed. It is called with N = 6 rows of
            K = 5 candidates of 3 features, also as `observation["features"]`.

    Raises:
        CheckFailed: It breaks its contract.
    """
    observation = _observation()
    groups = np.array([[0, 1, 2, 3, 4], [0, 0, 0, 0, 4], [0, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 2, 2, 4], [0] * 5])
    chosen = [make(_Known(), 0) for _ in range(2)]
    for round_number in range(8):
        told = None if round_number < 2 else groups
        returned = [rule(observation, told) for rule in chosen]
        pairs = [np.asarray(getattr(one, "pairs", one)) for one in returned]
        found = pairs[0]
        require(
            found.shape == (_ROWS, 2) and found.dtype.kind in "iu",
            f"the rule returned {found.dtype} of shape {found.shape}, expected integers of shape {(_ROWS, 2)}",
        )
        require(
            (found >= 0).all() and (found < _ARMS).all(),
            f"the rule returned candidates from {found.min()} to {found.max()}, expected 0 to {_ARMS - 1}",
        )
        require(same(*pairs), "two rules of one seed chose different pairs from the same observation")
        worth = getattr(returned[0], "worth", None)
        if worth is not None:
            _check_worth(worth)
        if told is not None:
            _check_apart(found, told)


def check_prompt_rule(make: Callable[[Any, int], Callable[..., Any]]) -> None:
    """Check a rule that says which rows of a selective world ask for their label.

    A finite number for each row, the same from the same seed, whichever member of a pair comes first, nothing written
    into what it is shown.

    Args:
        make: Makes the rule from a belief (with `sample`, `mean`, `update`) and a seed. It is called with N = 6 rows of
            K = 5 candidates, what duels in them (`pairs` [N, 2], `worth` [N]) and the groups of equal texts.

    Raises:
        CheckFailed: It breaks its contract.
    """
    observation, rng = _observation(), np.random.default_rng(6)
    groups = np.tile(np.arange(_ARMS), (_ROWS, 1))
    rules = [make(_Known(), 0) for _ in range(3)]
    for _ in range(3):
        pairs = np.stack([rng.permutation(_ARMS)[:2] for _ in range(_ROWS)])
        shown, turned = (_Chosen(played, np.arange(_ROWS, dtype=np.float64)) for played in (pairs, pairs[:, ::-1]))
        told = [
            np.asarray(rule(observation, chosen, groups))
            for rule, chosen in zip(rules, (shown, shown, turned), strict=True)
        ]
        for worth in told:
            _check_worth(worth)
        require(same(told[0], told[1]), "two rules of one seed say another worth of the same duels")
        require(
            bool(np.allclose(told[0], told[2], rtol=1e-6)),
            f"duels turned round are worth {told[2]} and were worth {told[0]}: who comes first is a coin",
        )


def _check_worth(worth: Any) -> None:
    require(
        np.shape(worth) == (_ROWS,) and bool(np.isfinite(worth).all()),
        f"the rule says that the rows' duels are worth {worth}, expected {_ROWS} finite numbers",
    )


def check_teaching_rule(make: Callable[[Any, Select, Any], Any]) -> None:
    """Check a rule that says what the policy is taught besides its labels, or instead of them.

    Of duels: in range, labels in [0, 1] or NaN, no text against itself, labels on the side of what the belief knows for
    certain. Of sets: in range, a finite value each, a loss with one finite number a set, whose gradient raises what the
    belief knows to be better. Nothing written into what it is shown.

    Args:
        make: Makes the rule from a belief, the agent's own choice of pairs and a view with `num_envs`,
            `num_candidates` and candidates of policy and reference; it is then called with a round that was played
            (`observation`, `groups`, `duels`, `unasked`) and returns `rows`, `pairs` and `labels`, or `rows`, `arms`,
            `values` and the `loss` that reads them.

    Raises:
        CheckFailed: It breaks its contract.
    """
    observation = _observation()
    belief = _Known()
    groups = np.array(
        [[0, 1, 2, 3, 4], [0, 1, 2, 3, 3], [0, 1, 1, 3, 4], [0, 1, 0, 1, 0], [0, 0, 2, 2, 4], [0, 1, 2, 3, 4]]
    )
    rng = np.random.default_rng(5)

    def select(shown: Any, told: Any) -> NDArray[np.int64]:
        pairs = np.empty((_ROWS, 2), np.int64)
        for row in range(_ROWS):
            while True:
                pairs[row] = rng.integers(0, _ARMS, 2)
                if told is None or told[row, pairs[row, 0]] != told[row, pairs[row, 1]]:
                    break
        return pairs

    teach = make(belief, select, _View())
    utility = belief.mean(observation["features"])
    for _ in range(3):
        taught = teach(_Played(observation, groups, _Duels(select(observation, groups)), np.arange(_ROWS) % 3 == 0))
        if hasattr(taught, "loss"):
            _check_sets(taught, utility)
            continue
        rows, pairs, labels = (np.asarray(value) for value in (taught.rows, taught.pairs, taught.labels))
        require(
            rows.ndim == 1 and pairs.shape == (len(rows), 2) and labels.shape == rows.shape,
            f"rows, pairs and labels have shapes {rows.shape}, {pairs.shape} and {labels.shape}, expected [M], [M, 2] "
            "and [M]",
        )
        require(
            ((rows >= 0) & (rows < _ROWS)).all() and ((pairs >= 0) & (pairs < _ARMS)).all(),
            "a row or a candidate that is taught does not exist",
        )
        known = ~np.isnan(labels)
        require(
            ((labels[known] >= 0) & (labels[known] <= 1)).all(),
            f"labels go from {np.nanmin(labels):g} to {np.nanmax(labels):g}, expected values in [0, 1] or NaN",
        )
        _check_apart(pairs, groups[rows])
        gap = utility[rows, pairs[:, 0]] - utility[rows, pairs[:, 1]]
        wrong = known & (np.sign(labels - 0.5) * np.sign(gap) < 0)
        require(
            not wrong.any(),
            f"a pair whose first is better by {gap[wrong][:1]} for certain is taught with the label "
            f"{labels[wrong][:1]}: labels are the probability that the first is preferred",
        )


def _check_sets(taught: Any, utility: NDArray[Any]) -> None:
    import torch

    rows, arms, values = (np.asarray(value) for value in (taught.rows, taught.arms, taught.values))
    require(
        rows.ndim == 1 and arms.ndim == 2 and len(arms) == len(rows) and values.shape == arms.shape,
        f"rows, arms and values have shapes {rows.shape}, {arms.shape} and {values.shape}, expected [M], [M, J] and "
        "[M, J]",
    )
    require(
        ((rows >= 0) & (rows < _ROWS)).all() and ((arms >= 0) & (arms < _ARMS)).all(),
        "a row or a candidate that is taught does not exist",
    )
    require(np.isfinite(values).all(), "a value of a set is not finite")
    log_prob = torch.full(arms.shape, -3.0, requires_grad=True)
    losses = taught.loss(log_prob, log_prob.detach().clone(), torch.as_tensor(values, dtype=torch.float32))
    require(
        tuple(losses.shape) == rows.shape and bool(torch.isfinite(losses).all()),
        f"the loss of sets has shape {tuple(losses.shape)}, expected one finite number a set, {rows.shape}",
    )
    losses.sum().backward()
    assert log_prob.grad is not None
    shown = utility[rows[:, np.newaxis], arms]
    rise = (-log_prob.grad.numpy() * (shown - shown.mean(axis=1, keepdims=True))).sum()
    require(rise > 0, "a step along the sets' loss lowers what the belief knows to be better, or does nothing")


def _check_apart(pairs: NDArray[Any], groups: NDArray[Any]) -> None:
    told = np.take_along_axis(groups, pairs, axis=1)
    several = np.array([len(set(row.tolist())) > 1 for row in groups])
    require(
        (told[several, 0] != told[several, 1]).all(),
        "the rule set a text against itself in a row that has another: its label would tell nothing",
    )
    require((pairs[:, 0] != pairs[:, 1]).all(), "the rule set a candidate against itself where texts are told apart")


def _observation() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(_ROWS, _ARMS, _DIM)).astype(np.float32)
    prompts = np.array([f"prompt {row}" for row in range(_ROWS)], dtype=object)
    source = np.tile(np.array([0, 0, 0, 1, 1], np.int8), (_ROWS, 1))
    return frozen({"features": features, "prompt": prompts, "source": source})


class _View:
    num_envs, num_candidates, selective = _ROWS, _ARMS, False
    sources, source_counts, temperature = ("policy", "reference"), (3, 2), 1.0


class _Chosen(NamedTuple):
    """What an ask rule chose, one duel a row."""

    pairs: NDArray[np.int64]
    worth: NDArray[np.float64]


class _Duels(NamedTuple):
    """What was played, one duel a row; half of the labels came."""

    pairs: NDArray[np.int64]
    rows: NDArray[np.int64] = np.arange(_ROWS)
    labels: NDArray[np.float64] = np.where(np.arange(_ROWS) % 2 == 0, 1.0, np.nan)


class _Played(NamedTuple):
    observation: dict[str, Any]
    groups: NDArray[np.int64]
    duels: _Duels
    unasked: NDArray[np.bool_]


class _Known:
    """A belief that is certain of a linear utility."""

    def sample(self, features: NDArray[Any], num_samples: int) -> NDArray[Any]:
        return np.repeat(self.mean(features)[np.newaxis], num_samples, axis=0)

    def mean(self, features: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(features @ np.array([2.0, -1.0, 0.5], np.float32))

    def update(self, first: Any, second: Any, labels: Any) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass
