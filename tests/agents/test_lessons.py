"""Old duels that are taught again beside new ones."""

import copy

import numpy as np
import pytest
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents.lessons import Lesson, OldLessons


def lesson(*numbers):
    """Pairs whose every value says which they are."""
    marks = np.array(numbers)
    prompts = np.array([f"prompt {number}" for number in numbers], dtype=object)
    tokens = np.tile(marks[:, np.newaxis, np.newaxis], (1, 2, 3))
    return Lesson(prompts, tokens, np.ones((len(marks), 2, 3), np.int8), marks / 100)


def numbers_of(some):
    found = (some.labels * 100).round().astype(int)
    np.testing.assert_array_equal(some.tokens[:, 0, 0], found)
    assert some.prompts.tolist() == [f"prompt {number}" for number in found]
    return found.tolist()


def taught(old, new):
    """What is taught with a new lesson, which is an old one from then on."""
    both = old.beside(new)
    old.hold(new)
    return both


def test_new_duels_come_first_and_old_ones_behind_them_each_once():
    old = OldLessons(3, 0)
    assert numbers_of(taught(old, lesson(1, 2))) == [1, 2]
    assert sorted(numbers_of(taught(old, lesson(3, 4, 5)))[3:]) == [1, 2]  # there are no three
    for _ in range(20):
        both = numbers_of(taught(copy.deepcopy(old), lesson(6)))
        assert both[0] == 6
        assert len(set(both[1:])) == 3
        assert set(both[1:]) <= {1, 2, 3, 4, 5}


def test_every_old_duel_is_as_likely():
    old = OldLessons(2, 1)
    for group in (lesson(0), lesson(1, 2, 3), lesson(4)):
        taught(old, group)
    counts = np.zeros(5)
    for _ in range(2000):
        old._known = 5
        counts[numbers_of(taught(old, lesson(9)))[1:]] += 1
    assert np.abs(counts / 2000 - 0.4).max() < 0.05  # deviation 0.011


def test_replay_goes_on_where_its_state_was_taken():
    one = OldLessons(2, 0)
    for start in range(0, 20, 2):
        taught(one, lesson(start, start + 1))
    other = OldLessons(2, 5)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for start in range(20, 30, 2):
        assert numbers_of(taught(one, lesson(start))) == numbers_of(taught(other, lesson(start)))


def test_an_old_duel_takes_little_more_than_its_tokens():
    """Five bytes a token, a label and a name; held in arrays, in which there is room for as many again."""
    old = OldLessons(2, 0)
    for number in range(1000):
        assert taught(old, lesson(number)).tokens.dtype == np.int64
    held = sum(values.nbytes for values in old._held.columns())
    assert 1000 * (2 * 3 * 5 + 16) <= held <= 2.1 * 1000 * (2 * 3 * 5 + 16)


def test_a_learner_replays_without_a_further_step_and_goes_on_exactly(monkeypatch):
    def play(env, agent, observation, rounds):
        for _ in range(rounds):
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        return observation

    def new():
        env = make_vector("duelenv/AlignmentDuel-v0", 4, policy=tiny_policy(), horizon=9)
        agent = duelenv.agents.make("passive", env, seed=1, replay=3)
        sizes, train = [], agent.learner._train
        monkeypatch.setattr(
            agent.learner, "_train", lambda some, steps: (sizes.append(len(some)), train(some, steps))[1]
        )
        return env, agent, sizes

    env, agent, sizes = new()
    observation = play(env, agent, env.reset(seed=0)[0], 3)
    assert sizes == [4, 7, 7]
    assert agent.gradient_steps == 3
    state, world = copy.deepcopy(agent.state_dict()), env.state_dict()
    play(env, agent, observation, 3)
    other_env, other, _ = new()
    other.load_state_dict(state)
    play(other_env, other, other_env.load_state_dict(world), 3)
    for one, two in zip(agent.learner.policy.parameters(), other.learner.policy.parameters(), strict=True):
        assert bool((one == two).all())


def test_a_negative_replay_is_one_sentence():
    env = make_vector("duelenv/AlignmentDuel-v0", 2, policy=tiny_policy())
    with pytest.raises(UserError, match="replay is -1"):
        duelenv.agents.make("passive", env, replay=-1)
