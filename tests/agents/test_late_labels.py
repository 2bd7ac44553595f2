"""Agents and labels that come late: each label teaches once, with its own duel, and steps follow labels, not calls."""

import copy
import pickle

import numpy as np
import pytest
import torch
from worlds import agents_on_features, make_scalar, make_vector, tiny_policy

import duelenv
from duelenv.agents.base import merged
from duelenv.agents.lessons import Lesson, WaitingLessons
from duelenv.agents.pieces import late_pieces
from duelenv.disturbances import AdversarialDelay, Batching, Delay, Flip, Missing

FEATURE, ALIGNMENT = "duelenv/FeatureDuel-v0", "duelenv/AlignmentDuel-v0"


def world(num_envs=6, batch=2, horizon=12, name=FEATURE, **settings):
    return make_vector(name, num_envs, horizon=horizon, batch=batch, **settings)


def learn(env, agent, rounds, actions=None, seed=5):
    """The usual loop, with the agent's own duels or given ones; returns what every update said."""
    observation, _ = env.reset(seed=seed)
    figures = []
    for number in range(rounds):
        played = agent.act(observation) if actions is None else actions[number]
        following, labels, _, _, info = env.step(played)
        figures.append(agent.update(observation, played, labels, info["late"]))
        observation = following
    return figures


def pairs_of(env, rounds, seed=0):
    return np.random.default_rng(seed).integers(0, env.num_candidates, (rounds, env.num_envs, 2))


# Beliefs --------------------------------------------------------------------------------------------------------------

HOLDING = {
    "geometric": [Delay(6.0, deliver_rest=True)],
    "poisson": [Delay(3.0, "poisson", deliver_rest=True)],
    "batching": [Batching(7)],
    "withheld": [Delay(2, "fixed", deliver_rest=True), AdversarialDelay(5, deliver_rest=True)],
}


@pytest.mark.parametrize("hold", HOLDING.values(), ids=HOLDING)
def test_the_posterior_of_late_labels_is_the_posterior_of_the_same_labels_in_time(hold):
    actions = pairs_of(world(), 40)
    beliefs = []
    for stages in ((), hold):
        env = world(6, 2, horizon=40, dim=3, stages=stages)
        agent = duelenv.agents.make("thompson", env, estimator="laplace")
        figures = learn(env, agent, 40, actions)
        assert sum(figure["labels"] for figure in figures) == 240
        beliefs.append(agent.belief)
    one, other = beliefs
    np.testing.assert_array_equal(one.num_labels, other.num_labels)
    assert (one.num_labels == 80).all()
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-8)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-8)


@pytest.mark.parametrize("name", ["duelenv/PoolDuel-v0", FEATURE])
def test_pieces_hold_each_label_once_with_its_own_duel_older_ones_first(name):
    env = world(name=name, horizon=25, stages=[Delay(4.0, deliver_rest=True)])
    actions = pairs_of(env, 25)
    shown, seen, most = {}, {}, 0
    observation, _ = env.reset(seed=5)
    for number in range(25):
        shown[number] = dict(observation)
        following, _, _, _, info = env.step(actions[number])
        last = {}
        pieces = late_pieces(info["late"], observation, env.num_envs)
        most = max(most, len(pieces))
        assert len(pieces) == np.bincount(info["late"].row, minlength=1).max(initial=0)
        for piece in pieces:
            for row in np.flatnonzero(~np.isnan(piece.labels)).tolist():
                past = int(piece.rounds[row])
                assert (past, row) not in seen and last.get(row, -1) < past
                last[row] = past
                seen[past, row] = piece.labels[row]
                np.testing.assert_array_equal(piece.actions[row], actions[past, row])
                assert piece.asked[row] == 2  # of the replicate
                for key, value in shown[past].items():
                    np.testing.assert_array_equal(piece.observation[key][row], value[row])
        observation = following
    assert most > 2 and len(seen) > 80


