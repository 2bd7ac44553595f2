"""The K-armed algorithms: symmetries, independence of replicates, where they end up, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from worlds import make_vector

import duelenv
import duelenv.agents
from duelenv.agents.karmed.agent import BoundSettings
from duelenv.agents.karmed.counts import WinCounts
from duelenv.agents.karmed.dts import DoubleThompson
from duelenv.agents.karmed.rucb import RUCB, RUCBSettings
from duelenv.agents.karmed.versatile import tsallis_weights
from duelenv.oracles.matrices import bradley_terry, cyclic

NAMES = [
    "random",
    "rucb",
    "rmed1",
    "rmed2",
    "rmed2fh",
    "dts",
    "dts_plus",
    "sparring",
    "multisbm",
    "btm",
    "interleaved_filter",
    "savage",
    "winner_stays",
    "versatile",
    "mergerucb",
    "ccb",
    "scb",
]
SIMULTANEOUS = ["random", "rucb", "dts", "dts_plus"]
# These learn from a duel about its first arm, or as two players: the order of the pair is part of what they know.
ORDERED = ["sparring", "multisbm", "btm", "versatile"]
MATRIX = bradley_terry([1.5, 0.8, 0.5, 0.0, -0.5])
CLEAR = bradley_terry([3.0, 1.0, 0.0, -1.0])
# Without a Condorcet winner: the first three arms beat each other in a circle, and all of them beat the last two.
INTRANSITIVE = np.array(
    [
        [0.5, 0.8, 0.3, 0.9, 0.8],
        [0.2, 0.5, 0.7, 0.9, 0.8],
        [0.7, 0.3, 0.5, 0.9, 0.2],
        [0.1, 0.1, 0.1, 0.5, 0.4],
        [0.2, 0.2, 0.8, 0.6, 0.5],
    ]
)


def world(matrix=MATRIX, rows=8, horizon=200, **settings):
    return gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=rows, matrix=matrix, horizon=horizon, **settings)


def play(env, agent, rounds, seed=0, notion="average"):
    """Plays the usual loop; returns the actions [T, N, 2] and the regrets [T, N]."""
    observation, _ = env.reset(seed=seed)
    chosen, regrets = [], []
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
        chosen.append(actions)
        regrets.append(info["regret"][notion])
    return np.array(chosen), np.array(regrets)


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


# Where they end up ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rucb", "rmed1", "rmed2", "rmed2fh", "dts", "dts_plus", "ccb", "mergerucb"])
def test_the_best_arm_comes_to_play_itself(name):
    env = world(CLEAR, rows=20, horizon=800)
    chosen, _ = play(env, duelenv.agents.make(name, env, seed=0), 800)
    assert (chosen[-200:] == 0).all(axis=2).mean() > 0.7


@pytest.mark.parametrize("name", ["savage", "interleaved_filter", "btm", "winner_stays"])
def test_those_that_commit_commit_to_the_best_arm(name):
    env = world(CLEAR, rows=20, horizon=2500)
    chosen, _ = play(env, duelenv.agents.make(name, env, seed=0), 2500)
    assert (chosen[-100:] == 0).all(axis=2).mean() > 0.8


SHARES = {  # of the regret of random duels over 1,500 rounds; beside it what was measured
    "rucb": 0.06,  # 0.029
    "rmed1": 0.05,  # 0.025
    "rmed2": 0.07,  # 0.037
    "rmed2fh": 0.07,  # 0.038
    "dts": 0.04,  # 0.023
    "dts_plus": 0.04,  # 0.023
    "sparring": 0.25,  # 0.156
    "multisbm": 0.4,  # 0.274
    "btm": 0.65,  # 0.463
    "interleaved_filter": 0.7,  # 0.496
    "savage": 0.25,  # 0.162
    "winner_stays": 0.13,  # 0.078
    "versatile": 0.12,  # 0.071
    "mergerucb": 0.09,  # 0.050
    "ccb": 0.07,  # 0.038
    "scb": 0.55,  # 0.403
}


@pytest.mark.parametrize("name", SHARES)
def test_regret_is_a_fraction_of_that_of_random_duels_and_grows_ever_more_slowly(name):
    env = world(CLEAR, rows=24, horizon=1500)
    _, regrets = play(env, duelenv.agents.make(name, env, seed=0), 1500)
    random = 1500 * (CLEAR[0] - 0.5).mean()
    assert regrets.sum(axis=0).mean() < SHARES[name] * random
    assert regrets[-500:].sum() < 0.5 * regrets[:500].sum()


@pytest.mark.parametrize("name", ["dts", "dts_plus", "ccb", "random"])
def test_copeland_regret_without_a_condorcet_winner(name):
    """Arms 0 and 1 beat three others each, and no arm beats all: those made for Copeland winners find them."""
    env = world(INTRANSITIVE, rows=24, horizon=1500)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, regrets = play(env, agent, 1500, notion="copeland")
    late = np.isin(chosen[-300:], (0, 1)).mean()
    if name == "random":
        assert late == pytest.approx(0.4, abs=0.03)
    else:
        assert late > 0.8
        assert regrets[-300:].mean() < 0.3 * regrets[:100].mean()


def test_a_tie_between_two_losers_does_not_hold_scb_up():
    """Played to its end, a pull on the tie takes all rounds of the epoch, and most runs never get to anything else."""
    matrix = np.full((4, 4), 0.5)
    matrix[0, 1:], matrix[1:, 0] = 0.95, 0.05
    env = world(matrix, rows=24, horizon=1500)
    regrets = {}
    for patience in (1, None):
        agent = duelenv.agents.make("scb", env, seed=0, patience=patience)
        chosen, paid = play(env, agent, 1500)
        regrets[patience] = paid.sum(axis=0).mean()
        if patience == 1:
            assert (chosen[-100:] == 0).all()
    assert regrets[1] < 0.7 * regrets[None]


@pytest.mark.parametrize(("name", "settings"), [("versatile", {}), ("sparring", {"player": "exp3"})])
def test_late_labels_weigh_as_much_as_the_duel_did(name, settings):
    """Losses of an arm that nobody plays any more come in: its weight was not small when it played."""
    env = world(rows=3, horizon=400)
    agent = duelenv.agents.make(name, env, seed=0, **settings)
    observation, _ = env.reset(seed=0)
    late = np.array([[0, 1]] * 3)
    for _ in range(400):
        agent.act(observation)
        agent.update(observation, late, np.ones(3))
    losses = abs(agent.state_dict()["arrays"]["_losses" if name == "versatile" else "_gains"])
    assert losses.max() < 400 * 60  # the least weight with which it was drawn is above 1 in 60


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("matrix", [cyclic(3), cyclic(4), np.full((3, 3), 0.5), INTRANSITIVE], ids=range(4))
def test_any_matrix_will_do(name, matrix):
    """Cycles and ties void guarantees, but every arm stays an arm and every array finite."""
    env = world(matrix, rows=4, horizon=400)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, _ = play(env, agent, 400, notion="copeland")
    assert chosen.min() >= 0 and chosen.max() < len(matrix)
    assert np.isin(agent.recommend({}), range(len(matrix))).all()


def test_a_cycle_is_played_by_all_its_arms():
    env = world(cyclic(3), rows=30, horizon=600)
    chosen, _ = play(env, duelenv.agents.make("dts", env, seed=0), 600, notion="copeland")
    shares = np.bincount(chosen[-200:].reshape(-1), minlength=3) / chosen[-200:].size
    np.testing.assert_allclose(shares, 1 / 3, atol=0.08)


class WrongColumn(DoubleThompson):
    """The known mistake: the champion's row of the second draw, which finds the arm it beats most surely."""

    def _challenger(self, champion, bonus):
        margin, below, wins = self._margin, self._below_half, self.counts.wins
        self._margin, self._below_half = margin.transpose(0, 2, 1).copy(), below.transpose(0, 2, 1).copy()
        self.counts.wins = wins.transpose(0, 2, 1).copy()
        try:
            return super()._challenger(champion, bonus)
        finally:
            self._margin, self._below_half, self.counts.wins = margin, below, wins


