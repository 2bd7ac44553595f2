"""Wrappers of labels: each does what it says, to the labels alone, in any order, and continues exactly."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from worlds import make_scalar, make_vector

import duelenv
from duelenv.late import Answers, LateLabels
from duelenv.wrappers import AdversarialDelay, Batching, Corruption, Delay, Flip, Missing, make, names

FEATURE = "duelenv/FeatureDuel-v0"
NEUTRAL = {
    "adversarial_delay": {"rounds": 3, "budget": 0},
    "batching": {"rounds": 1},
    "corruption": {"budget": 0},
    "delay": {"mean": 0.0},
    "flip": {"probability": 0.0},
    "missing": {"probability": 0.0},
}
DISTURBING = {
    "adversarial_delay": {"rounds": 3},
    "batching": {"rounds": 4},
    "corruption": {"budget": 5},
    "delay": {"mean": 2.0},
    "flip": {"probability": 0.3},
    "missing": {"probability": 0.3},
}


def world(num_envs=6, batch=2, horizon=12, name=FEATURE, **settings):
    return make_vector(name, num_envs, horizon=horizon, batch=batch, **settings)


def pairs_of(env, rounds, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, env.unwrapped.num_candidates, (rounds, env.num_envs, 2))


def play(env, rounds=12, seed=3, actions=None):
    """Label table [rounds, N] as told at once, the table as told in the end, and every step's info."""
    env.reset(seed=seed)
    actions = pairs_of(env, rounds) if actions is None else actions
    at_once, infos = np.full((rounds, env.num_envs), np.nan), []
    told = at_once.copy()
    for number in range(rounds):
        _, labels, _, _, info = env.step(actions[number])
        at_once[number] = labels
        known = ~np.isnan(labels)
        told[number, known] = labels[known]
        late = info.get("late", ((), (), ()))
        assert sorted(zip(*late[:2], strict=True)) == list(zip(*late[:2], strict=True))
        for past, row, label in zip(*late, strict=True):
            assert past < number
            assert np.isnan(told[past, row])  # never twice
            told[past, row] = label
        infos.append(info)
    return at_once, told, infos


# Nothing but labels is disturbed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_a_wrapper_set_to_nothing_changes_nothing(name):
    plain, _, _ = play(world())
    labels, told, infos = play(make(name, world(), **NEUTRAL[name]))
    np.testing.assert_array_equal(labels, plain)
    np.testing.assert_array_equal(told, plain)
    assert not any(info["pending"].any() or len(info["late"].row) for info in infos)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("number", [FEATURE, "duelenv/MatrixDuel-v0", "duelenv/PoolDuel-v0"])
def test_observations_regret_and_queries_are_the_worlds(name, number):
    plain, wrapped = world(name=number), make(name, world(name=number), **DISTURBING[name])
    seen, wrapped_seen = plain.reset(seed=1)[0], wrapped.reset(seed=1)[0]
    for actions in pairs_of(plain, 12):
        np.testing.assert_array_equal(seen["features"], wrapped_seen["features"])
        seen, _, _, truncated, info = plain.step(actions)
        wrapped_seen, _, _, wrapped_truncated, wrapped_info = wrapped.step(actions)
        for key in ("queries", "certainty", "margin"):
            np.testing.assert_array_equal(info[key], wrapped_info[key])
        for key, value in info["regret"].items():
            np.testing.assert_array_equal(value, wrapped_info["regret"][key])
        np.testing.assert_array_equal(truncated, wrapped_truncated)
    with pytest.raises(duelenv.UserError, match="after the last round"):
        wrapped.step(actions)


def test_agents_are_made_for_the_world_inside():
    env = Delay(Flip(world(), 0.1), 2.0)
    env.reset(seed=0)
    assert duelenv.agents.make("thompson", env, seed=0).view == env.view() == env.unwrapped.view()
    assert set(env.evaluate(duelenv.agents.make("passive", env))) == {"simple_regret", "win_rate_best_of_n"}