@pytest.mark.parametrize("name", ["thompson", "maxpairucb", "rcdb"])
def test_the_scalar_form_is_row_zero_and_its_agents_learn_late(name):
    settings = {"horizon": 15, "stages": [Flip(0.2), Delay(2.0, deliver_rest=True)]}
    vector, scalar = world(1, 1, **settings), make_scalar(FEATURE, **settings)
    agents = [duelenv.agents.make(name, env) for env in (vector, scalar)]
    seen, row = vector.reset(seed=0)[0], scalar.reset(seed=0)[0]
    for _ in range(15):
        actions, action = agents[0].act(seen), agents[1].act(row)
        np.testing.assert_array_equal(actions[0], action)
        after, labels, _, _, info = vector.step(actions)
        row_after, label, _, _, row_info = scalar.step(action)
        np.testing.assert_array_equal(labels[0], label)
        agents[0].update(seen, actions, labels, info["late"])
        agents[1].update(row, action, label, row_info["late"])
        seen, row = after, row_after
    assert agents[0].belief.num_labels.tolist() == agents[1].belief.num_labels.tolist() == [15]
    np.testing.assert_array_equal(agents[0].belief.theta, agents[1].belief.theta)


# What is refused ------------------------------------------------------------------------------------------------------


def test_late_labels_may_be_left_out_only_where_there_are_none():
    env = world()
    agent = duelenv.agents.make("passive", env)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    agent.update(observation, actions, env.step(actions)[1])
    late = world(stages=[Delay(1.0)])
    agent = duelenv.agents.make("passive", late)
    observation, _ = late.reset(seed=0)
    actions = agent.act(observation)
    with pytest.raises(duelenv.UserError, match=r'call update\(observation, actions, labels, info\["late"\]\)'):
        agent.update(observation, actions, late.step(actions)[1])


@pytest.mark.parametrize(
    ("actions", "labels", "message"),
    [
        (np.zeros((6, 2), int), np.zeros(5), r"labels of shape \(5,\), expected \(6, 2\) and \(6,\)"),
        (np.zeros((6, 3), int), np.zeros(6), r"actions of shape \(6, 3\)"),
        (np.zeros((6, 2), int), np.full(6, -0.2), "labels from -0.2 to -0.2, expected values in"),
        (np.zeros((6, 2), int), np.full(6, 1.5), "labels from 1.5"),
        (np.zeros((6, 2), int), ["a"] * 6, "update got labels list"),
        (np.zeros((6, 2), int), [10**400] * 6, "update got labels list"),
        (np.zeros((6, 2)), np.zeros(6), "update got actions of float64, expected integers"),
        (np.full((6, 2), -1), np.zeros(6), "candidates from -1 to -1, expected indices below 4"),
        (np.full((6, 2), 4), np.zeros(6), "candidates from 4 to 4"),
    ],
)
def test_duels_that_do_not_fit_are_refused(actions, labels, message):
    env = world()
    agent = duelenv.agents.make("maxpairucb", env)
    observation, _ = env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=message):
        agent.update(observation, actions, labels)


# Optimiser steps follow labels ----------------------------------------------------------------------------------------

ROUNDS, ROWS = 12, 4
DELAYS = {
    "in time": [],
    "mean 1": [Delay(1.0, deliver_rest=True)],
    "mean 4": [Delay(4.0, deliver_rest=True)],
    "fixed 3": [Delay(3, "fixed", deliver_rest=True)],
    "batches of 7": [Batching(7)],
    "withheld": [AdversarialDelay(5, deliver_rest=True)],
}