class LossesIgnored(RUCB):
    """The other known mistake: only wins of the first arm are counted."""

    def _update(self, observation, actions, labels):
        return super()._update(observation, actions, np.where(labels > 0, labels, np.nan))


@pytest.mark.parametrize(("name", "wrong"), [("dts", WrongColumn), ("rucb", LossesIgnored)])
def test_the_known_mistakes_would_be_seen(name, wrong):
    env = world(MATRIX, rows=24, horizon=800)
    _, right = play(env, duelenv.agents.make(name, env, seed=0), 800)
    if wrong is WrongColumn:
        mutant = wrong(env.unwrapped.view(), 0, name, BoundSettings(), least_regret=False)
    else:
        mutant = wrong(env.unwrapped.view(), 0, name, RUCBSettings())
    _, mistaken = play(env, mutant, 800)
    assert mistaken.sum() > 1.7 * right.sum()


# What counts ----------------------------------------------------------------------------------------------------------


def test_counts_ties_and_what_counts_nowhere():
    counts = WinCounts(replicates=2, num_arms=3)
    first, second = np.array([0, 1, 2, 0, 0]), np.array([1, 0, 2, 1, 1])
    replicates = np.array([0, 0, 0, 1, 1])
    counted = counts.add(replicates, first, second, np.array([1.0, 0.5, 1.0, np.nan, 0.0]))
    assert counts.wins[0].tolist() == [[0, 1.5, 0], [0.5, 0, 0], [0, 0, 0]]
    assert counts.wins[1].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert counted.first.tolist() == [0, 1, 0] and counted.replicates.tolist() == [0, 0, 1]
    assert counts.flat[counted.forward].tolist() == [1.5, 0.5, 0]


