"""The agents by name: what they choose, what they learn from, and what they refuse."""

import gymnasium
import numpy as np
import pytest
import torch
from worlds import make_scalar, make_vector, tiny_policy

import duelenv
import duelenv.agents
from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.ground.errors import UserError

ALIGNMENT = "duelenv/AlignmentDuel-v0"
FOUR = ("passive", "real", "selm", "thompson")
BOTH_SIDES = {"sources": {"policy": 3, "reference": 3}, "num_candidates": None}


def play(env, agent, rounds, seed=0):
    """Plays the usual loop; returns labels, regrets and the metrics of the last update."""
    observation, _ = env.reset(seed=seed)
    labels, regrets, metrics = [], [], {}
    for _ in range(rounds):
        actions = agent.act(observation)
        following, label, _, _, info = env.step(actions)
        metrics = agent.update(observation, actions, label)
        observation = following
        labels.append(label)
        regrets.append(info["regret"].get("utility", np.nan))
    return np.array(labels), np.array(regrets), metrics


def alignment(name, num_envs=4, oracle=None, **settings):
    policy = tiny_policy()
    world = {} if oracle is None else {"oracle": oracle}
    if name == "selm":
        world |= BOTH_SIDES
    env = make_vector(ALIGNMENT, num_envs, policy=policy, horizon=20, **world)
    return env, duelenv.agents.make(name, env, **settings)


def weights(policy):
    return torch.cat([parameter.detach().flatten() for parameter in policy.parameters()])


# The registry ---------------------------------------------------------------------------------------------------------


def test_the_four_are_there():
    assert set(FOUR) <= set(duelenv.agents.names())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("tompson", {}, "did you mean 'thompson'"),
        ("nobody", {}, "choose from"),
        ("thompson", {"objectiv": "best_arm"}, "did you mean 'objective'"),
        ("thompson", {"objective": "worst_arm"}, "worst_arm"),
        ("thompson", {"num_samples": 1}, "num_samples"),
        ("thompson", {"ask_share": 0.5}, "ask_share"),  # read in selective worlds only
        ("thompson", {"taught_pairs": 1}, "taught_pairs"),  # no policy to train here
        ("passive", {"loss": "ipo"}, "loss"),
        ("passive", {"prior_precision": -1.0}, "prior_precision"),
        ("real", {"rule": "far"}, "far"),
        ("thompson", {"belief": "oracle"}, "oracle"),
        ("selm", {"loss": "dpo"}, "loss"),
        ("selm", {"beta": 0.0}, "beta"),
    ],
)
def test_a_mistake_in_a_feature_world_is_named(name, settings, message):
    env = make_vector("duelenv/FeatureDuel-v0", 4)
    with pytest.raises(duelenv.UserError, match=message):
        duelenv.agents.make(name, env, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("passive", {"loss": "dpoo"}, "dpo"),
        ("passive", {"loss_settings": {"noise": 0.1}}, "noise"),
        ("passive", {"gradient_steps": 0}, "gradient_steps"),
        ("passive", {"reference": "drifting"}, "drifting"),
        ("passive", {"reference_every": 5}, "reference='moving'"),
        ("passive", {"prior_precision": 2.0}, "prior_precision"),
        ("thompson", {"taught_pairs": -1}, "taught_pairs"),
        ("thompson", {"heads": 0}, "heads"),
    ],
)
def test_a_mistake_in_an_alignment_world_is_named(name, settings, message):
    with pytest.raises(duelenv.UserError, match=message):
        alignment(name, **settings)


def test_selm_is_refused_where_the_reference_does_not_duel():
    env = make_vector(ALIGNMENT, 2)
    with pytest.raises(duelenv.UserError, match="duels policy against reference"):
        duelenv.agents.make("selm", env)


def test_other_environments_are_refused():
    with pytest.raises(duelenv.UserError, match="needs a duelenv environment"):
        duelenv.agents.make("passive", gymnasium.make("CartPole-v1"))


