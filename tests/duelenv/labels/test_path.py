"""The way of a label: asked once, decided by its own coin, told once, whoever answers and however late."""

import copy
import subprocess
import sys
from pathlib import Path

import mail_source
import numpy as np
import pytest
from mail_source import MailSource, win_probability
from worlds import make_scalar, make_vector

import duelenv
from duelenv.disturbances import Delay
from duelenv.labels import Stage, register_stage
from duelenv.labels.coins import Coins
from duelenv.labels.questions import request_id
from duelenv.labels.stage import STAGES
from duelenv.oracles.base import Preferences
from duelenv.oracles.sources import Answer

POOL = "duelenv/PoolDuel-v0"
N, HORIZON = 6, 20


def at_once(prompts, first, second):
    return [win_probability(*duel) for duel in zip(prompts, first, second, strict=True)]


class Desk:
    """A source in this process: keeps requests, and answers those that it is told to."""

    def __init__(self):
        self.requests, self.asked, self.out = {}, [], []

    def ask(self, requests):
        self.asked += [request.id for request in requests]
        self.requests |= {request.id: request for request in requests}

    def collect(self):
        out, self.out = self.out, []
        return out

    def answer(self, which=lambda request: True, **answer):
        """Answer the requests that are not answered yet and that `which` names."""
        for key, request in list(self.requests.items()):
            if which(request):
                del self.requests[key]
                said = answer or {"win": win_probability(request.prompt, request.first, request.second)}
                self.out.append(Answer(key, **said))


def pool(oracle, rows=N, **settings):
    return make_vector(POOL, rows, **{"horizon": HORIZON, "oracle": oracle, **settings})


def duels(rows=N, rounds=HORIZON, seed=0, candidates=4):
    return np.random.default_rng(seed).integers(0, candidates, (rounds, rows, 2))


class Told:
    """Writes down what a world tells, and checks that it tells nothing twice and shows what was shown."""

    def __init__(self, env, rounds=HORIZON):
        self.labels = np.full((rounds, env.num_envs), np.nan)
        self.pending = np.zeros((rounds, env.num_envs), bool)
        self.shown, self.played = {}, {}

    def step(self, env, observation, actions, number):
        self.shown[number] = dict(observation)
        self.played[number] = actions
        following, labels, _, _, info = env.step(actions)
        late = info["late"]
        for place, (past, row) in enumerate(zip(late.round.tolist(), late.row.tolist(), strict=True)):
            assert past < number and np.isnan(self.labels[past, row]) and self.pending[past, row]
            self.labels[past, row] = late.label[place]
            np.testing.assert_array_equal(late.actions[place], self.played[past][row])
            for key, value in self.shown[past].items():
                np.testing.assert_array_equal(late.observation[key][place], value[row])
        assert all(len(value) == len(late) for value in late.observation.values())
        known = ~np.isnan(labels)
        assert not (known & info["pending"]).any()
        self.labels[number, known] = labels[known]
        self.pending[number] = info["pending"]
        return following, info


def play_at_once(rounds=HORIZON, seed=3, actions=None, **settings):
    env = pool(at_once, **settings)
    env.reset(seed=seed)
    return np.array([env.step(pair)[1] for pair in (duels() if actions is None else actions)[:rounds]])


# Answers that come later ----------------------------------------------------------------------------------------------


def test_a_source_in_another_process_answers_out_of_order_and_after_a_restart(tmp_path):
    """Every label is the one that an oracle at once would have given, and comes once, with its own round."""
    actions = duels()
    env = pool(MailSource(tmp_path))
    observation, _ = env.reset(seed=3)
    told = Told(env)
    script = Path(mail_source.__file__)
    number, deaths = 0, 0
    while number < HORIZON:
        if number in (4, 8, 9, 17):
            subprocess.run([sys.executable, str(script), str(tmp_path), str(number), "0.6"], check=True)
        if number == 6:
            checkpoint = copy.deepcopy((env.state_dict(), told))
        if number == 11 and deaths == 0:  # everything of ours dies, answers included, and lives on from its checkpoint
            env, number, deaths = pool(MailSource(tmp_path)), 6, 1
            state, told = checkpoint
            observation = env.load_state_dict(state)
        observation, info = told.step(env, observation, actions[number], number)
        number += 1
    assert deaths == 1
    subprocess.run([sys.executable, str(script), str(tmp_path), "0", "1.0"], check=True)
    assert 0 < np.isnan(told.labels).sum() < told.labels.size
    assert info["queries"].tolist() == [HORIZON] * N
    observation, info = env.reset()  # the rest comes in the next episode
    assert len(info["late"]) == 0 and not info["pending"].any()
    again = np.full((1, N), np.nan), np.zeros((1, N), bool)
    told.labels, told.pending = np.vstack([told.labels, again[0]]), np.vstack([told.pending, again[1]])
    told.step(env, observation, actions[0], HORIZON)
    np.testing.assert_array_equal(told.labels[:HORIZON], play_at_once())
    assert len(list(tmp_path.glob("*.json"))) == (HORIZON + 1) * N


