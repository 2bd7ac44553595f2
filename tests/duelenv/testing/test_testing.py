"""The checks of parts: all of this project pass, and for each sentence a wrong part shows that it can fail."""

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import oracles
from duelenv.agents.asking import ASK, PROMPTS, AskResources
from duelenv.agents.base import Agent, SettingsReader
from duelenv.agents.beliefs.ensemble import DeepEnsemble
from duelenv.agents.beliefs.linear_logistic import LinearLogistic, LinearLogisticSettings
from duelenv.agents.losses import DPO, LOSSES, make_loss
from duelenv.agents.roles import Duels, Sets
from duelenv.agents.selection import best_arm_pair, extreme_pair, infomax_pair, thompson_pair, uniform_pair
from duelenv.agents.teaching import TEACHING, Resources
from duelenv.ground.randomness import RowStreams
from duelenv.oracles import UtilityOracle
from duelenv.testing import (
    CheckFailed,
    alignment_world,
    check_agent,
    check_ask_rule,
    check_belief,
    check_loss,
    check_oracle,
    check_prompt_rule,
    check_teaching_rule,
    check_world,
)

# Oracles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["good_words", "rare_word", "length", "variety", "on_topic", "opening"])
def test_oracles_of_the_project_pass(name):
    check_oracle(lambda: oracles.make(name))
    check_oracle(lambda: oracles.make(name, noise=0.2, temperature=2.0, tie_band=0.1))
    check_oracle(lambda: oracles.make(name, position_bias=0.5), symmetric=False)


def lengths(prompts, responses):
    return np.array([float(len(text)) for text in responses]) / 10


def of_lengths(prompts, first, second):
    return 1 / (1 + np.exp(lengths(prompts, second) - lengths(prompts, first)))


class WrongMaximum(UtilityOracle):
    def utility(self, prompts, responses):
        return lengths(prompts, responses)

    def maximum(self, prompts):
        return np.full(len(prompts), 1.0)


class OwnCall(WrongMaximum):
    def maximum(self, prompts):
        return None

    def __call__(self, prompts, first, second, /):
        return np.clip(super().__call__(prompts, first, second) * 0.9 + 0.05, 0, 1)


def drawing():
    rng = np.random.default_rng(0)
    return lambda p, a, b: np.where(np.array(a) == np.array(b), 0.5, rng.integers(0, 2, len(p)).astype(float))


def by_batch(prompts, first, second):
    mean = np.mean([len(text) for text in first])
    return np.clip(of_lengths(prompts, first, second) + 1e-3 * mean / len(first), 0, 1)


def writing(prompts, first, second):
    answer = of_lengths(prompts, first, second)
    prompts[0] = "written"
    return answer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (drawing, "answered the same questions differently a second time"),
        (lambda: by_batch, "alone and|in another"),
        (lambda: writing, "changed the texts"),
        (lambda: lambda p, a, b: np.full(len(p), 1.5), "the oracle's answer was refused"),
        (lambda: lambda p, a, b: np.full(len(p), 0.6), "both orders and the tie add up to 1.2"),
        (WrongMaximum, "maximum of .* is 1, and a response has the utility"),
        (OwnCall, "do not follow from the utility"),
        (lambda: lambda p, a, b: np.arange(len(p)) / len(p), "in another|alone and"),
    ],
)
def test_wrong_oracles_fail(make, message):
    with pytest.raises(CheckFailed, match=message):
        check_oracle(make)


# Losses --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_the_project_pass(name):
    check_loss(lambda: make_loss(name))


