"""Stages that disturb labels: each does what it says, to the labels alone, in any order, and continues exactly."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from gymnasium.vector import VectorWrapper
from scipy import stats
from worlds import make_vector

import duelenv
from duelenv.disturbances import AdversarialDelay, Batching, Corruption, Delay, Flip, Missing
from duelenv.labels import make_stage, stage_names

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


NAMES = sorted(DISTURBING)


def world(num_envs=6, batch=2, horizon=12, name=FEATURE, **settings):
    return make_vector(name, num_envs, horizon=horizon, batch=batch, **settings)


def stages(*names, settings=DISTURBING):
    return [{"name": name, **settings[name]} for name in names]


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
        late = info["late"]
        assert sorted(zip(late.round, late.row, strict=True)) == list(zip(late.round, late.row, strict=True))
        assert late.now == info["round"] == number
        for past, row, label in zip(late.round, late.row, late.label, strict=True):
            assert past < number
            assert np.isnan(told[past, row])  # never twice
            told[past, row] = label
        infos.append(info)
    return at_once, told, infos


# Nothing but labels is disturbed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_set_to_nothing_changes_nothing(name):
    plain, _, _ = play(world())
    labels, told, infos = play(world(stages=stages(name, settings=NEUTRAL)))
    np.testing.assert_array_equal(labels, plain)
    np.testing.assert_array_equal(told, plain)
    assert not any(info["pending"].any() or len(info["late"].row) for info in infos)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [FEATURE, "duelenv/MatrixDuel-v0", "duelenv/PoolDuel-v0"])
def test_observations_regret_and_queries_are_the_worlds(name, number):
    plain, wrapped = world(name=number), world(name=number, stages=stages(name))
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


def test_a_plain_wrapper_leaves_agents_and_evaluation_working():
    """Gymnasium's own wrappers go around the world, whose labels pass all stages inside."""
    env = VectorWrapper(world(stages=[Flip(0.1), Delay(2.0)]))
    observation, _ = env.reset(seed=0)
    agent = duelenv.agents.make("thompson", env, seed=0)
    assert agent.view == env.unwrapped.view() and agent.view.late
    actions = agent.act(observation)
    _, labels, _, _, info = env.step(actions)
    agent.update(observation, actions, labels, info["late"])
    beliefs = {"belief_calibration", "belief_log_loss"}
    assert set(env.unwrapped.evaluate(agent)) == {"simple_regret", "win_rate_best_of_n"} | beliefs


def test_only_stages_that_hold_labels_back_make_a_world_late():
    late = {name for name in NAMES if world(stages=stages(name)).view().late}
    assert late == {"adversarial_delay", "batching", "delay"}
    assert not world().view().late


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
    labels, _, _ = play(world(64, 1, horizon=200, stages=[Flip(0.2)]), 200)
    flipped = labels == 1 - plain
    assert (flipped | (labels == plain)).all()
    count = flipped.size
    assert abs(flipped.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / count)
    assert flipped.mean(axis=0).std() < 3 * np.sqrt(0.16 / 200)  # no row is spared
    np.testing.assert_array_equal(play(world(stages=[Flip(1.0)]))[0], 1 - play(world())[0])


def test_a_tie_stays_a_tie_when_it_is_flipped():
    env = world(2, 1, feedback="argmax", stages=[Flip(1.0)])
    env.reset(seed=0)
    assert env.step(np.array([[1, 1], [2, 2]]))[1].tolist() == [0.5, 0.5]


def test_missing_loses_its_share_and_every_query_counts():
    plain, _, _ = play(world(64, 1, horizon=100), 100)
    labels, told, infos = play(world(64, 1, horizon=100, stages=[Missing(0.3)]), 100)
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
    env = world(32, 1, horizon=rounds, stages=[Delay(mean, distribution, deliver_rest=True)])
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
    _, told, infos = play(world(stages=[Delay(100, "fixed")]))
    assert np.isnan(told).all()
    assert not infos[-1]["pending"].any()
    env = world(stages=[Delay(3, "fixed")])
    _, told, _ = play(env)
    assert np.isnan(told[-3:]).all() and not np.isnan(told[:-3]).any()
    env.reset()  # and do not turn up in the next episode
    for actions in pairs_of(env, 3):
        assert len(env.step(actions)[-1]["late"].row) == 0