def test_margin_is_the_signed_certainty_and_follows_the_order_of_the_pair():
    env = world()
    actions = pairs_of(env, 3)
    _, _, there = play(env, 3, actions=actions)
    _, _, back = play(env, 3, actions=actions[:, :, ::-1])
    for one, other in zip(there, back, strict=True):
        np.testing.assert_allclose(one["margin"], -other["margin"], atol=1e-12)
        np.testing.assert_array_equal(np.abs(one["margin"]), one["certainty"])


# Each does what it says -----------------------------------------------------------------------------------------------


def test_flip_turns_its_share_of_labels_and_keeps_the_rest():
    env = world(64, 1, horizon=200)
    plain, _, _ = play(env, 200)
    labels, _, _ = play(Flip(world(64, 1, horizon=200), 0.2), 200)
    flipped = labels == 1 - plain
    assert (flipped | (labels == plain)).all()
    count = flipped.size
    assert abs(flipped.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / count)
    assert flipped.mean(axis=0).std() < 3 * np.sqrt(0.16 / 200)  # no row is spared
    np.testing.assert_array_equal(play(Flip(world(), 1.0))[0], 1 - play(world())[0])


def test_a_tie_stays_a_tie_when_it_is_flipped():
    env = Flip(world(2, 1, feedback="argmax"), 1.0)
    env.reset(seed=0)
    assert env.step(np.array([[1, 1], [2, 2]]))[1].tolist() == [0.5, 0.5]


def test_missing_loses_its_share_and_every_query_counts():
    plain, _, _ = play(world(64, 1, horizon=100), 100)
    labels, told, infos = play(Missing(world(64, 1, horizon=100), 0.3), 100)
    lost = np.isnan(labels)
    np.testing.assert_array_equal(labels, told)
    np.testing.assert_array_equal(labels[~lost], plain[~lost])
    assert abs(lost.mean() - 0.3) < 4 * np.sqrt(0.21 / lost.size)
    assert (infos[-1]["queries"] == 100).all()
    assert not any(info["pending"].any() for info in infos)


@pytest.mark.parametrize("distribution", ["geometric", "poisson", "fixed"])
def test_delays_have_their_distribution_and_all_labels_arrive(distribution):
    rounds, mean = 300, 4
    plain, _, _ = play(world(32, 1, horizon=rounds), rounds)
    env = Delay(world(32, 1, horizon=rounds), mean, distribution, deliver_rest=True)
    labels, told, infos = play(env, rounds)
    np.testing.assert_array_equal(told, plain)
    delays = np.zeros((rounds, 32), int)
    for number, info in enumerate(infos):
        delays[info["late"].round, info["late"].row] = number - info["late"].round
        waits = np.isnan(labels[number]) & (number < rounds - 1)
        np.testing.assert_array_equal(info["pending"], waits)
    delays = delays[: rounds - 80].ravel()
    expected = {
        "geometric": stats.geom(1 / (1 + mean), loc=-1),
        "poisson": stats.poisson(mean),
        "fixed": stats.randint(mean, mean + 1),
    }[distribution]
    for k in range(12):
        probability = expected.cdf(k)
        margin = 4 * np.sqrt(probability * (1 - probability) / len(delays)) + 1e-12
        assert abs((delays <= k).mean() - probability) < margin


def test_labels_still_out_at_the_end_are_lost_unless_asked_for():
    _, told, infos = play(Delay(world(), 100, "fixed"))
    assert np.isnan(told).all()
    assert not infos[-1]["pending"].any()
    env = Delay(world(), 3, "fixed")
    _, told, _ = play(env)
    assert np.isnan(told[-3:]).all() and not np.isnan(told[:-3]).any()
    env.reset()  # and do not turn up in the next episode
    for actions in pairs_of(env, 3):
        assert len(env.step(actions)[-1]["late"].row) == 0


