"""`render_mode="ansi"`: the last duel as text, in the forms that Gymnasium expects."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from worlds import make_scalar, make_vector, settings_of

import duelenv
from duelenv.rendering import duel_lines

EVERY = tuple(duelenv.WORLDS)
MATRIX = [[0.5, 0.8], [0.2, 0.5]]


def test_a_duel_is_said_with_its_label_and_its_regret():
    env = gymnasium.make("duelenv/MatrixDuel-v0", matrix=MATRIX, feedback="argmax", render_mode="ansi")
    env.reset(seed=0)
    assert env.render().splitlines() == [
        "round 0, 2 candidates",
        "",
        "features of each candidate, 2 numbers",
        "  0  +1.00 +0.00  norm 1.00",
        "  1  +0.00 +1.00  norm 1.00",
        "",
        "duel     none yet",
    ]
    env.step(np.array([1, 0]))
    *_, duel, label, regret = env.render().splitlines()
    assert duel == "duel     1 against 0"
    assert label == "label    0, the second is preferred"
    # Candidate 1 loses .3 against the winner, and candidate 0 nothing: .15 on average, .3 in all.
    assert "average 0.150, sum 0.300" in regret
    env.step(np.array([0, 0]))
    assert env.render().startswith("round 1,")


@pytest.mark.parametrize(
    ("label", "said"), [(1.0, "1, the first is preferred"), (0.5, "0.5, a declared tie"), (np.nan, "nan, no label")]
)
def test_every_label_has_its_words(label, said):
    assert duel_lines(0, 1, label, {}) == [
        "duel     0 against 1",
        f"label    {said}",
        "regret   unknown: the oracle has no utility",
    ]


@pytest.mark.parametrize("world", EVERY)
def test_rows_show_what_was_seen_before_the_duel(world):
    env = make_vector(world, 2, horizon=4, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    words = "responses" in observation
    seen = observation["responses"].copy() if words else observation["features"].copy()
    env.step(np.array([[0, 1], [1, 2]]))
    texts = env.render()
    assert isinstance(texts, tuple)
    assert ["0 against 1" in texts[0], "1 against 2" in texts[1]] == [True, True]
    for row, text in enumerate(texts):
        lines = text.splitlines()
        for arm in range(env.num_candidates):
            found = next(line for line in lines if line.startswith(f"{arm:>3}  "))
            value = " ".join(seen[row, arm].split())[:10] if words else f"{seen[row, arm, 0]:+.2f}"
            assert value in " ".join(found.split())


@pytest.mark.parametrize("world", EVERY)
def test_gymnasium_accepts_what_is_rendered(world):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make(world, **settings_of(world), horizon=3, render_mode="ansi")
        check_env(env.unwrapped)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        assert isinstance(env.render(), str)
    assert not [str(one.message) for one in caught if "render" in str(one.message).lower()]


@pytest.mark.parametrize("world", EVERY)
def test_rendering_changes_no_number(world):
    played = []
    for mode in (None, "ansi"):
        env = make_vector(world, 2, horizon=3, render_mode=mode)
        env.reset(seed=0)
        rounds = [env.step(np.array([[0, 1], [2, 1]])) for _ in range(3)]
        if mode:
            env.render()
        played.append(([labels for _, labels, *_ in rounds], rounds[-1][-1]["regret"]))
    (labels, regret), (others, other) = played
    np.testing.assert_array_equal(labels, others)
    for name in regret:
        np.testing.assert_array_equal(regret[name], other[name])


def test_without_a_mode_nothing_is_rendered():
    env = make_scalar("duelenv/FeatureDuel-v0")
    env.reset(seed=0)
    assert env.render() is None


def test_an_unknown_mode_and_a_world_without_a_round_say_so():
    with pytest.raises(duelenv.UserError, match=r"render_mode.*'human'.*ansi"):
        make_vector("duelenv/FeatureDuel-v0", 2, render_mode="human")
    with pytest.raises(duelenv.UserError, match="before the first reset"):
        make_vector("duelenv/FeatureDuel-v0", 2, render_mode="ansi").render()