def wrong_loss(**methods):
    return dataclasses.dataclass(frozen=True)(type("Wrong", (DPO,), methods))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"first_won": lambda self, batch: -DPO().first_won(batch)}, "expected the winner's up and the loser's down"),
        ({"target": lambda self, label: label**2}, "the mixture of the losses of 0 and 1"),
        ({"__call__": lambda self, batch: self.rows(batch).sum()}, "the mean over two parts of three"),
        ({"__call__": lambda self, batch: self.rows(batch)}, r"has shape \[6\]"),
        ({"rows": lambda self, batch: DPO().rows(batch) + batch.counted().log_prob[:, 0] ** 2}, "exchanged and labels"),
        (
            {
                "__call__": lambda self, batch: torch.where(
                    batch.label.isnan(),
                    0.0,
                    torch.nan_to_num(batch.label) * DPO().first_won(batch)
                    + (1 - torch.nan_to_num(batch.label)) * DPO().first_won(batch.swapped()),
                ).mean()
            },
            "rows without a label",
        ),
        (
            {"first_won": lambda self, batch: -torch.log(torch.sigmoid(self.beta * batch.difference()))},
            "the gradient is not finite",
        ),
        (
            {"first_won": lambda self, batch: DPO().first_won(batch).detach()},
            "expected the winner's up|does not require",
        ),
        ({"reward": lambda self, log_prob, reference, length: -log_prob}, "does not rise with the policy's log-prob"),
        (
            {"first_won": lambda self, batch: DPO().first_won(batch) * (1 + batch.difference().abs().detach())},
            "finite differences give",
        ),
    ],
)
def test_wrong_losses_fail(methods, message):
    with pytest.raises((CheckFailed, RuntimeError), match=message):
        check_loss(wrong_loss(**methods))


# Beliefs -------------------------------------------------------------------------------------------------------------


def linear(dim, replicates, batch, seed, kind=LinearLogistic, **settings):
    return kind(dim, replicates=replicates, batch=batch, root=seed, settings=LinearLogisticSettings(**settings))


def test_beliefs_of_the_project_pass():
    check_belief(linear)
    check_belief(lambda *sizes: linear(*sizes, estimator="laplace"))
    check_belief(lambda dim, replicates, batch, seed: DeepEnsemble(dim, batch=batch, root=seed), replicates=1)


class Certain(LinearLogistic):
    def sample(self, features, num_samples):
        return np.repeat(self.mean(features)[np.newaxis], num_samples, axis=0)


class Reversed(LinearLogistic):
    def update(self, first, second, labels):
        return super().update(first, second, 1.0 - labels)


class Deaf(LinearLogistic):
    """A tie counts as a win."""

    def update(self, first, second, labels):
        return super().update(first, second, np.where(labels == 0.5, 1.0, labels))


class Guessing(LinearLogistic):
    """No label counts as a win."""

    def update(self, first, second, labels):
        return super().update(first, second, np.where(np.isnan(labels), 1.0, labels))


class OneSided(LinearLogistic):
    def update(self, first, second, labels):
        return super().update(first, second, np.where(labels == 0.0, 0.4, labels))


class Shifted(LinearLogistic):
    def sample(self, features, num_samples):
        return super().sample(features, num_samples) + features[..., 0] * 2


class Widening(LinearLogistic):
    def update(self, first, second, labels):
        told = super().update(first, second, labels)
        self.root_covariance *= 1.2
        return told


class ShrinkingAllOver(LinearLogistic):
    def update(self, first, second, labels):
        before = self.root_covariance.copy()
        told = super().update(first, second, labels)
        self.root_covariance = before * 0.9
        return told


class Forgetful(LinearLogistic):
    def state_dict(self):
        return super().state_dict() | {"theta": np.zeros_like(self.theta)}


class Drawing(LinearLogistic):
    def mean(self, features):
        self.theta += 1e-3
        return super().mean(features)


class Positional(LinearLogistic):
    def mean(self, features):
        return super().mean(features) + np.arange(features.shape[1]) * 0.1


class Independent(LinearLogistic):
    """Draws each candidate by itself."""

    def sample(self, features, num_samples):
        draws = super().sample(features, num_samples)
        return draws + np.random.default_rng(int(abs(draws).sum() * 1e6) % 2**31).normal(size=draws.shape) * 0.1


class Mixing(LinearLogistic):
    def update(self, first, second, labels):
        told = super().update(first, second, labels)
        self.theta[:] = self.theta.mean(axis=0)
        return told