def test_what_is_not_answered_yet_is_pending_and_what_is_declined_is_not():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    first = env.step(duels()[0])
    assert np.isnan(first[1]).all() and first[-1]["pending"].all()
    assert np.isnan(first[-1]["margin"]).all()
    desk.answer(lambda request: request.row == 1, win=float("nan"))
    desk.answer(lambda request: request.row == 2, win=0.0, tie=1.0)
    desk.answer(lambda request: request.row == 3, win=1.0)
    info = env.step(duels()[1])[-1]
    late = info["late"]
    assert late.row.tolist() == [2, 3] and late.round.tolist() == [0, 0] and late.label.tolist() == [0.5, 1.0]
    assert late.asked.tolist() == [1, 1]  # of each replicate
    assert len(env._labels._open) == 3 + N  # the declined row is kept no longer


def test_an_answer_within_the_step_is_the_labels():
    class Prompt(Desk):
        def collect(self):
            self.answer()
            return super().collect()

    env = pool(Prompt())
    env.reset(seed=3)
    steps = [env.step(pair) for pair in duels()]
    np.testing.assert_array_equal(np.array([step[1] for step in steps]), play_at_once())
    assert not any(step[-1]["pending"].any() for step in steps)


def test_rows_that_are_not_asked_are_not_requested():
    desk = Desk()
    env = pool(desk, selective=True)
    env.reset(seed=0)
    info = env.step(np.column_stack([duels()[0], [1, 0, 1, 0, 0, 1]]))[-1]
    assert [request.row for request in desk.requests.values()] == [0, 2, 5]
    assert info["pending"].tolist() == [True, False, True, False, False, True]
    assert info["queries"].tolist() == [1, 0, 1, 0, 0, 1]


def test_stages_disturb_late_answers_as_they_disturb_others():
    """Flips and losses are drawn with the round of the duel, so they are the same however late the answer is."""
    stages = [{"name": "flip", "probability": 0.4}, {"name": "missing", "probability": 0.3}]
    env = pool(at_once, stages=stages)
    env.reset(seed=3)
    expected = np.array([env.step(pair)[1] for pair in duels()])
    desk = Desk()
    late = pool(desk, stages=stages)
    observation, _ = late.reset(seed=3)
    told = Told(late)
    for number, pair in enumerate(duels()):
        if number % 5 == 0:
            desk.answer()
        observation, _ = told.step(late, observation, pair, number)
    assert (np.isnan(told.labels[:15]) == np.isnan(expected[:15])).all()
    np.testing.assert_array_equal(told.labels[:15], expected[:15])
    np.testing.assert_array_equal(told.pending, ~np.isnan(expected))  # nothing is promised that will be lost


def test_a_source_may_repeat_itself_and_speak_of_others():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    env.step(duels()[0])
    key = next(iter(desk.requests))
    desk.out = [Answer("of somebody else", 1.0), Answer(key, 1.0), Answer(key, 0.0)]
    late = env.step(duels()[1])[-1]["late"]
    assert late.label.tolist() == [1.0]  # its first word
    desk.out = [Answer(key, 0.0)]
    assert len(env.step(duels()[2])[-1]["late"]) == 0


def test_a_seeded_reset_leaves_old_requests_behind():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    env.step(duels()[0])
    env.reset(seed=1)
    desk.answer()
    info = env.step(duels()[0])[-1]
    assert len(info["late"]) == 0 and info["pending"].all()
    assert info["queries"].tolist() == [1] * N


