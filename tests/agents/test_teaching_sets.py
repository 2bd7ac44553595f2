"""Teaching rules that bring an objective of their own: which responses, which numbers, and what the policy follows."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Duels, Played, Sets
from duelenv.agents.set_losses import PolicyGradient, Regression
from duelenv.agents.set_training import train_on_sets
from duelenv.agents.teaching import Resources, make_teaching
from duelenv.agents.teaching_sets import quantiles
from duelenv.agents.trainer import Trainer, TrainerSettings

ALIGNMENT = "duelenv/AlignmentDuel-v0"
ROWS, ARMS = 4, 6
SOURCES = {"policy": 3, "reference": 3}
DRAWS = np.random.default_rng(5).normal(size=(30, ROWS, ARMS))
OBJECTIVES = ("reward_distillation", "boltzmann", "quantile_regression", "best_and_worst_of_n", "policy_gradient")


class Stub:
    """A belief of given draws, whose mean is something else."""

    def sample(self, features, num_samples):
        return DRAWS[:num_samples]

    def mean(self, features):
        return DRAWS[25]


def world(**settings):
    settings = {"sources": SOURCES, "num_candidates": None} | settings
    env = make_vector(ALIGNMENT, ROWS, policy=tiny_policy(), horizon=8, **settings)
    return env, env.reset(seed=3)[0]


def taught(name, groups=None, unasked=None, shown=None, **settings):
    env, observation = world()
    reader = SettingsReader("mine", settings)
    teach = make_teaching(name, Resources(env.unwrapped.view(), Stub(), None), reader)
    reader.close()
    duels = Duels(np.arange(ROWS), np.array([[0, 1], [2, 3], [1, 0], [3, 1]]), np.full(ROWS, np.nan))
    unasked = np.zeros(ROWS, bool) if unasked is None else np.array(unasked)
    return teach(Played(shown or observation, groups, duels, unasked))


# Which numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reward_distillation", "boltzmann"])
def test_utilities_are_the_mean_or_a_draw_and_the_same_for_the_same_text(name):
    sets = taught(name)
    np.testing.assert_array_equal(sets.values, DRAWS[25])
    np.testing.assert_array_equal(sets.arms, np.tile(np.arange(ARMS), (ROWS, 1)))
    np.testing.assert_array_equal(taught(name, target="draw").values, DRAWS[0])
    groups = np.tile([0, 1, 0, 3, 1, 5], (ROWS, 1))
    np.testing.assert_array_equal(taught(name, groups).values, DRAWS[25][:, [0, 1, 0, 3, 1, 5]])


def test_a_quantile_is_the_mid_rank_among_the_references():
    utility = np.array([[2.5, 9.0, 1.0, 2.0, 3.0], [2.0, -1.0, 1.0, 2.0, 2.0]])
    found = quantiles(utility, np.array([2, 3, 4]))
    # Of three references 1, 2, 3: their own ranks (k - 1/2) / 3; between and above them among three others.
    np.testing.assert_allclose(found[0], [2.5 / 4, 3.5 / 4, 0.5 / 3, 1.5 / 3, 2.5 / 3])
    np.testing.assert_allclose(found[1], [2.5 / 4, 0.5 / 4, 0.5 / 3, 2.0 / 3, 2.0 / 3])
    many = np.random.default_rng(0).normal(size=(2000, 8))
    assert quantiles(many, np.arange(1, 8))[:, 0].mean() == pytest.approx(0.5, abs=0.02)  # one more draw like them


@pytest.mark.parametrize("beta", [0.01, 0.3])
def test_the_partition_is_of_the_prompts_own_reference_responses(beta):
    sets = taught("quantile_regression", taught_beta=beta)
    of_reference = np.array([0, 0, 0, 1, 1, 1]) == 1
    tilted = np.exp((sets.values[:, of_reference]) / beta)  # exp(q / beta) / Z
    np.testing.assert_allclose(tilted.mean(axis=1), 1.0)
    quantile = quantiles(DRAWS[25], np.flatnonzero(of_reference))
    log_z = np.log(np.exp(quantile[:, of_reference] / beta).mean(axis=1, keepdims=True))
    free = quantile - beta * log_z
    most = np.log(1 / beta) - np.log1p(-np.exp(-1 / beta))  # what a quantile of 1 gains
    np.testing.assert_allclose(sets.values / beta, np.minimum(free / beta, most))
    assert (free / beta > most).any() == (beta == 0.01)  # three references would let it gain more
    uniform = taught("quantile_regression", taught_beta=beta, partition="uniform")
    z = beta * np.expm1(1 / beta)
    np.testing.assert_allclose(uniform.values, quantile - beta * np.log(z))
    assert (sets.loss.beta, type(sets.loss).__name__) == (beta, "Regression")


def test_best_and_worst_are_of_the_reference_alone():
    sets = taught("best_and_worst_of_n")
    utility = DRAWS[25][:, 3:]
    np.testing.assert_array_equal(sets.arms, 3 + np.stack([utility.argmax(1), utility.argmin(1)], axis=1))
    assert sets.loss.draws == 3
    groups = np.array([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 3, 3], [0, 1, 2, 3, 3, 5], [0, 1, 2, 2, 2, 2]])
    kept = taught("best_and_worst_of_n", groups)
    assert kept.rows.tolist() == [0, 2]  # where the reference said three times the same nothing is best
    texts = np.take_along_axis(groups[kept.rows], kept.arms, 1)
    assert (texts[:, 0] != texts[:, 1]).all()


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_a_policy_gradient_follows_probabilities_in_both_orders(eps):
    unasked = [False, True, False, True]
    sets = taught("policy_gradient", unasked=unasked, anchor=0.3, eps=eps)
    mean = DRAWS[25]
    for row, arms, values in zip(sets.rows, sets.arms, sets.values, strict=True):
        order = mean[row].argsort()
        second = [order[-2], order[1]] if unasked[row] else [[0, 1], None, [1, 0], None][row]
        assert arms.tolist() == [order[-1], order[0], *second, 3, 4, 5]
        for place in (0, 2):
            first, other = arms[place], arms[place + 1]
            p = expit(DRAWS[:20, row, first] - DRAWS[:20, row, other]).mean()
            np.testing.assert_allclose(values[place : place + 2], [p - 0.5 + eps, 0.5 - p + eps])
        np.testing.assert_allclose(values[4:], 0.1)
    assert taught("policy_gradient", anchor=0.0).arms.shape == (ROWS, 4)


def test_a_policy_gradient_teaches_each_text_once():
    """With a pair of equal texts in either place both would be pushed by eps."""
    groups = np.array([[0, 0, 2, 3, 3, 5], [0, 1, 2, 2, 2, 2], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]])
    sets = taught("policy_gradient", groups=groups, unasked=[True] * 4, anchor=0.0, eps=0.1)
    mean = np.take_along_axis(DRAWS[25], groups, axis=1)
    texts = np.take_along_axis(groups, sets.arms, axis=1)
    order = [text for text in mean[0].argsort(kind="stable") if groups[0, text] == text]
    assert len(order) == 4 and sorted(texts[0]) == sorted(order)
    assert texts[0, 2:].tolist() == [order[2], order[1]]
    taught_at_all = sets.values.reshape(4, 2, 2).any(axis=2)
    assert taught_at_all.tolist() == [[True, True], [True, False], [True, False], [False, False]]
    duel = taught("policy_gradient", groups=groups, anchor=0.0, eps=0.1)  # [0, 1], [2, 3], [1, 0], [3, 1]
    assert duel.values[:, 2:].any(axis=1).tolist() == [False, False, True, False]


def test_texts_from_elsewhere_have_no_reference_to_compare_with():
    _, observation = world()
    shown = {**observation, "source": np.zeros((ROWS, ARMS), np.int8)}
    for name in ("quantile_regression", "best_and_worst_of_n", "policy_gradient"):
        assert len(taught(name, shown=shown)) == 0


# What the policy follows ---------------------------------------------------------------------------------------------


def flat(agent):
    return torch.cat([weights.detach().flatten() for weights in agent.learner.policy.parameters()])


@pytest.mark.parametrize("teach", OBJECTIVES)
@pytest.mark.parametrize(("teach_labels", "steps"), [(None, 1), (True, 2)])
def test_an_objective_stands_instead_of_the_labels_unless_they_are_wanted_too(teach, teach_labels, steps):
    env, observation = world()
    settings = {} if teach_labels is None else {"teach_labels": teach_labels}
    agent = duelenv.agents.make("thompson", env, teach=teach, learning_rate=1e-2, **settings)
    before = flat(agent)
    actions = agent.act(observation)
    _, labels, *_, info = env.step(actions)
    figures = agent.update(observation, actions, labels, info["late"])
    assert agent.gradient_steps == steps
    assert np.isfinite(figures["model_loss"])
    assert ("accuracy" in figures) == (teach_labels is True)
    assert not torch.equal(before, flat(agent))


def test_pairs_that_a_belief_labels_can_be_all_that_is_taught():
    steps = []
    for teach_labels in (True, False):
        env, observation = world()
        agent = duelenv.agents.make("thompson", env, teach_labels=teach_labels)
        actions = agent.act(observation)
        _, labels, *_, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        steps.append(agent.gradient_steps)
    assert steps == [2, 1]


@pytest.mark.parametrize("loss", [PolicyGradient(), Regression(0.5)])
def test_sets_are_trained_in_pieces_as_at_once(loss):
    moved = []
    for micro_batch in (None, 1, 4):
        env, observation = world()
        policy = env.unwrapped.view().policy
        trainer = Trainer(policy, TrainerSettings(micro_batch=micro_batch, learning_rate=1e-3, gradient_steps=2))
        arms = np.tile(np.arange(ARMS), (ROWS, 1))
        values = np.random.default_rng(1).normal(size=(ROWS, ARMS))
        figures = train_on_sets(trainer, observation, Sets(np.arange(ROWS), arms, values, loss))
        assert trainer.gradient_steps == 2
        moved.append((figures["loss"], torch.cat([w.detach().flatten() for w in policy.parameters()])))
    for reached, weights in moved[1:]:
        assert reached == pytest.approx(moved[0][0], rel=1e-4)
        torch.testing.assert_close(weights, moved[0][1], atol=1e-4, rtol=0)


def test_a_step_on_sets_is_the_losss_own_gradient():
    env, observation = world()
    policy = env.unwrapped.view().policy
    sets = Sets(
        np.array([2, 0]), np.array([[5, 1, 1], [0, 3, 4]]), np.ones((2, 3)) * [1.0, -2.0, 0.5], PolicyGradient()
    )
    seen = []
    trainer = Trainer(policy, TrainerSettings(max_grad_norm=None))
    trainer.train = lambda terms, steps, outcome=None: [seen.append(sum(terms())), 1.0][1:]
    figures = train_on_sets(trainer, observation, sets)
    score = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
    expected = -np.mean([score[2, [5, 1, 1]] @ [1.0, -2.0, 0.5], score[0, [0, 3, 4]] @ [1.0, -2.0, 0.5]])
    assert float(seen[0].detach()) == pytest.approx(expected, rel=1e-4)
    assert figures == {"loss": pytest.approx(expected, rel=1e-4), "gradient_norm": 1.0}


def test_no_sets_are_no_step():
    env, observation = world()
    trainer = Trainer(env.unwrapped.view().policy, TrainerSettings())
    nothing = Sets(np.zeros(0, int), np.zeros((0, 2), int), np.zeros((0, 2)), PolicyGradient())
    assert train_on_sets(trainer, observation, nothing) == {}
    assert trainer.gradient_steps == 0


@pytest.mark.parametrize(
    ("settings", "world_settings", "message"),
    [
        ({"teach": "quantile_regression"}, {"sources": {"policy": 5, "reference": 1}}, "needs 2 or more candidates of"),
        ({"teach": "best_and_worst_of_n"}, {"sources": {"policy": 4}}, "this world has 0; set sources="),
        ({"teach": "policy_gradient"}, {"sources": {"policy": 4}}, "or anchor=0"),
        ({"teach": "quantile_regression"}, {"temperature": 0.7}, "samples at temperature 0.7; set temperature=1"),
        ({"teach": "quantile_regression", "partition": "flat"}, {}, "partition='flat' is unknown"),
        ({"teach": "quantile_regression", "taught_beta": 0}, {}, "taught_beta is 0"),
        ({"teach": "boltzmann", "only_sure": 0.5}, {}, "reads no setting 'only_sure'"),
        ({"teach": "policy_gradient", "anchor": -1.0}, {}, "anchor is -1"),
        ({"teach": "duel", "teach_labels": False, "belief": "linear_logistic"}, {}, "leaves nothing to teach"),
        ({"teach_labels": "no"}, {}, "teach_labels is 'no'"),
        ({"teach": "boltzmann", "loss": "ipo", "beta": 3.0}, {}, "nothing would read loss and beta; set teach_labels"),
        ({"teach": "policy_gradient", "bonus": "xpo"}, {}, "nothing would read bonus; set teach_labels=True"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(settings, world_settings, message):
    env, _ = world(**world_settings)
    with pytest.raises(UserError, match=message):
        duelenv.agents.make("thompson", env, **settings)


def test_the_bonus_of_an_optimist_is_not_dropped_in_silence():
    env, _ = world()
    with pytest.raises(UserError, match="nothing would read the bonus of agent 'selm'"):
        duelenv.agents.make("selm", env, teach="boltzmann")
    duelenv.agents.make("selm", env, teach="boltzmann", teach_labels=True)


def test_a_learner_with_an_objective_of_its_own_takes_pairs_only():
    from duelenv.agents.parts import compose

    env, _ = world()

    class Own:
        """A learner of pairs."""

    with pytest.raises(UserError, match="teach='boltzmann' brings an objective of its own, and so does the learner"):
        compose(
            env.unwrapped.view(),
            0,
            SettingsReader("own", {}),
            name="own",
            ask="random",
            teach="boltzmann",
            learner=Own(),
        )


# Presets -------------------------------------------------------------------------------------------------------------


def test_d2po_asks_about_a_sixteenth_and_teaches_every_pair():
    env = make_vector(ALIGNMENT, 32, policy=tiny_policy(), horizon=8, selective=True)
    observation, _ = env.reset(seed=0)
    agent = duelenv.agents.make("d2po", env, seed=0)
    asked, taught = [], []
    for _ in range(8):
        actions = agent.act(observation)
        following, labels, *_, info = env.step(actions)
        figures = agent.update(observation, actions, labels, info["late"])
        taught.append(figures.get("model_labels", 0) + actions[:, 2].sum())
        asked.append(actions[:, 2].sum())
        observation = following
    assert asked == [2] * 8  # 16 of 256 in all, and as many in every round
    assert taught[-1] == 32
    assert agent.belief is not None


def test_where_every_prompt_is_asked_d2po_labels_further_pairs_by_the_mean():
    env, observation = world()
    agent = duelenv.agents.make("d2po", env, seed=0, taught_pairs=3)
    drawn, sample = [], agent.belief.sample
    agent.belief.sample = lambda features, count: (drawn.append(count), sample(features, count))[1]
    actions = agent.act(observation)
    _, labels, *_, info = env.step(actions)
    assert agent.update(observation, actions, labels, info["late"])["model_labels"] == 3 * ROWS
    assert drawn == [20]  # a mean over draws, and not one of them


def test_efficient_exploration_asks_with_a_hundred_particles_and_never_teaches_a_raw_label():
    env, observation = world()
    agent = duelenv.agents.make("efficient_exploration", env, seed=0)
    assert agent.belief.settings.heads == 100
    asked = []
    sample = agent.belief.sample
    agent.belief.sample = lambda features, count: (asked.append(count), sample(features, count))[1]
    actions = agent.act(observation)
    assert asked == [100]
    _, labels, *_, info = env.step(actions)
    agent.update(observation, actions, labels, info["late"])
    assert asked == [100, 100]  # what is taught is the word of all of them
    assert agent.gradient_steps == 1
    assert agent.belief.settings.trunks == 10
    settings = duelenv.agents.make("efficient_exploration", env, heads=7).belief.settings
    assert (settings.heads, settings.trunks) == (7, None)
    assert duelenv.agents.make("efficient_exploration", env, belief="laplace").belief.num_labels == 0


def test_efficient_exploration_asks_about_half_of_a_selective_world():
    env, observation = world(selective=True)
    agent = duelenv.agents.make("efficient_exploration", env, seed=0)
    assert [int(agent.act(observation)[:, 2].sum()) for _ in range(3)] == [ROWS // 2] * 3
    agent = duelenv.agents.make("efficient_exploration", env, seed=0, ask_share=1.0)
    assert agent.act(observation)[:, 2].sum() == ROWS
