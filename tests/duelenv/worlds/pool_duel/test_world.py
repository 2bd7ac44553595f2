"""PoolDuel: held-out prompts, hidden responders, exact regret, and the same rounds whatever else runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pools import FEATURES, POOL, PROMPTS, RESPONSES, make, make_pool, play

from duelenv import UserError
from duelenv.data import Pool
from duelenv.worlds.pool_duel import PoolDuelEnv, PoolDuelVectorEnv

SHARED = Path(__file__).parents[4] / ".." / "shared" / "data" / "alpaca_eval_pool"


def places(observation: Any) -> np.ndarray:
    """[N, K, 2]: the prompt and slot of every candidate, read from its text."""
    return np.array([[text.split()[0].split("/") for text in row] for row in observation["responses"]], np.int64)


# The contract --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"num_candidates": 3}, {"features": None, "dim": 6}])
def test_gymnasium_checks_pass_without_surprising_warnings(settings: dict[str, Any]) -> None:
    env = PoolDuelEnv(**{"data": POOL, "features": FEATURES, "horizon": 5} | settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    assert all("infinity" in str(warning.message) for warning in caught), [str(w.message) for w in caught]


def test_registered_in_both_forms_and_observations_lie_in_their_space() -> None:
    settings = {"data": POOL, "features": FEATURES, "horizon": 4}
    many = gymnasium.make_vec("duelenv/PoolDuel-v0", num_envs=3, **settings)
    one = gymnasium.make("duelenv/PoolDuel-v0", **settings)
    for env in (many, one):
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
        observation, *_ = env.step(env.action_space.sample())
        assert observation in env.observation_space


def test_texts_features_and_prompt_belong_together() -> None:
    for observation, _, _ in play(make(), 20):
        at = places(observation)
        assert (at[:, :, 0] == at[:, :1, 0]).all()
        assert [f"prompt {p}" for p in at[:, 0, 0]] == observation["prompt"].tolist()
        np.testing.assert_array_equal(FEATURES[at[..., 0], at[..., 1]], observation["features"])
        assert (np.sort(at[:, :, 1], axis=1) == np.arange(RESPONSES)).all()  # each response once


def test_an_observation_read_late_is_still_its_own_rounds() -> None:
    early = play(make(), 6)
    for (read_late, _, _), (observation, _, _) in zip(early, play(make(), 6), strict=True):
        assert read_late["responses"].tolist() == observation["responses"].tolist()


def test_rows_do_not_depend_on_how_many_there_are_nor_on_the_actions_of_others() -> None:
    many, few, one = play(make(8), 70), play(make(4), 70), play(make(1), 70)
    for (observation, labels, info), (fewer, labels_4, info_4), (single, label, _) in zip(many, few, one, strict=True):
        for key in ("features", "prompt", "responses"):
            np.testing.assert_array_equal(observation[key][:4], fewer[key])
            np.testing.assert_array_equal(observation[key][:1], single[key])
        np.testing.assert_array_equal(labels[:4], labels_4)
        np.testing.assert_array_equal(labels[:1], label)
        np.testing.assert_array_equal(info["regret"]["utility"][:4], info_4["regret"]["utility"])


def test_the_scalar_form_is_row_0() -> None:
    env, vector = PoolDuelEnv(POOL, FEATURES, horizon=9), make(4, horizon=9)
    single, _ = env.reset(seed=3)
    rows, _ = vector.reset(seed=3)
    for _ in range(9):
        assert single["prompt"] == rows["prompt"][0] and single["responses"].tolist() == rows["responses"][0].tolist()
        single, label, terminated, truncated, info = env.step(np.array([0, 1]))
        rows, labels, _, over, infos = vector.step(np.array([[0, 1]] * 4))
        assert label == labels[0] and not terminated and truncated == over[0]
        assert info["regret"]["average"] == infos["regret"]["average"][0]
    assert truncated


def test_a_continued_environment_goes_on_as_if_never_stopped() -> None:
    env = make()
    env.reset(seed=2)
    actions = np.random.default_rng(0).integers(0, RESPONSES, (60, 8, 2))
    for action in actions[:20]:
        env.step(action)
    state = env.state_dict()
    expected = [env.step(action) for action in actions[20:40]]
    other = make()
    other.load_state_dict(state)
    for action, (observation, labels, *_, info) in zip(actions[20:40], expected, strict=True):
        again, relabelled, *_, reinfo = other.step(action)
        assert again["responses"].tolist() == observation["responses"].tolist()
        np.testing.assert_array_equal(relabelled, labels)
        np.testing.assert_array_equal(reinfo["queries"], info["queries"])


# What must stay hidden -----------------------------------------------------------------------------------------------


def test_a_fixed_slot_is_worth_as_much_as_a_random_response() -> None:
    # Slot 4 of the table is 2 units better than the mean: it would show at once.
    env = make(64, horizon=10_000)
    totals, rounds = np.zeros(RESPONSES), 150
    observation, _ = env.reset(seed=0)
    for _ in range(rounds):
        at = places(observation)
        centred = POOL.utilities - POOL.utilities.mean(axis=1, keepdims=True)
        totals += centred[at[..., 0], at[..., 1]].mean(axis=0)
        observation, *_ = env.step(np.zeros((64, 2), np.int64))
    error = centred.std() / np.sqrt(64 * rounds)
    assert np.abs(totals / rounds).max() < 4 * error


@pytest.mark.parametrize("shown", [RESPONSES, 3])
def test_every_responder_is_as_likely_in_every_slot_and_the_order_is_drawn_anew(shown: int) -> None:
    env = make(64, num_candidates=shown, horizon=10_000)
    counts = np.zeros((shown, RESPONSES))
    observation, _ = env.reset(seed=1)
    previous, repeats, rounds = None, 0.0, 120
    for _ in range(rounds):
        slots = places(observation)[..., 1]
        for slot in range(shown):
            counts[slot] += np.bincount(slots[:, slot], minlength=RESPONSES)
        if previous is not None:
            repeats += (slots == previous).mean() / (rounds - 1)
        previous = slots
        observation, *_ = env.step(np.zeros((64, 2), np.int64))
    expected = 64 * rounds / RESPONSES
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = shown * (RESPONSES - 1)
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)
    assert abs(repeats - 1 / RESPONSES) < 0.02


def test_an_agent_sees_neither_responder_nor_utility() -> None:
    observation, info = make().reset(seed=0)
    assert set(observation) == {"features", "prompt", "responses"} and set(info) == {"queries", "late", "pending"}
    assert not any(hasattr(make().view(), name) for name in ("pool", "env", "vector"))


# Splits --------------------------------------------------------------------------------------------------------------


class Watcher:
    """Recommends candidate 0 and remembers which prompts it was shown, by row."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def recommend(self, observation: Any) -> np.ndarray:
        self.seen.append(observation["prompt"])
        return np.zeros(len(observation["prompt"]), np.int64)