def test_a_taken_name_is_refused():
    with pytest.raises(duelenv.UserError, match="registered already"):
        register("passive")(lambda view, seed, settings: None)


def test_a_setting_is_read_once_and_by_its_owner():
    from duelenv.agents.asking import DissimilaritySettings

    reader = SettingsReader("real", {"rule": "l2", "other": 1})
    assert reader.take(DissimilaritySettings).rule == "l2"
    with pytest.raises(duelenv.UserError, match="reads no setting 'other'"):
        reader.close()


def test_no_two_parts_of_an_agent_share_a_setting():
    """The first would take it, and the second keep its default unnoticed."""
    from duelenv.agents.thompson import ThompsonSettings
    from duelenv.agents.trainer import TrainerSettings

    reader = SettingsReader("mine", {"learning_rate": 0.1})
    reader.take(TrainerSettings)
    reader.take(ThompsonSettings)
    with pytest.raises(ValueError, match="learning_rate"):
        reader.take(TrainerSettings)


@pytest.mark.parametrize("name", FOUR)
def test_the_learning_rate_is_the_policys(name):
    _, agent = alignment(name, learning_rate=1.5e-3)
    assert agent.learner.settings.learning_rate == 1.5e-3


# Worlds of features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", ["duelenv/MatrixDuel-v0", "duelenv/FeatureDuel-v0"])
@pytest.mark.parametrize("name", FOUR)
def test_an_agent_runs_in_scalar_and_vector_form(world, name):
    scalar = make_scalar(world)
    agent = duelenv.agents.make(name, scalar)
    observation, _ = scalar.reset(seed=0)
    action = agent.act(observation)
    assert action.shape == (2,)
    agent.update(observation, action, scalar.step(action)[1])
    assert isinstance(agent.recommend(observation), int)
    vector = make_vector(world, 6, batch=2)
    rows = duelenv.agents.make(name, vector)
    assert rows.act(vector.reset(seed=0)[0]).shape == (6, 2)


@pytest.mark.parametrize("name", FOUR)
def test_a_replicate_among_many_is_the_replicate_alone(name):
    many, alone = make_vector("duelenv/FeatureDuel-v0", 6), make_vector("duelenv/FeatureDuel-v0", 1)
    agents = [duelenv.agents.make(name, env, seed=3) for env in (many, alone)]
    left = play(many, agents[0], 30)[1][:, 0]
    right = play(alone, agents[1], 30)[1][:, 0]
    np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_agent_learns_to_recommend(name, batch):
    """After 100 rounds the recommendation is far better than a random candidate's regret, in every world drawn."""
    env = make_vector("duelenv/FeatureDuel-v0", 32, batch=batch, num_candidates=6, dim=4, horizon=200)
    agent = duelenv.agents.make(name, env)
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"]
    play(env, agent, 100, seed=1)
    after = env.evaluate(agent)["simple_regret"]
    assert (after < 0.5 * before).all()


def test_thompson_stops_paying_and_passive_does_not():
    """Regret per round falls for Thompson sampling, which may play (best, best); random pairs pay for ever."""
    late, early = {}, {}
    for name in ("passive", "thompson"):
        env = make_vector("duelenv/FeatureDuel-v0", 32, num_candidates=6, dim=4, horizon=400)
        regret = play(env, duelenv.agents.make(name, env), 400)[1]
        early[name], late[name] = regret[:50].mean(), regret[-50:].mean()
    assert late["thompson"] < 0.2 * early["thompson"]
    assert late["passive"] > 0.8 * early["passive"]