def test_a_request_has_the_same_name_for_ever_and_another_question_another():
    names = {request_id(7, 3, 1, "p", "a", "b") for _ in range(2)}
    others = {request_id(*other) for other in [(8, 3, 1, "p", "a", "b"), (7, 3, 2, "p", "a", "b"),
                                               (7, 3, 1, "p", "b", "a"), (7, 3, 1, "pa", "", "b")]}  # fmt: skip
    assert len(names) == 1 and len(others | names) == 5


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (0.7, "returned '0.7', expected an Answer"),
        (lambda key: Answer(key, 1.5), "has as win 1.5, expected a probability"),
        (lambda key: Answer(key, None), "an answer that is not there yet is left out"),
        (lambda key: Answer(key, "1"), "expected a probability"),
        (lambda key: Answer(key, 0.7, 0.7), "a sum of at most 1"),
    ],
)
def test_a_wrong_answer_is_one_sentence_and_loses_no_other(said, message):
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    env.step(duels()[0])
    bad, good, *_ = desk.requests
    desk.out = [said(bad) if callable(said) else said, Answer(good, 1.0)]
    with pytest.raises(duelenv.UserError, match=message):
        env.step(duels()[1])
    late = env.step(duels()[1])[-1]["late"]
    assert late.row.tolist() == [1]


# Faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [POOL, "duelenv/AlignmentDuel-v0"])
def test_after_a_fault_the_same_step_is_the_same_question_with_the_same_coin(world):
    """The coin was once drawn before the oracle was asked: after a retry all later labels differed."""
    broken = []

    def flaky(prompts, first, second):
        if broken and broken.pop():
            raise ConnectionError("the line is dead")
        return at_once(prompts, first, second)

    whole, other = (make_vector(world, N, oracle=flaky, horizon=HORIZON) for _ in range(2))
    for env in (whole, other):
        env.reset(seed=3)
    for number, pair in enumerate(duels()):
        expected = whole.step(pair)
        if number in (2, 3, 7):
            for _ in range(3):
                broken.append(True)
                with pytest.raises(ConnectionError):
                    other.step(pair)
        found = other.step(pair)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[-1]["queries"], expected[-1]["queries"])
        assert found[-1]["round"] == number


@pytest.mark.parametrize("method", ["ask", "collect"])
def test_a_fault_of_a_source_leaves_the_round_unplayed_and_counts_it_once(method):
    desk = Desk()
    env = pool(desk)
    env.reset(seed=3)
    env.step(duels()[0])
    desk.answer()
    kept = getattr(desk, method)

    def fault(*arguments):
        raise TimeoutError("nobody there")

    setattr(desk, method, fault)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            env.step(duels()[1])
    setattr(desk, method, kept)
    info = env.step(duels()[1])[-1]
    assert info["queries"].tolist() == [2] * N
    assert len(info["late"]) == N and len(desk.requests) == N
    assert len(set(desk.asked)) == 2 * N  # however often: the same requests


def test_another_pair_after_a_fault_supersedes_the_question():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=3)
    collect, desk.collect = desk.collect, lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        env.step(np.tile([[0, 1]], (N, 1)))
    desk.collect = collect
    env.step(np.tile([[2, 3]], (N, 1)))
    desk.answer(win=1.0)  # the old questions too
    late = env.step(duels()[1])[-1]["late"]
    assert len(late) == N and late.actions.tolist() == [[2, 3]] * N


# Coins ----------------------------------------------------------------------------------------------------------------


def test_episodes_continue_and_do_not_repeat():
    env, long = (
        make_vector("duelenv/MatrixDuel-v0", 64, horizon=10),
        make_vector("duelenv/MatrixDuel-v0", 64, horizon=30),
    )
    env.reset(seed=0)
    long.reset(seed=0)
    pair = np.tile([[0, 1]], (64, 1))
    whole = [long.step(pair) for _ in range(30)]
    parts = []
    for _ in range(3):
        parts += [env.step(pair) for _ in range(10)]
        env.reset()
    np.testing.assert_array_equal([step[1] for step in parts], [step[1] for step in whole])
    assert [step[-1]["round"] for step in parts] == list(range(30))
    assert not np.array_equal(parts[0][1], parts[10][1])


@pytest.mark.parametrize("tie", [0.0, 0.3])
def test_the_coin_of_a_late_answer_is_that_of_its_round_read_from_its_side(tie):
    """Labels of a source, decided later, equal those of an oracle at once with the same probabilities."""

    def preferences(prompts, first, second):
        win = np.array([(1.0 - tie) * win_probability(*duel) for duel in zip(prompts, first, second, strict=True)])
        return Preferences(win, np.full(len(win), tie))

    env = pool(preferences)
    env.reset(seed=3)
    expected = np.array([env.step(pair)[1] for pair in duels()])
    desk = Desk()
    late = pool(desk)
    observation, _ = late.reset(seed=3)
    told = Told(late)
    for number, pair in enumerate(duels()):
        if number == HORIZON - 1:
            for key, request in list(desk.requests.items())[::-1]:
                win = (1.0 - tie) * win_probability(request.prompt, request.first, request.second)
                desk.out.append(Answer(key, win, tie))
        observation, _ = told.step(late, observation, pair, number)
    np.testing.assert_array_equal(told.labels[:-1], expected[:-1])
    assert (0.5 in told.labels) == (tie > 0)


