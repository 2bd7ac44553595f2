"""Stable-Baselines3 on the worlds: the equivariant policy, who is paid what, episodes, training, models as agents."""

import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import VectorWrapper
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor
from worlds import NUMERIC, make_scalar, make_vector

import duelenv.agents
from duelenv.agents.sb3 import (
    EquivariantPolicy,
    PrivilegedVecEnv,
    SB3Agent,
    SelfPlayVecEnv,
    train_privileged,
    train_self_play,
)
from duelenv.disturbances import Batching, Flip
from duelenv.experiments.running import checkpoints
from duelenv.ground.errors import UserError
from duelenv.rewards import ScalarRegretReward

FEATURE = "duelenv/FeatureDuel-v0"
N, K, D = 8, 4, 3  # rows, candidates and features of the small worlds


def small(world=FEATURE, seed=0, num_envs=N, **settings):
    env = make_vector(world, num_envs, batch=num_envs, **settings)
    env.reset(seed=seed)
    return env


def tiny(seed=0, **settings):
    """A world that is learned in seconds."""
    return small(seed=seed, num_envs=16, num_candidates=5, dim=4, **settings)


def policy_of(action_space, seed=0, in_dict=False, **settings):
    """An equivariant policy with random weights of visible size."""
    observation_space = spaces.Box(-np.inf, np.inf, (K, D), np.float32)
    if in_dict:
        observation_space = spaces.Dict({"features": observation_space})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = EquivariantPolicy(observation_space, action_space, lambda _: 1e-3, **settings)
        torch.nn.init.normal_(policy.mlp_extractor.logits.weight)
    return policy


def logits_of(policy, features):
    """Logits [N, slots, K] and values [N], in float64, which Stable-Baselines3 would round on the way in."""
    policy = policy.double()
    with torch.no_grad():
        latent, latent_value = policy.mlp_extractor(features.flatten(1))
        return policy.action_net(latent).reshape(len(features), -1, K), policy.value_net(latent_value)[:, 0]


