"""What moves a policy: labels, what is imagined of the round that was played, and what a state remembers of it."""

import numpy as np
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv.agents.pieces import Piece
from duelenv.agents.roles import Duels, equal_texts
from duelenv.agents.schooling import Schooling

ROWS = 4


class Pupil:
    """A learner that notes what it is given."""

    gradient_steps = 0

    def __init__(self):
        self.heard = []

    def learn(self, pieces):
        self.heard.append("labels")
        return {"loss": 1.0}

    def teach(self, observation, duels):
        self.heard.append(duels)
        return {"loss": 2.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def round_of(labels, *, selective=False):
    env = make_vector("duelenv/AlignmentDuel-v0", ROWS, policy=tiny_policy(), selective=selective)
    observation = dict(env.reset(seed=0)[0])
    observation["responses"] = observation["responses"].copy()
    observation["responses"][:, 2] = observation["responses"][:, 0]  # a text that comes twice
    actions = np.tile([1, 3], (ROWS, 1))
    if selective:
        actions = np.column_stack([actions, [1, 0, 1, 0]])
    asked = np.full(ROWS, ROWS)
    piece = Piece(observation, actions, np.array(labels, float), np.zeros(ROWS, int), asked)
    return env.unwrapped.view(), piece


def schooling(view, **settings):
    seen = []

    def teach(played):
        seen.append(played)
        return Duels(np.arange(2), np.array([[0, 1], [2, 3]]), np.array([0.3, 0.6]))

    return Schooling(view, Pupil(), teach, **settings), seen


def test_a_rule_is_shown_the_round_its_duels_and_which_texts_are_equal():
    for selective in (False, True):
        view, piece = round_of([1.0, np.nan, 0.0, np.nan], selective=selective)
        school, seen = schooling(view)
        figures = school.learn([piece])
        assert figures == {"loss": 1.0, "model_loss": 2.0, "model_labels": 2}
        (played,) = seen
        assert played.observation is piece.observation
        np.testing.assert_array_equal(played.groups, equal_texts(view, piece.observation))
        assert (played.groups[:, 2] == 0).all()
        assert played.duels.pairs.tolist() == [[1, 3]] * ROWS
        np.testing.assert_array_equal(played.duels.labels, piece.labels)
        assert played.unasked.tolist() == ([False, True, False, True] if selective else [False] * ROWS)
        assert school.learner.heard[0] == "labels"
        assert school.learner.heard[1].labels.tolist() == [0.3, 0.6]


def test_nothing_is_imagined_before_the_first_label_and_a_state_knows_that_there_was_one():
    view, silent = round_of([np.nan] * ROWS)
    _, told = round_of([1.0] * ROWS)
    school, seen = schooling(view)
    school.learn([silent])
    assert not seen
    school.learn([told])
    school.learn([silent])
    assert len(seen) == 2
    other, seen = schooling(view)
    other.load_state_dict(school.state_dict())
    other.learn([silent])
    assert len(seen) == 1


def test_labels_can_be_kept_from_the_learner():
    view, told = round_of([1.0] * ROWS)
    school, seen = schooling(view, teach_labels=False)
    assert school.learn([told]) == {"model_loss": 2.0, "model_labels": 2}
    assert "labels" not in school.learner.heard
    assert len(seen) == 1


def test_an_agent_without_a_policy_has_no_schooling():
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2)
    for name in ("thompson", "deltaucb"):
        agent = duelenv.agents.make(name, env)
        assert agent.schooling is None and agent.learner is None
