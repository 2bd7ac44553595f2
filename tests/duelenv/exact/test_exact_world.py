"""Exact figures of AlignmentDuel, against brute force: every sequence of tokens scored one by one, and sampling."""

import gymnasium
import numpy as np
import pytest
import torch

import duelenv
from duelenv.oracles.base import make

PROMPTS = ["tell me about the garden", "tell me about the old river"]
BETA = 0.3


def small_policy(max_new_tokens=2, **settings):
    """Random weights; 9,121 responses of two tokens."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from duelenv.policies import CausalLMPolicy
    from duelenv.policies.toy import toy_tokenizer

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=96,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=0.5,
        eos_token_id=1,
        pad_token_id=0,
    )
    return CausalLMPolicy(GPTNeoXForCausalLM(config).eval(), toy_tokenizer(), max_new_tokens=max_new_tokens, **settings)


def world(policy, oracle=None, **settings):
    given = {"num_candidates": 2, "exact_beta": BETA, "horizon": 4} | settings
    return gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=3,
        policy=policy,
        oracle=make("good_words", scale=2.0) if oracle is None else oracle,
        prompts=PROMPTS,
        test_prompts=PROMPTS,
        **given,
    )


def next_log_probs(model, tokenizer, prompt, said):
    ids = torch.tensor([tokenizer(prompt)["input_ids"] + list(said)])
    with torch.no_grad():
        return model(ids).logits[0, -1].double().log_softmax(-1).numpy()


def by_hand(policy, start, prompt, oracle):
    """J, KL and both regrets from the model's own logits: no listing, masks or scores of the project."""
    tokenizer, (end,) = policy.tokenizer, policy.end_ids
    first = {
        name: next_log_probs(model, tokenizer, prompt, ()) for name, model in (("pi", policy.model), ("ref", start))
    }
    rows = []
    for token in range(policy.vocabulary_size):
        here = {name: values[token] for name, values in first.items()}
        if token == end:
            rows.append((here["pi"], here["ref"], ""))
            continue
        following = {
            "pi": next_log_probs(policy.model, tokenizer, prompt, (token,)),
            "ref": next_log_probs(start, tokenizer, prompt, (token,)),
        }
        for last in range(policy.vocabulary_size):
            text = tokenizer.decode([token, last], skip_special_tokens=True)
            rows.append((here["pi"] + following["pi"][last], here["ref"] + following["ref"][last], text))
    pi, ref = (np.array([row[column] for row in rows]) for column in (0, 1))
    utility = oracle.utility([prompt] * len(rows), [row[2] for row in rows])
    expected, kl = np.exp(pi) @ utility, np.exp(pi) @ (pi - ref)
    best = BETA * np.log(np.exp(ref) @ np.exp(utility / BETA))
    objective = expected - BETA * kl
    return {
        "objective": objective,
        "kl": kl,
        "kl_regret": best - objective,
        "temperature_zero": utility.max() - expected,
    }


