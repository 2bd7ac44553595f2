"""Agents that are a choice of parts: each is the one it says, keeps an agent's contract, and is refused rightly."""

import functools
import math

import numpy as np
import pytest
import torch
from agent_play import play, weights
from worlds import agents_on_features, make_vector, tiny_policy

import duelenv.agents
from duelenv.agents import custom, parts
from duelenv.agents.base import SettingsReader
from duelenv.agents.learners import PreferenceLearner
from duelenv.agents.objective import ObjectiveSettings
from duelenv.agents.presets import PRESETS
from duelenv.ground.errors import UserError
from duelenv.testing import check_agent

ALIGNMENT = "duelenv/AlignmentDuel-v0"
SOURCES = {"policy": 2, "reference": 2, "pilaf_plus": 1, "pilaf_minus": 1, "start": 2}
OPTIMISTS = ("copo", "geb", "se_popo", "vpo", "xpo")


def world(num_envs=4, sources=SOURCES, policy=None, **settings):
    policy = policy or tiny_policy()
    return make_vector(ALIGNMENT, num_envs, policy=policy, sources=sources, num_candidates=None, horizon=16, **settings)


def with_every_source(*, num_envs, batch):
    """Any number of rows are one replicate's; `alignment_world` has no sources but the policy and its reference."""
    return world(num_envs, policy=tiny_policy(max_new_tokens=5))