def test_held_out_prompts_are_never_played_and_all_judged() -> None:
    env = make(6, batch=3, horizon=400)
    record = play(env, 300)
    played = np.array([observation["prompt"] for observation, _, _ in record])
    judged: dict[str, list[set[str]]] = {}
    for split in ("test", "train"):
        watcher = Watcher()
        env.evaluate(watcher, split)
        judged[split] = [set(np.array(watcher.seen)[:, rows].ravel()) for rows in (slice(0, 3), slice(3, 6))]
    for replicate, rows in enumerate((slice(0, 3), slice(3, 6))):
        train, test = judged["train"][replicate], judged["test"][replicate]
        assert len(test) == 12 and len(train) == 28 and not train & test
        assert set(played[:, rows].ravel()) == train
    assert judged["test"][0] != judged["test"][1]  # each replicate has its own


def test_a_seed_fixes_the_split_and_a_plain_reset_keeps_it() -> None:
    def held_out(env: PoolDuelVectorEnv) -> set[str]:
        watcher = Watcher()
        env.evaluate(watcher)
        return set(np.concatenate(watcher.seen))

    env = make(2, batch=2)
    env.reset(seed=4)
    first = held_out(env)
    env.reset()
    assert held_out(env) == first
    env.reset(seed=5)
    assert held_out(env) != first
    env.reset(seed=4)
    assert held_out(env) == first