def test_batching_releases_every_so_many_rounds_and_at_the_end():
    plain, _, _ = play(world(horizon=10), 10)
    labels, told, infos = play(world(horizon=10, stages=[Batching(4)]), 10)
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
    labels, _, corrupted = play(world(horizon=rounds, stages=[Corruption(budget, margin)]), rounds)
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


def test_a_duel_of_exactly_the_least_margin_is_sure_enough():
    matrix = [[0.5, 0.75], [0.25, 0.5]]
    labels = []
    for stages in ((), [Corruption(100, margin=0.5)]):
        env = make_vector("duelenv/MatrixDuel-v0", 64, matrix=matrix, stages=stages)
        env.reset(seed=0)
        labels.append(env.step(np.tile([[0, 1]], (64, 1)))[1])
    assert labels[0].mean() > 0.5 and (labels[1] == 0.0).all()  # no true label is left


def test_the_budget_of_corruption_lasts_until_the_next_seeded_reset():
    env = world(horizon=20, stages=[Corruption(3)])
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
        labels, _, _ = play(world(2, 2, horizon=1, stages=[Corruption(1)]), 1, seed)
        told_truth, margins = true_labels(plain, infos)
        changed = np.flatnonzero(labels[0] != plain[0])
        candidates = np.flatnonzero(told_truth[0])
        assert len(changed) == min(1, len(candidates))
        if len(changed):
            assert abs(margins[0, changed[0]]) == np.abs(margins[0, candidates]).max()


def test_the_adversary_withholds_the_truth_and_lets_errors_through():
    plain, _, infos = play(world(horizon=30), 30)
    labels, told, _ = play(world(horizon=30, stages=[AdversarialDelay(5, margin=0.2, deliver_rest=True)]), 30)
    told_truth, margins = true_labels(plain, infos)
    withheld = told_truth & (np.abs(margins) >= 0.2)
    assert withheld.any() and not withheld.all()
    np.testing.assert_array_equal(np.isnan(labels[:-1]), withheld[:-1])
    np.testing.assert_array_equal(told, plain)


def test_the_adversary_of_delays_keeps_to_its_budget():
    labels, _, _ = play(world(horizon=30, stages=[AdversarialDelay(4, budget=11)]), 30)
    by_replicate = np.isnan(labels).reshape(30, 3, 2).sum(axis=(0, 2))
    assert by_replicate.tolist() == [2, 2, 2]  # 2 x 4 rounds; a third label would pass 11


# Composition ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "holds"),
    [("flip", "delay"), ("missing", "delay"), ("flip", "batching"), ("missing", "adversarial_delay")],
)
def test_what_is_decided_by_round_and_row_does_not_depend_on_the_order(changes, holds):
    one, other = (play(world(stages=stages(*order))) for order in ((changes, holds), (holds, changes)))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    for left, right in zip(one[2], other[2], strict=True):
        for column in ("round", "row", "label", "actions"):
            np.testing.assert_array_equal(getattr(left["late"], column), getattr(right["late"], column))
        np.testing.assert_array_equal(left["pending"], right["pending"])


def test_late_labels_come_by_round_and_row_whatever_held_them():
    _, told, infos = play(world(horizon=40, stages=[Delay(4.0, deliver_rest=True), Batching(9)]), 40)
    assert max(len(np.unique(info["late"].round)) for info in infos) > 5
    assert not np.isnan(told).any()


