"""Which rows of a selective world ask."""

import numpy as np
import pytest
from worlds import make_vector

import duelenv.agents
from duelenv.agents.asking import ASK, AskResources, AskSettings, PromptChoice
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Ranked
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import RowStreams

FEATURES = "duelenv/FeatureDuel-v0"
ROWS = 6
WORTH = np.array([3.0, 1.0, 2.0, 5.0, 6.0, 4.0])
DIFFERENT = np.tile([0, 1, 2], (ROWS, 1))


def choice(worth=None, batch=3, seed=0, **settings):
    given = None if worth is None else lambda observation, chosen, groups: worth
    return PromptChoice(batch, RowStreams(seed, "rows", ROWS), AskSettings(**settings), given)


def asked(choose, groups=DIFFERENT):
    return choose({}, Ranked(np.zeros((ROWS, 2), np.int64)), groups)


def test_the_rows_of_largest_worth_ask_in_every_replicate():
    found = asked(choice(WORTH, asked=2))
    assert found.tolist() == [True, False, True, True, True, False]
    assert asked(choice(WORTH, batch=6, asked=2)).tolist() == [False] * 3 + [True, True, False]


def test_a_row_that_says_one_thing_is_never_asked_even_where_nothing_is_left():
    groups = DIFFERENT.copy()
    groups[[0, 1, 4]] = 0
    assert asked(choice(WORTH, asked=2), groups).tolist() == [False, False, True, True, False, True]
    assert not asked(choice(asked=3, batch=3), np.zeros((ROWS, 3), np.int64)).any()
    assert asked(choice(ask_share=1.0), groups).tolist() == [False, False, True, True, False, True]


def test_equal_worth_is_decided_at_random_and_each_row_as_often():
    counts = sum(asked(choice(np.ones(ROWS), asked=1, seed=seed)).astype(int) for seed in range(600))
    assert counts.sum() == 1200
    assert np.abs(counts - 200).max() < 4 * np.sqrt(200 * 2 / 3)
    again = sum(asked(choice(asked=1, seed=seed)).astype(int) for seed in range(600))
    np.testing.assert_array_equal(counts, again)  # no worth at all is the same


def test_a_share_is_a_probability_of_every_row():
    counts = sum(asked(choice(ask_share=0.25, seed=seed)).sum() for seed in range(400))
    assert abs(counts - 600) < 4 * np.sqrt(2400 * 0.25 * 0.75)


@pytest.mark.parametrize("prompts", ["own", "deviation", "infomax", "information", "gap"])
def test_prompt_rules_pay_for_two_of_many_and_take_those_they_mean(prompts):
    env = make_vector(FEATURES, 40, batch=20, num_candidates=4, dim=3, horizon=30, selective=True)
    agent = duelenv.agents.make("composed", env, ask="deviation", asked=2, prompts=prompts)
    observation, _ = env.reset(seed=0)
    for _ in range(8):
        actions = agent.act(observation)
        assert actions[:, 2].reshape(2, 20).sum(axis=1).tolist() == [2, 2]
        following, labels, *_, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        observation = following
    assert info["queries"].sum() == 2 * 2 * 8
    actions = agent.act(observation)
    gaps, deviations = moments(agent.belief, observation["features"], actions)
    p = 1 / (1 + np.exp(-np.abs(gaps)))
    wanted = {"gap": np.abs(gaps), "infomax": p * (1 - p) * deviations, "information": p * (1 - p) * deviations**2}
    wanted = wanted.get(prompts, deviations)
    rows = actions[:, 2] == 1
    for part in (slice(0, 20), slice(20, 40)):
        assert wanted[part][rows[part]].min() > np.median(wanted[part])


def moments(belief, features, actions):
    """Mean and deviation of the chosen pairs' gaps under the linear posterior."""
    rows = np.arange(len(features))
    z = (features[rows, actions[:, 0]] - features[rows, actions[:, 1]]).astype(np.float64)
    grouped = z.reshape(belief.replicates, -1, belief.dim)
    deviation = np.sqrt(((grouped @ belief.root_covariance) ** 2).sum(-1)).reshape(-1)
    return np.einsum("rbd,rd->rb", grouped, belief.theta).reshape(-1), deviation


def test_a_gap_counts_on_either_side():
    env = make_vector(FEATURES, 400, batch=400, num_candidates=4, dim=3, horizon=30, selective=True)
    agent = duelenv.agents.make("composed", env, ask="extreme", asked=100, prompts="gap")
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    following, labels, *_, info = env.step(actions)
    agent.update(observation, actions, labels, info["late"])
    actions = agent.act(following)
    gaps = moments(agent.belief, following["features"], actions)[0][actions[:, 2] == 1]
    assert 25 < (gaps < 0).sum() < 75  # the order of a pair is a coin


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"asked": 9}, "asked=9 is more than the 8 rows of a round"),
        ({"asked": 0}, "asked is 0"),
        ({"asked": 2, "prompts": "devation"}, "prompt rule 'devation' is unknown: did you mean 'deviation'"),
        ({"prompts": "deviation"}, "does not say how many ask; set asked=2"),
        ({"asked": 2, "prompts": "own", "ask": "random"}, "this one does not compare rows"),
        ({"asked": 2, "prompts": "own", "ask": "thompson"}, "this one does not compare rows"),
    ],
)
def test_mistakes_are_one_sentence(settings, message):
    env = make_vector(FEATURES, 8, batch=8, num_candidates=4, dim=3, horizon=9, selective=True)
    with pytest.raises(UserError, match=message):
        duelenv.agents.make("composed", env, **settings)