# Stages of one's own --------------------------------------------------------------------------------------------------


def test_a_stage_of_ones_own_is_one_class():
    @register_stage("every_other")
    class EveryOther(Stage):
        """Loses about half of all labels and turns the rest around."""

        kind = "every_other"
        draws = True

        def __init__(self, share):
            self.share = share

        def lose(self, uniforms):
            return uniforms < self.share

        def alter(self, passing, uniforms, clock):
            return 1.0 - passing.label

    try:
        env = pool(at_once, stages=[{"name": "every_other", "share": 0.5}])
        env.reset(seed=3)
        labels = np.array([env.step(pair)[1] for pair in duels()])
        plain = play_at_once()
        kept = ~np.isnan(labels)
        assert 0.3 < kept.mean() < 0.7
        np.testing.assert_array_equal(labels[kept], 1.0 - plain[kept])
        with pytest.raises(duelenv.UserError, match="registered already"):
            register_stage("every_other")(object)
    finally:
        del STAGES._parts["every_other"]


@pytest.mark.parametrize("made", [lambda label: label + 1.0, lambda label: label[:1], lambda label: label * np.nan])
def test_a_stage_that_makes_no_labels_is_refused(made):
    class Wrong(Stage):
        kind = "wrong"

        def alter(self, passing, uniforms, clock):
            return made(passing.label)

    env = pool(at_once, stages=[Wrong()])
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match="stage 'wrong' made"):
        env.step(duels()[0])


# Evaluation -----------------------------------------------------------------------------------------------------------

ALIGNMENT = "duelenv/AlignmentDuel-v0"


class First:
    def recommend(self, observation):
        return np.zeros(len(observation["features"]), np.int64)


class Third:
    def recommend(self, observation):
        return np.full(len(observation["features"]), 2)


def test_questions_of_an_evaluation_are_counted_apart():
    asked = []

    def counting(prompts, first, second):
        asked.extend(zip(prompts, first, second, strict=True))
        return at_once(prompts, first, second)

    env = make_vector(ALIGNMENT, N, oracle=counting, horizon=HORIZON)
    env.reset(seed=0)
    env.step(duels()[0])
    assert len(asked) == N
    for _ in range(2):
        metrics = env.evaluate(First())
        assert metrics["evaluation_queries"].tolist() == [len(asked) - N]
        assert metrics["unanswered"].tolist() == [0.0]
        assert metrics["win_rate"].tolist() == [0.5]  # nothing was learnt: every pair of texts is equal, and not asked
    env._policy.model.gpt_neox.embed_in.weight.data.mul_(0.5)
    env._policy.updated()
    metrics = env.evaluate(First())
    assert metrics["evaluation_queries"].tolist() == [len(asked) - N] and len(asked) > N
    assert env.step(duels()[1])[-1]["queries"].tolist() == [2 * N]


def test_a_win_rate_is_the_mean_over_what_was_answered():
    def shy(prompts, first, second):
        return [np.nan if len(one) % 2 else 0.75 for one in first]

    prompts = [f"tell me about the {noun}" for noun in "village market road bridge field mill shop inn".split()]
    env = make_vector(ALIGNMENT, N, oracle=shy, horizon=HORIZON, test_prompts=prompts)
    env.reset(seed=0)
    env._policy.model.gpt_neox.embed_in.weight.data.mul_(0.5)
    env._policy.updated()
    metrics = env.evaluate(Third())
    new, old = env._evaluation.responses("test")
    old = np.roll(old, -1, axis=1)  # the rivals that share no draws
    pairs = list(zip(new.responses.ravel(), old.ravel(), strict=True))
    values = [0.5 if a == b else np.nan if len(a) % 2 else 0.75 for a, b in pairs]
    assert 0 < np.isnan(values).sum() < len(values)
    assert metrics["win_rate"][0] == pytest.approx(np.nanmean(values))
    thirds = zip(new.responses[:, 2], old[:, 2], strict=True)
    best = [0.5 if a == b else np.nan if len(a) % 2 else 0.75 for a, b in thirds]
    assert 0 < np.isnan(best).sum() < len(best)
    assert metrics["win_rate_best_of_n"][0] == pytest.approx(np.nanmean(best))
    assert metrics["unanswered"][0] == np.isnan(values).sum() + np.isnan(best).sum()