def test_batching_releases_every_so_many_rounds_and_at_the_end():
    plain, _, _ = play(world(horizon=10), 10)
    labels, told, infos = play(Batching(world(horizon=10), 4), 10)
    np.testing.assert_array_equal(told, plain)
    came = [number for number in range(10) if not np.isnan(labels[number]).any()]
    assert came == [3, 7, 9]
    assert [len(info["late"].row) // 6 for info in infos] == [0, 0, 0, 3, 0, 0, 0, 3, 0, 1]
    for number in came:
        np.testing.assert_array_equal(labels[number], plain[number])


def true_labels(plain, infos):
    """Which labels name the likelier winner, and the margins, both [rounds, N]."""
    margins = np.array([info["margin"] for info in infos])
    return (plain - 0.5) * margins > 0, margins


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_corruption_flips_the_first_true_labels_of_sure_duels_up_to_its_budget(margin):
    budget, rounds = 7, 40
    plain, _, infos = play(world(horizon=rounds), rounds)
    labels, _, corrupted = play(Corruption(world(horizon=rounds), budget, margin), rounds)
    told_truth, margins = true_labels(plain, infos)
    expected = plain.copy()
    spent = [0, 0, 0]
    for number in range(rounds):  # slowly, duel by duel
        for replicate in range(3):
            rows = sorted((2 * replicate, 2 * replicate + 1), key=lambda row: (-abs(margins[number, row]), row))
            for row in rows:
                sure = told_truth[number, row] and abs(margins[number, row]) >= margin
                if sure and spent[replicate] < budget:
                    expected[number, row] = 1 - plain[number, row]
                    spent[replicate] += 1
        assert corrupted[number]["corruptions"].tolist() == spent
    assert spent == [budget] * 3
    np.testing.assert_array_equal(labels, expected)


def test_the_budget_of_corruption_lasts_until_the_next_seeded_reset():
    env = Corruption(world(horizon=20), 3)
    play(env, 20)
    env.reset()
    _, _, _, _, info = env.step(pairs_of(env, 1)[0])
    assert info["corruptions"].tolist() == [3, 3, 3]
    env.reset(seed=3)
    _, _, _, _, info = env.step(pairs_of(env, 1)[0])
    assert (info["corruptions"] <= 2).all()


def test_corruption_with_one_flip_and_two_rows_takes_the_surer():
    for seed in range(8):
        plain, _, infos = play(world(2, 2, horizon=1), 1, seed)
        labels, _, _ = play(Corruption(world(2, 2, horizon=1), 1), 1, seed)
        told_truth, margins = true_labels(plain, infos)
        changed = np.flatnonzero(labels[0] != plain[0])
        candidates = np.flatnonzero(told_truth[0])
        assert len(changed) == min(1, len(candidates))
        if len(changed):
            assert abs(margins[0, changed[0]]) == np.abs(margins[0, candidates]).max()


def test_the_adversary_withholds_the_truth_and_lets_errors_through():
    plain, _, infos = play(world(horizon=30), 30)
    labels, told, _ = play(AdversarialDelay(world(horizon=30), 5, margin=0.2, deliver_rest=True), 30)
    told_truth, margins = true_labels(plain, infos)
    withheld = told_truth & (np.abs(margins) >= 0.2)
    assert withheld.any() and not withheld.all()
    np.testing.assert_array_equal(np.isnan(labels[:-1]), withheld[:-1])
    np.testing.assert_array_equal(told, plain)


def test_the_adversary_of_delays_keeps_to_its_budget():
    labels, _, _ = play(AdversarialDelay(world(horizon=30), 4, budget=11), 30)
    by_replicate = np.isnan(labels).reshape(30, 3, 2).sum(axis=(0, 2))
    assert by_replicate.tolist() == [2, 2, 2]  # 2 x 4 rounds; a third label would pass 11


# Composition ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "holds"),
    [("flip", "delay"), ("missing", "delay"), ("flip", "batching"), ("missing", "adversarial_delay")],
)
def test_what_is_decided_by_round_and_row_does_not_depend_on_the_order(changes, holds):
    inner = make(holds, make(changes, world(), **DISTURBING[changes]), **DISTURBING[holds])
    outer = make(changes, make(holds, world(), **DISTURBING[holds]), **DISTURBING[changes])
    one, other = play(inner), play(outer)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    for left, right in zip(one[2], other[2], strict=True):
        for column in Answers._fields:
            np.testing.assert_array_equal(getattr(left["late"], column), getattr(right["late"], column))
        np.testing.assert_array_equal(left["pending"], right["pending"])