def test_a_world_that_asks_in_every_row_reads_no_such_setting():
    env = make_vector(FEATURES, 8, batch=8, num_candidates=4, dim=3, horizon=9)
    with pytest.raises(UserError, match="reads no setting 'asked'"):
        duelenv.agents.make("composed", env, asked=2)


@pytest.mark.parametrize("name", ["passive", "deltaucb", "vids", "real"])
def test_any_agent_pays_for_few_of_many(name):
    env = make_vector(FEATURES, 8, batch=8, num_candidates=4, dim=3, horizon=9, selective=True)
    agent = duelenv.agents.make(name, env, asked=3, prompts="deviation")
    observation, _ = env.reset(seed=0)
    assert agent.act(observation)[:, 2].sum() == 3


def test_entropy_is_that_of_the_policy_given_each_prompt_and_the_highest_asks_first():
    env = make_vector("duelenv/AlignmentDuel-v0", 8, horizon=9, selective=True)
    observation, _ = env.reset(seed=0)
    agent = duelenv.agents.make("apl", env)  # an eighth of the rows
    entropy = -observation["log_prob"].mean(axis=1)
    asked = agent.act(observation)[:, 2] == 1
    assert asked.tolist() == (entropy == entropy.max()).tolist()
    flat = make_vector(FEATURES, 8, batch=8, horizon=9, selective=True)
    with pytest.raises(UserError, match="prompt rule 'entropy' looks at the policy that is trained"):
        duelenv.agents.make("passive", flat, asked=2, prompts="entropy")


class Known:
    """A belief of given draws [S, N, K]."""

    def __init__(self, draws):
        self.draws = draws

    def sample(self, features, count):
        return np.resize(self.draws, (count, *self.draws.shape[1:]))

    def mean(self, features):
        return self.draws.mean(axis=0)


@pytest.mark.parametrize("ask", ["deltaucb", "best_worst", "reversed_thompson", "extreme"])
def test_a_pair_is_worth_the_gap_that_the_rule_sees_whoever_stands_first(ask):
    """Utilities of row n are n times 0, 1 and 4, and in every other draw the best of the second row has 2 more."""
    utilities = np.arange(1.0, ROWS + 1)[:, np.newaxis] * [0.0, 1.0, 4.0]
    draws = np.stack([utilities, utilities])
    draws[1, 1, 2] += 2.0
    env = make_vector(FEATURES, ROWS, batch=ROWS, num_candidates=3, dim=2, horizon=9)
    resources = AskResources(env.view(), RowStreams(0, "rule", ROWS), lambda: Known(draws))
    chosen = ASK[ask](resources, SettingsReader("mine", {}))({"features": np.zeros((ROWS, 3, 2))}, DIFFERENT)
    assert resources.ranks
    assert np.sort(chosen.pairs).tolist() == [[0, 2]] * ROWS
    second = {"deltaucb": 9.0 + 2.0 * 1.0, "extreme": 9.0}.get(ask, 8.0)  # mean and deviation of the gap are 9 and 1
    np.testing.assert_allclose(chosen.worth, [4.0, second, 12.0, 16.0, 20.0, 24.0], atol=1e-3)


def test_the_second_phase_starts_with_the_label_that_ends_the_first():
    env = make_vector(FEATURES, 12, batch=4, num_candidates=5, dim=3, horizon=30)
    both = [
        duelenv.agents.make("composed", env, ask="two_phases", find="deviation", exploit="extreme", find_labels=labels)
        for labels in (8, 10**6, 0)
    ]
    finder = duelenv.agents.make("composed", env, ask="deviation")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(np.sort(both[0].act(observation)), np.sort(finder.act(observation)))
    for number in range(4):
        actions = [agent.act(observation) for agent in both]
        same = [np.sort(actions[0][:, :2]) == np.sort(other[:, :2]) for other in actions[1:]]
        assert same[0].all() == (number < 2)  # 4 labels a round: found after two
        assert same[1].all() == (number >= 2)
        following, labels, *_, info = env.step(actions[0])
        for agent in both:
            agent.update(observation, actions[0], labels, info["late"])
        observation = following


def test_labels_are_counted_by_replicate_and_survive_a_checkpoint():
    env = make_vector(FEATURES, 4, batch=2, num_candidates=4, dim=3, horizon=9, selective=True)
    agent = duelenv.agents.make("composed", env, ask="two_phases", find_labels=3)
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    agent.update(observation, actions, np.array([1.0, 0.0, np.nan, 0.5]))
    other = duelenv.agents.make("composed", env, ask="two_phases", find_labels=3)
    other.load_state_dict(agent.state_dict())
    assert other.state_dict()["labels"].tolist() == [2, 1]
    np.testing.assert_array_equal(other.act(observation), agent.act(observation))