@pytest.mark.parametrize("name", [*PRESETS, "apl", "infomax"])
def test_every_preset_is_an_agent(name):
    check_agent(
        lambda env, seed: duelenv.agents.make(name, env, seed=seed, learning_rate=0.01),
        world=with_every_source,
        replicates=1,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_parts_and_nothing_else(name, monkeypatch):
    """The same weights as `composed` with what the table says; the streams are named alike, for the same draws."""
    monkeypatch.setattr(custom, "compose", lambda *given, **kwargs: parts.compose(*given, **{**kwargs, "name": name}))
    preset, ends = PRESETS[name], []
    settings = dict(preset.defaults) | ({} if preset.bonus is None else {"bonus": preset.bonus})
    if preset.alpha is not None:
        settings["bonus_settings"] = {"alpha": 0.01 / math.sqrt(16)}
    for made in (name, "composed"):
        env = world()
        agent = duelenv.agents.make(made, env, seed=4, **({} if made == name else settings | {"ask": preset.ask}))
        play(env, agent, 3)
        ends.append(weights(env.view().policy))
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@pytest.mark.parametrize("name", OPTIMISTS)
def test_an_optimist_pushes_its_own_bonus_and_duels_the_reference(name):
    env = world(num_envs=8)
    agent = duelenv.agents.make(name, env, alpha=1.0)
    observation, _ = env.reset(seed=0)
    pairs = agent.act(observation)
    sources = np.take_along_axis(observation["source"], pairs, axis=1)
    assert (np.sort(sources, axis=1) == [0, 1]).all()
    metrics = agent.update(observation, pairs, np.arange(8) % 2.0)
    expected = {"vpo": 2.0, "geb": 0.5, "se_popo": 5.0, "xpo": 20.0}  # of DPO's pull at the start, beta = 0.1
    if name in expected:
        assert metrics["bonus_gradient_ratio"] == pytest.approx(expected[name], rel=0.02)
    else:
        assert metrics["bonus_gradient_ratio"] > 0


def test_xpo_falls_with_the_horizon_and_keeps_its_history():
    for horizon in (25, 100):
        env = make_vector(ALIGNMENT, 2, sources=SOURCES, num_candidates=None, horizon=horizon)
        learner = duelenv.agents.make("xpo", env).learner
        assert learner._bonus.alpha == pytest.approx(0.01 / horizon**0.5)
        assert learner.replayed == 16
        assert learner.settings.reference == "fixed"
    assert duelenv.agents.make("xpo", env, alpha=0.5, replay=0).learner._bonus.alpha == 0.5


def test_se_popo_moves_its_sampler_and_may_be_told_not_to():
    env = world()
    assert duelenv.agents.make("se_popo", env).learner.settings.reference == "moving"
    assert duelenv.agents.make("se_popo", env, reference="fixed").learner.settings.reference == "fixed"


def test_settings_of_a_bonus_are_added_to_the_presets():
    learner = duelenv.agents.make("geb", world(), alpha=0.2, bonus_settings={"atom": "inverse"}).learner
    assert (learner._bonus.alpha, learner._bonus.atom, learner._bonus.beta) == (0.2, "inverse", 0.1)
    learner = duelenv.agents.make("selm", world(), alpha=0.2, bonus_settings={"beta": 0.7}).learner
    assert (learner._bonus.alpha, learner._bonus.beta) == (0.2, 0.7)


def test_given_entries_of_a_mapping_outdo_preferred_ones():
    reader = SettingsReader("x", {"bonus_settings": {"alpha": 3.0}})
    reader.prefer(bonus="geb", bonus_settings={"alpha": 1.0, "offset": 2.0})
    assert reader.take(ObjectiveSettings).bonus_settings == {"alpha": 3.0, "offset": 2.0}


def test_apl_and_infomax_ask_as_their_papers_do_where_a_policy_is_trained():
    env = world(policy=tiny_policy(seed=1), sources={"policy": 5})
    agent, (observation, _) = duelenv.agents.make("apl", env), env.reset(seed=0)
    policy = env.view().policy
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.sin(torch.arange(parameter.numel())).reshape(parameter.shape)
    policy.updated()
    observation = env.reset(seed=1)[0]
    gap = observation["log_prob"] - observation["reference_log_prob"]
    for pair, row in zip(agent.act(observation), gap, strict=True):
        assert set(pair) == {row.argmax(), row.argmin()}
    assert agent.belief is None
    infomax = duelenv.agents.make("infomax", env, num_samples=5)
    assert type(infomax.belief).__name__ == "DeepEnsemble"


@pytest.mark.parametrize(("name", "prompts"), [("apl", "entropy"), ("activedpo", "own")])
def test_in_a_selective_world_a_preset_chooses_its_prompts(name, prompts):
    shown = []
    for extra in ({}, {"prompts": prompts, "asked": 2}, {"prompts": "random"}):
        env = world(16, sources={"policy": 4}, selective=True)
        agent, (observation, _) = duelenv.agents.make(name, env, seed=1, **extra), env.reset(seed=0)
        shown.append(agent.act(observation)[:, 2].tolist())
        assert sum(shown[-1]) == 2
    assert shown[0] == shown[1] != shown[2]
    env = world(8, sources={"policy": 4}, selective=True)
    agent, (observation, _) = duelenv.agents.make(name, env, ask_share=1.0), env.reset(seed=0)
    assert agent.act(observation)[:, 2].all()


def test_offline_learns_from_the_start_alone():
    """What the live policy says makes no difference to its duels."""
    shown = []
    for change in (0.0, 0.1):
        policy = tiny_policy()
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter += change * torch.sin(torch.arange(parameter.numel())).reshape(parameter.shape)
        policy.updated()
        env = world(policy=policy, sources={"policy": 2, "start": 3})
        agent, (observation, _) = duelenv.agents.make("offline", env), env.reset(seed=0)
        shown.append(np.take_along_axis(observation["responses"], agent.act(observation), axis=1).tolist())
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("name", "sources", "settings", "message"),
    [
        *((name, {"policy": 4}, {}, r"come from policy only; set sources=") for name in OPTIMISTS),
        ("pilaf", {"policy": 4}, {}, "needs 1 candidates or more of pilaf_plus"),
        ("offline", {"policy": 4}, {}, "needs 2 candidates or more of start"),
        ("offline", {"reference": 4}, {"reference": "moving"}, "lets follow the policy; leave it out, or set sources="),
        ("xpo", SOURCES, {"alpha": -1.0}, "alpha is -1"),
        ("activedpo", SOURCES, {"gradient_directions": 0}, "gradient_directions is 0"),
        ("activedpo", SOURCES, {"alpha": 1.0}, "reads no setting 'alpha'"),
    ],
)
def test_what_makes_no_sense_is_refused(name, sources, settings, message):
    with pytest.raises(UserError, match=message):
        duelenv.agents.make(name, world(sources=sources), **settings)
    if name == "offline" and settings:
        duelenv.agents.make(name, world(sources={"start": 2, "policy": 2}), **settings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_world_of_features_is_refused_or_played(name):
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=4, dim=3)
    if name in agents_on_features():
        assert duelenv.agents.make(name, env).belief is not None
        return
    with pytest.raises(UserError, match=f"agent '{name}' is about the policy that it trains, and duelenv/FeatureDuel"):
        duelenv.agents.make(name, env)


def test_every_preset_has_a_name_and_a_word():
    for name in PRESETS:
        assert name in duelenv.agents.names()
        builder = duelenv.agents.base.AGENTS[name]
        assert builder.__doc__ == PRESETS[name].about
        assert isinstance(duelenv.agents.make(name, world()).learner, PreferenceLearner)
    assert functools.reduce(set.union, ({preset.ask} for preset in PRESETS.values())) <= set(duelenv.agents.asking.ASK)