class Flat(LinearLogistic):
    def mean(self, features):
        return super().mean(features)[0]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Certain, "nothing is uncertain"),
        (Reversed, "not believed better"),
        (Deaf, "four ties moved the belief as far as four wins"),
        (Guessing, "duels without a label changed what is believed"),
        (OneSided, "not believed better|expected the same"),
        (Shifted, "standard errors from the gap of the mean"),
        (Widening, "expected that it never grows"),
        (ShrinkingAllOver, "shrinks more on the data"),
        (Forgetful, "goes on from a state"),
        (Drawing, "mean changed what is drawn"),
        (Positional, "depends on its position"),
        (Independent, "equal candidates differ"),
        (Mixing, "labels of one replicate changed the belief of another"),
        (Flat, "sample gives shape"),
    ],
)
def test_wrong_beliefs_fail(kind, message):
    with pytest.raises(CheckFailed, match=message):
        check_belief(lambda *sizes: linear(*sizes, kind=kind))


# Rules ---------------------------------------------------------------------------------------------------------------


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


NEED_POLICY = ("against_reference", "gradient_distance", "implicit_gap", "offline", "pilaf")


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


# Worlds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", duelenv.WORLDS)
def test_worlds_of_the_project_pass(world):
    settings = {"policy": tiny_policy()} if "Alignment" in world else {}
    check_world(lambda: make_vector(world, 4, horizon=3, **settings))


def spoilt(**methods):
    """FeatureDuel with something wrong."""
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    kind = type("Spoilt", (FeatureDuelVectorEnv,), methods)
    return lambda: kind(num_envs=4, num_candidates=3, dim=2, horizon=3)


def stepped(change):
    def step(self, actions):
        from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

        return change(self, *FeatureDuelVectorEnv.step(self, actions))

    return step


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y + 1, e, t, i))}, "step returned labels"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y.astype(np.float32), e, t, i))}, "step returned labels"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y, e | True, t, i))}, "terminated"),
        ({"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t | True, i))}, "says truncated"),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t, i | {"queries": i["queries"] + 1}))},
            "labels were asked for",
        ),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, np.random.default_rng().random(4), e, t, i))},
            "two worlds of one seed",
        ),
        (
            {"step": stepped(lambda s, o, y, e, t, i: (o, y, e, t, i | {"regret": {"x": np.full(4, np.nan)}}))},
            "regret 'x'",
        ),
    ],
)
def test_wrong_worlds_fail(methods, message):
    with pytest.raises(CheckFailed, match=message):
        check_world(spoilt(**methods))


def test_a_world_that_takes_anything_or_forgets_fails():
    from duelenv.worlds.feature_duel import FeatureDuelVectorEnv

    def lenient(self, actions):
        actions = np.resize(np.asarray(actions).astype(int) % 3, (4, 2))
        return FeatureDuelVectorEnv.step(self, actions)

    with pytest.raises(CheckFailed, match="took a candidate that is not there as an action"):
        check_world(spoilt(step=lenient))

    def forgetful(self, state):
        observation = FeatureDuelVectorEnv.load_state_dict(self, state)
        self._coins_of_nobody = None
        FeatureDuelVectorEnv.reset(self, seed=99)
        return observation

    with pytest.raises(CheckFailed, match="goes on from a state"):
        check_world(spoilt(load_state_dict=forgetful))


# Agents --------------------------------------------------------------------------------------------------------------

#: Whose second place is another's first, in the next round or for another learner.
APART = ("multisbm", "versatile")
#: What K-armed agents that decide many rounds long need until something shows.
SLOW = {"interleaved_filter": 600}


def feature_agents():
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=2, num_candidates=4, dim=3)
    found = []
    for name in duelenv.agents.names():
        if not name.startswith("sb3") and duelenv.agents.base.AGENTS[name].__module__.startswith("duelenv."):
            try:
                duelenv.agents.make(name, env)
            except duelenv.UserError:
                continue
            found.append(name)
    return found