def test_a_seeded_reset_draws_the_start_policys_responses_anew():
    env = make_vector(ALIGNMENT, N, oracle=at_once)
    drawn = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        drawn.append(env._evaluation.responses("test")[1].tolist())
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_source_that_answers_later_says_at_the_start_what_evaluation_leaves_out():
    with pytest.warns(UserWarning, match="leaves out win_rate and win_rate_best_of_n"):
        env = make_vector(ALIGNMENT, 2, oracle=Desk())
    env.reset(seed=0)
    assert set(env.evaluate(First())) == {"kl", "response_tokens"}
    judged = make_vector(ALIGNMENT, 2, oracle=Desk(), evaluation_oracle=at_once)
    judged.reset(seed=0)
    assert {"win_rate", "win_rate_best_of_n", "evaluation_queries"} <= set(judged.evaluate(First()))
    with pytest.raises(duelenv.UserError, match=r"evaluation_oracle is .* which answers later"):
        make_vector(ALIGNMENT, 2, oracle=at_once, evaluation_oracle=Desk())


@pytest.mark.parametrize("world", list(duelenv.WORLDS))
@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (lambda rows: np.full(rows, -1), "recommend returned -1 in row 0"),
        (lambda rows: np.full(rows, 4), "recommend returned 4 in row 0"),
        (lambda rows: np.zeros(rows), "recommend returned float64"),
        (lambda rows: np.zeros(rows + 1, int), "expected one integer for each of"),
    ],
)
def test_a_recommendation_that_names_no_candidate_is_refused(world, arms, message):
    class Wrong:
        def recommend(self, observation):
            return arms(len(observation["features"]))

    env = make_vector(world, 2)
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=message):
        env.evaluate(Wrong())


# Odds and ends of the contract ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", [3, type("Half", (), {"ask": lambda self, requests: None})()])
def test_what_is_no_oracle_is_refused(oracle):
    with pytest.raises(duelenv.UserError, match=r"expected a function .* or a source with both ask and collect"):
        pool(oracle)


def test_preferences_of_a_source_are_not_known_at_once():
    env = pool(Desk())
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match="answers later"):
        env.preferences(duels()[0])


def test_the_scalar_form_tells_late_labels_with_a_leading_axis():
    desk = Desk()
    env = make_scalar(POOL, oracle=desk, horizon=5)
    observation, info = env.reset(seed=0)
    assert len(info["late"]) == 0 and info["pending"] is False
    shown = dict(observation)
    _, label, _, _, info = env.step(np.array([0, 1]))
    assert np.isnan(label) and info["pending"] is True and info["round"] == 0
    desk.answer(win=1.0)
    late = env.step(np.array([2, 3]))[-1]["late"]
    assert late.label.tolist() == [1.0] and late.actions.tolist() == [[0, 1]]
    assert late.observation["prompt"].tolist() == [shown["prompt"]]
    np.testing.assert_array_equal(late.observation["features"], shown["features"][np.newaxis])


def test_regret_is_known_before_anybody_answers():
    desk = Desk()
    env, plain = pool(desk), pool(at_once)
    env.reset(seed=0)
    plain.reset(seed=0)
    for pair in duels():
        left, right = env.step(pair)[-1]["regret"], plain.step(pair)[-1]["regret"]
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


# Numbers and what they mean -------------------------------------------------------------------------------------------


