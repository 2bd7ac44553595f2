"""The check of rules: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import gymnasium
import numpy as np
import pytest

from duelenv.agents.asking import ASK, PROMPTS, AskResources
from duelenv.agents.base import SettingsReader
from duelenv.agents.roles import Duels, Sets
from duelenv.agents.selection import best_arm_pair, extreme_pair, infomax_pair, thompson_pair, uniform_pair
from duelenv.agents.teaching import TEACHING, Resources
from duelenv.ground.randomness import RowStreams
from duelenv.testing import (
    CheckFailed,
    check_ask_rule,
    check_prompt_rule,
    check_teaching_rule,
)


@pytest.mark.parametrize(
    "rule",
    [
        lambda belief, streams: lambda shown, groups: uniform_pair(5, streams, groups),
        lambda belief, streams: lambda shown, groups: best_arm_pair(belief.sample(shown["features"], 9), groups),
        lambda belief, streams: lambda shown, groups: infomax_pair(belief.sample(shown["features"], 9), groups),
        lambda belief, streams: lambda shown, groups: extreme_pair(belief.mean(shown["features"]), streams, groups),
        lambda belief, streams: lambda shown, groups: thompson_pair(belief.sample(shown["features"], 9), groups),
    ],
)
def test_ask_rules_of_the_project_pass(rule):
    check_ask_rule(lambda belief, seed: rule(belief, RowStreams(seed, "rule", 6)))


NEED_POLICY = ("against_recorded", "against_reference", "gradient_distance", "implicit_gap", "offline", "pilaf")


def resources6(belief, seed):
    """What an ask rule of the registry is made of, for the observation of the check."""
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=6, num_candidates=5, dim=3)
    return AskResources(env.unwrapped.view(), RowStreams(seed, "rule", 6), lambda: belief)


@pytest.mark.parametrize("name", [name for name in ASK if name not in NEED_POLICY])
def test_ask_rules_by_name_pass(name):
    check_ask_rule(lambda belief, seed: ASK[name](resources6(belief, seed), SettingsReader("x", {})))


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (lambda shown, groups: np.zeros((6, 2)), "returned float64"),
        (lambda shown, groups: np.zeros((2, 6), int), r"of shape \(2, 6\)"),
        (lambda shown, groups: np.tile([0, 5], (6, 1)), "candidates from 0 to 5"),
        (lambda shown, groups: np.tile([0, 1], (6, 1)), "a text against itself"),
        (lambda shown, groups: np.tile([0, 0], (6, 1)), "against itself"),
    ],
)
def test_wrong_ask_rules_fail(select, message):
    with pytest.raises(CheckFailed, match=message):
        check_ask_rule(lambda belief, seed: select)


def test_an_ask_rule_draws_from_its_seed():
    rng = np.random.default_rng()
    with pytest.raises(CheckFailed, match="two rules of one seed"):
        check_ask_rule(lambda belief, seed: lambda shown, groups: np.column_stack([rng.integers(0, 2, 6), [2] * 6]))


@pytest.mark.parametrize("name", [name for name in PROMPTS if name not in ("random", "entropy")])
def test_prompt_rules_by_name_pass(name):
    def make(belief, seed):
        resources = resources6(belief, seed)
        resources.ranks = True
        return PROMPTS[name](resources, SettingsReader("x", {}))

    check_prompt_rule(make)


@pytest.mark.parametrize(
    ("worth", "message"),
    [
        (lambda shown, chosen, groups: np.ones(5), "expected 6 finite numbers"),
        (lambda shown, chosen, groups: np.full(6, np.nan), "expected 6 finite numbers"),
        (lambda shown, chosen, groups: chosen.pairs[:, 0] * 1.0, "who comes first is a coin"),
        (lambda shown, chosen, groups: np.random.default_rng().uniform(size=6), "two rules of one seed"),
    ],
)
def test_wrong_prompt_rules_fail(worth, message):
    with pytest.raises(CheckFailed, match=message):
        check_prompt_rule(lambda belief, seed: worth)


def rule(name, **settings):
    return lambda belief, select, view: TEACHING[name](Resources(view, belief, select), SettingsReader("x", settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mixed", {"taught_pairs": 3}),
        ("best_worst", {}),
        ("best_worst", {"target": "mean", "taught_pairs": 2, "only_sure": 0.9}),
        ("reward_distillation", {"target": "draw"}),
        ("boltzmann", {"taught_beta": 1.0}),
        ("quantile_regression", {}),
        ("quantile_regression", {"partition": "uniform", "taught_beta": 0.1}),
        ("best_and_worst_of_n", {}),
        ("policy_gradient", {}),
        ("policy_gradient", {"anchor": 0.0}),
    ],
)
def test_teaching_rules_of_the_project_pass(name, settings):
    check_teaching_rule(rule(name, **settings))


def teaching(pairs=None, label=None):
    def make(belief, select, view):
        def teach(played):
            observation, groups = played.observation, played.groups
            chosen = select(observation, groups) if pairs is None else np.array(pairs)
            rows = np.arange(6)
            utility = belief.mean(observation["features"])
            gap = utility[rows, chosen[:, 0]] - utility[rows, chosen[:, 1]]
            return Duels(rows, chosen, label(gap))

        return teach

    return make


def sets(rows=(0,), values=None, loss=lambda log_prob, reference, values: -(values * log_prob).sum(1)):
    def make(belief, select, view):
        def teach(played):
            utility = belief.mean(played.observation["features"])[:1, :2]
            return Sets(np.array(rows), np.array([[0, 1]]), np.array(utility if values is None else values), loss)

        return teach

    return make


def test_sets_of_ones_own_pass():
    check_teaching_rule(sets())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (teaching(label=lambda gap: 1 / (1 + np.exp(gap))), "labels are the probability that the first is preferred"),
        (teaching(label=lambda gap: gap), "labels go from"),
        (teaching(label=lambda gap: np.full(5, 0.5)), "have shapes"),
        (teaching([[0, 0]] * 6, lambda gap: np.full(6, 0.5)), "against itself"),
        (teaching([[0, 1]] * 6, lambda gap: np.full(6, 0.5)), "a text against itself"),
        (
            lambda belief, select, view: lambda played: Duels(np.array([9]), np.array([[0, 1]]), np.ones(1)),
            "exist",
        ),
        (sets(rows=[7]), "exist"),
        (sets(values=[[1.0, 2.0, 3.0]]), r"have shapes \(1,\), \(1, 2\) and \(1, 3\)"),
        (sets(values=[[np.nan, 1.0]]), "not finite"),
        (sets(loss=lambda log_prob, reference, values: (values - log_prob).sum()), "one finite number a set"),
        (sets(loss=lambda log_prob, reference, values: (values * log_prob).sum(1)), "lowers what the belief knows"),
    ],
)
def test_wrong_teaching_rules_fail(make, message):
    with pytest.raises(CheckFailed, match=message):
        check_teaching_rule(make)
