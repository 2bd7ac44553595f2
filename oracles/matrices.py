"""Preference matrices over K arms: generators, checks, winners and transitivity.

P[i, j] is the probability that arm i beats arm j, float64 [K, K] with P + P' = 1. For the world
with numbered arms; not for text, whose preferences come from an `Oracle`, and not for estimates:
winners and transitivity are those of the exact matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.oracles import links

Matrix = NDArray[np.float64]

COMPLEMENT_TOLERANCE = 1e-6
"""Largest |P[i, j] + P[j, i] - 1| taken for rounding (a matrix stored as float32 has 1e-7)."""

ORDER_TOLERANCE = 1e-12
"""Slack of the transitivity checks, for probabilities that went through a link."""


def check_matrix(matrix: ArrayLike) -> Matrix:
    """Check a preference matrix and remove its rounding.

    Args:
        matrix: [K, K], K >= 2, entries in [0, 1], P[i, j] + P[j, i] = 1 up to 1e-6.

    Returns:
        A new float64 [K, K] in which P[i, j] + P[j, i] is exactly 1 and the diagonal exactly 1/2.

    Raises:
        UserError: the matrix is none of this; the message names the first wrong entry.
    """
    return _checked(_numbers(matrix), "matrix")


def _numbers(matrix: ArrayLike) -> Matrix:
    try:
        array = np.asarray(matrix)
        if not np.iscomplexobj(array):  # NumPy would drop the imaginary part with a warning
            return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"matrix is {str(matrix)[:60]!r}, expected a square array of numbers; pass P[i, j], "
            "the probability that arm i beats arm j"
        ) from None
    raise UserError("matrix holds complex numbers, expected real ones; pass their real part if that is what you mean")


def _checked(array: Matrix, name: str) -> Matrix:
    """Run `check_matrix`, with the name that a message gives the matrix."""
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise UserError(
            f"{name} has shape {array.shape}, expected (K, K); pass P[i, j], the probability that arm i beats arm j"
        )
    if array.shape[0] < 2:
        raise UserError(f"{name} has {array.shape[0]} arms, expected at least 2; add arms")
    wrong = ~((array >= 0.0) & (array <= 1.0))  # True for NaN
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise UserError(f"{name}[{i}, {j}] is {array[i, j]:g}, expected a probability in [0, 1]; correct it")
    wrong = np.abs(array + array.T - 1.0) > COMPLEMENT_TOLERANCE
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise UserError(
            f"{name}[{i}, {j}] + {name}[{j}, {i}] is {array[i, j] + array[j, i]:g}, expected 1; "
            "make P[j, i] = 1 - P[i, j], with 0.5 on the diagonal"
        )
    # 1 - p is exact in floating point for p in [1/2, 1], so the larger of the two is kept.
    larger = array > array.T
    return np.where(larger, array, np.where(larger.T, 1.0 - array.T, 0.5))


def load_matrix(source: ArrayLike | str | Path) -> Matrix:
    """Load a checked matrix, or several, from an array, from a .npy or .csv file, or from a generator's name.

    Args:
        source: an array [K, K], or [M, K, K] of M matrices that hold one after the other; or the
            path of a .npy file or of a comma-separated file without a header (one matrix); or, as a
            str, one of `MATRICES`, for the matrix that `make_matrix` gives without settings.

    Returns:
        float64 [K, K] as from `check_matrix`, or [M, K, K] of such with M >= 2.

    Raises:
        UserError: the file is missing, of another kind or unreadable, the name is unknown or its generator
            needs settings, or the matrix is not valid.
    """
    if not isinstance(source, (str, Path)):
        return _check_one_or_more(source)
    if isinstance(source, str) and source in MATRICES:
        return make_matrix(source)
    path = Path(source)
    readers: dict[str, Callable[[Path], Matrix]] = {".npy": _read_npy, ".csv": _read_csv}
    if not path.suffix:
        raise UserError(
            f"matrix is {str(source)!r}, expected a .npy or .csv file, or a generator's name: "
            + checks.choices(source, MATRICES)
        )
    if path.suffix not in readers:
        raise UserError(f"matrix file is {str(path)!r}, expected .npy or .csv; convert the file")
    if not path.is_file():
        raise UserError(f"matrix file {str(path)!r} does not exist, expected a file; check the path")
    return _check_one_or_more(readers[path.suffix](path))


def _read_npy(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)  # np.load takes other formats too
    except (ValueError, EOFError):  # whose text advises callers of NumPy, not who wrote the file
        raise UserError(
            f"matrix file {str(path)!r} is not a NumPy array of numbers, expected one; write it again with numpy.save"
        ) from None


def _read_csv(path: Path) -> Matrix:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, which is refused below
            array: Matrix = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        reason = " ".join(str(error).split()).partition("; use `usecols`")[0].rstrip(".")
        raise UserError(
            f"matrix file {str(path)!r} cannot be read ({reason}), expected a table of numbers; write it again"
        ) from None
    if array.size == 0:
        raise UserError(f"matrix file {str(path)!r} is empty, expected a table of numbers; write it again")
    return array


def _check_one_or_more(source: ArrayLike) -> Matrix:
    array = _numbers(source)
    if array.ndim != 3 or len(array) == 0:
        return _checked(array, "matrix")
    if len(array) == 1:
        return _checked(array[0], "matrix")
    return np.stack([_checked(one, f"matrix[{index}]") for index, one in enumerate(array)])


# Generators


def _one_per_arm(name: str, given: ArrayLike, kind: str) -> NDArray[np.float64]:
    """Check `given` as float64 [K], K >= 2; `kind` is "finite" or "positive finite"."""
    try:
        values = np.asarray(given, dtype=np.float64)
        right = values.ndim == 1 and len(values) >= 2 and bool(np.isfinite(values).all())
    except (TypeError, ValueError):
        right = False
    if not right or (kind == "positive finite" and not (values > 0.0).all()):
        raise UserError(f"{name} are {str(given)[:60]}, expected at least two {kind} numbers; pass one per arm")
    return values


def bradley_terry(utilities: ArrayLike) -> Matrix:
    """Make P[i, j] = 1 / (1 + exp(u_j - u_i)) for utilities [K] in logits: strongly transitive.

    Raises:
        UserError: the utilities are not at least two finite numbers.
    """
    values = _one_per_arm("utilities", utilities, "finite")
    return check_matrix(links.logistic(values[:, None] - values[None, :]))


def plackett_luce(weights: ArrayLike) -> Matrix:
    """Make P[i, j] = w_i / (w_i + w_j) for skills [K]: the pairwise marginals of the Plackett-Luce model.

    A ranking that draws its items one after the other, each in proportion to its skill among those
    left, has i before j with this probability (Luce 1959, Plackett 1975). These are Bradley-Terry's
    preferences with utilities ln w.

    Raises:
        UserError: the weights are not at least two positive finite numbers.
    """
    values = _one_per_arm("weights", weights, "positive finite")
    with np.errstate(over="ignore", under="ignore"):  # of a ratio: then the probability is 0 or 1
        return check_matrix(1.0 / (1.0 + values[None, :] / values[:, None]))


def mallows(num_arms: int = 10, dispersion: float = 0.8) -> Matrix:
    """Compute the pairwise marginals of the Mallows model with centre 0 < 1 < ..: arm 0 is best.

    A ranking has probability proportional to phi^d for Kendall's distance d to the centre. Then, for
    i < j, P[i, j] = h(j - i + 1) - h(j - i) with h(n) = n / (1 - phi^n) (Mallows 1957; Busa-Fekete,
    Huellermeier and Szoerenyi 2014, the case of Mallows). A strongly transitive matrix, in which a
    preference depends only on how far apart two arms are in the centre.

    Args:
        num_arms: K >= 2.
        dispersion: phi in [0, 1]: with 0 every ranking is the centre and arms never lose to later
            ones, with 1 all rankings are equally likely and every entry is 1/2. Neighbours in the centre
            keep their order with probability 1 / (1 + phi): 0.556 at 0.8, hard but learnable.

    Raises:
        UserError: fewer than 2 arms, or a dispersion outside [0, 1].
    """
    num_arms = checks.integer("num_arms", num_arms, low=2)
    dispersion = checks.number("dispersion", dispersion, low=0.0, high=1.0)
    # h(n + 1) - h(n) multiplied out: the sum of (m + 1) phi^m over m < n, over the product of the sums of phi^m over
    # m < n and over m <= n. Nothing is subtracted, so it holds close to phi = 1 and there, where h does not exist.
    steps = np.arange(num_arms)
    powers = dispersion**steps
    sums = np.cumsum(powers)
    before = np.cumsum((steps + 1) * powers)[:-1] / (sums[:-1] * sums[1:])  # by distance 1 .. K - 1
    before = np.clip(before, 0.5, 1.0)  # rounding must not turn an order around
    distance = steps[None, :] - steps[:, None]
    beats = before[np.abs(distance) - 1]  # the diagonal takes any, and is replaced
    return check_matrix(np.where(distance > 0, beats, np.where(distance < 0, 1.0 - beats, 0.5)))


def cyclic(num_arms: int = 3, probability: float = 0.75) -> Matrix:
    """Make a cycle without a Condorcet winner: each arm beats the floor((K - 1) / 2) arms after it.

    Arms are on a circle, and an arm beats those in the half circle after it with `probability`; for
    even K it ties with the arm opposite. Rock-paper-scissors is K = 3. The von Neumann winner is
    uniform by symmetry.

    Raises:
        UserError: fewer than 3 arms, or a probability outside [0, 1].
    """
    num_arms = checks.integer("num_arms", num_arms, low=3)
    probability = checks.number("probability", probability, low=0.0, high=1.0)
    arms = np.arange(num_arms)
    ahead = (arms[None, :] - arms[:, None]) % num_arms  # steps from the row's arm to the column's
    reach = (num_arms - 1) // 2
    beats, beaten = (ahead >= 1) & (ahead <= reach), ahead >= num_arms - reach
    return check_matrix(np.where(beats, probability, np.where(beaten, 1.0 - probability, 0.5)))


def arithmetic(num_arms: int = 8, step: float = 0.05) -> Matrix:
    """Make P[i, j] = 1/2 + step * (j - i), arm 0 best (Komiyama et al. 2015, their arithmetic data).

    Raises:
        UserError: fewer than 2 arms, or a step for which a probability leaves [0, 1].
    """
    num_arms = checks.integer("num_arms", num_arms, low=2)
    step = checks.number("step", step, low=0.0, high=0.5 / (num_arms - 1))
    arms = np.arange(num_arms)
    return check_matrix(np.clip(0.5 + step * (arms[None, :] - arms[:, None]), 0.0, 1.0))


def savage_hard(num_arms: int = 10) -> Matrix:
    """Make P[i, j] = 1/2 + j / (2K) for i < j, arms counted from 1 (Urvoy et al. 2013, section 5.2.1).

    Arm 0 is the Condorcet winner; its margin over the next arm is 1 / K, and the last arm always
    loses.

    Raises:
        UserError: fewer than 2 arms.
    """
    num_arms = checks.integer("num_arms", num_arms, low=2)
    upper = np.broadcast_to(0.5 + np.arange(1, num_arms + 1) / (2 * num_arms), (num_arms,) * 2)
    above = np.triu(np.ones((num_arms, num_arms), dtype=bool), 1)
    return check_matrix(np.where(above, upper, np.where(above.T, 1.0 - upper.T, 0.5)))


def random(num_arms: int = 10, seed: int | np.random.Generator = 0) -> Matrix:
    """Draw independent uniform preferences above the diagonal: usually transitive in no sense.

    Args:
        num_arms: K >= 2.
        seed: an integer, or the generator to draw from; the default is one fixed matrix.

    Raises:
        UserError: fewer than 2 arms, or a seed that is none.
    """
    num_arms = checks.integer("num_arms", num_arms, low=2)
    if not isinstance(seed, np.random.Generator):
        seed = checks.integer("seed", seed, low=0)
    draws = np.random.default_rng(seed).random((num_arms, num_arms))
    above = np.triu(np.ones((num_arms, num_arms), dtype=bool), 1)
    return check_matrix(np.where(above, draws, np.where(above.T, 1.0 - draws.T, 0.5)))


MATRICES: Registry[Callable[..., Matrix]] = Registry(
    "matrix",
    {
        "bradley_terry": bradley_terry,
        "plackett_luce": plackett_luce,
        "mallows": mallows,
        "cyclic": cyclic,
        "arithmetic": arithmetic,
        "savage_hard": savage_hard,
        "random": random,
    },
)
"""Generators by name, for `make_matrix`; one of your own is a function of its settings that returns a matrix."""


def make_matrix(name: str, **settings: Any) -> Matrix:
    """Make a matrix from the name of a generator and its settings, as in a configuration file.

    Only `bradley_terry` needs settings, its utilities, and `plackett_luce`, its weights.

    Raises:
        UserError: the name or a setting is unknown, a setting is missing, or a value is refused.
    """
    return check_matrix(MATRICES.make(name, settings))


# Winners


def condorcet_winner(matrix: Matrix) -> int | None:
    """Find the arm that beats every other with probability above 1/2, or None where there is none."""
    beats_all = (matrix > 0.5).sum(axis=1) == len(matrix) - 1
    return int(np.argmax(beats_all)) if beats_all.any() else None


def copeland_scores(matrix: Matrix) -> NDArray[np.float64]:
    """Compute the share of the other arms that each arm beats with probability above 1/2, float64 [K]."""
    scores: NDArray[np.float64] = (matrix > 0.5).sum(axis=1) / (len(matrix) - 1)
    return scores


def borda_scores(matrix: Matrix) -> NDArray[np.float64]:
    """Compute the probability that each arm beats another arm drawn uniformly, float64 [K]."""
    others = matrix.sum(axis=1) - np.diagonal(matrix)
    scores: NDArray[np.float64] = others / (len(matrix) - 1)
    return scores


def von_neumann_winner(matrix: Matrix) -> NDArray[np.float64]:
    """Find a distribution over arms that no arm beats with probability above 1/2.

    The maximin strategy of the symmetric game P - 1/2, found by linear programming: maximise v
    subject to sum_i w_i (P[i, j] - 1/2) >= v for all j (Dudik et al. 2015, arXiv 1502.06362). It
    always exists; where it is not unique (arms that tie), one of them is returned.

    Returns:
        w, float64 [K], non-negative with sum 1.
    """
    num_arms = len(matrix)
    winner = condorcet_winner(matrix)
    if winner is not None:
        return np.eye(num_arms)[winner]

    from scipy.optimize import linprog  # a third of a second, needed by few

    # Variables (w_1 .. w_K, v); linprog minimises, and bounds from above.
    result = linprog(
        c=np.r_[np.zeros(num_arms), -1.0],
        A_ub=np.c_[-(matrix - 0.5).T, np.ones(num_arms)],
        b_ub=np.zeros(num_arms),
        A_eq=np.r_[np.ones(num_arms), 0.0][None, :],
        b_eq=[1.0],
        bounds=[(0.0, None)] * num_arms + [(None, None)],
    )
    if not result.success or result.x is None:
        # The programme is feasible and bounded for every matrix that passed check_matrix.
        raise RuntimeError(f"no von Neumann winner found: {result.message}")
    weights = np.maximum(np.asarray(result.x, dtype=np.float64)[:num_arms], 0.0)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


# Transitivity


def is_strongly_stochastically_transitive(matrix: Matrix) -> bool:
    """Tell whether P[i, j] >= 1/2 and P[j, k] >= 1/2 imply P[i, k] >= max(P[i, j], P[j, k])."""
    return _transitive(matrix, np.maximum)


def is_moderately_stochastically_transitive(matrix: Matrix) -> bool:
    """Tell whether P[i, j] >= 1/2 and P[j, k] >= 1/2 imply P[i, k] >= min(P[i, j], P[j, k])."""
    return _transitive(matrix, np.minimum)


def is_weakly_stochastically_transitive(matrix: Matrix) -> bool:
    """Tell whether P[i, j] >= 1/2 and P[j, k] >= 1/2 imply P[i, k] >= 1/2."""
    return _transitive(matrix, lambda _first, _second: np.full((1, 1), 0.5))


def _transitive(matrix: Matrix, bound: Callable[[Matrix, Matrix], Matrix]) -> bool:
    for j in range(len(matrix)):  # one middle arm at a time: K^2 memory, not K^3
        to_middle, from_middle = matrix[:, j, None], matrix[None, j, :]
        premise = (to_middle >= 0.5) & (from_middle >= 0.5)
        if (premise & (matrix < bound(to_middle, from_middle) - ORDER_TOLERANCE)).any():
            return False
    return True