def test_late_labels_come_by_round_and_row_whatever_held_them():
    _, told, infos = play(Batching(Delay(world(horizon=40), 4.0, deliver_rest=True), 9), 40)
    assert max(len(np.unique(info["late"].round)) for info in infos) > 5
    assert not np.isnan(told).any()


@pytest.mark.parametrize("first", names())
@pytest.mark.parametrize("second", names())
def test_any_two_compose_and_tell_no_label_twice(first, second):
    env = make(second, make(first, world(), **DISTURBING[first]), **DISTURBING[second])
    _, told, infos = play(env)
    plain, _, _ = play(world())
    known = ~np.isnan(told)
    if {first, second} <= {"delay", "batching", "missing", "adversarial_delay"}:
        np.testing.assert_array_equal(told[known], plain[known])
    assert ((told == plain) | (told == 1 - plain) | ~known).all()
    promised = np.array([info["pending"] for info in infos])
    late = np.zeros(told.shape, bool)
    for info in infos:
        late[info["late"].round, info["late"].row] = True
    assert (late <= promised).all()


def test_delays_add_up():
    _, told, infos = play(Delay(Delay(world(), 2, "fixed"), 3, "fixed"))
    for number, info in enumerate(infos):
        assert (info["late"].round == number - 5).all()
    assert not np.isnan(told[:7]).any()


def test_two_of_a_kind_do_not_share_their_coins():
    plain, _, _ = play(world(64, 1, horizon=50), 50)
    twice, _, _ = play(Flip(Flip(world(64, 1, horizon=50), 0.5), 0.5), 50)
    changed = (plain != twice).mean()  # 0 if the second undid the first
    assert abs(changed - 0.5) < 4 * 0.5 / np.sqrt(plain.size)


def test_corruption_reaches_labels_that_an_inner_wrapper_held_back():
    budget = 4
    plain, _, infos = play(world())
    _, told, last = play(Corruption(Delay(world(), 2, "fixed", deliver_rest=True), budget))
    told_truth, _ = true_labels(plain, infos)
    flipped = told == 1 - plain
    assert (flipped <= told_truth).all()
    assert flipped.reshape(12, 3, 2).sum(axis=(0, 2)).tolist() == [budget] * 3
    assert last[-1]["corruptions"].tolist() == [budget] * 3


# Randomness and checkpoints -------------------------------------------------------------------------------------------


def disturbed(num_envs=6, **settings):
    env = Missing(Delay(Corruption(Flip(world(num_envs, horizon=30, **settings), 0.2), 6), 4.0), 0.1)
    return AdversarialDelay(Batching(env, 3), 2)


