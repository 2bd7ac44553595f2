"""The check of beliefs about a utility."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.testing.failure import require, same

Make = Callable[[int, int, int, int], Any]
"""From (features d, replicates R, rows of a replicate B, seed) to a belief."""

_DIM, _BATCH, _ARMS = 4, 4, 5
_DRAWS = 400
#: A deviation estimated from so many draws is off by 3.5 %; what is larger than this share is no chance.
_CHANCE = 0.2


def check_belief(make: Make, *, replicates: int = 2) -> None:
    """Check a belief.

    Shapes; draws that follow from the seed and from the state, and from nothing that `mean` does; the same knowledge
    from a duel told in either order; rows without a label teach nothing, a tie less than a win; draws about the mean;
    spread that shrinks on what was duelled more than far from it, and never grows with a repeated duel; replicates that
    do not hear each other.

    Args:
        make: Makes the belief of d features, R replicates, B rows each, and a seed.
        replicates: R; 1 for a belief that serves one.

    Raises:
        CheckFailed: It breaks its contract.
    """
    rng = np.random.default_rng(0)
    rows = replicates * _BATCH
    features = rng.normal(size=(rows, _ARMS, _DIM)).astype(np.float32)

    def new(seed: int = 0) -> Any:
        return make(_DIM, replicates, _BATCH, seed)

    _check_draws(new, features)
    _check_state(new, features)
    _check_labels(new, rows)
    _check_spread(new, rows)
    if replicates > 1:
        first, second = _duels(rng, rows)
        labels = np.ones(rows)
        turned = labels.copy()
        turned[_BATCH:] = 0.0
        one, other = new(), new()
        one.update(first, second, labels)
        other.update(first, second, turned)
        require(
            same(one.mean(features)[:_BATCH], other.mean(features)[:_BATCH])
            and same(one.sample(features, 3)[:, :_BATCH], other.sample(features, 3)[:, :_BATCH]),
            "the labels of one replicate changed the belief of another",
        )
        require(
            not same(one.mean(features)[_BATCH:], other.mean(features)[_BATCH:]),
            "the labels of the second replicate changed nothing",
        )


def _check_draws(new: Callable[..., Any], features: NDArray[Any]) -> None:
    rows = len(features)
    belief = new()
    draws, mean = belief.sample(features, 3), belief.mean(features)
    require(
        np.shape(draws) == (3, rows, _ARMS) and np.shape(mean) == (rows, _ARMS),
        f"sample gives shape {np.shape(draws)} and mean {np.shape(mean)}, expected {(3, rows, _ARMS)} and "
        f"{(rows, _ARMS)}",
    )
    require(np.isfinite(draws).all() and np.isfinite(mean).all(), "a draw or a mean is not finite")
    require(not same(draws[0], draws[1]), "two draws before any label are the same: nothing is uncertain")
    require(same(new().sample(features, 3), draws), "two beliefs of one seed draw differently")
    require(not same(new(1).sample(features, 3), draws), "beliefs of two seeds draw the same")
    belief, other = new(), new()
    belief.mean(features)
    require(same(belief.sample(features, 3), other.sample(features, 3)), "mean changed what is drawn after it")
    order = np.random.default_rng(1).permutation(_ARMS)
    require(
        np.allclose(belief.mean(features[:, order]), belief.mean(features)[:, order], atol=1e-5),
        "the mean utility of a candidate depends on its position among the others",
    )
    twins = features.copy()
    twins[:, 1] = twins[:, 0]
    draws = belief.sample(twins, 5)
    require(np.allclose(draws[:, :, 0], draws[:, :, 1], atol=1e-5), "equal candidates differ within one draw")
    many = belief.sample(features, _DRAWS).astype(np.float64)
    gaps = many[:, :, 0] - many[:, :, 1]
    expected = (belief.mean(features)[:, 0] - belief.mean(features)[:, 1]).astype(np.float64)
    error = np.abs(gaps.mean(axis=0) - expected) / (gaps.std(axis=0) / np.sqrt(_DRAWS) + 1e-9)
    require(
        error.max() < 6.0,
        f"the mean over {_DRAWS} draws of a gap lies {error.max():.1f} standard errors from the gap of the mean",
    )


def _check_state(new: Callable[..., Any], features: NDArray[Any]) -> None:
    rng = np.random.default_rng(2)
    one, other = new(), new()
    for _ in range(2):
        one.update(*_duels(rng, len(features)), np.ones(len(features)))
        one.sample(features, 2)
    state = one.state_dict()
    first, second = _duels(rng, len(features))
    labels = rng.integers(0, 2, len(features)).astype(np.float64)
    one.update(first, second, labels)
    expected = one.sample(features, 3)
    other.load_state_dict(state)
    other.update(first, second, labels)
    require(
        same(other.sample(features, 3), expected) and same(other.mean(features), one.mean(features)),
        "a belief that goes on from a state taken in the middle learns or draws otherwise than the one it was taken of",
    )


def _check_labels(new: Callable[..., Any], rows: int) -> None:
    # Each row of a replicate along a direction of its own, so that no row's labels speak of another's.
    first, second = np.zeros((2, rows, _DIM), np.float32)
    first[np.arange(rows), np.arange(rows) % _DIM] = 1.5
    pairs = np.stack([first, second], axis=1)

    def gap(labels: NDArray[Any], *, turned: bool = False) -> NDArray[np.float64]:
        belief = new()
        for _ in range(4):
            if turned:
                belief.update(second, first, 1.0 - labels)
            else:
                belief.update(first, second, labels)
        mean = belief.mean(pairs).astype(np.float64)
        return np.asarray(mean[:, 0] - mean[:, 1])

    won, lost, tied = (gap(np.full(rows, label)) for label in (1.0, 0.0, 0.5))
    require((won > 0).all() and (lost < 0).all(), "a candidate that won four times is not believed better")
    require(
        (np.abs(tied) < np.abs(won)).all() and (np.abs(tied) < np.abs(lost)).all(),
        "four ties moved the belief as far as four wins",
    )
    back = gap(np.full(rows, 1.0), turned=True)
    require(
        np.allclose(won, back, rtol=0.05, atol=0.02),
        f"a win told as (first, second, 1) leaves a gap of {won[0]:.4f}, told as (second, first, 0) one of "
        f"{back[0]:.4f}, expected the same",
    )
    belief = new()
    before = belief.mean(pairs)
    belief.update(first, second, np.full(rows, np.nan))
    require(np.allclose(belief.mean(pairs), before, atol=1e-6), "duels without a label changed what is believed")


def _check_spread(new: Callable[..., Any], rows: int) -> None:
    """Duel along one direction, over and over; compare a gap's deviations along it and across it."""
    origin, along, across = np.zeros((3, rows, _DIM), np.float32)
    along[:, 0], across[:, 1] = 1.0, 1.0
    asked = np.stack([origin, along, across], axis=1)
    belief = new()
    rng = np.random.default_rng(6)
    for _ in range(40):  # what standardises features has seen enough of them
        belief.sample(rng.normal(size=(rows, _ARMS, _DIM)).astype(np.float32), 2)
    deviations = []
    for repeats in (0, 1, 3, 12):
        for number in range(repeats):  # both outcomes, so that no gap runs away
            belief.update(along, origin, np.full(rows, float(number % 2)))
        draws = belief.sample(asked, _DRAWS).astype(np.float64)
        deviations.append([(draws[:, :, arm] - draws[:, :, 0]).std(axis=0).mean() for arm in (1, 2)])
    on, off = np.array(deviations).T
    require(
        (on[1:] <= on[:-1] * (1 + _CHANCE)).all(),
        f"the deviation of a gap went {', '.join(f'{value:.3f}' for value in on)} while its duel was repeated, "
        "expected that it never grows",
    )
    require(
        (off[1:] <= off[:-1] * (1 + _CHANCE)).all(),
        f"the deviation of another gap went {', '.join(f'{value:.3f}' for value in off)} while a duel was repeated, "
        "expected that it never grows",
    )
    require(
        on[-1] / on[0] < off[-1] / off[0] * (1 - _CHANCE / 2),
        f"after 16 duels the deviation of their gap is {on[-1] / on[0]:.2f} of what it was and that of another "
        f"{off[-1] / off[0]:.2f}, expected that it shrinks more on the data than far from it",
    )


def _duels(rng: np.random.Generator, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pair = rng.normal(size=(2, rows, _DIM)).astype(np.float32)
    return pair[0], pair[1]
