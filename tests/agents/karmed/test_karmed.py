"""The K-armed algorithms: symmetries, independence of replicates, and what they refuse."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from arms import CLEAR, MATRIX, NAMES, ORDERED, SIMULTANEOUS, play, world
from worlds import make_vector

import duelenv
import duelenv.agents


def test_all_are_registered():
    assert set(NAMES) <= set(duelenv.agents.names())


# Symmetries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ORDERED])
def test_a_duel_won_teaches_what_the_swapped_duel_lost_teaches(name):
    env = world(CLEAR, horizon=900)
    agent, twin = (duelenv.agents.make(name, env, seed=1) for _ in range(2))
    observation, _ = env.reset(seed=2)
    for _ in range(900):
        actions = agent.act(observation)
        np.testing.assert_array_equal(twin.act(observation), actions)
        observation, labels, *_ = env.step(actions)
        agent.update(observation, actions, labels)
        twin.update(observation, actions[:, ::-1], 1.0 - labels)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_arms_permutes_the_duels(name):
    """Exactly, as a relabelled agent meets a relabelled matrix under the same luck."""
    permutation = np.array([3, 0, 4, 1, 2])
    relabelled = np.empty_like(MATRIX)
    relabelled[np.ix_(permutation, permutation)] = MATRIX
    env = world()
    agents = [duelenv.agents.make(name, env, seed=4) for _ in range(2)]
    agents[1]._set_order(permutation[agents[0]._order])
    observation, _ = env.reset(seed=0)
    generator = np.random.default_rng(0)
    for _ in range(200):
        luck = generator.random(8)
        actions = [agent.act(observation) for agent in agents]
        np.testing.assert_array_equal(actions[1], permutation[actions[0]])
        for agent, chosen, matrix in zip(agents, actions, (MATRIX, relabelled), strict=True):
            labels = (luck < matrix[chosen[:, 0], chosen[:, 1]]).astype(float)
            agent.update(observation, chosen, labels)
    arms = [agent.recommend(observation) for agent in agents]
    np.testing.assert_array_equal(arms[1], permutation[arms[0]])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
def test_numbering_from_best_to_worst_gives_nothing_away(name):
    """The first duels are not those of low numbers: ties go by an order drawn for each replicate."""
    env = world(rows=400, horizon=3)
    actions, _ = play(env, duelenv.agents.make(name, env, seed=0), 3)
    counts = np.bincount(actions[0, :, 0], minlength=5)
    assert (abs(counts - 80) < 4 * 8).all()  # four standard deviations of a binomial count


@pytest.mark.parametrize(("name", "settings"), [("ccb", {}), ("rucb", {"informed": False})])
def test_of_equal_rivals_a_random_one_is_met(name, settings):
    """Random by its internal number, too: otherwise the same few arms meet each other until their bounds differ."""
    env = world(rows=400, horizon=3)
    agent = duelenv.agents.make(name, env, seed=0, **settings)
    actions, _ = play(env, agent, 1)
    rivals = agent._place[np.arange(400), actions[0, :, 1]]
    counts = np.bincount(rivals, minlength=5)
    assert (abs(counts - 80) < 4 * 8).all()


# Replicates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_replicate_does_not_depend_on_the_others(name):
    many, few = (world(rows=rows, horizon=250) for rows in (9, 3))
    chosen = [play(env, duelenv.agents.make(name, env, seed=3), 250)[0] for env in (many, few)]
    np.testing.assert_array_equal(chosen[0][:, :3], chosen[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_scalar_world_is_the_first_row(name):
    env = world(rows=2, horizon=60)
    chosen, _ = play(env, duelenv.agents.make(name, env, seed=3), 60)
    scalar = gymnasium.make("duelenv/MatrixDuel-v0", matrix=MATRIX, horizon=60)
    agent = duelenv.agents.make(name, scalar, seed=3)
    observation, _ = scalar.reset(seed=0)
    for step in range(60):
        action = agent.act(observation)
        np.testing.assert_array_equal(action, chosen[step, 0])
        observation, label, *_ = scalar.step(action)
        agent.update(observation, action, label)
    assert isinstance(agent.recommend(observation), int)


CONTINUED = [(name, {}) for name in NAMES] + [
    ("sparring", {"player": "exp3"}),
    ("winner_stays", {"regret": "weak"}),
    ("rucb", {"informed": False}),
    ("scb", {"patience": None}),
]


@pytest.mark.parametrize(("name", "settings"), CONTINUED)
def test_a_checkpoint_continues_exactly(name, settings):
    env = world(CLEAR, horizon=400)
    agent = duelenv.agents.make(name, env, seed=3, **settings)
    observation, _ = env.reset(seed=0)

    def go_on(env, agent, observation, rounds):
        chosen = []
        for _ in range(rounds):
            chosen.append(agent.act(observation))
            observation, labels, *_ = env.step(chosen[-1])
            agent.update(observation, chosen[-1], labels)
        return np.array(chosen), observation

    _, observation = go_on(env, agent, observation, 150)
    states = env.unwrapped.state_dict(), agent.state_dict()
    expected, _ = go_on(env, agent, observation, 150)
    again = world(CLEAR, horizon=400)
    resumed = duelenv.agents.make(name, again, seed=3, **settings)
    observation = again.unwrapped.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    chosen, observation = go_on(again, resumed, observation, 150)
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_array_equal(resumed.recommend(observation), agent.recommend(observation))


# What they refuse -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SIMULTANEOUS])
def test_a_batch_is_refused_where_one_duel_decides_the_next(name):
    with pytest.raises(duelenv.UserError, match="set batch=1"):
        duelenv.agents.make(name, world(rows=4, batch=2))


@pytest.mark.parametrize("stranger", ["duelenv/FeatureDuel-v0", "duelenv/PoolDuel-v0", "duelenv/AlignmentDuel-v0"])
def test_worlds_with_fresh_candidates_are_refused(stranger):
    with pytest.raises(duelenv.UserError, match="shows new candidates every round"):
        duelenv.agents.make("dts", make_vector(stranger, 2))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rucb", {"alpha": 0.5}, "above 0.5"),
        ("rucb", {"alpha": "wide"}, "alpha is 'wide'"),
        ("rucb", {"informed": 1}, "informed is 1"),
        ("rucb", {"beta": 2.0}, "reads no setting 'beta'"),
        ("random", {"alpha": 1.0}, "reads no setting 'alpha' in this world: none can be set here; leave it out"),
        ("dts", {"alpha": 0.1}, "above 0.5"),
        ("dts_plus", {"alpha": None}, "alpha is None"),
        ("ccb", {"alpha": 0.2}, "above 0.5"),
        ("mergerucb", {"alpha": 0.5}, "above 0.5"),
        ("mergerucb", {"partition": 1}, "partition is 1"),
        ("rmed1", {"f_scale": -1.0}, "f_scale is -1"),
        ("rmed1", {"f_exponent": float("nan")}, "f_exponent is nan"),
        ("rmed1", {"alpha": 3.0}, "reads no setting 'alpha'"),
        ("rmed2", {"alpha": 0.0}, "alpha is 0"),
        ("rmed2fh", {"alpha": -3.0}, "alpha is -3"),
        ("sparring", {"player": "ucb1"}, "player='ucb1'"),
        ("sparring", {"alpha": -1.0}, "alpha is -1"),
        ("sparring", {"player": "exp3", "alpha": 2.0}, "reads no setting 'alpha'"),
        ("multisbm", {"alpha": -1}, "alpha is -1"),
        ("btm", {"gamma": 0.9}, "gamma is 0.9"),
        ("btm", {"width": 0.0}, "width is 0"),
        ("scb", {"patience": 0}, "patience is 0"),
        ("scb", {"patience": 1.5}, "patience is 1.5"),
        ("savage", {"delta": 1.0}, "delta is 1.0"),
        ("savage", {"delta": 0.0}, "delta is 0.0"),
        ("winner_stays", {"beta": 1.0}, "beta is 1.0"),
        ("winner_stays", {"regret": "none"}, "regret='none'"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(name, settings, message):
    with pytest.raises(duelenv.UserError, match=message) as caught:
        duelenv.agents.make(name, world(), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rucb", {"alpha": 2.0}),
        ("rmed1", {"f_scale": 0.0}),
        ("rmed1", {"f_exponent": 3.0}),
        ("rmed2", {"alpha": 9.0}),
        ("dts", {"alpha": 3.0}),
        ("sparring", {"alpha": 0.2}),
        ("sparring", {"player": "exp3"}),
        ("multisbm", {"alpha": 0.2}),
        ("btm", {"gamma": 1.0, "width": 0.3}),
        ("btm", {"width": 0.1}),
        ("savage", {"delta": 0.5}),
        ("winner_stays", {"beta": 2.0}),
        ("mergerucb", {"alpha": 3.0}),
        ("mergerucb", {"partition": 2}),
        ("ccb", {"alpha": 3.0}),
        ("scb", {"patience": None}),
    ],
)
def test_every_setting_changes_what_is_played(name, settings):
    env = world(CLEAR, horizon=1000)
    default, _ = play(env, duelenv.agents.make(name, env, seed=0), 1000)
    changed, _ = play(env, duelenv.agents.make(name, env, seed=0, **settings), 1000)
    assert (default != changed).any()


@pytest.mark.parametrize("name", ["savage", "btm", "interleaved_filter", "rmed2fh"])
def test_the_horizon_comes_from_the_world(name):
    short, long = (world(CLEAR, horizon=horizon) for horizon in (1500, 10**9))
    chosen = [play(env, duelenv.agents.make(name, env, seed=0), 1500)[0] for env in (short, long)]
    assert (chosen[0] != chosen[1]).any()