def test_two_agents_meet_the_same_flips_losses_and_delays():
    def decisions(actions):
        env = Delay(Missing(Flip(world(horizon=30), 0.3), 0.3), 3.0)
        plain, _, _ = play(world(horizon=30), 30, actions=actions)
        _, told, infos = play(env, 30, actions=actions)
        arrival = np.full(told.shape, -1)
        for number, info in enumerate(infos):
            arrival[info["late"].round, info["late"].row] = number
        return np.isnan(told), np.where(np.isnan(told), np.nan, told != plain), arrival

    env = world(horizon=30)
    for one, other in zip(*(decisions(pairs_of(env, 30, seed)) for seed in (0, 1)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_rows_of_a_large_batch_meet_what_a_small_one_meets():
    large, small = disturbed(6), disturbed(4)
    actions = pairs_of(large, 30)
    _, many, _ = play(large, 30, actions=actions)
    _, few, _ = play(small, 30, actions=actions[:, :4])
    np.testing.assert_array_equal(many[:, :4], few)


def test_a_seed_fixes_everything_and_another_changes_it():
    env = disturbed()
    one, again, other = play(env, 30, seed=1)[1], play(env, 30, seed=1)[1], play(env, 30, seed=2)[1]
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other, equal_nan=True)


def test_rows_that_are_not_asked_stay_unlabelled_and_are_not_promised():
    env = Flip(Delay(world(selective=True), 2, "fixed"), 0.5)
    env.reset(seed=0)
    actions = np.column_stack([pairs_of(env, 1)[0], [1, 0, 1, 0, 0, 0]])
    info = env.step(actions)[-1]
    assert info["pending"].tolist() == [True, False, True, False, False, False]
    env.step(actions)
    assert env.step(actions)[-1]["late"].row.tolist() == [0, 2]


@pytest.mark.parametrize("stop", [0, 1, 7, 20])
def test_a_wrapped_environment_continues_exactly(stop):
    actions = pairs_of(world(), 30)
    settings = {"drift": 0.05, "changes": [9]}
    whole = disturbed(**settings)
    observation, _ = whole.reset(seed=4)
    for number in range(stop):
        observation, *_ = whole.step(actions[number])
    other = disturbed(**settings)
    other.reset(seed=77)
    resumed = other.load_state_dict(whole.state_dict())
    np.testing.assert_array_equal(resumed["features"], observation["features"])
    for number in range(stop, 30):
        (_, labels, _, _, info), (_, other_labels, _, _, other_info) = (
            env.step(actions[number]) for env in (whole, other)
        )
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(info["regret"]["utility"], other_info["regret"]["utility"])
        for key in ("late", "pending", "corruptions", "queries"):
            for one, two in zip(np.atleast_1d(info[key]), np.atleast_1d(other_info[key]), strict=True):
                np.testing.assert_array_equal(one, two)


def test_memory_is_bounded_by_what_is_still_out():
    env = Flip(Delay(Missing(world(horizon=400), 0.5), 3.0), 0.1)
    late, observation = LateLabels(), env.reset(seed=0)[0]
    most = 0
    for actions in pairs_of(env, 399):
        following, labels, _, _, info = env.step(actions)
        late.calls(observation, actions, labels, info)
        observation = following
        most = max(most, len(late._waiting))
        assert len(env._keys) == len(env.env._held.row)
    assert most < 40


# Late labels and agents -----------------------------------------------------------------------------------------------


def learn(env, agent, rounds, actions, track=None):
    late = LateLabels()
    observation, _ = env.reset(seed=5)
    for number in range(rounds):
        following, labels, _, _, info = env.step(actions[number])
        for call in late.calls(observation, actions[number], labels, info):
            agent.update(*call)
            if track is not None:
                track(call)
        observation = following
    return agent


@pytest.mark.parametrize(
    "hold",
    [
        lambda env: Delay(env, 6.0, deliver_rest=True),
        lambda env: Delay(env, 3.0, "poisson", deliver_rest=True),
        lambda env: Batching(env, 7),
        lambda env: AdversarialDelay(Delay(env, 2, "fixed", deliver_rest=True), 5, deliver_rest=True),
    ],
)
def test_the_posterior_of_late_labels_is_the_posterior_of_the_same_labels_in_time(hold):
    def made():
        return world(6, 2, horizon=40, dim=3)

    actions = pairs_of(made(), 40)
    settings = {"estimator": "laplace"}
    one = learn(made(), duelenv.agents.make("thompson", made(), **settings), 40, actions).belief
    other = learn(hold(made()), duelenv.agents.make("thompson", made(), **settings), 40, actions).belief
    np.testing.assert_array_equal(one.num_labels, other.num_labels)
    assert (one.num_labels == 80).all()
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-8)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-8)


