"""Exact values of a real transformers policy, against sums by hand, sampling and identities."""

import numpy as np
import pytest
import torch

import duelenv
from duelenv.exact import ExactObjective, count_responses, enumerate_responses, optimum, value
from duelenv.oracles.base import make

PROMPTS = ["tell me about the garden", "tell me about the old river"]


@pytest.fixture(scope="module")
def policy():
    from duelenv.policies import CausalLMPolicy, tiny_model

    return CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=2)


def test_the_count_is_that_of_a_slow_listing():
    from itertools import product

    vocabulary, ends, length = 4, {1}, 3
    responses = set()
    for sequence in product(range(vocabulary), repeat=length):
        end = next((place for place, token in enumerate(sequence) if token in ends), None)
        responses.add(sequence if end is None else sequence[: end + 1])
    assert count_responses(vocabulary, len(ends), length) == len(responses)


def test_the_responses_are_all_different_and_their_probabilities_sum_to_one(policy):
    responses = enumerate_responses(policy)
    spoken = {tuple(row[: m.sum()]) for row, m in zip(responses.tokens, responses.mask, strict=True)}
    assert len(spoken) == len(responses) == count_responses(96, 1, 2)
    scored = policy.score(PROMPTS, *(np.tile(part, (2, 1, 1)) for part in (responses.tokens, responses.mask)))
    np.testing.assert_allclose(np.exp(scored.astype(np.float64)).sum(axis=1), 1.0, atol=1e-4)


def test_the_start_policy_has_the_mean_utility_and_sampling_agrees(policy):
    oracle = make("good_words")
    objective = ExactObjective(policy, oracle, PROMPTS, beta=0.5)
    mean = (np.exp(objective.reference_log_prob) * objective.utility).sum(axis=1)
    np.testing.assert_allclose(objective.value(), mean, atol=1e-3)  # no KL to itself
    samples = policy.sample(PROMPTS, 4000, uniforms=np.random.default_rng(0).random((2, 4000, 2)))
    for row, prompt in enumerate(PROMPTS):
        drawn = oracle.utility([prompt] * 4000, list(samples.texts[row]))
        assert abs(drawn.mean() - mean[row]) < 4 * drawn.std() / np.sqrt(4000)


def test_the_optimum_is_attained_by_the_gibbs_policy_and_by_no_other():
    rng = np.random.default_rng(0)
    reference = np.log(rng.dirichlet(np.ones(6), size=3))
    utility = rng.normal(size=(3, 6))
    best, gibbs = optimum(reference, utility, beta=0.3)
    np.testing.assert_allclose(np.exp(gibbs).sum(axis=1), 1.0)
    np.testing.assert_allclose(value(gibbs, reference, utility, 0.3), best)
    for _ in range(20):
        other = np.log(rng.dirichlet(np.ones(6), size=3))
        assert (value(other, reference, utility, 0.3) < best).all()


def test_regret_is_the_divergence_from_the_optimum(policy):
    """J* - J(pi) = beta KL(pi || pi*), also after the weights have moved."""
    twin = policy.clone()
    objective = ExactObjective(twin, make("good_words"), PROMPTS, beta=0.5)
    before = objective.regret()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter += 0.3 * torch.randn_like(parameter) * parameter.std()
    after = objective.regret()
    assert (np.abs(after - before) > 0.01).all()
    log_prob = objective.log_prob()
    divergence = (np.exp(log_prob) * (log_prob - objective.optimal_log_prob)).sum(axis=1)
    np.testing.assert_allclose(after, 0.5 * divergence, atol=1e-9)
    np.testing.assert_allclose(after, objective.optimum - objective.value(), atol=1e-9)
    assert (after > 0).all()


def test_an_agent_lowers_the_exact_regret():
    """The whole loop on an enumerable model: preference learning approaches the KL-regularised optimum."""
    import gymnasium

    from duelenv.policies import CausalLMPolicy, tiny_model

    policy = CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=2)
    oracle = make("good_words", scale=4.0)
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=32,
        policy=policy,
        oracle=oracle,
        prompts=PROMPTS,
        test_prompts=PROMPTS,
        num_candidates=4,
        horizon=40,
    )
    agent = duelenv.agents.make("passive", env, beta=0.5, learning_rate=3e-3)
    objective = ExactObjective(policy, oracle, PROMPTS, beta=0.5)
    before = objective.regret().mean()
    observation, _ = env.reset(seed=0)
    for _ in range(40):
        actions = agent.act(observation)
        following, labels, *_ = env.step(actions)
        agent.update(observation, actions, labels)
        observation = following
    assert objective.regret().mean() < 0.7 * before


def test_too_many_responses_are_refused():
    from duelenv.policies import CausalLMPolicy, tiny_model

    long = CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=8)
    with pytest.raises(duelenv.UserError, match="lower max_new_tokens"):
        enumerate_responses(long)


def test_a_policy_whose_probabilities_do_not_sum_to_one_is_refused(policy, monkeypatch):
    def score(prompts, tokens, mask, *, source="policy"):
        return np.full(tokens.shape[:2], -3.0, np.float32)

    monkeypatch.setattr(policy, "score", score)
    with pytest.raises(duelenv.UserError, match=r"sum to .*, expected 1"):
        ExactObjective(policy, make("good_words"), PROMPTS, beta=0.5)