def test_coins_cut_the_unit_interval_into_win_tie_and_loss():
    """u in [0, win) is a win, [win, win + tie) a tie, the rest a loss; from the other side it is 1 - u."""
    coins = np.array([0.0, 0.39, 0.4, 0.69, 0.7, 0.99])
    expected = [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    ours, theirs = (Preferences(np.full(6, win), np.full(6, 0.3)) for win in (0.4, 0.3))
    plain = Coins(0, 6, "bernoulli")
    assert plain.label(ours, coins, np.zeros(6, bool)).tolist() == expected
    assert plain.label(theirs, coins, np.ones(6, bool)).tolist() == [1.0 - label for label in expected]
    likelier = Coins(0, 3, "argmax")
    preferences = Preferences(np.array([0.4, 0.3, 0.35]), np.array([0.3, 0.3, 0.3]))
    assert likelier.label(preferences, np.zeros(3), np.zeros(3, bool)).tolist() == [1.0, 0.0, 0.5]
    assert likelier.label(preferences, np.zeros(3), np.ones(3, bool)).tolist() == [1.0, 0.0, 0.5]


def test_margin_is_win_less_loss_and_unknown_where_nobody_was_asked_or_answered():
    def judge(prompts, first, second):
        return Preferences(np.where(np.arange(len(prompts)) == 0, np.nan, 0.5), np.full(len(prompts), 0.2))

    env = pool(judge, selective=True)
    env.reset(seed=0)
    info = env.step(np.column_stack([duels()[0], [1, 1, 1, 0, 0, 1]]))[-1]
    np.testing.assert_allclose(info["margin"], [np.nan, 0.2, 0.2, np.nan, np.nan, 0.2])
    np.testing.assert_allclose(info["certainty"], np.abs(info["margin"]))
    truth = make_vector("duelenv/MatrixDuel-v0", 2, selective=True)
    truth.reset(seed=0)
    margin = truth.step(np.array([[0, 1, 0], [0, 3, 1]]))[-1]["margin"]
    np.testing.assert_allclose(margin, [np.nan, 0.6])


def test_queries_and_shares_are_those_of_each_replicate():
    desk = Desk()
    env = pool(desk, batch=2, selective=True)
    env.reset(seed=0)
    first = env.step(np.column_stack([duels()[0], [1, 1, 1, 0, 0, 0]]))[-1]["queries"]
    assert first.tolist() == [2, 1, 0]
    env.step(np.column_stack([duels()[1], [0, 0, 0, 0, 1, 1]]))
    restored = pool(desk, batch=2, selective=True)
    restored.load_state_dict(copy.deepcopy(env.state_dict()))
    desk.answer()
    for world in (env, restored):
        desk_out = list(desk.out)
        late = world.step(np.column_stack([duels()[2], np.zeros(N, int)]))[-1]
        assert late["late"].row.tolist() == [0, 1, 2, 4, 5] and late["late"].asked.tolist() == [2, 2, 1, 2, 2]
        assert late["queries"].tolist() == [2, 1, 2]
        desk.out = desk_out
    assert first.tolist() == [2, 1, 0]  # an info that was handed out stays as it was


def test_an_adversary_sees_the_truth_of_late_answers():
    """Corruption of late answers hits the same duels as of answers at once, chosen by their margins."""
    probabilities = np.random.default_rng(0).random(997)

    def preferences(prompts, first, second):
        number = [sum(map(ord, a)) * 31 + sum(map(ord, b)) for a, b in zip(first, second, strict=True)]
        win = 0.7 * probabilities[np.array(number) % 997]
        return Preferences(win, np.full(len(win), 0.3))

    stages = [{"name": "corruption", "budget": 3, "margin": 0.4}]
    plain, env = pool(preferences, stages=stages), pool(preferences)
    for world in (plain, env):
        world.reset(seed=3)
    disturbed = np.array([plain.step(pair)[1] for pair in duels()])
    undisturbed = np.array([env.step(pair)[1] for pair in duels()])
    assert (disturbed != undisturbed).sum() == 3 * N
    desk = Desk()
    late = pool(desk, stages=stages)
    observation, _ = late.reset(seed=3)
    told = Told(late)
    for number, pair in enumerate(duels()):
        for key, request in list(desk.requests.items()):
            answer = preferences([request.prompt], [request.first], [request.second])
            desk.out.append(Answer(key, float(answer.win[0]), 0.3))
            del desk.requests[key]
        observation, _ = told.step(late, observation, pair, number)
    np.testing.assert_array_equal(told.labels[:-1], disturbed[:-1])


def test_a_declined_answer_is_not_pending_even_where_labels_are_held_back():
    env = pool(lambda prompts, first, second: [np.nan, *[0.5] * (len(prompts) - 1)], stages=[Delay(2, "fixed")])
    env.reset(seed=0)
    assert env.step(duels()[0])[-1]["pending"].tolist() == [False] + [True] * (N - 1)


def test_a_seeded_reset_forgets_what_was_open_counted_and_owed():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    for number in range(3):
        env.step(duels()[number])
    env._labels.evaluation_queries = 7
    env.reset(seed=0)  # the same seed: the same names of the same questions
    assert len(env._labels._open) == 0 and env._labels.evaluation_queries == 0
    desk.answer(lambda request: request.round == 2)
    assert len(env.step(duels()[0])[-1]["late"]) == 0
    assert len(env._labels._open) == N


def test_a_reset_in_the_middle_loses_what_stages_hold_and_nothing_else():
    env = make_vector("duelenv/MatrixDuel-v0", 4, horizon=20, stages=[Delay(3, "fixed")])
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.tile([[0, 1]], (4, 1)))
    root = env.root
    env.reset()
    assert env.root == root and len(env._labels._open) == 0
    late = [env.step(np.tile([[0, 1]], (4, 1)))[-1]["late"].round.tolist() for _ in range(5)]
    assert late == [[], [], [], [2] * 4, [3] * 4]


