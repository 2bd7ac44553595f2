"""The check of agents: those of this project pass, and for each sentence a wrong one shows that it can fail."""

import gymnasium
import numpy as np
import pytest
import torch

import duelenv.agents
from duelenv.agents.base import Agent
from duelenv.agents.selection import uniform_pair
from duelenv.ground.randomness import RowStreams
from duelenv.testing import (
    CheckFailed,
    alignment_world,
    check_agent,
)

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