def test_every_label_comes_once_with_its_own_observation_and_action():
    rounds = 25
    env = Delay(world(horizon=rounds), 4.0, deliver_rest=True)
    actions = pairs_of(env, rounds)
    plain, _, _ = play(world(horizon=rounds), rounds, seed=5, actions=actions)
    bare = world(horizon=rounds)
    features = [bare.reset(seed=5)[0]["features"]]
    features += [bare.step(pair)[0]["features"] for pair in actions]
    seen = []

    def track(call):
        for row in np.flatnonzero(~np.isnan(call.labels)):
            match = [t for t in range(rounds) if np.array_equal(features[t][row], call.observation["features"][row])]
            (number,) = match
            np.testing.assert_array_equal(call.actions[row], actions[number, row])
            assert call.labels[row] == plain[number, row]
            seen.append((number, row))

    learn(env, duelenv.agents.make("passive", env), rounds, actions, track)
    assert len(seen) == len(set(seen)) == rounds * 6


def test_a_step_needs_as_many_calls_as_its_busiest_row_has_labels():
    env = Batching(world(), 4)
    late, observation = LateLabels(), env.reset(seed=0)[0]
    counts = []
    for actions in pairs_of(env, 8):
        following, labels, _, _, info = env.step(actions)
        counts.append(len(late.calls(observation, actions, labels, info)))
        observation = following
    assert counts == [1, 1, 1, 4] * 2


def test_late_labels_of_an_undisturbed_world_are_its_own_call():
    env = world()
    observation, _ = env.reset(seed=0)
    actions = pairs_of(env, 1)[0]
    _, labels, _, _, info = env.step(actions)
    ((seen, played, told),) = LateLabels().calls(observation, actions, labels, info)
    assert seen is observation and played is actions and told is labels


def test_waiting_rounds_survive_a_checkpoint():
    env = Delay(world(horizon=30), 4.0, deliver_rest=True)
    actions = pairs_of(env, 30)
    one, observation = LateLabels(), env.reset(seed=0)[0]
    for number in range(30):
        following, labels, _, _, info = env.step(actions[number])
        other = LateLabels()
        other.load_state_dict(one.state_dict())
        calls = [late.calls(observation, actions[number], labels, info) for late in (one, other)]
        for left, right in zip(*calls, strict=True):
            np.testing.assert_array_equal(left.labels, right.labels)
            np.testing.assert_array_equal(left.actions, right.actions)
            np.testing.assert_array_equal(left.observation["features"], right.observation["features"])
        observation = following


def test_rounds_of_the_last_episode_are_forgotten():
    env = Delay(world(), 100, "fixed")
    late = LateLabels()
    for _ in range(2):
        observation = env.reset(seed=0)[0]
        for number, actions in enumerate(pairs_of(env, 12)):
            following, labels, _, _, info = env.step(actions)
            late.calls(observation, actions, labels, info)
            observation = following
            assert list(late._waiting) == list(range(min(number, 10) + 1))


def test_text_observations_are_put_together_row_by_row():
    env = Delay(world(4, 1, name="duelenv/PoolDuel-v0", horizon=15), 2.0, deliver_rest=True)
    actions = pairs_of(env, 15)
    bare = world(4, 1, name="duelenv/PoolDuel-v0", horizon=15)
    prompts = [bare.reset(seed=5)[0]["prompt"], *(bare.step(pair)[0]["prompt"] for pair in actions)]
    late, observation = LateLabels(), env.reset(seed=5)[0]
    for number in range(15):
        following, labels, _, _, info = env.step(actions[number])
        *calls, _ = late.calls(observation, actions[number], labels, info)
        arrived = sorted((row, past) for past, row, _ in zip(*info["late"], strict=True))
        told = [(row, call) for call in calls for row in np.flatnonzero(~np.isnan(call.labels)).tolist()]
        told.sort(key=lambda entry: entry[0])
        for (row, past), (other, call) in zip(arrived, told, strict=True):
            assert row == other
            assert call.observation["prompt"][row] == prompts[past][row]
        observation = following