def moved(policy):
    """Change the weights as a learner would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3 * torch.randn_like(parameter) * parameter.std()
    policy.updated()


def test_info_and_evaluate_are_what_brute_force_gives_for_a_policy_that_moved():
    policy, oracle = small_policy(), make("good_words", scale=2.0)
    start = small_policy().model
    env = world(policy, oracle)
    observation, _ = env.reset(seed=0)
    env.step([[0, 1]] * 3)
    moved(policy)
    hand = {prompt: by_hand(policy, start, prompt, oracle) for prompt in PROMPTS}
    observation, _ = env.reset()
    prompts = list(observation["prompt"])
    *_, info = env.step([[0, 1]] * 3)
    for row, prompt in enumerate(prompts):
        assert info["objective"][row] == pytest.approx(hand[prompt]["objective"], abs=1e-5)
        assert info["kl"][row] == pytest.approx(hand[prompt]["kl"], abs=1e-5)
        assert info["regret"]["kl"][row] == pytest.approx(hand[prompt]["kl_regret"], abs=1e-5)
        assert info["regret"]["temperature_zero"][row] == pytest.approx(hand[prompt]["temperature_zero"], abs=1e-5)
    assert hand[PROMPTS[0]]["kl"] > 0.01  # or nothing was compared
    measured = env.unwrapped.evaluate(duelenv.agents.make("passive", env), "test")
    for name, by in {"temperature_zero_regret": "temperature_zero"}.items() | {
        (same, same) for same in ("objective", "kl", "kl_regret")
    }:
        assert measured[name][0] == pytest.approx(np.mean([one[by] for one in hand.values()]), abs=1e-5)


def test_the_start_policy_has_no_kl_and_without_the_setting_there_is_nothing_exact():
    env = world(small_policy())
    env.reset(seed=0)
    *_, info = env.step([[0, 1]] * 3)
    np.testing.assert_allclose(info["kl"], 0.0, atol=1e-9)
    plain = world(small_policy(), exact_beta=None)
    plain.reset(seed=0)
    *_, without = plain.step([[0, 1]] * 3)
    assert set(info["regret"]) - set(without["regret"]) == {"kl", "temperature_zero"}
    assert "objective" not in without
    assert not any("kl" in name or "objective" in name for name in env.unwrapped.view().__dict__)


def test_sampling_says_each_first_token_as_often_as_the_listing_says():
    """The control: what is listed is the law that candidates are drawn from."""
    from duelenv.exact import ExactObjective

    policy, count = small_policy(), 20_000
    objective = ExactObjective(policy, make("good_words"), PROMPTS[:1], BETA)
    probability = np.exp(objective.log_prob()[0])
    drawn = policy.sample(PROMPTS[:1], count, uniforms=np.random.default_rng(0).random((1, count, 2)))
    for which in np.argsort(-probability)[:8]:
        tokens, mask = objective.responses.tokens[which], objective.responses.mask[which]
        same = ((drawn.tokens[0] == tokens) | (mask == 0)).all(1) & (drawn.mask[0] == mask).all(1)
        expected = probability[which]
        assert abs(same.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / count)


def test_a_prompt_is_scored_once_for_every_version(monkeypatch):
    policy = small_policy()
    env = world(policy)
    env.reset(seed=0)
    env.step([[0, 1]] * 3)
    asked = []
    real = policy.score

    def score(prompts, tokens, mask, *, source="policy"):
        asked.extend((prompt, source) for prompt in prompts if tokens.shape[1] > 100)
        return real(prompts, tokens, mask, source=source)

    monkeypatch.setattr(policy, "score", score)
    policy.updated()
    env.step([[0, 1]] * 3)
    env.step([[0, 1]] * 3)
    assert len(asked) == len(set(asked)) > 0
    assert {source for _, source in asked} <= {"policy", "start"}
    before = len(asked)
    policy.updated()
    env.step([[0, 1]] * 3)
    assert len(asked) > before


@pytest.mark.parametrize(
    ("policy", "settings", "sentence"),
    [
        ({}, {"oracle": lambda prompts, first, second: np.full(len(prompts), 0.5)}, "the oracle has no utility"),
        ({"max_new_tokens": 4}, {}, "8.23e\\+07 responses"),
        ({"temperature": 0.7}, {}, "samples at 0.7"),
        ({}, {"temperature": 0.5}, "samples at 0.5"),
        ({}, {"exact_beta": 0.0}, "exact_beta"),
    ],
)
def test_what_cannot_be_exact_is_refused_in_a_sentence(policy, settings, sentence):
    with pytest.raises(duelenv.UserError, match=sentence) as caught:
        world(small_policy(**policy), **settings)
    assert "\n" not in str(caught.value)


def test_a_sampler_is_refused_whenever_it_is_set():
    class Elsewhere:
        def draw(self, policy, asked):
            raise AssertionError

    policy = small_policy()
    env = world(policy)
    policy.sampler = Elsewhere()
    with pytest.raises(duelenv.UserError, match="Elsewhere draws in its place"):
        env.reset(seed=0)
    with pytest.raises(duelenv.UserError, match="Elsewhere draws in its place"):
        world(policy)


def test_a_run_has_the_columns(tmp_path):
    import pyarrow.parquet as pq

    from duelenv.experiments.config.run_config import RunConfig
    from duelenv.experiments.running.runner import run

    config = RunConfig.from_dict(
        {
            "name": "exact",
            "env": {"id": "AlignmentDuel", "num_envs": 2, "num_candidates": 2, "horizon": 2, "exact_beta": 0.1},
            "policy": {"toy": {"max_new_tokens": 1}},
            "prompts": {"list": {"train": PROMPTS, "test": PROMPTS}},
            "oracle": {"name": "good_words"},
            "agents": {"passive": {}},
            "jobs": 1,
        }
    )
    table = pq.read_table(run(config, tmp_path / "run", progress=False)).to_pydict()
    assert {"regret_kl", "regret_temperature_zero", "kl_regret", "temperature_zero_regret", "objective", "kl"} <= set(
        table
    )
    assert table["kl"][0] == pytest.approx(0.0, abs=1e-9)
    assert table["kl_regret"][-1] > 0
    # Two rows of two prompts: each round adds the regret of the policy of that round in both.
    assert 0 < table["regret_kl"][-1] < 2 * 2 * 2 * table["kl_regret"][0]
