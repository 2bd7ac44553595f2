"""The agents the project is named for, with a policy: what they choose, and what moves it."""

import numpy as np
import pytest
import torch
from agent_play import ALIGNMENT, FOUR, alignment, play, weights
from worlds import make_vector, tiny_policy

import duelenv
import duelenv.agents
from duelenv.agents.base import Agent


@pytest.mark.parametrize("name", FOUR)
def test_every_label_is_counted_and_every_gradient_step(name):
    env, agent = alignment(name)
    labels, _, metrics = play(env, agent, 3)
    assert env.step(agent.act(env._observe()))[-1]["queries"].tolist() == [16]
    per_update = 2 if name == "thompson" else 1  # one more for the labels it imagines
    assert agent.gradient_steps == 3 * per_update
    assert env.view().policy.version == agent.gradient_steps
    assert not np.isnan(labels).any()
    assert np.isfinite(metrics["loss"])


@pytest.mark.parametrize("name", FOUR)
def test_a_pair_is_two_different_texts_wherever_two_exist(name):
    env, agent = alignment(name, num_envs=16)
    observation = dict(env.reset(seed=0)[0])
    texts = observation["responses"].copy()
    texts[:8, 1:] = texts[:8, :1]  # one text only ...
    texts[4:8, -1] = "another"  # ... or two
    for key in ("tokens", "mask"):
        observation[key] = observation[key].copy()
        observation[key][:8, 1:-1] = observation[key][:8, :1]
    observation["responses"] = texts
    pairs = agent.act(observation)
    rows = np.arange(16)
    differ = texts[rows, pairs[:, 0]] != texts[rows, pairs[:, 1]]
    assert differ[8:].all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    if name != "selm":  # its pair must come from both sides; a row may leave it no choice
        assert differ[4:8].all()


@pytest.mark.parametrize("loss", ["dpo", "ipo", "ipo_mean", "slic", "simpo", "kto"])
def test_a_loss_moves_the_policy_towards_what_was_preferred(loss):
    env, agent = alignment("passive", loss=loss, learning_rate=1e-3, gradient_steps=5)
    observation = dict(env.reset(seed=0)[0])
    pairs = agent.act(observation)
    labels = np.array([1.0, 0.0, 1.0, 0.0])
    policy = env.view().policy

    def margin():
        rows = np.arange(4)[:, None]
        scores = policy.score(
            list(observation["prompt"]), observation["tokens"][rows, pairs], observation["mask"][rows, pairs]
        )
        return ((scores[:, 0] - scores[:, 1]) * (2 * labels - 1)).mean()

    before = margin()
    agent.update(observation, pairs, labels)
    assert margin() > before


def test_rows_without_a_label_teach_nothing():
    """Only the rows that were asked move the policy, and each as much as in a round of its own."""
    ends = []
    for asked in ([1, 1, 0, 0], [1, 1]):
        env = make_vector(ALIGNMENT, len(asked), policy=tiny_policy(), selective=True)
        agent = duelenv.agents.make("passive", env)
        observation, _ = env.reset(seed=0)
        actions = np.column_stack([np.tile([[0, 1]], (len(asked), 1)), asked])
        labels = np.where(np.array(asked) == 1, 1.0, np.nan)
        agent.update(observation, actions, labels)
        ends.append(weights(env.view().policy))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=2e-4)
    env, agent = alignment("passive")
    before = weights(env.view().policy)
    observation, _ = env.reset(seed=0)
    agent.update(observation, np.tile([[0, 1]], (4, 1)), np.full(4, np.nan))
    torch.testing.assert_close(weights(env.view().policy), before, rtol=0, atol=0)
    assert agent.gradient_steps == 0


def test_micro_batches_add_up_to_the_whole_batch():
    ends = []
    for micro_batch in (None, 1, 3):
        env, agent = alignment("passive", micro_batch=micro_batch)
        play(env, agent, 1)
        ends.append(weights(env.view().policy))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=5e-5)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-3, atol=5e-5)


def test_imagined_labels_are_no_queries_and_never_reach_the_belief():
    env, agent = alignment("thompson", teach="mixed", taught_pairs=3)
    _, _, metrics = play(env, agent, 2)
    assert metrics["model_labels"] == 12
    assert agent.belief.num_labels == 8  # the oracle's only
    assert env.step(agent.act(env._observe()))[-1]["queries"].sum() == 12


def test_a_selective_world_is_asked_its_share_and_the_rest_is_imagined():
    env = make_vector(ALIGNMENT, 40, selective=True)
    agent = duelenv.agents.make("thompson", env, ask_share=0.7, teach="duel")
    observation, _ = env.reset(seed=0)
    actions = agent.act(observation)
    _, labels, _, _, info = env.step(actions)
    asked = int(info["queries"][0])
    assert 18 <= asked <= 38  # 28 expected, deviation 2.9
    metrics = agent.update(observation, actions, labels)
    assert metrics["model_labels"] == 40 - asked
    assert agent.belief.num_labels == asked