@pytest.mark.parametrize("name", feature_agents())
def test_agents_over_features_pass(name):
    settings = {"train_every": 2} if name.startswith("neural") else {}
    check_agent(lambda env, seed: duelenv.agents.make(name, env, seed=seed, **settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("passive", {"replay": 2}),
        ("thompson", {}),
        ("selm", {}),
        ("vids", {"teach": "best_worst"}),
        ("d2po", {}),
        ("composed", {"ask": "best_arm", "teach": "boltzmann"}),
    ],
)
def test_agents_that_train_a_policy_pass(name, settings):
    check_agent(
        lambda env, seed: duelenv.agents.make(name, env, seed=seed, learning_rate=0.01, **settings),
        world=alignment_world,
        replicates=1,
    )


def matrix_world(num_envs, batch):
    matrix = 0.5 + 0.1 * (np.arange(4)[np.newaxis] - np.arange(4)[:, np.newaxis])
    return gymnasium.make_vec("duelenv/MatrixDuel-v0", num_envs=num_envs, batch=batch, matrix=matrix, horizon=500)


@pytest.mark.parametrize(
    "name", [name for name in duelenv.agents.names() if ".karmed." in duelenv.agents.base.AGENTS[name].__module__]
)
def test_agents_over_arms_pass(name):
    check_agent(
        lambda env, seed: duelenv.agents.make(name, env, seed=seed),
        world=matrix_world,
        batch=1,
        symmetric=name not in APART,
        rounds=SLOW.get(name, 15),
    )


class Simple(Agent):
    """Recommends what won most by position; duels at random."""

    def __init__(self, env, seed):
        super().__init__(env.unwrapped.view())
        self.wins = np.zeros((self.view.num_envs, self.view.num_candidates))
        self.streams = RowStreams(seed, "simple", self.view.num_envs)

    def _act(self, observation):
        return uniform_pair(self.view.num_candidates, self.streams)

    def _update(self, observation, actions, labels):
        rows = np.flatnonzero(~np.isnan(labels))
        np.add.at(self.wins, (rows, actions[rows, 0]), labels[rows] - 0.5)
        np.add.at(self.wins, (rows, actions[rows, 1]), 0.5 - labels[rows])
        return {}

    def _recommend(self, observation):
        return self.wins.argmax(axis=1)

    def state_dict(self):
        return {"wins": self.wins.copy(), "streams": self.streams.state_dict()}

    def load_state_dict(self, state):
        self.wins = state["wins"].copy()
        self.streams.load_state_dict(state["streams"])


def test_a_simple_agent_passes():
    check_agent(Simple)


class WritesObservations(Simple):
    def _act(self, observation):
        observation["features"][0] = 0.0
        return super()._act(observation)


class OutOfRange(Simple):
    def _act(self, observation):
        return super()._act(observation) + 3


class Floats(Simple):
    def _act(self, observation):
        return super()._act(observation).astype(float)


class Unseeded(Simple):
    def __init__(self, env, seed):
        super().__init__(env, int(np.random.default_rng().integers(1 << 30)))


class DrawsWhenAsked(Simple):
    def _recommend(self, observation):
        return self.streams.uniform(4).argmax(axis=1)


class SharesItsState(Simple):
    def state_dict(self):
        return {"wins": self.wins, "streams": self.streams.state_dict()}

    def load_state_dict(self, state):
        self.wins = state["wins"]
        self.streams.load_state_dict(state["streams"])

    def _act(self, observation):
        first = self.wins.argmax(axis=1)
        return np.column_stack([first, (first + 1) % 4])


class ForgetsItsStreams(Simple):
    def load_state_dict(self, state):
        self.wins = state["wins"].copy()


class HoldsTheWorld(Simple):
    def __init__(self, env, seed):
        super().__init__(env, seed)
        self.kept = {"world": [env]}


class HoldsItInAClosure(Simple):
    def __init__(self, env, seed):
        super().__init__(env, seed)
        self.peek = lambda: env