def test_equal_prompts_stand_on_one_side() -> None:
    prompts = tuple(f"prompt {p // 2}" for p in range(PROMPTS))
    env = make(2, data=Pool(prompts, POOL.responses, POOL.utilities), test_fraction=0.5)
    for seed in range(5):
        env.reset(seed=seed)
        seen = {}
        for split in ("train", "test"):
            watcher = Watcher()
            env.evaluate(watcher, split)
            seen[split] = set(np.array(watcher.seen)[:, 0])
        assert not seen["train"] & seen["test"] and len(seen["train"] | seen["test"]) == 20


# Labels and regret ---------------------------------------------------------------------------------------------------


def test_labels_follow_the_recorded_utilities() -> None:
    env = make(64, horizon=10_000)
    observation, _ = env.reset(seed=0)
    wins, expected, variance = 0.0, 0.0, 0.0
    for _ in range(100):
        at = places(observation)
        u = POOL.utilities[at[..., 0], at[..., 1]]
        probability = 1 / (1 + np.exp(u[:, 1] - u[:, 0]))
        better = np.where(u[:, 0] > u[:, 1], 0, 1)
        observation, labels, *_ = env.step(np.stack([better, 1 - better], axis=1))
        wins += labels.sum()
        expected += np.maximum(probability, 1 - probability).sum()
        variance += (probability * (1 - probability)).sum()
    assert abs(wins - expected) < 4 * np.sqrt(variance)


def test_swapping_a_pair_swaps_its_label() -> None:
    one, other = make(), make()
    one.reset(seed=0), other.reset(seed=0)
    for _ in range(30):
        labels = one.step(np.array([[1, 3]] * 8))[1]
        swapped = other.step(np.array([[3, 1]] * 8))[1]
        np.testing.assert_array_equal(labels, 1 - swapped)


@pytest.mark.parametrize("shown", [RESPONSES, 2])
def test_regret_is_exact_and_against_all_recorded_responses(shown: int) -> None:
    env = make(16, num_candidates=shown)
    observation, _ = env.reset(seed=0)
    for _ in range(20):
        at = places(observation)
        u = POOL.utilities[at[..., 0], at[..., 1]]
        best = POOL.utilities[at[:, 0, 0]].max(axis=1)
        observation, *_, info = env.step(np.array([[0, 1]] * 16))
        gaps = 1 / (1 + np.exp(u[:, :2] - best[:, np.newaxis])) - 0.5
        expected = {
            "utility": best - u[:, :2].mean(axis=1),
            "sum": gaps.sum(axis=1),
            "average": gaps.mean(axis=1),
            "strong": gaps.max(axis=1),
            "weak": gaps.min(axis=1),
        }
        if shown < RESPONSES:
            expected["within_set"] = u.max(axis=1) - u[:, :2].mean(axis=1)
        assert set(info["regret"]) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(info["regret"][name], value, atol=1e-12, err_msg=name)


def test_another_oracle_answers_and_only_what_is_asked() -> None:
    asked: list[tuple[str, str, str]] = []

    def longer(prompts: Any, first: Any, second: Any) -> np.ndarray:
        asked.extend(zip(prompts, first, second, strict=True))
        return np.array([float(len(a) > len(b)) for a, b in zip(first, second, strict=True)])

    env = make(oracle=longer, selective=True)
    observation, _ = env.reset(seed=0)
    ask = np.arange(8) % 2
    _, labels, *_, info = env.step(np.stack([np.zeros(8, int), np.ones(8, int), ask], axis=1))
    texts = observation["responses"]
    expected = [float(len(row[0]) > len(row[1])) for row in texts]
    assert np.isnan(labels[ask == 0]).all()
    np.testing.assert_array_equal(labels[ask == 1], np.array(expected)[ask == 1])
    assert asked == [(observation["prompt"][n], texts[n][0], texts[n][1]) for n in range(8) if ask[n]]
    assert info["queries"].tolist() == ask.tolist()


# Judging -------------------------------------------------------------------------------------------------------------


