"""A world with a ledger asks nothing twice; a world with a budget asks for exactly as much."""

import copy
from contextlib import closing

import numpy as np
import pytest
import torch
from worlds import MATRIX, NUMERIC, make_vector

from duelenv import UserError
from duelenv.labels.ledger import Ledger, counts
from duelenv.labels.ledger_file import read
from duelenv.oracles import Answer


class Paid:
    """A taste without a utility, which writes down every duel it is asked and what was on the disk by then."""

    def __init__(self, folder=None):
        self.asked, self.on_disk, self.folder, self.fail_at = [], [], folder, None

    def __call__(self, prompts, first, second):
        if self.folder is not None:
            with closing(read(self.folder)) as connection:
                self.on_disk.append(counts(connection.execute))
        if self.fail_at == len(self.asked):
            raise ConnectionError("no line")
        self.asked.append(list(zip(prompts, first, second, strict=True)))
        return np.array([0.9 if len(a) > len(b) else 0.3 for a, b in zip(first, second, strict=True)])


class Desk:
    """A source that answers the requests of a round one round later, and says each answer once."""

    def __init__(self):
        self.asked, self.waiting, self.now = [], {}, -1

    def ask(self, requests):
        self.asked += [request.id for request in requests]
        for request in requests:
            self.waiting.setdefault(request.id, request)
            self.now = max(self.now, request.round)

    def collect(self):
        due = [request for request in self.waiting.values() if request.round < self.now]
        for request in due:
            del self.waiting[request.id]
        return [Answer(one.id, 0.9 if len(one.first) > len(one.second) else 0.2) for one in due]


def pool_world(oracle, **settings):
    return make_vector("duelenv/PoolDuel-v0", 4, **{"oracle": oracle, "batch": 2, "horizon": 20} | settings)


def played(env, rounds, start=0, seed=7):
    """Labels and late labels of some rounds under actions that depend on the round only."""
    if start == 0:
        env.reset(seed=seed)
    told = []
    for number in range(start, start + rounds):
        actions = np.random.default_rng(number).integers(0, 4, (env.num_envs, 2))
        labels, _, _, info = env.step(actions)[1:]
        heard = [None if np.isnan(label) else label for label in labels.tolist()]
        told.append((heard, info["late"].label.tolist(), info["late"].round.tolist()))
    return told


def test_the_round_is_on_the_disk_when_the_oracle_is_asked(tmp_path):
    paid = Paid(tmp_path)
    env, ledger = pool_world(paid), Ledger(tmp_path)
    env.keep_ledger(ledger)
    played(env, 5)
    assert [(found.asked, found.answered) for found in paid.on_disk] == [(4 * n + 4, 4 * n) for n in range(5)]
    ledger.close()


def test_a_second_life_hears_the_same_and_asks_nobody(tmp_path):
    alone = played(pool_world(Paid()), 6)
    lives = []
    for rounds in (4, 6):
        paid = Paid()
        env, ledger = pool_world(paid), Ledger(tmp_path)
        env.keep_ledger(ledger)
        lives.append((played(env, rounds), len(paid.asked), env._labels.queries.tolist()))
        ledger.close()
    assert lives[0] == (alone[:4], 4, [8, 8])
    assert lives[1] == (alone, 2, [12, 12])


def test_a_batch_that_died_in_the_call_is_asked_again_and_counted(tmp_path):
    paid = Paid()
    env, ledger = pool_world(paid), Ledger(tmp_path)
    env.keep_ledger(ledger)
    paid.fail_at = 3
    with pytest.raises(ConnectionError):
        played(env, 5)
    assert env._labels.queries.tolist() == [6, 6]
    paid.fail_at = None
    rest = played(env, 2, start=3)
    assert ledger.counts == (20, 20, 0, 0, 4, 24)
    assert rest == played(pool_world(Paid()), 5)[3:]
    ledger.close()