@pytest.mark.parametrize("name", ["thompson", "maxpairucb", "rcdb"])
def test_the_scalar_form_is_row_zero_and_its_agents_learn_late(name):
    vector = Delay(Flip(world(1, 1, horizon=15), 0.2), 2.0, deliver_rest=True)
    inner = make_scalar(FEATURE, horizon=15)
    scalar = duelenv.DuelEnv(Delay(Flip(inner.unwrapped.vector, 0.2), 2.0, deliver_rest=True))
    agents = [duelenv.agents.make(name, env) for env in (vector, scalar)]
    lates = [LateLabels(), LateLabels()]
    seen, row = vector.reset(seed=0)[0], scalar.reset(seed=0)[0]
    for _ in range(15):
        actions, action = agents[0].act(seen), agents[1].act(row)
        np.testing.assert_array_equal(actions[0], action)
        after, labels, _, _, info = vector.step(actions)
        row_after, label, _, _, row_info = scalar.step(action)
        np.testing.assert_array_equal(labels[0], label)
        for late, agent, *step in zip(
            lates, agents, (seen, row), (actions, action), (labels, label), (info, row_info), strict=True
        ):
            for call in late.calls(*step):
                agent.update(*call)
        seen, row = after, row_after
    assert agents[0].belief.num_labels.tolist() == agents[1].belief.num_labels.tolist() == [15]


def test_gymnasium_accepts_the_scalar_form():
    from gymnasium.utils.env_checker import check_env

    env = duelenv.DuelEnv(Missing(make_scalar(FEATURE, horizon=3).unwrapped.vector, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env)


# What a user can get wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Flip(world(), 1.5), r"probability is 1.5, expected a number in \[0, 1\]"),
        (lambda: Missing(world(), "often"), "probability is 'often'"),
        (lambda: Delay(world(), -1.0), "mean is -1.0, expected a number of at least 0"),
        (lambda: Delay(world(), 1.0, "pareto"), "distribution='pareto' is unknown; choose one of geometric"),
        (lambda: Delay(world(), 1.5, "fixed"), "mean is 1.5, but a fixed delay is a whole number"),
        (lambda: Delay(world(), 1.0, deliver_rest=1), "deliver_rest is 1, expected true or false"),
        (lambda: Batching(world(), 0), "rounds is 0, expected an integer of at least 1"),
        (lambda: Corruption(world(), 2.5), "budget is 2.5, expected an integer"),
        (lambda: Corruption(world(), 2, margin=2), "margin is 2, expected a number in"),
        (lambda: AdversarialDelay(world(), 0), "rounds is 0"),
        (lambda: AdversarialDelay(world(), 3, budget=-1), "budget is -1"),
        (lambda: Flip(make_scalar(FEATURE), 0.1), "Flip wraps a vector environment of duelenv"),
        (lambda: make("flop", world()), "wrapper 'flop' is unknown; did you mean 'flip'?"),
        (lambda: make("flip", world(), rate=0.1), "wrapper 'flip' has no setting 'rate'; it knows probability"),
        (lambda: make("flip", world()), "wrapper 'flip' needs the setting 'probability'"),
        (lambda: world().root, "no root before its first reset"),
        (lambda: duelenv.DuelEnv(world()), "one row, got an environment of 6"),
    ],
)
def test_a_wrong_setting_is_one_sentence(wrong, message):
    with pytest.raises(duelenv.UserError, match=message) as caught:
        wrong()
    assert not str(caught.value).endswith(".")