def test_the_published_bonus_pulls_with_a_five_hundredth_of_the_loss():
    """Pitfall: no visible effect is to be expected of alpha = 1e-3; the ratio says so (2 alpha at the start)."""
    env, agent = alignment("selm")
    assert play(env, agent, 1)[2]["bonus_gradient_ratio"] == pytest.approx(2e-3, rel=0.02)
    env, agent = alignment("selm", alpha=0.5)
    assert play(env, agent, 1)[2]["bonus_gradient_ratio"] == pytest.approx(1.0, rel=0.02)


def test_selm_duels_policy_against_reference():
    env, agent = alignment("selm", num_envs=32)
    observation, _ = env.reset(seed=0)
    pairs = agent.act(observation)
    sources = observation["source"][np.arange(32)[:, None], pairs]
    assert (sources.sum(axis=1) == 1).all()
    assert 0 < (sources[:, 0] == 0).sum() < 32  # either may come first


def test_a_fixed_reference_stays_and_a_moving_one_follows():
    for reference, moves in (("fixed", False), ("moving", True)):
        extra = {"reference_every": 2} if moves else {}
        env, agent = alignment("passive", reference=reference, **extra)
        policy = env.view().policy
        play(env, agent, 2)
        observation = env._observe()
        now = observation["reference_log_prob"]
        arguments = list(observation["prompt"]), observation["tokens"], observation["mask"]
        start = policy.score(*arguments, source="start")
        current = policy.score(*arguments)
        assert np.abs(current - start).max() > 1e-3
        np.testing.assert_allclose(now, current if moves else start, atol=1e-4)


@pytest.mark.parametrize("name", FOUR)
def test_a_restored_agent_continues_exactly(name):
    """Pitfall: a resume that forgets replay, reward model, random state or position. Nothing is forgotten."""
    env, agent = alignment(name)
    play(env, agent, 3)
    state, world = agent.state_dict(), env.state_dict()
    fresh_env, fresh = alignment(name)
    fresh.load_state_dict(state)
    left, right = env._observe(), fresh_env.load_state_dict(world)
    for _ in range(2):
        actions = agent.act(left), fresh.act(right)
        np.testing.assert_array_equal(*actions)
        following = env.step(actions[0]), fresh_env.step(actions[1])
        agent.update(left, actions[0], following[0][1])
        fresh.update(right, actions[1], following[1][1])
        left, right = following[0][0], following[1][0]
        np.testing.assert_array_equal(left["responses"], right["responses"])
    torch.testing.assert_close(weights(env.view().policy), weights(fresh_env.view().policy), rtol=0, atol=0)
    assert agent.gradient_steps == fresh.gradient_steps


def test_the_recommendation_without_a_belief_is_the_implicit_reward():
    env, agent = alignment("passive")
    play(env, agent, 2)
    observation = env._observe()
    policy = env.view().policy
    ratio = (
        policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
        - observation["reference_log_prob"]
    )
    np.testing.assert_array_equal(agent.recommend(observation), ratio.argmax(axis=1))


def test_agents_keep_no_environment():
    env, agent = alignment("passive")
    assert isinstance(agent, Agent)
    assert not any(value is env for value in vars(agent).values())


def test_a_learners_state_shares_no_tensor_with_what_goes_on():
    """A state is a copy in main memory; taking it needs no second copy where the weights lie."""
    import torch

    from duelenv.agents.trainer import on_the_host

    weights = torch.ones(3, requires_grad=True)
    state = {"state": {0: {"exp_avg": weights, "step": torch.tensor(2.0)}}, "groups": [{"lr": 0.1, "params": [0]}]}
    taken = on_the_host(state)
    with torch.no_grad():
        weights.add_(1.0)
    assert taken["state"][0]["exp_avg"].tolist() == [1.0, 1.0, 1.0]
    assert not taken["state"][0]["exp_avg"].requires_grad
    assert taken["groups"] == [{"lr": 0.1, "params": [0]}]
    if torch.cuda.is_available():
        assert on_the_host(weights.cuda()).device.type == "cpu"


def test_real_embeds_responses_without_their_prompt(monkeypatch):
    """The same responses under other prompts are the same pair."""
    env, agent = alignment("real")
    observation, _ = env.reset(seed=0)
    policy, given = env.view().policy, []
    embed = policy.embed
    monkeypatch.setattr(
        policy, "embed", lambda prompts, tokens, mask: (given.append(prompts), embed(prompts, tokens, mask))[1]
    )
    pairs = agent.act(observation)
    assert given == [None]
    embeddings = embed(None, observation["tokens"], observation["mask"]).astype(np.float64)
    unit = embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)
    likeness = unit @ unit.swapaxes(1, 2)
    rows = np.arange(len(pairs))
    np.testing.assert_allclose(likeness[rows, pairs[:, 0], pairs[:, 1]], likeness.min(axis=(1, 2)), rtol=1e-6)
