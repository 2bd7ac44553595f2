"""What a policy is taught besides its labels, and the agents of feature worlds where there is a policy to teach."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from worlds import PROMPTS, make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents.asking import ASK
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Duels, Played, equal_texts
from duelenv.agents.selection import apart
from duelenv.agents.teaching import TEACHING, Resources, make_teaching

ALIGNMENT = "duelenv/AlignmentDuel-v0"
ROWS = 4
CONTEXTUAL = ("drts", "deltaucb", "maxminlcb", "infomax", "apl", "ids", "vids")
OTHERS = ("colstim", "fgts", "maxfirstucb", "maxinp", "maxpairucb", "rcdb", "rcdp")


def world(**settings):
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=8, **settings)
    return env, env.reset(seed=3)[0]


class Stub:
    """A belief of given draws, whose mean is something else."""

    def __init__(self, draws):
        self.draws = np.asarray(draws, np.float64)  # [S, N, K]
        self.asked = []

    def sample(self, features, num_samples):
        self.asked.append(num_samples)
        return self.draws[:num_samples]

    def mean(self, features):
        return -self.draws[0]


def teach_of(name, belief, select=None, **settings):
    env, observation = world()
    reader = SettingsReader("mine", settings)
    teach = make_teaching(name, Resources(env.unwrapped.view(), belief, select), reader)
    reader.close()

    def taught(groups=None):
        nothing = Duels(np.arange(ROWS), np.zeros((ROWS, 2), int), np.full(ROWS, np.nan))
        return teach(Played(observation, groups, nothing, np.zeros(ROWS, bool)))

    return taught


DRAWS = np.random.default_rng(0).normal(size=(25, ROWS, 4)) * 2


# Rules ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_best_worst_teaches_the_gap_of_the_draw_that_chose_the_pair(count):
    taught = teach_of("best_worst", Stub(DRAWS), taught_pairs=count)()
    assert len(taught) == count * ROWS
    for number in range(count):
        for row in range(ROWS):
            draw, place = DRAWS[number, row], number * ROWS + row
            assert taught.rows[place] == row
            assert taught.pairs[place].tolist() == [draw.argmax(), draw.argmin()]
            assert taught.labels[place] == pytest.approx(1 / (1 + np.exp(draw.min() - draw.max())))


def test_a_mean_target_is_the_mean_of_probabilities():
    belief = Stub(DRAWS)
    taught = teach_of("best_worst", belief, target="mean")()
    draws = DRAWS[:20]
    for row, (first, second) in enumerate(taught.pairs):
        assert (first, second) == (draws[0, row].argmax(), draws[0, row].argmin())
        assert taught.labels[row] == pytest.approx(expit(draws[:, row, first] - draws[:, row, second]).mean())
    assert belief.asked == [20]


def test_only_pairs_that_draws_agree_on_are_taught():
    draws = np.zeros((20, ROWS, 4))
    draws[:, :] = [3.0, 1.0, 0.0, -2.0]
    draws[1:7, 0] = [-2.0, 1.0, 0.0, 3.0]  # 14 of 20 agree
    draws[1:4, 1] = [-2.0, 1.0, 0.0, 3.0]  # 17 of 20
    rows = {share: teach_of("best_worst", Stub(draws), only_sure=share)().rows.tolist() for share in (0.7, 0.8, 0.9)}
    assert rows == {0.7: [0, 1, 2, 3], 0.8: [1, 2, 3], 0.9: [2, 3]}


def test_the_worst_of_equal_texts_is_another_text():
    groups = np.array([[0, 1, 0, 3]] * ROWS)
    draws = np.tile([3.0, 1.0, -5.0, 0.0], (2, ROWS, 1))  # the worst is the best one's text
    assert teach_of("best_worst", Stub(draws))(groups).pairs.tolist() == [[0, 3]] * ROWS


def test_mixed_labels_the_agents_own_choice_by_a_draw_and_not_by_the_mean():
    chosen = np.array([[0, 1], [2, 3], [1, 0], [3, 1]])
    taught = teach_of("mixed", Stub(DRAWS), lambda observation, groups: chosen, taught_pairs=2)()
    np.testing.assert_array_equal(taught.pairs, np.concatenate([chosen, chosen]))
    rows = np.tile(np.arange(ROWS), 2)
    gaps = DRAWS[0, rows, taught.pairs[:, 0]] - DRAWS[0, rows, taught.pairs[:, 1]]
    np.testing.assert_allclose(taught.labels, 1 / (1 + np.exp(-gaps)))


def test_rows_that_were_not_asked_are_taught_whatever_the_rule():
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=8, selective=True)
    observation = env.reset(seed=3)[0]
    for name, further in (("duel", 0), ("best_worst", ROWS)):
        resources = Resources(env.unwrapped.view(), Stub(DRAWS), None)
        teach = make_teaching(name, resources, SettingsReader("mine", {}), unasked=True)
        duels = Duels(np.arange(ROWS), np.array([[0, 1], [2, 3], [1, 0], [3, 1]]), np.full(ROWS, np.nan))
        taught = teach(Played(observation, None, duels, np.array([False, True, False, True])))
        assert taught.rows[:2].tolist() == [1, 3]
        gaps = [DRAWS[0, 1, 2] - DRAWS[0, 1, 3], DRAWS[0, 3, 3] - DRAWS[0, 3, 1]]
        np.testing.assert_allclose(taught.labels[:2], expit(gaps))
        assert len(taught) == 2 + further


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teach": "best_wurst"}, "teaching rule 'best_wurst' is unknown: did you mean 'best_worst'"),
        ({"teach": "best_worst", "target": "max"}, "target='max' is unknown: choose from draw, mean"),
        ({"teach": "best_worst", "only_sure": 1.0}, "only_sure is 1.0"),
        ({"teach": "mixed", "taught_pairs": 0}, "taught_pairs is 0"),
        ({"teach": "duel", "taught_pairs": 2}, "reads no setting 'taught_pairs'"),
        ({"teach": "mixed", "only_sure": 0.5}, "reads no setting 'only_sure'"),
        (
            {"teach": "boltzmann", "replay": 4},
            "replay=4 teaches old duels again, and teach='boltzmann' teaches no labels",
        ),
    ],
)
@pytest.mark.parametrize("agent", ["passive", "thompson"])
def test_a_wrong_setting_is_one_sentence(agent, settings, message):
    env, _ = world()
    with pytest.raises(UserError, match=message):
        duelenv.agents.make(agent, env, **settings)


def test_nothing_is_taught_where_there_is_no_policy():
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2)
    with pytest.raises(UserError, match="reads no setting 'teach'"):
        duelenv.agents.make("passive", env, teach="best_worst")


def test_a_rule_of_ones_own_is_taught(monkeypatch):
    monkeypatch.setattr(TEACHING, "_parts", dict(TEACHING._parts))
    seen = []

    @TEACHING.register("first_two")
    def first_two(resources, settings):
        def teach(played):
            seen.append(resources.belief.mean(played.observation["features"]).shape)
            return Duels(np.arange(ROWS), np.tile([0, 1], (ROWS, 1)), np.full(ROWS, 0.8))

        return teach

    env, observation = world()
    agent = duelenv.agents.make("passive", env, teach="first_two")
    actions = agent.act(observation)
    _, labels, *_, info = env.step(actions)
    figures = agent.update(observation, actions, labels, info["late"])
    assert seen == [(ROWS, 4)]
    assert figures["model_labels"] == ROWS
    assert agent.gradient_steps == 2


@pytest.mark.parametrize("name", ["passive", "real", "thompson"])
def test_a_belief_is_held_where_something_is_taught_by_it(name):
    env, _ = world()
    assert duelenv.agents.make(name, env, teach="best_worst").belief is not None
    assert (duelenv.agents.make(name, env, teach="duel").belief is None) == (name != "thompson")


def test_what_is_imagined_never_reaches_the_belief():
    beliefs = []
    for rule in ("duel", "best_worst"):
        env, observation = world()
        agent = duelenv.agents.make("thompson", env, seed=2, teach=rule, learning_rate=0.0)
        update, given = agent.belief.update, []
        agent.belief.update = lambda first, second, labels, update=update, given=given: (
            given.append(labels.copy()),
            update(first, second, labels),
        )[1]
        for _ in range(3):
            actions = agent.act(observation)
            observation_next, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = observation_next
        beliefs.append(np.array(given))
        assert set(np.unique(given)) <= {0.0, 0.5, 1.0}
    assert beliefs[0].shape == beliefs[1].shape


# Rules of feature worlds, with a policy ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTEXTUAL + OTHERS)
def test_a_rule_over_features_teaches_the_policy_its_labels(name):
    env, observation = world()
    agent = duelenv.agents.make(name, env, seed=1, learning_rate=0.02)
    before = agent.learner.policy.state_dict()["model"]
    for step in range(3):
        actions = agent.act(observation)
        groups = equal_texts(env.unwrapped.view(), observation)
        told = np.take_along_axis(groups, actions, axis=1)
        assert (told[:, 0] != told[:, 1]).all()
        following, labels, *_, info = env.step(actions)
        figures = agent.update(observation, actions, labels, info["late"])
        assert agent.gradient_steps == agent.learner.gradient_steps == step + 1
        assert np.isfinite(figures["loss"])
        observation = following
    after = agent.learner.policy.state_dict()["model"]
    assert any(not torch.equal(before[key], value) for key, value in after.items())
    assert env.evaluate(agent)["win_rate"].shape == (1,)


@pytest.mark.parametrize("teach", ["mixed", "best_worst", "boltzmann"])
@pytest.mark.parametrize("name", ["deltaucb", "vids", "drts"])
def test_such_a_rule_can_teach_what_it_believes(name, teach):
    env, observation = world()
    agent = duelenv.agents.make(name, env, seed=1, teach=teach)
    actions = agent.act(observation)
    _, labels, *_, info = env.step(actions)
    figures = agent.update(observation, actions, labels, info["late"])
    assert figures["model_labels"] == ROWS
    assert agent.gradient_steps == (1 if teach == "boltzmann" else 2)
    with pytest.raises(UserError, match="teaching rule 'mix' is unknown"):
        duelenv.agents.make(name, env, teach="mix")


def test_where_a_rule_has_a_beta_the_losss_is_among_its_settings():
    env, _ = world()
    agent = duelenv.agents.make("deltaucb", env, beta=3.0, loss_settings={"beta": 0.4})
    assert (float(agent.beta), agent.learner.loss.beta) == (3.0, 0.4)
    assert duelenv.agents.make("deltaucb", env).learner.loss.beta == 0.1


@pytest.mark.parametrize("name", ["drts", "deltaucb", "vids"])
def test_such_an_agent_goes_on_exactly(name):
    runs = []
    for resumed in (False, True):
        env, observation = world()
        agent = duelenv.agents.make(name, env, seed=1)
        for step in range(4):
            if resumed and step == 2:
                state, world_state = agent.state_dict(), env.state_dict()
                env, _ = world()
                agent = duelenv.agents.make(name, env, seed=1)
                agent.load_state_dict(state)
                observation = env.load_state_dict(world_state)
                assert agent.gradient_steps == 2
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        runs.append((actions.tolist(), agent.learner.policy.state_dict()["model"]))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(value, runs[1][1][key]) for key, value in runs[0][1].items())


@pytest.mark.parametrize("name", ["adacdb", "vacdb", "neural_ucb", "neural_ts"])
def test_agents_that_train_no_policy_say_so(name):
    env, _ = world()
    with pytest.raises(UserError, match="trains no policy"):
        duelenv.agents.make(name, env)


def test_equal_texts_are_put_apart_by_the_best_other():
    pairs = np.array([[0, 0], [0, 2], [1, 3], [2, 1]])
    mean = np.array([[4.0, 1.0, 2.0, 3.0]] * 4)
    groups = np.array([[0, 1, 2, 3], [0, 1, 0, 3], [0, 1, 2, 3], [0, 1, 1, 3]])
    assert apart(pairs, mean, groups).tolist() == [[0, 3], [0, 3], [1, 3], [2, 0]]
    assert apart(pairs, mean, None) is pairs


PHASES = ("deltaucb", "ids", "maxinp", "maxminlcb", "optimistic", "dissimilar", "thompson")


@pytest.mark.parametrize("find", PHASES)
@pytest.mark.parametrize("exploit", PHASES)
def test_any_two_rules_are_phases(find, exploit):
    env = make_vector("duelenv/FeatureDuel-v0", 3, num_candidates=4, dim=3)
    agent = duelenv.agents.make("composed", env, ask="two_phases", find=find, exploit=exploit, belief="linear_logistic")
    assert agent.act(env.reset(seed=0)[0]).shape == (3, 2)


def test_a_phase_has_settings_of_its_own_and_others_count_for_both():
    env = make_vector("duelenv/FeatureDuel-v0", 64, num_candidates=6, dim=3)
    observation, _ = env.reset(seed=0)

    def asked(**settings):
        agent = duelenv.agents.make("composed", env, seed=0, ask="two_phases", belief="linear_logistic", **settings)
        return agent.act(observation).tolist()

    wide, tight = {"name": "deltaucb", "beta": 9.0}, {"name": "deltaucb", "beta": 1e-6}
    rest = {"exploit": "maxminlcb", "find_labels": 5}
    assert asked(find=wide, **rest) != asked(find=tight, **rest)
    assert asked(find="deltaucb", beta=9.0, **rest) == asked(find=wide, **rest)
    assert asked(find="dissimilar", rule="l2", exploit="deltaucb", beta=2.0)  # each read by one phase alone
    for settings, message in (
        ({"find": {"name": "deltaucb", "gamma": 1.0}}, "reads no setting 'gamma'"),
        ({"find": {"beta": 1.0}}, "find is {'beta': 1.0}, expected an ask rule"),
        ({"exploit": {"name": "two_phases"}}, "cannot be one of its own phases"),
        ({"find": "deltaucb", "gamma": 1.0}, "reads no setting 'gamma'"),
    ):
        with pytest.raises(UserError, match=message):
            asked(**settings)


# Any ask rule with any teaching rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("teach", TEACHING)
def test_parts_combine_by_name(ask, teach):
    mixtures = {"pilaf_plus": 1, "pilaf_minus": 1} if ask == "pilaf" else {}
    more = {}
    if ask == "against_recorded":
        mixtures, more = {"recorded": 1}, {"recorded": {prompt: ["the river"] for prompt in PROMPTS}}
    env, observation = world(sources={"policy": 2, "reference": 2, **mixtures}, num_candidates=None, **more)
    belief = "linear_logistic" if ask == "extreme" else "ensemble"
    settings = {"belief": belief} if teach != "duel" or ask in NEED_BELIEF else {}
    if teach in ("duel", "best_worst", "mixed"):  # the others bring what they minimise
        settings["loss"] = "ipo"
    agent = duelenv.agents.make("composed", env, ask=ask, teach=teach, **settings)
    actions = agent.act(observation)
    _, labels, *_, info = env.step(actions)
    figures = agent.update(observation, actions, labels, info["late"])
    assert agent.gradient_steps == (2 if teach in ("best_worst", "mixed") else 1)
    assert ("model_labels" in figures) == (teach != "duel")
    assert (agent.belief is None) == (teach == "duel" and ask not in NEED_BELIEF)
    assert (type(agent.learner.loss).__name__ == "IPO") == ("loss" in settings)


NEED_BELIEF = set(ASK) - {"random", "dissimilar", "against_reference", "against_recorded"}
NEED_BELIEF -= {"gradient_distance", "implicit_gap", "offline", "pilaf"}
PRESETS = {
    "passive": {"ask": "random"},
    "thompson": {"ask": "thompson"},
    "real": {"ask": "dissimilar"},
    "drts": {"ask": "reversed_thompson"},
    "apl": {"ask": "extreme"},
}


@pytest.mark.parametrize("name", PRESETS)
def test_an_agent_of_the_literature_is_a_preset(name, monkeypatch):
    """The same draws, but for the name of the streams: so that is set alike."""
    from duelenv.agents import custom, parts

    monkeypatch.setattr(custom, "compose", lambda *given, **kwargs: parts.compose(*given, **{**kwargs, "name": name}))
    plays = []
    for made in (name, "composed"):
        env = make_vector("duelenv/FeatureDuel-v0", 6, num_candidates=4, dim=3, horizon=9)
        agent = duelenv.agents.make(made, env, seed=4, **({} if made == name else PRESETS[name]))
        observation, _ = env.reset(seed=0)
        for _ in range(6):
            actions = agent.act(observation)
            following, labels, *_, info = env.step(actions)
            agent.update(observation, actions, labels, info["late"])
            observation = following
        plays.append(actions.tolist())
    assert plays[0] == plays[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ask": "thomson"}, "ask rule 'thomson' is unknown: did you mean 'thompson'"),
        ({"ask": {"name": "deviation"}}, "expected the name of an ask rule; write its settings beside it"),
        ({"ask": "against_reference"}, "come from no policy; set sources="),
        ({"ask": "random", "num_samples": 3}, "reads no setting 'num_samples'"),
        ({"ask": "thompson", "num_samples": 1}, "num_samples is 1"),
        ({"ask": "dissimilar", "rule": "cos"}, "rule='cos' is unknown"),
        ({"belief": "linear"}, "belief 'linear' is unknown: choose from ensemble, laplace, linear_logistic"),
    ],
)
def test_a_wrong_ask_is_one_sentence(settings, message):
    env = make_vector("duelenv/FeatureDuel-v0", 6, num_candidates=4, dim=3)
    with pytest.raises(UserError, match=message):
        duelenv.agents.make("composed", env, **settings)