def test_a_reset_without_a_seed_keeps_the_root_even_at_once():
    env = make_vector("duelenv/MatrixDuel-v0", 4)
    env.reset(seed=0)
    root = env.root
    env.reset()
    assert env.root == root


def test_actions_that_the_caller_goes_on_using_stay_as_they_were_played():
    env = make_vector("duelenv/MatrixDuel-v0", 4, stages=[Delay(1, "fixed")])
    env.reset(seed=0)
    buffer = np.tile([[0, 1]], (4, 1))
    env.step(buffer)
    buffer[:] = 3
    assert env.step(buffer)[-1]["late"].actions.tolist() == [[0, 1]] * 4


# States ---------------------------------------------------------------------------------------------------------------


def test_an_answer_collected_beside_a_wrong_one_is_in_the_state():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    env.step(duels()[0])
    bad, good, *_ = desk.requests
    desk.out = [Answer(bad, 7.0), Answer(good, 1.0)]
    with pytest.raises(duelenv.UserError):
        env.step(duels()[1])
    other = pool(Desk())
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    assert other.step(duels()[1])[-1]["late"].row.tolist() == [1]


def test_after_a_restart_the_source_hears_of_what_is_open_even_if_it_is_not_there_at_first():
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    env.step(duels()[0])
    fresh = Desk()
    other = pool(fresh)
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    ask, fresh.ask = fresh.ask, lambda requests: 1 / 0
    with pytest.raises(ZeroDivisionError):
        other.step(duels()[1])
    fresh.ask = ask
    other.step(duels()[1])
    assert {request.round for request in fresh.requests.values()} == {0, 1}
    fresh.answer()
    assert len(other.step(duels()[2])[-1]["late"]) == 2 * N


def test_counts_and_the_place_in_a_later_episode_are_in_the_state():
    settings = {"horizon": 4, "changes": [6], "stages": [Delay(1, "fixed")]}
    env, other = (make_vector("duelenv/FeatureDuel-v0", 2, **settings) for _ in range(2))
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([[0, 1], [2, 3]]))
    finished = make_vector("duelenv/FeatureDuel-v0", 2, **settings)
    finished.load_state_dict(copy.deepcopy(env.state_dict()))
    with pytest.raises(duelenv.UserError, match="after the last round"):
        finished.step(np.array([[0, 1], [2, 3]]))
    env.reset()
    env.step(np.array([[0, 1], [2, 3]]))
    env._labels.evaluation_queries = 5
    other.load_state_dict(copy.deepcopy(env.state_dict()))
    assert other._labels.evaluation_queries == 5
    for _ in range(3):
        left, right = env.step(np.array([[0, 1], [2, 3]])), other.step(np.array([[0, 1], [2, 3]]))
        assert left[-1]["round"] == right[-1]["round"] and left[-1]["late"] == right[-1]["late"]
        np.testing.assert_array_equal(left[-1]["regret"]["utility"], right[-1]["regret"]["utility"])


def test_ties_come_as_often_as_the_oracle_says_in_either_order():
    rows = 4_000
    for env in (
        pool(lambda *duels: Preferences(np.full(len(duels[0]), 0.5), np.full(len(duels[0]), 0.3)), rows=rows),
        pool(lambda *duels: Preferences(np.full(len(duels[0]), 0.2), np.full(len(duels[0]), 0.3)), rows=rows),
    ):
        env.reset(seed=0)
        preferences = env.preferences(np.tile([[0, 1]], (rows, 1)))
        for pair in ([0, 1], [1, 0]):
            labels = env.step(np.tile([pair], (rows, 1)))[1]
            for label, share in ((1.0, preferences.win[0]), (0.5, 0.3), (0.0, preferences.lose[0])):
                assert (labels == label).mean() == pytest.approx(share, abs=4 * 0.5 / np.sqrt(rows))


def test_an_oracle_is_not_called_where_nobody_asks():
    def never(prompts, first, second):
        raise AssertionError("nobody asked")

    env = pool(never, selective=True)
    env.reset(seed=0)
    labels = env.step(np.column_stack([duels()[0], np.zeros(N, int)]))[1]
    assert np.isnan(labels).all()