def alignment(name, stages=(), **settings):
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=ROUNDS, stages=stages)
    return env, duelenv.agents.make(name, env, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_the_same_labels_make_the_same_number_of_steps_under_every_delay(gradient_steps):
    """One step per late call once made 20, 47 and 59 of the same 160 labels."""
    for stages in DELAYS.values():
        env, agent = alignment("passive", stages, gradient_steps=gradient_steps)
        taken, labels = [], 0
        observation, _ = env.reset(seed=0)
        for _ in range(ROUNDS):
            actions = agent.act(observation)
            following, own, _, _, info = env.step(actions)
            agent.update(observation, actions, own, info["late"])
            observation = following
            labels += int((~np.isnan(own)).sum()) + len(info["late"])
            taken.append(agent.gradient_steps)
            assert agent.gradient_steps == labels * gradient_steps // ROWS  # after every single call
        assert labels == ROUNDS * ROWS and taken[-1] == ROUNDS * gradient_steps


def test_batches_are_taught_round_by_round():
    """With duels that do not depend on the policy, labels in batches of four end in the very same weights."""
    ends = []
    for stages in ([], [Batching(4)]):
        env, agent = alignment("passive", stages, learning_rate=1e-3)
        env._sources = {"reference": 4}  # the same candidates whatever was learnt
        learn(env, agent, ROUNDS)
        ends.append(torch.cat([weights.detach().flatten() for weights in env._policy.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


def test_lost_labels_take_their_share_along():
    env, agent = alignment("passive", [Missing(0.4)])
    observation, _ = env.reset(seed=0)
    labels = 0
    for _ in range(ROUNDS):
        actions = agent.act(observation)
        following, own, *_ = env.step(actions)
        agent.update(observation, actions, own)
        observation = following
        labels += int((~np.isnan(own)).sum())
    assert labels < ROUNDS * ROWS
    assert agent.gradient_steps == labels // ROWS


def test_in_a_selective_world_a_round_is_worth_its_steps_however_few_ask():
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=ROUNDS, selective=True, stages=[Delay(2, "fixed")])
    agent = duelenv.agents.make("passive", env)
    observation, _ = env.reset(seed=0)
    steps = []
    for number in range(ROUNDS):
        actions = agent.act(observation)
        actions[:, 2] = np.arange(ROWS) < 1 + number % 3  # one, two or three of four
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
        steps.append(agent.gradient_steps)
    assert steps == [0, 0, *range(1, ROUNDS - 1)]


def test_thompson_imagines_once_a_round_and_nothing_before_the_first_label():
    for stages in (DELAYS["in time"], DELAYS["mean 4"], DELAYS["batches of 7"], [Missing(1.0)], [Delay(30, "fixed")]):
        env, agent = alignment("thompson", stages)
        heard, imagined = False, 0
        observation, _ = env.reset(seed=0)
        start = torch.cat([weights.detach().flatten() for weights in env._policy.parameters()])
        for _ in range(ROUNDS):
            actions = agent.act(observation)
            following, labels, _, _, info = env.step(actions)
            figures = agent.update(observation, actions, labels, info["late"])
            observation = following
            heard = heard or len(info["late"]) > 0 or not np.isnan(labels).all()
            assert figures.get("model_labels", 0) == (ROWS if heard else 0)
            imagined += int(heard)
            if not heard:
                now = torch.cat([weights.detach().flatten() for weights in env._policy.parameters()])
                assert torch.equal(now, start) and agent.gradient_steps == 0
        oracle_taught = ROUNDS if stages not in ([Missing(1.0)], [Delay(30, "fixed")]) and imagined else 0
        if imagined:
            assert agent.gradient_steps == oracle_taught + imagined
        assert agent.gradient_steps <= 2 * ROUNDS


def lesson(labels):
    count = len(labels)
    tokens = np.arange(count)[:, np.newaxis, np.newaxis] * np.ones((1, 2, 3), int)
    prompts = np.array([f"prompt {label}" for label in labels], dtype=object)
    return Lesson(prompts, tokens, np.ones_like(tokens, np.int8), np.array(labels, float))


def add(waiting, number, rows, steps, asked):
    from fractions import Fraction

    labels = [number + row / 10 for row in rows]
    waiting.add(lesson(labels), np.full(len(rows), number), np.array(rows), [Fraction(steps, asked)] * len(rows))


def taken(waiting, at_most):
    return [(steps, some.labels.round(1).tolist()) for steps, some in waiting.whole_steps(at_most)]


def test_steps_are_taken_on_consecutive_labels_in_order_of_round_and_row():
    waiting = WaitingLessons()
    add(waiting, 5, [0, 2], 1, 3)
    assert taken(waiting, 1) == []
    add(waiting, 4, [1, 2], 1, 3)  # older, and later
    assert taken(waiting, 1) == [(1, [4.1, 4.2, 5.0])]
    add(waiting, 6, [0, 1, 2], 1, 3)
    assert taken(waiting, 1) == [(1, [5.2, 6.0, 6.1])]
    assert len(waiting) == 1


def test_steps_of_one_round_are_taken_on_the_same_labels():
    waiting = WaitingLessons()
    add(waiting, 0, [0, 1, 2, 3], 2, 4)
    assert taken(waiting, 2) == [(2, [0.0, 0.1, 0.2, 0.3])]
    add(waiting, 1, [0, 1], 2, 4)  # half of a round's labels are worth one of its two steps
    assert taken(waiting, 2) == [(1, [1.0, 1.1])]
    for number in (2, 3):
        add(waiting, number, [0, 1, 2, 3], 2, 4)
    assert taken(waiting, 2) == [(2, [2.0, 2.1, 2.2, 2.3]), (2, [3.0, 3.1, 3.2, 3.3])]


def test_shares_add_up_exactly_however_they_are_cut():
    """Sevenths and thirds in random order: the number of steps is the whole part of what came, at every moment."""
    rng = np.random.default_rng(0)
    waiting, worth, steps = WaitingLessons(), 0.0, 0
    for number in range(200):
        asked = int(rng.choice([1, 3, 7]))
        rows = np.flatnonzero(rng.random(asked) < 0.7).tolist()
        add(waiting, number, rows, 2, asked)
        worth += 2 * len(rows) / asked
        saved = WaitingLessons()
        saved.load_state_dict(copy.deepcopy(waiting.state_dict()))
        one, other = taken(waiting, 2), taken(saved, 2)
        assert one == other
        steps += sum(count for count, _ in one)
        assert steps == int(worth + 1e-9)


# Going on after a stop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 5, 11])
@pytest.mark.parametrize("name", agents_on_features())
def test_every_agent_continues_exactly_with_labels_still_out(name, stop):
    """World and agent restored with open rows: actions, labels and recommendations are the same to the last bit."""
    stages = [{"name": "missing", "probability": 0.2}, {"name": "delay", "mean": 3.0}]

    def made():
        batch = 4 if name.startswith("sb3") else 1
        env = world(4, batch, horizon=20, fixed=True, stages=stages)
        return env, duelenv.agents.make(name, env, seed=0)

    env, agent = made()
    observation, _ = env.reset(seed=5)
    for number in range(20):
        if number == stop:
            other_env, other = made()
            other.load_state_dict(copy.deepcopy(agent.state_dict()))
            other_observation = other_env.load_state_dict(copy.deepcopy(env.state_dict()))
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        if number >= stop:
            np.testing.assert_array_equal(other.act(other_observation), actions)
            other_following, other_labels, _, _, other_info = other_env.step(actions)
            np.testing.assert_array_equal(other_labels, labels)
            other.update(other_observation, actions, other_labels, other_info["late"])
            other_observation = other_following
        agent.update(observation, actions, labels, info["late"])
        observation = following
    np.testing.assert_array_equal(agent.recommend(observation), other.recommend(observation))


@pytest.mark.parametrize("name", ["passive", "thompson", "real", "selm"])
def test_a_policy_continues_exactly_with_lessons_waiting(name):
    settings = {"sources": {"policy": 2, "reference": 2}, "num_candidates": None} if name == "selm" else {}

    def made():
        env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=12, stages=[Delay(2.0)], **settings)
        return env, duelenv.agents.make(name, env, gradient_steps=2)

    env, agent = made()
    observation, _ = env.reset(seed=5)
    for number in range(12):
        if number == 6:
            other_env, other = made()
            other.load_state_dict(copy.deepcopy(agent.state_dict()))
            other_observation = other_env.load_state_dict(copy.deepcopy(env.state_dict()))
            assert len(agent.learner._waiting) == len(other.learner._waiting)
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
        if number >= 6:
            np.testing.assert_array_equal(other.act(other_observation), actions)
            other_following, other_labels, _, _, other_info = other_env.step(actions)
            np.testing.assert_array_equal(other_labels, labels)
            other.update(other_observation, actions, other_labels, other_info["late"])
            other_observation = other_following
    assert agent.gradient_steps == other.gradient_steps > 6
    for left, right in zip(env._policy.parameters(), other_env._policy.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
@pytest.mark.parametrize("name", ["thompson", "maxpairucb", "vids", "rucb", "dts", "selm", "sparring"])
def test_a_copied_agent_goes_on_alone(name, clone):
    """Rules close over their parts: a plain copy would draw from the original's streams."""
    env = world(4, 1, horizon=20, fixed=True)
    agent = duelenv.agents.make(name, env, seed=0)
    learn(world(4, 1, horizon=20, fixed=True), agent, 5)
    copied = clone(agent)
    observation, _ = env.reset(seed=9)
    expected = []
    for agents in (copied, agent):  # the copy first: it must leave the original where it was
        twin = copy.deepcopy(env)
        shown, actions = observation, []
        for _ in range(6):
            actions.append(agents.act(shown))
            following, labels, _, _, info = twin.step(actions[-1])
            agents.update(shown, actions[-1], labels, info["late"])
            shown = following
        expected.append(actions)
    np.testing.assert_array_equal(expected[0], expected[1])


def test_a_copied_agent_trains_a_policy_of_its_own():
    env, agent = alignment("thompson", learning_rate=1e-2)
    learn(env, agent, 3)
    before = {key: value.clone() for key, value in env._policy.model.state_dict().items()}
    other_env, other = copy.deepcopy((env, agent))
    assert other.view.policy is other_env._policy is not env._policy
    for key, value in other_env._policy.model.state_dict().items():
        assert torch.equal(value, before[key])
    observation = other_env._shown
    actions = other.act(observation)
    _, labels, _, _, info = other_env.step(actions)
    other.update(observation, actions, labels, info["late"])
    assert any(not torch.equal(value, before[key]) for key, value in other_env._policy.model.state_dict().items())
    assert all(torch.equal(value, before[key]) for key, value in env._policy.model.state_dict().items())


def test_a_belief_that_trains_does_so_once_a_round_however_many_labels_come():
    """An ensemble takes its minibatches a round; calls for late labels once gave it more of them."""
    taken = {}
    for name, stages in DELAYS.items():
        env = make_vector(FEATURE, 6, batch=6, horizon=ROUNDS, num_candidates=4, dim=3, stages=stages)
        agent = duelenv.agents.make("thompson", env, belief="ensemble", minibatches=3)
        learn(env, agent, ROUNDS)
        steps = agent.belief._optimizer.state_dict()["state"][0]["step"]
        taken[name] = int(steps)
        assert agent.belief._replay.size == ROUNDS * 6
    assert taken["in time"] == 3 * ROUNDS
    assert taken["fixed 3"] == 3 * (ROUNDS - 3)  # none before the first label
    assert all(steps <= taken["in time"] for steps in taken.values())


@pytest.mark.parametrize("name", ["neural_ucb", "neural_ts"])
def test_a_network_is_trained_by_labels_and_not_by_calls(name):
    counts = []
    for stages in DELAYS.values():
        env = world(6, 2, horizon=40, stages=stages)
        agent = duelenv.agents.make(name, env, train_every=5, steps=1, minibatch=4)
        learn(env, agent, 40)
        counts.append(agent.networks._steps)
    assert counts[0] == 8 and max(counts) == 8  # a batch may bring several trainings' labels at once


# Numbers and what they mean -------------------------------------------------------------------------------------------


def test_each_label_keeps_its_own_share_when_they_are_put_in_order():
    waiting = WaitingLessons()
    add(waiting, 5, [0], 1, 2)  # half a step
    add(waiting, 4, [0, 1], 1, 4)  # older, later, a quarter each
    assert taken(waiting, 1) == [(1, [4.0, 4.1, 5.0])]
    add(waiting, 6, [0], 1, 4)
    add(waiting, 7, [0], 1, 1)  # a whole step, of which three quarters go to the label before it
    assert taken(waiting, 1) == [(1, [6.0, 7.0])]
    add(waiting, 8, [0], 1, 4)
    add(waiting, 8, [1], 1, 2)
    assert taken(waiting, 1) == [(1, [8.0, 8.1])]  # the quarter that was left counts


@pytest.mark.parametrize("delay", ["in time", "mean 1", "batches of 7"])
@pytest.mark.parametrize("gradient_steps", [1, 2, 3])
def test_a_moving_reference_moves_with_the_steps(delay, gradient_steps, monkeypatch):
    """Every four rounds' worth of steps, whether they come one by one or together."""
    settings = {"reference": "moving", "reference_every": 4, "gradient_steps": gradient_steps}
    env, agent = alignment("passive", DELAYS[delay], **settings)
    moves = []
    monkeypatch.setattr(agent.learner.policy, "move_reference", lambda: moves.append(agent.learner.gradient_steps))
    learn(env, agent, ROUNDS)
    assert len(moves) == ROUNDS // 4
    for number, steps in enumerate(moves, start=1):
        assert 4 * number * gradient_steps <= steps < 4 * number * gradient_steps + gradient_steps


def test_figures_of_several_pieces_are_weighted_by_their_labels():
    parts = [{"labels": 1.0, "loss": 1.0, "norm": 5.0}, {"labels": 3.0, "loss": 2.0}, {"labels": 0.0, "loss": np.nan}]
    assert merged(parts) == {"labels": 4.0, "loss": 1.75, "norm": 5.0}
    assert merged([{"loss": 1.0}, {"loss": 3.0}]) == {"loss": 2.0}
    assert np.isnan(merged([{"labels": 0.0, "loss": np.nan}] * 2)["loss"])


def test_an_agent_that_joins_late_counts_rounds_as_the_world_does():
    """What comes of its own rounds then lies after what waits of earlier ones."""
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=ROUNDS, stages=[Delay(2.0)])
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        observation, *_ = env.step(np.tile([[0, 1]], (ROWS, 1)))
    agent = duelenv.agents.make("passive", env)
    for number in (3, 4, 5):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        piece = agent._current_piece(observation, actions, labels)
        agent.update(observation, actions, labels, info["late"])
        observation = following
        assert agent._heard == number
        assert piece.asked.tolist() == [ROWS] * ROWS


def test_a_piece_knows_what_each_replicate_asked():
    env = world(6, 2, selective=True)
    agent = duelenv.agents.make("passive", env)
    observation, _ = env.reset(seed=0)
    actions = np.column_stack([pairs_of(env, 1)[0], [1, 1, 1, 0, 0, 0]])
    assert agent._current_piece(observation, actions, np.zeros(6)).asked.tolist() == [2, 2, 1, 1, 0, 0]


def test_thompson_imagines_about_the_round_that_was_just_played():
    env, agent = alignment("thompson", [Delay(1, "fixed")])
    seen, teach = [], agent.schooling._teach

    def spy(played):
        seen.append(played.observation["prompt"].tolist())
        return teach(played)

    agent.schooling._teach = spy
    observation, _ = env.reset(seed=0)
    for number in range(4):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        assert len(seen) == number
        if number:
            assert seen[-1] == observation["prompt"].tolist()
        observation = following