def some_features(rows):
    return torch.randn(rows, K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def play(env, agent, rounds):
    """Plays the usual loop from a new episode; average regret of each round."""
    observation, _ = env.reset()
    regrets = []
    for _ in range(rounds):
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
        regrets.append(info["regret"]["average"].mean())
    return np.array(regrets)


# The policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action_space", [spaces.Discrete(K), spaces.MultiDiscrete([K, K])])
def test_permuting_the_candidates_permutes_the_logits_and_keeps_the_value(action_space):
    policy = policy_of(action_space)
    features = some_features(20)
    logits, values = logits_of(policy, features)
    assert logits.std() > 0.1  # else the equalities below would say nothing
    for seed in range(5):
        order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
        permuted, permuted_values = logits_of(policy, features[:, order])
        torch.testing.assert_close(permuted, logits[:, :, order], rtol=0, atol=1e-12)
        torch.testing.assert_close(permuted_values, values, rtol=0, atol=1e-12)


def test_a_pairs_slots_are_the_two_arms_in_order():
    policy, features = policy_of(spaces.MultiDiscrete([K, K])), some_features(3)
    with torch.no_grad():
        first, second = policy.get_distribution(features).distribution
    logits, _ = logits_of(policy, features)
    torch.testing.assert_close(first.probs.double(), logits[:, 0].softmax(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(second.probs.double(), logits[:, 1].softmax(dim=1), rtol=0, atol=1e-5)
    assert not torch.allclose(first.probs, second.probs, atol=0.01)


def test_a_candidates_logit_depends_on_the_others():
    policy = policy_of(spaces.Discrete(K))
    features = some_features(1)
    changed = features.clone()
    changed[0, 1] += 1.0
    assert abs(logits_of(policy, features)[0][0, 0, 0] - logits_of(policy, changed)[0][0, 0, 0]) > 1e-6


def test_the_first_policy_is_almost_uniform_and_dicts_are_read_alike():
    env = small()
    model = PPO(EquivariantPolicy, SelfPlayVecEnv(env), seed=0, device="cpu")
    agent = SB3Agent(model, env.view())
    assert agent.probabilities(env.reset()[0]) == pytest.approx(1 / K, abs=0.02)
    plain, nested = policy_of(spaces.Discrete(K)), policy_of(spaces.Discrete(K), in_dict=True)
    features = some_features(5)
    expected = plain.get_distribution(features).distribution.probs
    torch.testing.assert_close(nested.get_distribution({"features": features}).distribution.probs, expected)


@pytest.mark.parametrize(
    ("observation_space", "action_space"),
    [
        (spaces.Box(-1, 1, (6,)), spaces.Discrete(K)),
        (spaces.Box(-1, 1, (K, D)), spaces.Discrete(K + 1)),
        (spaces.Box(-1, 1, (K, D)), spaces.MultiDiscrete([K, K, 2])),
        (spaces.Box(-1, 1, (K, D)), spaces.Box(-1, 1, (2,))),
    ],
)
def test_the_policy_refuses_other_spaces(observation_space, action_space):
    with pytest.raises(UserError, match="expected"):
        EquivariantPolicy(observation_space, action_space, lambda _: 1e-3)


def test_a_saved_model_comes_back(tmp_path):
    env = small()
    model = train_self_play(env, total_duels=32, policy_kwargs={"width": 16})
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", device="cpu")
    observation, _ = env.reset()
    expected = SB3Agent(model, env.view()).probabilities(observation)
    assert np.array_equal(SB3Agent(again, env.view()).probabilities(observation), expected)
    policy = policy_of(spaces.Discrete(K), width=16)
    policy.save(tmp_path / "policy")
    assert EquivariantPolicy.load(tmp_path / "policy").width == 16


# Who is paid what -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", NUMERIC)
def test_self_play_pays_the_label_to_the_first_arm_and_the_rest_to_the_second(world):
    plain, env = small(world), SelfPlayVecEnv(small(world))
    observation, _ = plain.reset()
    shown = env.reset()
    assert env.num_envs == 2 * N and env.action_space == spaces.Discrete(K)
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert np.array_equal(shown[:N], observation["features"])
        assert np.array_equal(shown[N:], observation["features"])
        arms = rng.integers(K, size=2 * N)
        observation, labels, _, _, _ = plain.step(np.column_stack([arms[:N], arms[N:]]))
        shown, rewards, dones, infos = env.step(arms)
        assert rewards.dtype == np.float32 and not dones.any() and infos == [{}] * (2 * N)
        assert np.array_equal(rewards[:N], labels)
        assert np.array_equal(rewards[N:], 1.0 - labels)
    assert env.duel_info["queries"].tolist() == [10 * N]  # a query for each duel, not for each transition


def test_swapping_the_arms_of_all_duels_swaps_their_pay():
    one, other = SelfPlayVecEnv(small()), SelfPlayVecEnv(small())
    one.reset(), other.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        arms = rng.permuted(np.tile(np.arange(K), (N, 1)), axis=1)[:, :2].T.ravel()  # of each duel, different
        assert np.array_equal(one.step(arms)[1], np.roll(other.step(np.roll(arms, N))[1], N))


@pytest.mark.parametrize("notion", ["average", "strong", "utility"])
def test_privileged_pays_minus_the_regret_of_the_pair(notion):
    plain, env = small(), PrivilegedVecEnv(small(), notion)
    plain.reset()
    env.reset()
    assert env.num_envs == N and env.action_space == spaces.MultiDiscrete([K, K])
    rng = np.random.default_rng(0)
    for _ in range(5):
        pairs = rng.integers(K, size=(N, 2))
        assert env.step(pairs)[1] == pytest.approx(-plain.step(pairs)[4]["regret"][notion])


def test_a_notion_that_the_world_does_not_know_is_refused():
    env = PrivilegedVecEnv(small(), "avrage")
    env.reset()
    with pytest.raises(UserError, match="choose from average"):
        env.step(np.zeros((N, 2), np.int64))


class SomeLabelsLost(VectorWrapper):
    """The first row's label never comes."""

    def step(self, actions):
        observation, labels, *rest = self.env.step(actions)
        labels = labels.copy()
        labels[0] = np.nan
        return observation, labels, *rest


def test_a_duel_without_a_label_pays_half_to_both():
    env = SelfPlayVecEnv(SomeLabelsLost(small()))
    env.reset()
    rewards = env.step(np.zeros(2 * N, np.int64))[1]
    assert rewards[0] == rewards[N] == 0.5
    assert set(rewards[1:N]) <= {0.0, 1.0}


def test_a_selective_world_is_asked_in_every_row():
    env = SelfPlayVecEnv(small(selective=True))
    env.reset()
    assert set(env.step(np.zeros(2 * N, np.int64))[1]) <= {0.0, 1.0}
    assert env.duel_info["queries"].tolist() == [N]


# Episodes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [SelfPlayVecEnv, PrivilegedVecEnv])
def test_the_next_episode_starts_by_itself_and_the_last_observation_is_kept(form):
    plain, env = small(horizon=3), form(small(horizon=3))
    plain.reset()
    env.reset()
    rng = np.random.default_rng(0)
    for number in range(1, 10):
        pairs = rng.integers(K, size=(N, 2))
        observation, _, _, truncated, _ = plain.step(pairs)
        shown, _, dones, infos = env.step(pairs if form is PrivilegedVecEnv else pairs.T.ravel())
        assert dones.tolist() == [number % 3 == 0] * env.num_envs
        if truncated.all():
            last, observation = observation["features"], plain.reset()[0]
            for row, info in enumerate(infos):
                assert info["TimeLimit.truncated"] is True
                assert np.array_equal(info["terminal_observation"], last[row % N])
        assert np.array_equal(shown[:N], observation["features"])


def test_the_horizon_is_bootstrapped_from_the_last_observation_and_not_from_the_next_episode():
    env = PrivilegedVecEnv(small(horizon=2))
    model = A2C(EquivariantPolicy, env, gamma=0.5, gae_lambda=1.0, n_steps=3, device="cpu", seed=0)
    shown, rewards, last = [], [], []
    step_wait = env.step_wait

    def spy():
        result = step_wait()
        shown.append(result[0].copy()), rewards.append(result[1].copy())
        last.extend(info["terminal_observation"] for info in result[3] if info)
        return result

    env.step_wait = spy
    model.train = lambda: None  # keep the rollout, and the values it was made with
    model.learn(3 * N)
    with torch.no_grad():
        of_last = model.policy.predict_values(torch.from_numpy(np.stack(last)))[:, 0].numpy()
        of_next = model.policy.predict_values(torch.from_numpy(shown[2]))[:, 0].numpy()
    returns = model.rollout_buffer.returns
    assert returns[1] == pytest.approx(rewards[1] + 0.5 * of_last, abs=1e-5)
    assert returns[0] == pytest.approx(rewards[0] + 0.5 * returns[1], abs=1e-5)
    assert returns[2] == pytest.approx(rewards[2] + 0.5 * of_next, abs=1e-5)  # the second episode, cut by the rollout


def test_seed_draws_the_world_anew_and_reset_alone_keeps_it():
    env = SelfPlayVecEnv(small(seed=5, fixed=True))
    first = env.reset()
    assert np.array_equal(env.reset(), first)
    env.seed(6)
    assert np.array_equal(env.reset()[:N], small(seed=6, fixed=True).reset()[0]["features"])
    assert not np.array_equal(env.reset(), first)  # and stays there


@pytest.mark.parametrize("form", [SelfPlayVecEnv, PrivilegedVecEnv])
def test_stable_baselines_own_checks_pass(form):
    env = VecMonitor(VecCheckNan(form(small(horizon=5)), raise_exception=True))
    model = A2C(EquivariantPolicy, env, gamma=0.0, n_steps=4, device="cpu", seed=0)
    model.learn(20 * env.num_envs)
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert lengths and set(lengths) == {5}
    mean, _ = evaluate_policy(model, env, n_eval_episodes=16)
    assert 0 <= mean <= 5 if form is SelfPlayVecEnv else -2.5 <= mean < 0
    assert env.get_attr("horizon") == [5] * env.num_envs
    assert env.env_method("view", indices=[0, 1])[1].horizon == 5


@pytest.mark.filterwarnings("ignore:Your observation features has an unconventional shape")  # [K, d] is ours
def test_the_scalar_world_passes_the_environment_checker():
    check_env(ScalarRegretReward(make_scalar(FEATURE, candidates="sphere")), skip_render_check=True)


@pytest.mark.parametrize("form", [SelfPlayVecEnv, PrivilegedVecEnv])
def test_worlds_that_do_not_fit_are_refused(form):
    with pytest.raises(UserError, match="make the world with batch=8"):
        form(make_vector(FEATURE, 8, batch=4))
    with pytest.raises(UserError, match=r"gymnasium\.make_vec"):
        form(make_scalar(FEATURE))


def test_self_play_refuses_labels_that_come_late():
    with pytest.raises(UserError, match="labels can come late"):
        SelfPlayVecEnv(small(stages=[Batching(rounds=4), Flip(probability=0.1)]))
    SelfPlayVecEnv(small(stages=[Flip(probability=0.1)])).close()


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "bound"), [("ppo", 0.04), ("a2c", 0.1)])
def test_privileged_training_comes_close_to_the_best_pair(algorithm, bound):
    env = tiny()
    chance = play(env, duelenv.agents.make("random", env), 100).mean()
    model = train_privileged(env, total_duels=3000, algorithm=algorithm)
    assert chance > 0.25
    assert play(env, SB3Agent(model, env.view()), 100).mean() < bound


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_self_play_learns_from_labels(algorithm):
    env = tiny()
    model = train_self_play(env, total_duels=3000, algorithm=algorithm)
    assert play(env, SB3Agent(model, env.view()), 100).mean() < 0.06  # random pairs: 0.30


def test_a_discount_across_unrelated_rounds_leaves_more_regret():
    regret = {}
    for gamma in (0.0, 0.99):
        env = tiny()
        model = train_privileged(env, total_duels=3000, algorithm="a2c", gamma=gamma)
        regret[gamma] = play(env, SB3Agent(model, env.view()), 100).mean()
    assert regret[0.99] > 1.5 * regret[0.0]


@pytest.mark.parametrize("train", [train_self_play, train_privileged])
def test_training_is_fixed_by_its_seed_and_leaves_the_global_generators_alone(train):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    runs = [parameters(train(small(), total_duels=200, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_training_keeps_the_truth_and_counts_whole_rollouts():
    env = small(seed=7, fixed=True)
    before = env.reset()[0]["features"]
    model = train_self_play(env, total_duels=100, n_steps=5)
    assert np.array_equal(env.reset()[0]["features"], before)
    assert model.num_timesteps == 2 * 120  # three rollouts of five rounds and eight duels
    assert env.state_dict()["labels"]["queries"].tolist() == [120]


def test_training_leaves_no_file_unless_its_log_is_wanted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = small(seed=7, fixed=True)
    env.reset()
    train_self_play(env, total_duels=40, n_steps=5)
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out
    train_self_play(env, total_duels=40, n_steps=5, verbose=1)
    assert "total_timesteps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "dqn"}, "a2c, ppo"),
        ({"total_duels": 0}, "total_duels"),
        ({"gamma": 1.5}, "gamma"),
        ({"n_stepz": 4}, "Unknown setting 'n_stepz' in 'PPO': did you mean 'n_steps'"),
        ({"algorithm": "a2c", "n_epochs": 4}, "n_epochs"),
    ],
)
def test_bad_settings_of_training_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        train_self_play(small(), **({"total_duels": 10} | settings))


# A trained model as an agent ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Models of single arms and of pairs that know something."""
    env = small()
    return {
        "self_play": train_self_play(env, total_duels=800),
        "privileged": train_privileged(env, total_duels=800),
    }


@pytest.mark.parametrize("form", ["self_play", "privileged"])
def test_arms_are_drawn_by_the_models_probabilities(trained, form):
    rows = 4000
    env = small(num_envs=rows, fixed=True)
    agent = SB3Agent(trained[form], env.view(), seed=3)
    observation, _ = env.reset()
    expected = agent.probabilities(observation)[0]
    assert expected.max() > 0.4  # not uniform, so that the frequencies say something
    pairs = agent.act(observation)
    for slot in range(2):
        frequency = np.bincount(pairs[:, slot], minlength=K) / rows
        assert np.abs(frequency - expected[slot]).max() < 4 * np.sqrt(0.25 / rows)


def test_rows_have_streams_of_their_own_and_state_is_restored(trained):
    few, many = small(num_envs=4), small(num_envs=8)
    agents = [SB3Agent(trained["self_play"], env.view(), seed=1) for env in (few, many)]
    observations = [env.reset(seed=0)[0] for env in (few, many)]
    for _ in range(5):
        actions = [agent.act(observation) for agent, observation in zip(agents, observations, strict=True)]
        assert np.array_equal(actions[0], actions[1][:4])
    state = agents[0].state_dict()
    expected = agents[0].act(observations[0])
    again = SB3Agent(trained["self_play"], few.view(), seed=1)
    again.load_state_dict(state)
    assert np.array_equal(again.act(observations[0]), expected)
    assert again.update(observations[0], expected, np.ones(4)) == {}


def test_deterministic_play_is_the_recommendation_twice(trained):
    env = small()
    agent = SB3Agent(trained["self_play"], env.view(), deterministic=True)
    observation, _ = env.reset()
    pairs = agent.act(observation)
    assert np.array_equal(pairs, np.repeat(agent.recommend(observation)[:, np.newaxis], 2, axis=1))
    predicted, _ = trained["self_play"].predict(observation["features"], deterministic=True)
    assert np.array_equal(pairs[:, 0], predicted)


def test_a_model_plays_in_scalar_and_selective_worlds(trained):
    scalar = make_scalar(FEATURE)
    agent = SB3Agent(trained["privileged"], scalar.view())
    observation, _ = scalar.reset(seed=0)
    assert scalar.action_space.contains(agent.act(observation))
    assert isinstance(agent.recommend(observation), int)
    assert scalar.evaluate(agent)["simple_regret"] >= 0
    selective = small(selective=True)
    agent = SB3Agent(trained["privileged"], selective.view())
    assert (agent.act(selective.reset()[0])[:, 2] == 1).all()


def test_value_based_and_stock_models_are_agents_too():
    env = small()
    model = DQN("MlpPolicy", SelfPlayVecEnv(env), gamma=0.0, learning_starts=10, device="cpu", seed=0)
    model.learn(200)
    agent = SB3Agent(model, env.view())
    observation, _ = env.reset()
    pairs = agent.act(observation)
    assert env.action_space.contains(pairs) and np.array_equal(pairs[:, 0], pairs[:, 1])
    assert np.array_equal(agent.recommend(observation), pairs[:, 0])
    apart = SB3Agent(model, replace(env.view(), self_duels=False))  # as where texts are put to somebody
    firsts, seconds = np.concatenate([apart.act(observation) for _ in range(20)]).T
    assert np.array_equal(firsts[: len(pairs)], pairs[:, 0]) and (firsts != seconds).all()
    assert len(set(seconds[firsts == firsts[0]])) == K - 1  # any other, alike
    stock = PPO("MultiInputPolicy", ScalarRegretReward(make_scalar(FEATURE)), gamma=0.0, n_steps=16, batch_size=16)
    agent = SB3Agent(stock, env.view())
    assert env.action_space.contains(agent.act(observation))
    assert agent.probabilities(observation).sum(axis=2) == pytest.approx(1.0)
    sure = SB3Agent(stock, replace(env.view(), self_duels=False), deterministic=True).act(observation)
    of_second = agent.probabilities(observation)[:, 1]
    of_second[np.arange(len(sure)), sure[:, 0]] = 0.0
    assert np.array_equal(sure[:, 1], of_second.argmax(axis=1))


def test_a_model_of_another_shape_is_refused(trained):
    with pytest.raises(UserError, match=r"shape \(4, 3\).* shows \(4, 6\)"):
        SB3Agent(trained["self_play"], small(dim=6).view())


# The agent that learns in the usual loop ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_the_agent_learns_in_the_usual_loop(algorithm):
    env = tiny()
    agent = duelenv.agents.make("sb3_self_play", env, algorithm=algorithm)
    regret = play(env, agent, 300)
    assert regret[:4].mean() > 0.2
    assert regret[-50:].mean() < 0.06
    assert env.evaluate(agent)["simple_regret"] < 0.2


def test_an_update_equals_one_from_stable_baselines_own_rollouts():
    env = small()
    agent, twin = (duelenv.agents.make("sb3_self_play", env, algorithm="a2c", rollout=5 * N) for _ in range(2))
    model = twin.model
    buffer = RolloutBuffer(5, model.observation_space, model.action_space, "cpu", gamma=0.0, n_envs=2 * N)
    observation, _ = env.reset()
    for number in range(5):
        actions = agent.act(observation)
        following, labels, _, _, _ = env.step(actions)
        features, arms = np.tile(observation["features"], (2, 1, 1)), actions.T.ravel()
        with torch.no_grad():
            values, log_prob, _ = model.policy.evaluate_actions(torch.as_tensor(features), torch.as_tensor(arms))
        buffer.add(features, arms, np.concatenate([labels, 1 - labels]), np.zeros(2 * N), values, log_prob)
        metrics = agent.update(observation, actions, labels)
        assert ("updates" in metrics) == (number == 4)
        observation = following
    # With gamma = 0 what comes after the rollout does not count.
    buffer.compute_returns_and_advantage(torch.full((2 * N,), 7.0), np.zeros(2 * N))
    model.rollout_buffer = buffer
    before = parameters(model)
    model.train()
    assert not torch.allclose(parameters(model), before, atol=1e-4)
    torch.testing.assert_close(parameters(agent.model), parameters(model), rtol=0, atol=1e-6)
    assert agent.gradient_steps == 1


def test_missing_labels_teach_nothing_and_late_ones_count():
    env = small()
    observation, _ = env.reset()
    whole, late = (duelenv.agents.make("sb3_self_play", env, algorithm="a2c", rollout=N) for _ in range(2))
    actions = whole.act(observation)
    labels = (np.arange(N) % 2).astype(float)
    start = parameters(late.model)
    for _ in range(5):
        assert late.update(observation, actions, np.full(N, np.nan)) == {}
    assert torch.equal(parameters(late.model), start)
    late.update(observation, actions, np.where(np.arange(N) < 3, labels, np.nan))
    assert "updates" in late.update(observation, actions, np.where(np.arange(N) < 3, np.nan, labels))
    whole.update(observation, actions, labels)
    torch.testing.assert_close(parameters(late.model), parameters(whole.model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c"])
def test_a_resumed_run_equals_an_uninterrupted_one(algorithm, tmp_path):
    settings = {"algorithm": algorithm, "rollout": 20}  # not a multiple of the rows: the cut is inside a rollout
    env = small()
    agent = duelenv.agents.make("sb3_self_play", env, seed=4, **settings)
    play(env, agent, 10)
    checkpoints.save(tmp_path / "state.npz", {"env": env.state_dict(), "agent": agent.state_dict()})
    expected = play(env, agent, 10)
    state = checkpoints.load(tmp_path / "state.npz")
    env = small(seed=9)
    env.load_state_dict(state["env"])
    again = duelenv.agents.make("sb3_self_play", env, seed=4, **settings)
    again.load_state_dict(state["agent"])
    assert np.array_equal(play(env, again, 10), expected)
    assert torch.equal(parameters(again.model), parameters(agent.model))
    assert again.gradient_steps == agent.gradient_steps > 0


def test_a_snapshot_does_not_move_with_the_agent():
    env = small()
    agent = duelenv.agents.make("sb3_self_play", env, rollout=N)
    play(env, agent, 2)
    state = agent.state_dict()
    kept = {name: value.clone() for name, value in state["model"]["policy"].items()}
    play(env, agent, 2)
    assert all(torch.equal(kept[name], value) for name, value in state["model"]["policy"].items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "sac"}, "a2c, ppo"),
        ({"rollout": 0}, "rollout"),
        ({"clip_range": 0.0}, "clip_range"),
        ({"algorithm": "a2c", "epochs": 2}, "epochs"),
        ({"gamma": 0.9}, "gamma"),
    ],
)
def test_bad_settings_of_the_agent_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        duelenv.agents.make("sb3_self_play", small(), **settings)


def test_each_of_several_truths_has_a_learner_of_its_own():
    settings = {"rollout": 16, "batch_size": 8}
    together = make_vector(FEATURE, 2 * N, batch=N)
    alone = small(num_envs=N)
    agents = [duelenv.agents.make("sb3_self_play", env, seed=4, **settings) for env in (together, alone)]
    observations = [env.reset(seed=0)[0] for env in (together, alone)]
    for _ in range(5):
        actions = [agent.act(observation) for agent, observation in zip(agents, observations, strict=True)]
        np.testing.assert_array_equal(actions[0][:N], actions[1])
        assert (actions[0][N:] != actions[0][:N]).any()
        for number, env in enumerate((together, alone)):
            following, labels, _, _, info = env.step(actions[number])
            agents[number].update(observations[number], actions[number], labels, info["late"])
            observations[number] = following
            if number == 0:
                told = labels
    assert agents[0].gradient_steps == agents[1].gradient_steps > 0
    for place in range(2):  # the fifth round is in no rollout that was trained on yet
        own = told[place * N : (place + 1) * N]
        rewards = agents[0].state_dict()[str(place)]["rollout"]["rewards"]
        np.testing.assert_array_equal(rewards, np.concatenate([own, 1 - own]))
    arms = [agent.recommend(observation) for agent, observation in zip(agents, observations, strict=True)]
    np.testing.assert_array_equal(arms[0][:N], arms[1])
    resumed = duelenv.agents.make("sb3_self_play", together, seed=4, **settings)
    resumed.load_state_dict(agents[0].state_dict())
    np.testing.assert_array_equal(resumed.act(observations[0]), agents[0].act(observations[0]))
    assert resumed.gradient_steps == agents[0].gradient_steps