def test_a_source_that_answers_later_is_heard_again_in_the_same_rounds(tmp_path):
    alone = played(pool_world(Desk()), 8)
    assert alone[3][1:] == (alone[3][1], [2] * 4)
    desk, ledger = Desk(), Ledger(tmp_path)
    env = pool_world(desk)
    env.keep_ledger(ledger)
    assert played(env, 5) == alone[:5]
    ledger.close()
    desk, ledger = Desk(), Ledger(tmp_path)  # a desk without memory, and a world without a checkpoint
    env = pool_world(desk)
    env.keep_ledger(ledger)
    assert played(env, 8) == alone
    # Rounds 0 to 3 are answered in the ledger; of round 4 the desk has to hear again.
    assert [key.split("-")[1] for key in desk.asked] == [str(n) for n in (4, 5, 6, 7) for _ in range(4)]
    assert ledger.counts.asked_again == 0
    ledger.close()


def test_an_answer_that_came_while_nobody_listened_is_told_in_the_next_live_round(tmp_path):
    """What a source says after a restart is new; what it said before comes when it came then."""
    ledger = Ledger(tmp_path)
    env = pool_world(Desk())
    env.keep_ledger(ledger)
    played(env, 3)
    ledger.close()

    class Eager(Desk):
        def collect(self):
            self.now += 1  # answers at once
            return super().collect()

    ledger = Ledger(tmp_path)
    env = pool_world(Eager())
    env.keep_ledger(ledger)
    told = played(env, 4)
    assert told[:3] == played(pool_world(Desk()), 3)
    assert None not in told[3][0]
    assert told[3][2] == [2] * 4
    ledger.close()


def test_other_texts_in_a_round_are_asked_anew(tmp_path):
    for seed in (7, 8):
        paid = Paid()
        env, ledger = pool_world(paid), Ledger(tmp_path)
        env.keep_ledger(ledger)
        assert played(env, 3, seed=seed) == played(pool_world(Paid()), 3, seed=seed)
        ledger.close()
    assert len(paid.asked) == 3
    assert ledger_counts(tmp_path).superseded == 12


def ledger_counts(folder):
    with closing(read(folder)) as connection:
        return counts(connection.execute)


def test_a_copy_of_a_world_leaves_the_ledger_alone(tmp_path):
    env, ledger = pool_world(Paid()), Ledger(tmp_path)
    env.keep_ledger(ledger)
    played(env, 2)
    other = copy.deepcopy(env)
    played(other, 3, start=2)
    assert ledger.counts.asked == 8
    ledger.close()


@pytest.mark.parametrize("known", [False, True])
def test_evaluate_puts_the_same_comparison_only_once(tmp_path, known):
    paid = Paid()

    class First:
        def recommend(self, observation):
            return np.zeros(len(observation["prompt"]), np.int64)

    def judged():
        env = make_vector("duelenv/AlignmentDuel-v0", 2, oracle=paid, horizon=5)
        ledger = Ledger(tmp_path) if known else None
        env.keep_ledger(ledger)
        env.reset(seed=0)
        with torch.no_grad():
            next(env.view().policy.model.parameters()).mul_(0.5)  # equal texts are not asked
        found = [env.evaluate(First()) for _ in range(2)]
        if ledger is not None:
            ledger.close()
        return found

    first, second = judged()
    count = sum(len(batch) for batch in paid.asked)
    assert first["win_rate"] == second["win_rate"] and count > 0
    assert second["evaluation_queries"] == count == (1 if known else 2) * first["evaluation_queries"]
    judged()
    assert sum(len(batch) for batch in paid.asked) == (1 if known else 2) * count


def test_an_evaluation_before_the_first_round_does_not_close_it(tmp_path):
    """Else a process that dies in that round's call would seem to have asked it for certain."""
    paid = Paid()

    class First:
        def recommend(self, observation):
            return np.zeros(len(observation["prompt"]), np.int64)

    env = make_vector("duelenv/AlignmentDuel-v0", 2, oracle=paid, horizon=5)
    ledger = Ledger(tmp_path)
    env.keep_ledger(ledger)
    env.reset(seed=0)
    with torch.no_grad():
        next(env.view().policy.model.parameters()).mul_(0.5)
    env.evaluate(First())
    assert ledger.counts.evaluations > 0
    assert not ledger.is_closed(0)
    ledger.close()
    again = Ledger(tmp_path)
    assert not again.is_closed(0)
    again.close()