class Knowing:
    """Recommends the best or the worst candidate by looking its text up."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def recommend(self, observation: Any) -> np.ndarray:
        at = places(observation)
        return (self.sign * POOL.utilities[at[..., 0], at[..., 1]]).argmax(axis=1)


def test_evaluate_is_exact_costs_nothing_and_repeats_itself() -> None:
    env = make(6, batch=3)
    record = play(env, 5)
    best, worst = env.evaluate(Knowing(1)), env.evaluate(Knowing(-1))
    np.testing.assert_allclose(best["simple_regret"], 0.0)
    for name, value in env.evaluate(Knowing(1)).items():
        np.testing.assert_array_equal(value, best[name])
    for replicate in range(2):
        members, counts = env._members("test")
        u = POOL.utilities[members[replicate, : counts[replicate]]]
        assert worst["simple_regret"][replicate] == pytest.approx((u.max(axis=1) - u.min(axis=1)).mean())
        beats = 1 / (1 + np.exp(u - u.max(axis=1, keepdims=True)))
        assert best["win_rate_best_of_n"][replicate] == pytest.approx(beats.mean())
        assert best["utility"][replicate] == pytest.approx(u.max(axis=1).mean())
    assert env.step(np.zeros((6, 2), np.int64))[4]["queries"].tolist() == [18, 18]
    untouched = play(make(6, batch=3), 6)
    assert [labels.tolist() for _, labels, _ in record] == [labels.tolist() for _, labels, _ in untouched[:5]]


def test_a_blind_recommendation_is_worth_a_random_one() -> None:
    env = make(400)
    env.reset(seed=0)
    regret = env.evaluate(Watcher())["simple_regret"]
    reference = env.references()["random"]
    difference = regret - reference
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(400)


def test_references_by_hand() -> None:
    env = make(3)
    env.reset(seed=0)
    references = env.references()
    gaps = POOL.utilities.max(axis=1, keepdims=True) - POOL.utilities
    for replicate in range(3):
        test = env._members("test")[0][replicate]
        train = env._members("train")[0][replicate]
        best = POOL.utilities[train].mean(axis=0).argmax()
        assert best == RESPONSES - 1
        assert references["best_single_responder"][replicate] == pytest.approx(gaps[test, best].mean())
        assert references["random"][replicate] == pytest.approx(gaps[test].mean())
        lengths = np.array([[len(text) for text in row] for row in POOL.responses[test]])
        longest = lengths == lengths.max(axis=1, keepdims=True)
        expected = np.mean([row[mask].mean() for row, mask in zip(gaps[test], longest, strict=True)])
        assert references["longest_response"][replicate] == pytest.approx(expected)
    anonymous = make(3, data=make_pool(responders=False))
    anonymous.reset(seed=0)
    assert set(anonymous.references()) == {"random", "longest_response", "fit_on_all_pairs"}
    scalar = PoolDuelEnv(POOL, FEATURES)
    scalar.reset(seed=0)
    assert scalar.references()["random"] == references["random"][0]


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_candidates": 1}, "num_candidates is 1"),
        ({"num_candidates": 6}, "num_candidates=6 is more than the 5 responses"),
        ({"test_fraction": 0.0}, "test_fraction=0.0"),
        ({"test_fraction": 1.0}, "test_fraction=1.0"),
        ({"test_fraction": "half"}, "test_fraction='half'"),
        ({"link": "cauchy"}, "cauchy"),
        ({"data": Pool(("p",), [["a", "b"]], [[0.0, 1.0]]), "features": None}, "one prompt"),
    ],
)
def test_wrong_input_gets_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**settings)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_calls_get_one_sentence() -> None:
    with pytest.raises(UserError, match="before reset"):
        make().evaluate(Watcher())
    env = make()
    env.reset(seed=0)
    with pytest.raises(UserError, match="split='valid' is unknown"):
        env.evaluate(Watcher(), "valid")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development data (../shared/data) are not here")
def test_the_real_pool_has_its_reference_figures() -> None:
    env = PoolDuelVectorEnv(SHARED / "pool.parquet", SHARED / "response_embeddings.npy", num_envs=64, test_fraction=0.3)
    assert env.reset(seed=0)[0]["features"].shape == (64, 20, 384)
    references = {name: value.mean() for name, value in env.references().items()}
    assert references["random"] == pytest.approx(3.75, abs=0.1)
    assert references["longest_response"] == pytest.approx(1.94, abs=0.1)
    assert references["best_single_responder"] == pytest.approx(0.60, abs=0.1)