def test_the_leader_has_most_points_then_the_larger_share():
    counts = WinCounts(replicates=3, num_arms=3)
    counts.wins[0] = [[0, 1, 1], [9, 0, 2], [8, 9, 0]]  # 2 beats both
    counts.wins[1] = [[0, 5, 1], [1, 0, 3], [3, 1, 0]]  # a circle: 6 / 10, 4 / 10 and 4 / 8
    assert counts.leader().tolist() == [2, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_label_teaches_nothing(name):
    env = world(rows=3)
    agent = duelenv.agents.make(name, env, seed=0)
    observation, _ = env.reset(seed=0)
    play(env, agent, 20)
    before = agent.state_dict()
    agent.update(observation, np.array([[0, 1], [2, 3], [4, 0]]), np.full(3, np.nan))
    after = agent.state_dict()
    np.testing.assert_array_equal(after["wins"], before["wins"])
    for key, array in before["arrays"].items():
        np.testing.assert_array_equal(after["arrays"][key], array, err_msg=key)


@pytest.mark.parametrize("name", ["rucb", "rmed1", "dts", "savage"])
def test_a_duel_of_an_arm_with_itself_counts_nowhere(name):
    env = world(rows=1)
    agent = duelenv.agents.make(name, env, seed=0)
    observation, _ = env.reset(seed=0)
    before = agent.state_dict()
    agent.update(observation, np.array([[2, 2]]), np.array([1.0]))
    after = agent.state_dict()
    np.testing.assert_array_equal(after["wins"], before["wins"])
    for key, array in before["arrays"].items():
        np.testing.assert_array_equal(after["arrays"][key], array, err_msg=key)


@pytest.mark.parametrize("name", SIMULTANEOUS)
def test_a_batch_counts_all_its_rows(name):
    env = world(rows=12, batch=4, horizon=50)
    agent = duelenv.agents.make(name, env, seed=0)
    chosen, _ = play(env, agent, 50)
    different = (chosen[:, :, 0] != chosen[:, :, 1]).sum(axis=0).reshape(3, 4).sum(axis=1)
    np.testing.assert_array_equal(agent.counts.wins.sum(axis=(1, 2)), different)
    assert agent.duels == 4 * 50 + 1
    assert agent.recommend({}).reshape(3, 4).std(axis=1).max() == 0  # one learner, one recommendation


def test_a_selective_world_is_always_asked():
    env = world(rows=4, selective=True)
    actions, _ = play(env, duelenv.agents.make("rucb", env, seed=0), 30)
    assert actions.shape == (30, 4, 3) and (actions[:, :, 2] == 1).all()


def test_fixed_features_are_arms():
    env = gymnasium.make_vec(
        "duelenv/FeatureDuel-v0", num_envs=12, num_candidates=4, dim=3, scale=8.0, fixed=True, horizon=600
    )
    agent = duelenv.agents.make("dts", env, seed=0)
    _, regrets = play(env, agent, 600)
    assert regrets[-100:].mean() < 0.3 * regrets[:50].mean()
    assert env.unwrapped.evaluate(agent)["win_rate_best_of_n"].mean() > 0.6


def test_tsallis_weights_solve_their_equation():
    losses = np.random.default_rng(0).exponential(50, size=(40, 7))
    for rate in (4.0, 0.2, 0.01):
        weights = tsallis_weights(losses, rate)
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)
        normaliser = losses - 2.0 / (rate * np.sqrt(weights))  # x is the same for every arm
        np.testing.assert_allclose(normaliser, normaliser[:, :1] * np.ones(7), rtol=1e-8)
        assert (np.argsort(weights, axis=1) == np.argsort(-losses, axis=1)).all()


def test_random_duels_are_the_baseline_of_every_world():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=6, batch=3, num_candidates=4, dim=3, horizon=30)
    actions, _ = play(env, duelenv.agents.make("random", env, seed=0), 30, notion="utility")
    assert set(actions.reshape(-1).tolist()) == {0, 1, 2, 3}
    view = replace(world().unwrapped.view(), world="duelenv/AlignmentDuel-v0")
    assert duelenv.agents.make("random", view).act({}).shape == (8, 2)


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
        ("random", {"alpha": 1.0}, "reads no setting 'alpha'"),
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