class KnowsTheRoot(Simple):
    def __init__(self, env, seed):
        root = getattr(env.unwrapped, "_root", None) or 0
        super().__init__(env, seed + int(root) % 1000)


class LeansToTheFirst(Simple):
    def _update(self, observation, actions, labels):
        rows = np.flatnonzero(~np.isnan(labels))
        np.add.at(self.wins, (rows, actions[rows, 0]), labels[rows])
        return {}


class LearnsNothing(Simple):
    def _update(self, observation, actions, labels):
        return {}


class HearsOthers(Simple):
    def _act(self, observation):
        return np.column_stack(
            [np.full(len(self.wins), int(self.wins[-1].argmax())), np.tile([0, 1, 2], 9)[: len(self.wins)]]
        )


class Silent(Simple):
    def _update(self, observation, actions, labels):
        super()._update(observation, actions, labels)
        return {"wins": self.wins}


class ForgetsToRestore(Simple):
    def believed(self, observation, num_samples):
        uniform_pair(self.view.num_candidates, self.streams)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ForgetsToRestore, "asked what it believes played otherwise"),
        (WritesObservations, "wrote into an observation"),
        (OutOfRange, "act named candidates|update got candidates"),
        (Floats, "act returned float64|update got actions of float64"),
        (Unseeded, "two agents of one seed"),
        (DrawsWhenAsked, "it may not draw"),
        (SharesItsState, "a state changed|goes on from a state"),
        (ForgetsItsStreams, "goes on from a state"),
        (HoldsTheWorld, r"holds its environment \(at agent.kept\['world'\]\[...\]\)"),
        (HoldsItInAClosure, r"holds its environment \(at agent.peek:env\)"),
        (LeansToTheFirst, r"told \(second, first, 1 - label\)"),
        (LearnsNothing, "it learns nothing"),
        (HearsOthers, "labels of one replicate changed what another one plays"),
        (Silent, "expected figures by name"),
    ],
)
def test_wrong_agents_fail(kind, message):
    with pytest.raises((CheckFailed, duelenv.UserError), match=message):
        check_agent(kind)


def with_policy(kind):
    """The passive agent, with a fault in how it handles its policy."""

    def make(env, seed):
        agent = duelenv.agents.make("passive", env, seed=seed, learning_rate=0.0 if kind == "still" else 0.02)
        weights = agent.learner.policy.parameters

        def nudge():
            with torch.no_grad():
                next(iter(weights())).add_(0.01)

        if kind == "acts":
            act = agent._act
            agent._act = lambda observation: (nudge(), act(observation))[1]
        elif kind == "recommends":
            recommend = agent._recommend
            agent._recommend = lambda observation: (recommend(observation), nudge())[0]
        elif kind == "unlabelled":
            learn = agent.schooling.learn
            agent.schooling.learn = lambda pieces: (nudge(), learn(pieces))[1]
        elif kind == "start":
            learn = agent.schooling.learn
            score = agent.learner.policy.score
            moved = []
            agent.schooling.learn = lambda pieces: (moved.append(0.1), learn(pieces))[1]
            agent.learner.policy.score = lambda *given, source="policy", **settings: (
                score(*given, source=source, **settings) + (sum(moved) if source == "start" else 0.0)
            )
        return agent

    return make


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("acts", "only update may|plays otherwise|played differently"),
        ("recommends", "only update may|named other candidates"),
        ("unlabelled", "moved without any label"),
        ("still", "did not move|learns nothing"),
        ("start", "the policy that the run started from changed"),
    ],
)
def test_agents_that_mishandle_their_policy_fail(kind, message):
    with pytest.raises(CheckFailed, match=message):
        check_agent(with_policy(kind), world=alignment_world, replicates=1)


def test_an_agent_that_looks_at_the_truth_fails():
    with pytest.raises(CheckFailed, match="looks behind what it is shown"):
        check_agent(KnowsTheRoot)