def test_the_softmax_policy_of_selm_is_a_logistic_regression_with_a_bonus():
    """DPO on a log-linear policy is Bradley-Terry on its weights; the bonus pulls towards what it prefers."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5, 3))
    labels = (rng.random(60) < 1 / (1 + np.exp(-(features[:, 0] - features[:, 1])[:, 0]))).astype(float)
    beta, alpha, precision = 0.5, 0.05, 1.0

    def objective(theta):
        utilities = features @ theta
        log_ratio = utilities / beta - np.log(np.mean(np.exp(utilities / beta), axis=1, keepdims=True))
        h = log_ratio[:, 0] - log_ratio[:, 1]
        dpo = np.logaddexp(0, -beta * h * (2 * labels - 1)).sum()
        return dpo + alpha * beta * log_ratio.mean(axis=1).sum() + precision * theta @ theta / 2

    exact = minimize(objective, np.zeros(3)).x
    plain = minimize(
        lambda theta: objective(theta) - alpha * beta * _mean_log_ratio(features, theta, beta), np.zeros(3)
    ).x
    env = make_vector("duelenv/FeatureDuel-v0", 1, num_candidates=5, dim=3)
    estimates = {}
    for strength in (0.0, alpha):
        agent = duelenv.agents.make("selm", env, alpha=strength, beta=beta)
        for context, label in zip(features, labels, strict=True):
            agent.update({"features": context[None]}, np.array([[0, 1]]), np.array([label]))
        estimates[strength] = agent.learner.implicit_reward({"features": np.eye(3)[None]})[0]
    np.testing.assert_allclose(estimates[0.0], plain, atol=0.15)
    # The online bonus moves the estimate the way the exact one moves the minimiser.
    moved, expected = estimates[alpha] - estimates[0.0], exact - plain
    cosine = moved @ expected / np.linalg.norm(moved) / np.linalg.norm(expected)
    assert cosine > 0.9
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(expected), rel=0.5)


def _mean_log_ratio(features, theta, beta):
    utilities = features @ theta
    return (utilities / beta - np.log(np.mean(np.exp(utilities / beta), axis=1, keepdims=True))).mean(axis=1).sum()


def test_best_arm_thompson_learns_on_features_too():
    env = make_vector("duelenv/FeatureDuel-v0", 16, num_candidates=6, dim=4, horizon=200)
    agent = duelenv.agents.make("thompson", env, objective="best_arm")
    env.reset(seed=1)
    before = env.evaluate(agent)["simple_regret"].mean()
    play(env, agent, 100, seed=1)
    assert env.evaluate(agent)["simple_regret"].mean() < 0.3 * before


def test_a_turned_duel_teaches_the_same():
    """Pitfall: losses ignored. (i, j) won must update exactly as (j, i) lost."""
    recommended = []
    for turn in (False, True):
        env = make_vector("duelenv/FeatureDuel-v0", 8)
        agent = duelenv.agents.make("passive", env)
        observation, _ = env.reset(seed=0)
        for seed in range(20):
            actions = np.random.default_rng(seed).permuted(np.tile(np.arange(4), (8, 1)), axis=1)[:, :2]
            labels = (np.random.default_rng(seed + 99).random(8) < 0.7).astype(float)
            agent.update(
                observation,
                actions[:, ::-1] if turn else actions,
                1.0 - labels if turn else labels,
            )
        recommended.append(agent.belief.mean(observation["features"]))
    np.testing.assert_allclose(recommended[0], recommended[1], rtol=1e-9)


# Policies -------------------------------------------------------------------------------------------------------------


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


# Seeds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["thompson", "real", "rucb", "vids", "neural_ts"])
def test_a_state_of_another_seed_is_refused(name):
    """Half of an agent would go on with the draws of its own seed, and nobody would notice."""
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2, fixed=True)
    state = duelenv.agents.make(name, env, seed=1).state_dict()
    with pytest.raises(UserError, match="make it with the same seed"):
        duelenv.agents.make(name, env, seed=2).load_state_dict(state)
    duelenv.agents.make(name, env, seed=1).load_state_dict(state)


@pytest.mark.parametrize("seed", [-1, "a", 0.5, None])
def test_a_seed_is_a_number_from_0_on(seed):
    env = make_vector("duelenv/FeatureDuel-v0", 2, num_candidates=3, dim=2)
    with pytest.raises(UserError, match="seed is"):
        duelenv.agents.make("thompson", env, seed=seed)


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
