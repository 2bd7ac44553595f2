"""Preference matrices: validity, winners and transitivity against brute force."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from duelenv.oracles import UserError, matrices

ROCK_PAPER_SCISSORS = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
ROCK_PAPER_SCISSORS_BY_CHANCE = [[0.5, 0.75, 0.25], [0.25, 0.5, 0.75], [0.75, 0.25, 0.5]]

CHECKS = {
    "strong": (matrices.is_strongly_stochastically_transitive, max),
    "moderate": (matrices.is_moderately_stochastically_transitive, min),
    "weak": (matrices.is_weakly_stochastically_transitive, lambda a, b: 0.5),
}


@st.composite
def preference_matrices(draw, coarse=True):
    """Matrices of 2 to 5 arms; coarse ones have many ties and equal entries."""
    num_arms = draw(st.integers(2, 5))
    entries = st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.7, 1.0]) if coarse else st.floats(0, 1)
    upper = np.triu(draw(arrays(np.float64, (num_arms, num_arms), elements=entries)), 1)
    lower = np.tril(1 - upper.T, -1)
    return matrices.check_matrix(upper + lower + 0.5 * np.eye(num_arms))


def generated():
    return {
        "bradley_terry": matrices.bradley_terry([3.0, 1.0, 0.0, -2.0]),
        "plackett_luce": matrices.plackett_luce([1e-300, 0.2, 7.0, 1e300]),
        "mallows": matrices.mallows(12, 0.7),
        "mallows_close_to_1": matrices.mallows(12, 1 - 1e-15),
        "mallows_large": matrices.mallows(300, 0.5),
        "cyclic3": matrices.cyclic(3, 1.0),
        "cyclic6": matrices.cyclic(6, 0.7),
        "arithmetic": matrices.arithmetic(),
        "savage_hard": matrices.savage_hard(7),
        "random": matrices.random(9, 0),
    }


@pytest.mark.parametrize("name", sorted(generated()))
def test_generators_are_exactly_complementary(name):
    matrix = generated()[name]
    assert matrix.dtype == np.float64
    assert_array_equal(matrix + matrix.T, np.ones_like(matrix))
    assert_array_equal(np.diagonal(matrix), 0.5)
    assert (matrix >= 0).all() and (matrix <= 1).all()


def test_bradley_terry_closed_form():
    matrix = matrices.bradley_terry([1.0, 0.0])
    assert_allclose(matrix[0, 1], 1 / (1 + np.exp(-1.0)))


def marginals(num_arms, weight_of):
    """P[i, j] = P(i stands before j) in a ranking of this unnormalised weight, by enumeration of all K! rankings."""
    before = np.zeros((num_arms, num_arms))
    for ranking in permutations(range(num_arms)):
        weight = weight_of(ranking)
        for place, arm in enumerate(ranking):
            before[arm, list(ranking[place + 1 :])] += weight
    total = before[0, 1] + before[1, 0]
    return before / total + 0.5 * np.eye(num_arms)


@pytest.mark.parametrize("num_arms", [2, 3, 4, 5])
@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.5, 0.9, 1 - 1e-9, 1.0])
def test_mallows_is_the_marginal_of_its_distribution_over_rankings(num_arms, dispersion):
    def weight_of(ranking):
        return dispersion ** sum(later < arm for place, arm in enumerate(ranking) for later in ranking[place + 1 :])

    assert_allclose(matrices.mallows(num_arms, dispersion), marginals(num_arms, weight_of), atol=1e-14)


@pytest.mark.parametrize("dispersion", [1e-300, 0.3, 0.99, 1 - 1e-9, 1 - 1e-15])
def test_mallows_is_its_published_form_in_exact_arithmetic(dispersion):
    phi = Fraction(dispersion)
    matrix = matrices.mallows(9, dispersion)
    for distance in range(1, 9):
        exact = (distance + 1) / (1 - phi ** (distance + 1)) - distance / (1 - phi**distance)
        assert abs(Fraction(matrix[0, distance]) - exact) < 1e-15
        assert matrix[3, min(3 + distance, 8)] == matrix[0, min(distance, 5)]


def test_mallows_is_strongly_transitive_between_a_ranking_and_indifference():
    assert_array_equal(matrices.mallows(4, 0.0), np.triu(np.ones((4, 4)), 1) + 0.5 * np.eye(4))
    assert_array_equal(matrices.mallows(4, 1.0), np.full((4, 4), 0.5))
    matrix = matrices.mallows(30, 0.9)
    assert matrices.is_strongly_stochastically_transitive(matrix)
    assert matrices.condorcet_winner(matrix) == 0


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.2, 3.0, 1.0], [5.0, 1e-3, 0.7, 40.0], [1.0, 2.0, 3.0, 4.0, 50.0]])
def test_plackett_luce_is_the_marginal_of_its_distribution_over_rankings(weights):
    def weight_of(ranking):
        skills = np.array(weights)[list(ranking)]
        return np.prod(skills / skills[::-1].cumsum()[::-1])

    matrix = matrices.plackett_luce(weights)
    assert_allclose(matrix, marginals(len(weights), weight_of), atol=1e-12)
    assert_allclose(matrix, matrices.bradley_terry(np.log(weights)), atol=1e-14)


def test_plackett_luce_of_widely_different_weights():
    matrix = matrices.plackett_luce([1e308, 1.5e308, 1e-308, 3e-308])
    assert_allclose(matrix[[0, 3], [1, 2]], [0.4, 0.75])
    assert_array_equal(matrix[:2, 2:], 1.0)


def test_cyclic_three_arms_is_rock_paper_scissors():
    assert_array_equal(matrices.cyclic(3, 1.0), ROCK_PAPER_SCISSORS)


@pytest.mark.parametrize("num_arms", [3, 4, 5, 8])
def test_cyclic_has_no_winner_and_equal_arms(num_arms):
    matrix = matrices.cyclic(num_arms, 0.8)
    assert matrices.condorcet_winner(matrix) is None
    assert_allclose(matrices.copeland_scores(matrix), (num_arms - 1) // 2 / (num_arms - 1))
    assert_allclose(matrices.borda_scores(matrix), 0.5)
    assert not matrices.is_weakly_stochastically_transitive(matrix)
    # Rotating the arms leaves a cycle as it is.
    assert_array_equal(np.roll(matrix, 1, axis=(0, 1)), matrix)


def test_arithmetic_published_values():
    matrix = matrices.arithmetic(8, 0.05)
    assert_allclose(matrix[0], 0.5 + 0.05 * np.arange(8))
    assert matrices.is_strongly_stochastically_transitive(matrix)


def test_savage_hard_published_values():
    # K = 100: mu(1, 2) = 0.51 is a hard decision, mu(1, 100) = 1 an easy one.
    matrix = matrices.savage_hard(100)
    assert_allclose(matrix[0, 1], 0.51)
    assert matrix[0, 99] == 1.0
    assert_allclose(matrix[98], [*(1 - matrix[:98, 98]), 0.5, 1.0])
    assert matrices.condorcet_winner(matrix) == 0


def test_random_is_reproducible_and_takes_a_generator():
    assert_array_equal(matrices.random(5, 3), matrices.random(5, np.random.default_rng(3)))
    assert (matrices.random(5, 3) != matrices.random(5, 4)).any()


@given(preference_matrices())
def test_winners_match_brute_force(matrix):
    num_arms = len(matrix)
    beaten = [sum(matrix[i, j] > 0.5 for j in range(num_arms) if j != i) for i in range(num_arms)]
    winners = [i for i in range(num_arms) if beaten[i] == num_arms - 1]
    assert matrices.condorcet_winner(matrix) == (winners[0] if winners else None)
    assert_allclose(matrices.copeland_scores(matrix), np.array(beaten) / (num_arms - 1))
    means = [np.mean([matrix[i, j] for j in range(num_arms) if j != i]) for i in range(num_arms)]
    assert_allclose(matrices.borda_scores(matrix), means)


@settings(deadline=None)
@given(preference_matrices(coarse=False))
def test_no_arm_beats_the_von_neumann_winner(matrix):
    weights = matrices.von_neumann_winner(matrix)
    assert_allclose(weights.sum(), 1.0)
    assert (weights >= 0).all()
    assert (weights @ matrix >= 0.5 - 1e-7).all()


def test_von_neumann_winners_known_in_closed_form():
    assert_allclose(matrices.von_neumann_winner(np.array(ROCK_PAPER_SCISSORS)), 1 / 3, atol=1e-9)
    condorcet = matrices.bradley_terry([0.0, 2.0, 1.0])
    assert_allclose(matrices.von_neumann_winner(condorcet), [0, 1, 0], atol=1e-9)
    assert_array_equal(matrices.von_neumann_winner(condorcet), [0, 1, 0])  # nothing is solved
    # A cycle of margins a = (1 over 2), b = (2 over 3), c = (3 over 1) is balanced by (b, c, a).
    a, b, c = 0.1, 0.2, 0.3
    cycle = 0.5 + np.array([[0, a, -c], [-a, 0, b], [c, -b, 0]])
    assert_allclose(matrices.von_neumann_winner(cycle), np.array([b, c, a]) / 0.6, atol=1e-9)


@pytest.mark.parametrize("kind", sorted(CHECKS))
@given(matrix=preference_matrices())
def test_transitivity_matches_its_definition(kind, matrix):
    check, bound = CHECKS[kind]
    arms = range(len(matrix))
    holds = all(
        matrix[i, k] >= bound(matrix[i, j], matrix[j, k])
        for i, j, k in product(arms, arms, arms)
        if matrix[i, j] >= 0.5 and matrix[j, k] >= 0.5
    )
    assert check(matrix) == holds


@given(arrays(np.float64, 6, elements=st.floats(-6, 6)))
def test_bradley_terry_is_strongly_transitive(utilities):
    assert matrices.is_strongly_stochastically_transitive(matrices.bradley_terry(utilities))


def test_transitivity_is_a_chain_of_implications():
    moderate_only = matrices.check_matrix([[0.5, 0.9, 0.8], [0.1, 0.5, 0.7], [0.2, 0.3, 0.5]])
    weak_only = matrices.check_matrix([[0.5, 0.9, 0.6], [0.1, 0.5, 0.7], [0.4, 0.3, 0.5]])
    found = [[check(m) for check, _ in CHECKS.values()] for m in (moderate_only, weak_only)]
    assert found == [[False, True, True], [False, False, True]]


def test_check_matrix_removes_rounding_and_copies():
    source = matrices.bradley_terry([1.0, 0.3, -2.0]).astype(np.float32)
    before = source.copy()
    matrix = matrices.check_matrix(source)
    assert_array_equal(matrix + matrix.T, 1.0)
    assert_allclose(matrix, source, atol=1e-6)
    matrix[0, 1] = 0.0
    assert_array_equal(source, before)


@given(preference_matrices(coarse=False), st.randoms())
def test_check_matrix_does_not_depend_on_the_order_of_arms(matrix, random):
    order = list(range(len(matrix)))
    random.shuffle(order)
    shuffled = matrix[np.ix_(order, order)]
    assert_array_equal(matrices.check_matrix(shuffled), shuffled)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.5]], "matrix has 1 arms, expected at least 2"),
        ([0.5, 0.5], "matrix has shape (2,), expected (K, K)"),
        ([[0.5, 0.5]], "matrix has shape (1, 2)"),
        ([[0.5, 1.2], [-0.2, 0.5]], "matrix[0, 1] is 1.2, expected a probability in [0, 1]"),
        ([[0.5, np.nan], [0.5, 0.5]], "matrix[0, 1] is nan"),
        ([[0.5, 0.7], [0.5, 0.5]], "matrix[0, 1] + matrix[1, 0] is 1.2, expected 1"),
        ([[0.4, 0.7], [0.3, 0.5]], "matrix[0, 0] + matrix[0, 0] is 0.8, expected 1"),
        ([["a", "b"], ["c", "d"]], "expected a square array of numbers"),
        ([[0.5, 0.7 + 0.1j], [0.3 - 0.1j, 0.5]], "matrix holds complex numbers, expected real ones"),
        (np.full((2, 2), 0.5 + 0j), "matrix holds complex numbers, expected real ones"),
    ],
)
def test_wrong_matrices_are_named(matrix, message):
    with pytest.raises(UserError) as error:
        matrices.check_matrix(matrix)
    assert message in str(error.value)


def test_files_round_trip(tmp_path):
    matrix = matrices.random(4, 0)
    np.save(tmp_path / "p.npy", matrix)
    np.savetxt(tmp_path / "p.csv", matrix, delimiter=",")
    for source in (matrix, tmp_path / "p.npy", str(tmp_path / "p.csv")):
        assert_array_equal(matrices.load_matrix(source), matrix)


def test_several_matrices_are_checked_one_by_one(tmp_path):
    several = np.stack([matrices.random(3, seed) for seed in range(4)])
    np.save(tmp_path / "p.npy", several)
    for source in (several, several.tolist(), tmp_path / "p.npy"):
        assert_array_equal(matrices.load_matrix(source), several)
    assert_array_equal(matrices.load_matrix(several[:1]), several[0])
    wrong = several.copy()
    wrong[2, 0, 1] = 2.0
    for source, message in (
        (wrong, r"matrix\[2\]\[0, 1\] is 2, expected a probability"),
        ([several[0].tolist(), [[0.5]]], "expected a square array of numbers"),
        (several[:0], r"matrix has shape \(0, 3, 3\), expected \(K, K\)"),
        (several[:, :2], r"matrix\[0\] has shape \(2, 3\), expected \(K, K\)"),
    ):
        with pytest.raises(UserError, match=message):
            matrices.load_matrix(source)


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "words.csv").write_text("a,b\nc,d\n")
    (tmp_path / "ragged.csv").write_text("0.5,0.5\n0.5\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "comment.csv").write_text("# nothing\n")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "junk.npy").write_bytes(b"not what NumPy writes")
    np.save(tmp_path / "pickle.npy", np.array([{}, {}]), allow_pickle=True)
    np.savez(tmp_path / "several.npz", matrices.cyclic(3))
    (tmp_path / "several.npz").rename(tmp_path / "zip.npy")
    np.save(tmp_path / "complex.npy", np.full((2, 2), 0.5 + 0j))
    for name, message in {
        "p.parquet": "expected .npy or .csv",
        "absent.npy": "does not exist",
        "words.csv": "cannot be read",
        "ragged.csv": "cannot be read",
        "empty.csv": "is empty, expected a table of numbers",
        "comment.csv": "is empty, expected a table of numbers",
        "empty.npy": "is not a NumPy array of numbers",
        "junk.npy": "is not a NumPy array of numbers",
        "pickle.npy": "is not a NumPy array of numbers",
        "zip.npy": "is not a NumPy array of numbers",
        "complex.npy": "matrix holds complex numbers",
    }.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserError, match=message) as error:
                matrices.load_matrix(tmp_path / name)
        assert "pickle=" not in str(error.value) and "usecols" not in str(error.value)  # advice to callers of NumPy


def test_a_generator_is_loaded_by_its_name():
    assert_array_equal(matrices.load_matrix("cyclic"), ROCK_PAPER_SCISSORS_BY_CHANCE)
    for source, message in {
        "arithmetik": "expected a .npy or .csv file, or a generator's name: did you mean 'arithmetic'",
        "folder/matrix": "matrix is 'folder/matrix', expected a .npy or .csv file, or a generator's name: choose",
        "bradley_terry": "matrix 'bradley_terry' needs the setting 'utilities'; give it",
    }.items():
        with pytest.raises(UserError, match=message):
            matrices.load_matrix(source)


@pytest.mark.parametrize("name", ["mallows", "cyclic", "arithmetic", "savage_hard", "random"])
def test_a_bare_name_gives_a_matrix_with_a_hard_but_learnable_best_arm_or_a_cycle(name):
    matrix = matrices.make_matrix(name)
    assert_array_equal(matrix, matrices.make_matrix(name))
    winner = matrices.condorcet_winner(matrix)
    if name in ("cyclic", "random"):
        assert winner is None
    else:
        margins = np.sort(matrix[winner])[1:] - 0.5
        assert 0.03 < margins[0] <= 0.1 + 1e-12
        assert margins[-1] > 0.25


def test_make_matrix():
    assert_array_equal(matrices.make_matrix("cyclic", num_arms=3, probability=1.0), ROCK_PAPER_SCISSORS)
    for call, message in {
        lambda: matrices.make_matrix("magic"): "matrix 'magic' is unknown: choose from arithmetic, bradley_terry",
        lambda: matrices.make_matrix("cyclic", arms=3): "has no setting 'arms'",
        lambda: matrices.make_matrix("cyclik"): "did you mean 'cyclic'",
        lambda: matrices.make_matrix("cyclic", num_arm=3): "has no setting 'num_arm': did you mean 'num_arms'",
        lambda: matrices.make_matrix(["cyclic"]): r"matrix \['cyclic'\] is unknown: ",
        lambda: matrices.make_matrix("plackett_luce"): "needs the setting 'weights'; give it",
        lambda: matrices.cyclic(2, 0.5): "num_arms is 2, expected an integer of at least 3",
        lambda: matrices.cyclic(3, 1.5): "probability is 1.5",
        lambda: matrices.arithmetic(12, 0.05): "step is 0.05",
        lambda: matrices.savage_hard(1): "num_arms is 1",
        lambda: matrices.random(2.5, 0): "num_arms is 2.5",
        lambda: matrices.bradley_terry([1.0]): "expected at least two finite numbers",
        lambda: matrices.bradley_terry([1.0, np.inf]): "expected at least two finite numbers",
        lambda: matrices.bradley_terry(["a", "b"]): r"utilities are \['a', 'b'\], expected at least two finite",
        lambda: matrices.plackett_luce([1.0, 0.0]): r"weights are \[1.0, 0.0\], expected at least two positive finite",
        lambda: matrices.plackett_luce([1.0, np.nan]): "expected at least two positive finite numbers",
        lambda: matrices.plackett_luce(3.0): "expected at least two positive finite numbers",
        lambda: matrices.mallows(1, 0.5): "num_arms is 1",
        lambda: matrices.mallows(3, 1.5): r"dispersion is 1.5, expected a number in \[0, 1\]",
    }.items():
        with pytest.raises(UserError, match=message):
            call()