CHAINS = [chain for length in (1, 2, 3) for chain in permutations(NAMES, length)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_any_chain_tells_each_label_once_and_none_that_it_did_not_promise(chain, batch):
    """All 156 chains of one to three stages; `play` refuses a label that comes twice."""
    env = world(batch=batch, stages=stages(*chain))
    _, told, infos = play(env)
    plain, _, _ = play(world(batch=batch))
    known = ~np.isnan(told)
    if not {"flip", "corruption"} & set(chain):
        np.testing.assert_array_equal(told[known], plain[known])
    assert ((told == plain) | (told == 1 - plain) | ~known).all()
    assert known.any()
    if not {"missing", "delay", "adversarial_delay"} & set(chain):
        assert known.all()
    promised = np.array([info["pending"] for info in infos])
    late = np.zeros(told.shape, bool)
    for info in infos:
        late[info["late"].round, info["late"].row] = True
    assert (late <= promised).all()
    assert len(env._labels._open) == 0  # nothing is kept beyond the episode


def test_delays_add_up():
    _, told, infos = play(world(stages=[Delay(2, "fixed"), Delay(3, "fixed")]))
    for number, info in enumerate(infos):
        assert (info["late"].round == number - 5).all()
    assert not np.isnan(told[:7]).any()


def test_two_of_a_kind_do_not_share_their_coins():
    plain, _, _ = play(world(64, 1, horizon=50), 50)
    twice, _, _ = play(world(64, 1, horizon=50, stages=[Flip(0.5), Flip(0.5)]), 50)
    changed = (plain != twice).mean()  # 0 if the second undid the first
    assert abs(changed - 0.5) < 4 * 0.5 / np.sqrt(plain.size)


def test_corruption_reaches_labels_that_an_inner_wrapper_held_back():
    budget = 4
    plain, _, infos = play(world())
    _, told, last = play(world(stages=[Delay(2, "fixed", deliver_rest=True), Corruption(budget)]))
    told_truth, _ = true_labels(plain, infos)
    flipped = told == 1 - plain
    assert (flipped <= told_truth).all()
    assert flipped.reshape(12, 3, 2).sum(axis=(0, 2)).tolist() == [budget] * 3
    assert last[-1]["corruptions"].tolist() == [budget] * 3


# Randomness and checkpoints -------------------------------------------------------------------------------------------


def disturbed(num_envs=6, **settings):
    chain = [Flip(0.2), Corruption(6), Delay(4.0), Missing(0.1), Batching(3), AdversarialDelay(2, budget=24)]
    return world(num_envs, horizon=30, stages=chain, **settings)


def test_two_agents_meet_the_same_flips_losses_and_delays():
    def decisions(actions):
        env = world(horizon=30, stages=[Flip(0.3), Missing(0.3), Delay(3.0)])
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
    env = world(selective=True, stages=[Delay(2, "fixed"), Flip(0.5)])
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
        for key in ("pending", "corruptions", "queries"):
            np.testing.assert_array_equal(info[key], other_info[key])
        for key in ("round", "row", "label", "actions", "asked"):
            np.testing.assert_array_equal(getattr(info["late"], key), getattr(other_info["late"], key))
        np.testing.assert_array_equal(info["late"].observation["features"], other_info["late"].observation["features"])


def test_memory_is_bounded_by_what_is_still_out():
    env = world(horizon=400, stages=[Missing(0.5), Delay(3.0), Flip(0.1)])
    env.reset(seed=0)
    out, most = 0, 0
    for actions in pairs_of(env, 399):
        info = env.step(actions)[-1]
        out += int(info["pending"].sum()) - len(info["late"])
        assert len(env._labels._open) == out
        most = max(most, len(env._labels._open._rounds))
    assert out > 0 and most < 40


@pytest.mark.parametrize(
    ("distribution", "mean"), [("geometric", 0.3), ("geometric", 1e6), ("poisson", 2.5), ("poisson", 1000.0)]
)
def test_delays_invert_their_distribution_from_end_to_end(distribution, mean):
    """Against SciPy's quantiles, out to 1e-12 of either end."""
    uniforms = np.array([1e-12, 1e-6, 0.01, 0.3, 0.5, 0.77, 0.99, 1 - 1e-6, 1 - 1e-12])
    exact = {"geometric": stats.geom(1 / (1 + mean), loc=-1), "poisson": stats.poisson(mean)}[distribution]
    np.testing.assert_allclose(Delay(mean, distribution)._delays(uniforms), exact.ppf(uniforms), rtol=1e-6, atol=0)


def test_two_losses_promise_only_what_both_let_pass():
    env = world(64, 1, horizon=40, stages=[Missing(0.3), Missing(0.3), Delay(2, "fixed")])
    _, told, infos = play(env, 40)
    promised = np.array([info["pending"] for info in infos])
    np.testing.assert_array_equal(promised[:-2], ~np.isnan(told[:-2]))


def test_two_adversaries_are_counted_together():
    _, _, infos = play(world(horizon=30, stages=[Corruption(2), Corruption(3)]), 30)
    assert infos[-1]["corruptions"].tolist() == [5, 5, 5]


def test_an_adversary_holds_a_label_from_when_it_came():
    _, _, infos = play(world(horizon=30, stages=[Delay(3, "fixed"), AdversarialDelay(4)]), 30)
    delays = {number - past for number, info in enumerate(infos) for past in info["late"].round.tolist()}
    assert delays == {3, 7}


def test_a_delay_beyond_all_integers_never_delivers():
    for distribution in ("geometric", "poisson", "fixed"):
        _, told, infos = play(world(stages=[Delay(1e19, distribution)]))
        assert np.isnan(told).all()
        assert all(info["pending"].all() for info in infos[:-1])


def test_a_stage_given_to_two_worlds_belongs_to_neither():
    shared = [Corruption(3), Batching(5)]
    one, other = world(stages=shared), world(stages=shared)
    first = play(one)[1]
    np.testing.assert_array_equal(play(other)[1], first)
    assert shared[0]._flipped.tolist() == [0]


# What a user can get wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Flip(1.5), r"probability is 1.5, expected a number in \[0, 1\]"),
        (lambda: Missing("often"), "probability is 'often'"),
        (lambda: Delay(-1.0), "mean is -1.0, expected a number of at least 0"),
        (lambda: Delay(1.0, "pareto"), "distribution='pareto' is unknown: choose from fixed, geometric, poisson"),
        (lambda: Delay(1.5, "fixed"), "mean is 1.5, but a fixed delay is a whole number"),
        (lambda: Delay(1.0, deliver_rest=1), "deliver_rest is 1, expected true or false"),
        (lambda: Batching(0), "rounds is 0, expected an integer from 1"),
        (lambda: Corruption(2.5), "budget is 2.5, expected an integer"),
        (lambda: Corruption(2, margin=2), "margin is 2, expected a number in"),
        (lambda: AdversarialDelay(0), "rounds is 0"),
        (lambda: AdversarialDelay(3, budget=-1), "budget is -1"),
        (lambda: make_stage("flop"), "stage 'flop' is unknown: did you mean 'flip'?"),
        (lambda: make_stage("flip", rate=0.1), "stage 'flip' has no setting 'rate': choose from probability"),
        (lambda: make_stage("flip"), "stage 'flip' needs the setting 'probability'"),
        (lambda: world(stages="flip"), "stages is 'flip', expected a list such as"),
        (lambda: world(stages=[3]), "stages holds 3, expected a list"),
        (lambda: world(stages=[{"probability": 0.1}]), "without a name"),
        (lambda: world(stages=Flip(0.1)), "stages is <.*>, expected a list such as"),
        (lambda: world(stages=[{"name": "delay", "mean": -1}]), "mean is -1, expected"),
        (lambda: world().root, "no root before its first reset"),
        (lambda: duelenv.DuelEnv(world()), "one row, got an environment of 6"),
    ],
)
def test_a_wrong_setting_is_one_sentence(wrong, message):
    with pytest.raises(duelenv.UserError, match=message) as caught:
        wrong()
    assert not str(caught.value).endswith(".")


def test_the_registry_knows_all_of_them():
    assert set(NAMES) <= set(stage_names())