def test_answers_that_are_always_one_round_late_meet_the_coins_of_their_own_round():
    desk = Desk()
    env = pool(desk)
    observation, _ = env.reset(seed=3)
    told = Told(env)
    for number, pair in enumerate(duels()):
        desk.answer()
        observation, _ = told.step(env, observation, pair, number)
    np.testing.assert_array_equal(told.labels[:-1], play_at_once()[:-1])


# Faults in the middle -------------------------------------------------------------------------------------------------


class Raises(Stage):
    """Raises when it is told to."""

    kind = "raises"
    method = "alter"
    broken = False

    def alter(self, passing, uniforms, clock):
        if type(self).broken and self.method == "alter":
            raise RuntimeError("a fault of the stage")
        return passing.label

    def figures(self):
        if type(self).broken and self.method == "figures":
            raise RuntimeError("a fault of the stage")
        return {}


@pytest.mark.parametrize("method", ["alter", "figures"])
@pytest.mark.parametrize("late", [True, False])
def test_a_stage_that_raises_leaves_the_round_unplayed(method, late, monkeypatch):
    """Budgets, held labels, answers that were taken and queries are as before; the retry is the same round."""
    monkeypatch.setattr(Raises, "method", method)
    chain = [{"name": "corruption", "budget": 4}, Delay(1, "fixed"), Raises()]

    class Once(Desk):
        """Hands each answer out once."""

        def collect(self):
            self.answer()
            return super().collect()

    def play(faults):
        env = pool(Once() if late else at_once, stages=chain)
        observation, _ = env.reset(seed=3)
        told = Told(env)
        for number, pair in enumerate(duels()):
            if number in faults:
                monkeypatch.setattr(Raises, "broken", True)
                for _ in range(2):
                    with pytest.raises(RuntimeError):
                        env.step(pair)
                monkeypatch.setattr(Raises, "broken", False)
            observation, info = told.step(env, observation, pair, number)
        return told.labels, info["queries"], info["corruptions"]

    for left, right in zip(play(()), play((1, 2, 9)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_encoder_that_raises_leaves_the_round_unplayed():
    """Open rows are drawn before anything is counted."""
    broken = []

    def encoder(prompts, responses):
        if broken:
            raise MemoryError("no room")
        return np.array([[len(one)] for one in responses], float)

    def play(faults):
        broken.clear()
        env = make_vector(ALIGNMENT, N, oracle=at_once, features=encoder, horizon=6, stages=[Delay(1, "fixed")])
        env.reset(seed=0)
        labels = []
        for number, pair in enumerate(duels()[:6]):
            if number in faults:
                broken.append(True)
                with pytest.raises(MemoryError):
                    env.step(pair)
                broken.clear()
            info = env.step(pair)[-1]
            labels.append(info["late"].label.tolist())
        return labels, info["queries"].tolist()

    assert play(()) == play((1, 3))


def test_what_was_shown_stays_although_the_caller_writes_into_it():
    env = pool(at_once, stages=[Delay(1, "fixed")])
    observation, _ = env.reset(seed=0)
    shown = observation["features"].copy()
    following = env.step(duels()[0])[0]
    observation["features"] *= 0.0
    late = env.step(duels()[1])[-1]["late"]
    np.testing.assert_array_equal(late.observation["features"], shown)
    assert following is not observation


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("alter", ["1"] * N, "stage 'bad' made"),
        ("alter", [None] * N, "stage 'bad' made"),
        ("lose", np.zeros(N, int), "'lose' of stage 'bad' returned"),
        ("lose", False, "'lose' of stage 'bad' returned"),
        ("due", None, "'due' of stage 'bad' returned"),
        ("due", np.zeros(N), "whole numbers of rounds"),
        ("due", np.zeros(2, int), "'due' of stage 'bad' returned"),
    ],
)
def test_what_a_stage_returns_is_checked(method, value, message):
    bad = type("Bad", (Stage,), {"kind": "bad", "holds": True, method: lambda self, *arguments: value})
    env = pool(at_once, stages=[bad()])
    env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match=message):
        env.step(duels()[0])


def test_a_stage_without_a_name_and_a_collection_of_nothing_are_refused():
    with pytest.raises(duelenv.UserError, match="give its class a 'kind'"):
        pool(at_once, stages=[Stage()])
    desk = Desk()
    env = pool(desk)
    env.reset(seed=0)
    desk.collect = lambda: None
    with pytest.raises(duelenv.UserError, match="collect of the source returned 'None'"):
        env.step(duels()[0])