# Budgets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [*NUMERIC, "duelenv/PoolDuel-v0"])
@pytest.mark.parametrize(("budget", "rounds"), [(1, 1), (3, 1), (4, 2), (7, 3), (9, 3)])
def test_a_budget_is_spent_to_the_last_label_and_ends_the_episode(world, budget, rounds):
    env = make_vector(world, 6, batch=3, horizon=20, budget=budget)
    assert (env.horizon, env.view().horizon, env.view().budget) == (rounds, rounds, budget)
    env.reset(seed=0)
    told = []
    for number in range(rounds):
        _, labels, _, truncated, info = env.step(np.tile([0, 1], (6, 1)))
        assert truncated.all() == (number == rounds - 1)
        told.append(~np.isnan(labels))
    assert info["queries"].tolist() == [budget, budget]
    each = np.array(told).reshape(rounds, 2, 3)
    assert each.sum(axis=(0, 2)).tolist() == [budget, budget]
    assert each[:-1].all()
    assert (np.diff(each[-1].astype(int), axis=1) <= 0).all()  # the first rows get what is left


def test_without_a_budget_nothing_changes_and_with_one_labels_stay_the_same():
    plain = make_vector("duelenv/FeatureDuel-v0", 6, batch=3, horizon=4)
    short = make_vector("duelenv/FeatureDuel-v0", 6, batch=3, horizon=4, budget=10)
    for env in (plain, short):
        env.reset(seed=3)
    for number in range(4):
        actions = np.tile([number % 4, 3], (6, 1))
        expected, labels = plain.step(actions)[1], short.step(actions)[1]
        known = ~np.isnan(labels)
        np.testing.assert_array_equal(labels[known], expected[known])
        assert known.sum() == (6 if number < 3 else 2)


def test_a_selective_world_ends_when_the_last_replicate_has_nothing_left():
    env = make_vector("duelenv/MatrixDuel-v0", 4, batch=2, horizon=10, selective=True, budget=3)
    assert env.horizon == 10  # who asks for little may go on
    env.reset(seed=0)
    ends, asked = [], []
    for ask in ([1, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]):
        actions = np.column_stack([np.tile([0, 1], (4, 1)), ask])
        _, labels, _, truncated, info = env.step(actions)
        ends.append(bool(truncated.all()))
        asked.append((~np.isnan(labels)).tolist())
    assert asked == [[True, True, False, True], [True, False, False, False], [False, False, True, True]]
    assert ends == [False, False, True]
    assert info["queries"].tolist() == [3, 3]


def test_what_is_out_of_budget_costs_the_oracle_nothing():
    paid = Paid()
    env = pool_world(paid, budget=3)
    played(env, 2)
    assert [len(batch) for batch in paid.asked] == [4, 2]


def test_a_budget_goes_on_where_a_state_was_taken():
    envs = [make_vector("duelenv/MatrixDuel-v0", 4, batch=2, horizon=9, budget=5) for _ in range(2)]
    actions = np.tile([0, 1], (4, 1))
    envs[0].reset(seed=1)
    envs[0].step(actions)
    envs[0].step(actions)
    envs[1].load_state_dict(envs[0].state_dict())
    one, two = (env.step(actions) for env in envs)
    np.testing.assert_array_equal(one[1], two[1])
    assert two[3].all()
    assert two[4]["queries"].tolist() == [5, 5]


@pytest.mark.parametrize("budget", [0, -1, 2.5, True, "all"])
def test_a_wrong_budget_is_one_sentence(budget):
    with pytest.raises(UserError, match="budget"):
        make_vector("duelenv/MatrixDuel-v0", 2, matrix=MATRIX, budget=budget)
