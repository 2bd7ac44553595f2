"""The three samplers against each other, and a completions server as it is documented, slow, broken or out of date."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from completions_server import MODEL, reset, send, serving
from scipy import stats
from worlds import make_scalar, make_vector

import duelenv.agents
from duelenv.ground.errors import UserError
from duelenv.policies import completions, loading, sharding
from duelenv.policies.causal_lm import CausalLMPolicy
from duelenv.policies.completions import CompletionsSampler
from duelenv.policies.samplers import SAMPLERS, GenerateSampler, sampler_of, seed_of
from duelenv.policies.toy import tiny_model
from duelenv.worlds.alignment_duel.candidates import SAMPLER_FIGURES, Candidates, draw_candidates, sampler_figures

PROMPTS = ["tell me about the garden", "describe the river near the old bridge", "how", "what is the road now"]
LENGTH = 8
WORLD = "duelenv/AlignmentDuel-v0"
ALL = ["own", "generate", "completions"]


@pytest.fixture(autouse=True)
def _no_global_randomness():
    """Nothing here may draw from, or seed, torch's global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(completions, "_PAUSE", (0.01, 0.05))


def make(seed=0, **settings):
    return CausalLMPolicy(*tiny_model("gpt_neox", seed), **{"max_new_tokens": LENGTH, **settings})


def numbers(*shape, seed=0, length=LENGTH):
    return np.random.default_rng(seed).random((*shape, length))


def nudge(policy, size=0.3):
    """Changes the weights as an update would."""
    generator = torch.Generator().manual_seed(policy.version)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator) * parameter.std()
    policy.updated()


def ask(stub, **settings):
    return CompletionsSampler(stub.url, MODEL, **settings)


@pytest.fixture
def stub():
    with serving(make()) as stub:
        yield stub


def sampler(name, stub):
    return {"own": None, "generate": GenerateSampler(), "completions": ask(stub)}[name]


# One distribution


@pytest.mark.parametrize("sharded", [False, True])
def test_the_own_loop_draws_without_autograd_and_leaves_nothing_that_gradients_could_not_use(monkeypatch, sharded):
    policy, modes = make(), []
    monkeypatch.setattr(CausalLMPolicy, "sharded", sharded)
    handle = policy.model.register_forward_pre_hook(lambda *_: modes.append(torch.is_inference_mode_enabled()))
    drawn = policy.sample(PROMPTS, 2, uniforms=numbers(len(PROMPTS), 2), hidden=True)
    handle.remove()
    assert set(modes) == {not sharded}  # what a sharded model gathers it would keep
    policy.log_prob(PROMPTS, drawn.tokens, drawn.mask).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert not any(state.is_inference() for state in policy.model.state_dict().values())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_first_token_follows_the_softmax(name, temperature, stub):
    policy = make(max_new_tokens=1)
    count = 6_000
    drawn = policy.sample(
        PROMPTS[:1],
        count,
        uniforms=numbers(1, count, seed=3, length=1),
        temperature=temperature,
        sampler=sampler(name, stub),
    )
    ids = torch.tensor([policy.tokenizer(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        expected = (policy.model(ids).logits[0, -1] / temperature).softmax(-1).double().numpy()
    observed = np.bincount(drawn.tokens.ravel(), minlength=len(expected))
    common = expected * count >= 5
    expected *= count / expected.sum()
    if not common.all():  # the rare tokens share a bin
        observed = np.append(observed[common], observed[~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("max_sequences", [None, 2, 3])
def test_greedy_responses_are_equal_token_for_token(max_sequences, stub):
    policy = make(max_sequences=max_sequences)
    drawn = {name: policy.sample(PROMPTS, 3, temperature=0, sampler=sampler(name, stub)) for name in ALL}
    for name in ALL[1:]:
        np.testing.assert_array_equal(drawn[name].tokens, drawn["own"].tokens)
        np.testing.assert_array_equal(drawn[name].mask, drawn["own"].mask)
        assert drawn[name].texts.tolist() == drawn["own"].texts.tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "adapter", "no shared prompt", "no padding and no cache"])
def test_generate_agrees_whatever_the_model_allows(kind):
    model, tokenizer = tiny_model(kind if kind in ("llama", "gpt2") else "gpt_neox")
    if kind == "adapter":
        model = loading.add_lora(model, {"r": 4, "init_lora_weights": False, "seed": 0})
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    if kind == "no shared prompt":
        policy.shortcuts = replace(policy.shortcuts, sharing=False)
    if kind == "no padding and no cache":
        policy.shortcuts = replace(policy.shortcuts, sharing=False, padding=False, cache=False)
    own, other = (policy.sample(PROMPTS, 2, temperature=0, sampler=each) for each in (None, GenerateSampler()))
    np.testing.assert_array_equal(other.tokens, own.tokens)
    np.testing.assert_allclose(other.log_prob, own.log_prob, atol=1e-4)
    drawn = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=GenerateSampler())
    np.testing.assert_allclose(drawn.log_prob, policy.score(PROMPTS, drawn.tokens, drawn.mask), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_log_probs_and_masks_are_those_of_the_policy(name, stub):
    policy = make(max_sequences=3)
    drawn = policy.sample(PROMPTS, 30, uniforms=numbers(4, 30), sampler=sampler(name, stub))
    np.testing.assert_allclose(drawn.log_prob, policy.score(PROMPTS, drawn.tokens, drawn.mask), atol=1e-4)
    for tokens, mask in zip(drawn.tokens.reshape(-1, LENGTH), drawn.mask.reshape(-1, LENGTH), strict=True):
        length = mask.sum()
        assert mask[:length].all()
        ends = np.flatnonzero(np.isin(tokens[:length], policy.end_ids))
        assert ends.tolist() == ([length - 1] if length < LENGTH or len(ends) else [])
        assert (tokens[length:] == policy._codec.pad_id).all()
    assert (drawn.mask.sum(-1) < LENGTH).any()


@pytest.mark.parametrize("name", ALL)
def test_the_same_numbers_give_the_same_responses_and_others_give_others(name, stub):
    policy = make()
    first, again, other = (
        policy.sample(PROMPTS, 4, uniforms=numbers(4, 4, seed=seed), sampler=sampler(name, stub)).tokens
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(-1).all(-1).all()


def test_generate_heeds_no_settings_of_the_model_and_leaves_them():
    policy = make(max_new_tokens=1)
    own = policy.model.generation_config
    own.top_k, own.repetition_penalty, own.temperature = 1, 9.0, 0.1
    drawn = policy.sample(PROMPTS[:1], 200, uniforms=numbers(1, 200, length=1), sampler=GenerateSampler())
    assert len(np.unique(drawn.tokens)) > 5
    assert policy.model.generation_config is own and own.top_k == 1


def test_a_seed_is_of_all_its_numbers():
    given = torch.from_numpy(numbers(2, 2))
    changed = given.clone()
    changed[1, 1, -1] += 1e-12
    assert seed_of(given) == seed_of(given.clone()) != seed_of(changed)
    assert 0 <= seed_of(given) < 2**31


# What a server is asked


def test_a_request_says_all_that_a_server_may_have_defaults_for(stub):
    policy = make()
    policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), temperature=0.7, sampler=ask(stub, api_key="secret"))
    asked = {tuple(body["prompt"]): body for body in stub.asked}
    assert sorted(asked) == sorted(tuple(policy.tokenizer(prompt)["input_ids"]) for prompt in PROMPTS)
    assert len({body["seed"] for body in asked.values()}) == len(PROMPTS)
    for body in asked.values():
        assert body | {"prompt": 0, "seed": 0} == {
            "model": MODEL,
            "prompt": 0,
            "n": 3,
            "max_tokens": LENGTH,
            "temperature": 0.7,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(policy.end_ids),
            "seed": 0,
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
    assert {headers["Authorization"] for headers in stub.headers} == {"Bearer secret"}


def test_a_key_is_read_from_the_environment(stub, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "secret")
    make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub, api_key="$SERVER_KEY"))
    assert stub.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(ask(stub, api_key="$SERVER_KEY"))
    with pytest.raises(UserError, match="the environment has no NO_SUCH_KEY"):
        ask(stub, api_key="$NO_SUCH_KEY")


def test_sglang_answers_and_one_request_for_each_response():
    policy = make()
    with serving(make(), "sglang", one_seed=True) as stub:
        drawn = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), sampler=ask(stub, one_by_one=True))
        assert [body["n"] for body in stub.asked] == [1] * 12
        assert len({body["seed"] for body in stub.asked}) == 12
        np.testing.assert_allclose(drawn.log_prob, policy.score(PROMPTS, drawn.tokens, drawn.mask), atol=1e-4)
        assert (drawn.tokens[:, 0] != drawn.tokens[:, 1]).any()
        with pytest.raises(UserError, match=r"3 equal responses to every prompt.*one_by_one"):
            policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), sampler=ask(stub))


@pytest.mark.parametrize(("raw", "known"), [(True, True), (False, False)])
def test_log_probs_at_another_temperature_count_where_they_are_raw(raw, known, stub):
    policy = make()
    drawn = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), temperature=0.5, sampler=ask(stub, raw_log_probs=raw))
    assert np.isnan(drawn.log_prob).all() == (not known)


# A server in trouble


def without(*names):
    def change(answer):
        for choice in answer["choices"]:
            for name in names:
                choice.pop(name)
        return answer

    return change


def in_choices(**values):
    def change(answer):
        for choice in answer["choices"]:
            choice.update({name: value(choice) if callable(value) else value for name, value in values.items()})
        return answer

    return change


def test_slow_answers_in_another_order_find_their_prompts(stub):
    policy = make()
    expected = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), sampler=ask(stub, concurrency=1)).tokens

    def late(handler, number):
        time.sleep(0.05 * (8 - number))  # the first is answered last
        return False

    stub.before = late
    stub.change = lambda answer: {**answer, "choices": answer["choices"][::-1]}
    started = time.perf_counter()
    drawn = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), sampler=ask(stub)).tokens
    np.testing.assert_array_equal(drawn, expected)
    assert time.perf_counter() - started < 10


def test_no_more_requests_at_a_time_than_were_allowed(stub):
    running, most, lock = 0, 0, threading.Lock()

    def counting(handler, number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return False

    stub.before = counting
    make().sample(PROMPTS * 3, 1, temperature=0, sampler=ask(stub, concurrency=2))
    assert most == 2


@pytest.mark.parametrize("status", [429, 503, "reset", "silence"])
def test_what_may_pass_is_tried_again(status, stub):
    def busy(handler, number):
        if number not in (1, 2, 5):
            return False
        if status == "reset":
            reset(handler)
        elif status == "silence":
            handler.close_connection = True
        else:
            send(handler, status, {"error": {"message": "later"}}, {"Retry-After": "0"})
        return True

    policy = make()
    expected = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub)).tokens
    stub.asked.clear()
    stub.before = busy
    drawn = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub)).tokens
    np.testing.assert_array_equal(drawn, expected)
    assert len(stub.asked) == len(PROMPTS) + 3


@pytest.mark.parametrize(
    ("status", "tried", "message"),
    [
        (429, 3, r"answers 429 \(no more\); it did so 3 times: lower concurrency"),
        (500, 1, r"answers 500 \(no more\); read its log"),
        (401, 1, r"answers 401 \(no more\); give the key"),
        (400, 1, r"answers 400 \(no more\)"),
    ],
)
def test_refusals_are_one_sentence(status, tried, message, stub):
    stub.before = lambda handler, number: send(handler, status, {"object": "error", "message": "no more"}) or True
    with pytest.raises(UserError, match=message) as caught:
        make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub, attempts=3))
    assert len(stub.asked) == tried
    assert "\n" not in str(caught.value)


def test_a_broken_connection_is_given_up_at_last(stub):
    stub.before = lambda handler, number: reset(handler) or True
    with pytest.raises(UserError, match="cannot be reached"):
        make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub, attempts=2))
    assert len(stub.asked) == 2


def test_a_redirect_is_not_followed(stub):
    elsewhere = {"Location": "http://127.0.0.1:9/v1/completions"}
    stub.before = lambda handler, number: send(handler, 307, {}, elsewhere) or True
    with pytest.raises(UserError, match="answers 307"):
        make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub, api_key="secret"))


def test_a_wrong_model_and_a_wrong_address(stub):
    policy = make()
    with pytest.raises(UserError, match=r"404 \(The model `other` does not exist.\); correct model, which is 'other'"):
        policy.sample(PROMPTS, 1, temperature=0, sampler=CompletionsSampler(stub.url, "other"))
    with pytest.raises(UserError, match=r"404.*or url"):
        policy.sample(PROMPTS, 1, temperature=0, sampler=CompletionsSampler(stub.url + "/v9", MODEL))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(UserError, match=r"cannot be reached .*refused.*; start it, or correct url"):
            policy.sample(PROMPTS, 1, temperature=0, sampler=CompletionsSampler(nobody, MODEL))


def test_an_answer_that_does_not_come(stub):
    stub.before = lambda handler, number: time.sleep(0.6) or True
    with pytest.raises(UserError, match=r"did not answer within 0.2 s"):
        make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub, timeout=0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda answer: [answer], "without choices"),
        (lambda answer: {**answer, "choices": None}, "without choices"),
        (lambda answer: {**answer, "choices": ["text"]}, "without choices"),
        (lambda answer: {**answer, "choices": answer["choices"][1:]}, "1 choices where 2 were asked for"),
        (in_choices(index=0), "indices are not 0 to n - 1"),
        (in_choices(token_ids=[]), "ends after 0 of 8 tokens"),
        (in_choices(token_ids=["a"]), r"the token ids \['a'\]"),
        (in_choices(token_ids=[True]), r"the token ids \[True\]"),
        (in_choices(token_ids=[10**6]), "it serves another model"),
        (in_choices(token_ids=[5] * (LENGTH + 1)), f"{LENGTH + 1} tokens where a response ends after {LENGTH}"),
        (in_choices(token_ids=[1, 5]), "2 tokens where a response ends after 1"),
        (in_choices(token_ids=[5, 6], finish_reason="length"), "ends after 2 of 8 tokens without an end"),
        (in_choices(token_ids=[5, 6], finish_reason="stop"), "ends after 2 of 8 tokens without an end"),
        (in_choices(prompt_token_ids=[1, 2, 3]), "a prompt of 3 tokens where other"),
        (in_choices(logprobs={"token_logprobs": [0.0]}), "the log-probs"),
        (in_choices(logprobs={"token_logprobs": [None] * LENGTH}), "the log-probs"),
    ],
)
def test_answers_that_are_none(change, message, stub):
    policy = make()
    assert policy.end_ids == (1,)
    stub.change = change
    with pytest.raises(UserError, match=message) as caught:
        policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub))
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_no_json(stub):
    stub.before = lambda handler, number: send(handler, 200, b"<html>") or True
    with pytest.raises(UserError, match="which is no JSON"):
        make().sample(PROMPTS[:1], 1, temperature=0, sampler=ask(stub))


def test_without_ids_a_text_is_tokenised_only_on_request(stub):
    policy = make()
    expected = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub))
    stub.change = without("token_ids")  # vLLM before 0.10.2 names its tokens by their ids
    by_name = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub))
    np.testing.assert_array_equal(by_name.tokens, expected.tokens)
    np.testing.assert_array_equal(by_name.log_prob, expected.log_prob)
    stub.change = without("token_ids", "logprobs")
    with pytest.raises(UserError, match=r"gives no token ids.*retokenise=True"):
        policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub))
    anew = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=ask(stub, retokenise=True))
    assert anew.texts.tolist() == expected.texts.tolist()
    assert np.isnan(anew.log_prob).all()


def test_an_end_that_a_server_leaves_out_is_put_back_where_it_is_named():
    policy = make()
    with serving(make(), "sglang") as stub:
        expected = policy.sample(PROMPTS, 30, uniforms=numbers(4, 30), sampler=ask(stub))
        assert (expected.mask.sum(-1) < LENGTH).any()

        def trimmed(choice):
            return choice["token_ids"][:-1] if choice["finish_reason"] == "stop" else choice["token_ids"]

        stub.change = in_choices(token_ids=trimmed)
        drawn = policy.sample(PROMPTS, 30, uniforms=numbers(4, 30), sampler=ask(stub))
        stub.change = lambda answer: without("logprobs")(in_choices(token_ids=trimmed)(answer))
        silent = policy.sample(PROMPTS, 30, uniforms=numbers(4, 30), sampler=ask(stub))
    np.testing.assert_array_equal(drawn.tokens, expected.tokens)
    np.testing.assert_array_equal(drawn.mask, expected.mask)
    np.testing.assert_array_equal(drawn.log_prob, expected.log_prob)
    np.testing.assert_array_equal(silent.tokens, expected.tokens)
    assert np.isnan(silent.log_prob).all()


# A server that lags


def test_a_server_that_is_told_of_no_update_lags_and_the_ratio_says_how_far(stub):
    policy = make(sampler=ask(stub))
    start = make()
    for _ in range(2):
        nudge(policy)
    drawn = draw_candidates(
        policy, np.array(PROMPTS, object), numbers(4, 3), {"policy": 3}, None, sampler=policy.sampler
    )
    assert (drawn.policy_version == 0).all() and policy.version == 2
    now = policy.score(PROMPTS, drawn.tokens, drawn.mask)
    then = start.score(PROMPTS, drawn.tokens, drawn.mask)
    np.testing.assert_allclose(drawn.log_prob, now, atol=1e-4)
    np.testing.assert_allclose(drawn.drawn_log_prob, then, atol=1e-4)
    ratios = np.exp(now.astype(float) - then).ravel()
    figures = sampler_figures(drawn, 0)
    assert figures["sampler_lag"] == 2
    assert figures["importance_mean"] == pytest.approx(ratios.mean(), rel=1e-3)
    assert figures["importance_max"] == pytest.approx(ratios.max(), rel=1e-3)
    share = ratios.sum() ** 2 / (len(ratios) * (ratios**2).sum())
    assert figures["effective_sample_share"] == pytest.approx(share, rel=1e-3)
    assert share < 0.9


def test_the_mean_importance_ratio_of_a_lagging_server_is_one(stub):
    """E over what was drawn of pi_now / pi_drew = 1, whatever the two are: the log-probs belong to the tokens."""
    policy = make(max_new_tokens=1, sampler=ask(stub))
    nudge(policy)
    drawn = draw_candidates(
        policy,
        np.array(PROMPTS[:1], object),
        numbers(1, 5000, length=1),
        {"policy": 5000},
        None,
        sampler=policy.sampler,
    )
    ratios = np.exp(drawn.log_prob.astype(float) - drawn.drawn_log_prob)
    assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(ratios.size)


def test_ratios_that_are_not_known_or_beyond_every_number():
    def candidates(now, drew):
        shape = (1, 2)
        zeros = np.zeros(shape, np.int64)
        return Candidates(
            np.array(["p"], object),
            np.full(shape, "r", object),
            zeros[..., None],
            zeros[..., None].astype(np.int8),
            np.array([now], np.float32),
            zeros.astype(np.int8),
            zeros,
            drawn_log_prob=np.array([drew], np.float32),
            version=3,
        )

    unknown = sampler_figures(candidates([0, 0], [np.nan, 0]), 0)
    assert unknown["sampler_lag"] == 3 and np.isnan([unknown[name][0] for name in SAMPLER_FIGURES[1:]]).all()
    beyond = sampler_figures(candidates([0, 0], [-2000, 0]), 0)
    assert beyond["importance_max"] == np.inf and beyond["effective_sample_share"] == 0.5
    again = Candidates.from_state_dict(np.array(["p"], object), candidates([0, 0], [-1, 0]).state_dict())
    assert sampler_figures(again, 0)["sampler_lag"] == 3


def copied_to(stub, calls):
    """A hook that hands the policy's weights to a stub."""

    def publish(policy):
        calls.append(policy.version)
        stub.policy.model.load_state_dict(policy.model.state_dict())

    return publish


def test_weights_are_published_at_first_and_then_every_so_many_updates(stub):
    calls = []
    policy = make(sampler=ask(stub, publish=copied_to(stub, calls), publish_every=2))
    versions = []
    for _ in range(6):
        versions.append(policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=policy.sampler).version)
        nudge(policy)
    assert versions == [0, 0, 2, 2, 4, 4]
    assert calls == [0, 2, 4]
    drawn = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), sampler=policy.sampler)
    np.testing.assert_allclose(drawn.log_prob, policy.score(PROMPTS, drawn.tokens, drawn.mask), atol=1e-4)


def test_another_history_of_the_weights_is_published_anew(stub):
    calls = []
    policy = make(sampler=ask(stub, publish=copied_to(stub, calls), publish_every=5))
    state = policy.state_dict()
    draw = {"uniforms": numbers(4, 2), "sampler": policy.sampler}
    policy.sample(PROMPTS, 2, **draw)
    twin = policy.clone()
    twin.sample(PROMPTS, 2, **draw)
    policy.sample(PROMPTS, 2, **draw)
    policy.load_state_dict(state)
    policy.sample(PROMPTS, 2, **draw)
    policy.sample(PROMPTS, 2, **draw)
    assert calls == [0, 0, 0, 0]


def test_what_a_hook_raises_passes_through_and_it_is_called_again(stub):
    calls = []

    def publish(policy):
        calls.append(policy.version)
        if len(calls) == 1:
            raise OSError("disk full")

    policy = make(sampler=ask(stub, publish=publish))
    with pytest.raises(OSError, match="disk full"):
        policy.sample(PROMPTS, 1, temperature=0, sampler=policy.sampler)
    policy.sample(PROMPTS, 1, temperature=0, sampler=policy.sampler)
    assert calls == [0, 0]


# In the world


@pytest.mark.parametrize("published", [True, False])
def test_the_whole_loop_runs_through_a_server(published, stub):
    calls = []
    publish = copied_to(stub, calls) if published else None
    policy = make(sampler=ask(stub, publish=publish))
    env = make_vector(WORLD, 3, policy=policy, horizon=4, sources={"policy": 3, "reference": 1}, num_candidates=None)
    agent = duelenv.agents.make("passive", env, learning_rate=1e-2, seed=0)
    observation, _ = env.reset(seed=0)
    for step in range(4):
        version = step if published else 0
        assert policy.version == step
        assert observation["policy_version"].tolist() == [[version] * 3 + [0]] * 3
        assert observation["features"].shape == (3, 4, env.single_observation_space["features"].shape[-1])
        scored = policy.score(list(observation["prompt"]), observation["tokens"], observation["mask"])
        np.testing.assert_allclose(observation["log_prob"], scored, atol=1e-4)
        actions = agent.act(observation)
        following, labels, _, _, info = env.step(actions)
        agent.update(observation, actions, labels, info["late"])
        assert info["sampler_lag"] == step - version
        assert np.isfinite(info["importance_max"]).all()
        if published or step == 0:
            assert info["importance_mean"] == pytest.approx(1, abs=1e-3)
            assert info["effective_sample_share"] == pytest.approx(1, abs=1e-3)
        observation = following
    asked = len(stub.asked)
    metrics = env.evaluate(agent)
    assert np.isfinite(metrics["win_rate"]).all() and metrics["kl"] > 0
    assert len(stub.asked) == asked, "an evaluation is of the policy as it is, not as a server has it"


def test_ahead_the_lag_is_that_of_the_moment_of_drawing(stub):
    policy = make(sampler=ask(stub))
    env = make_vector(WORLD, 2, policy=policy, sampling="ahead")
    env.reset(seed=0)
    pairs = np.tile([[0, 1]], (2, 1))
    lags = []
    for _ in range(3):
        info = env.step(pairs)[-1]
        lags.append(info["sampler_lag"][0])
        nudge(policy)
    assert lags == [0, 0, 1]


@pytest.mark.parametrize("name", ["generate", "completions"])
def test_a_round_goes_on_from_a_checkpoint(name, stub):
    policy = make(sampler=sampler(name, stub))
    env = make_vector(WORLD, 2, policy=policy)
    observation, _ = env.reset(seed=0)
    responses = observation["responses"].tolist()
    state = env.state_dict()
    other = make_vector(WORLD, 2, policy=make(sampler=sampler(name, stub)))
    assert other.load_state_dict(state)["responses"].tolist() == responses
    pairs = np.tile([[0, 1]], (2, 1))
    theirs, own = other.step(pairs), env.step(pairs)
    assert theirs[0]["responses"].tolist() == own[0]["responses"].tolist()
    assert {name: theirs[-1][name] for name in SAMPLER_FIGURES} == {name: own[-1][name] for name in SAMPLER_FIGURES}


def test_the_scalar_form_has_the_figures_as_numbers(stub):
    env = make_scalar(WORLD, policy=make(sampler=ask(stub)))
    env.reset(seed=0)
    info = env.step(np.array([0, 1]))[-1]
    assert {name: type(info[name]) for name in SAMPLER_FIGURES} == dict.fromkeys(SAMPLER_FIGURES, float)


def test_the_own_loop_has_no_figures_of_a_sampler():
    env = make_vector(WORLD, 2, policy=make())
    env.reset(seed=0)
    assert not set(SAMPLER_FIGURES) & set(env.step(np.tile([[0, 1]], (2, 1)))[-1])


# A user's settings


def test_samplers_by_name(stub, tmp_path):
    assert sampler_of(None) is None and sampler_of("own") is None and sampler_of({"name": "own"}) is None
    assert isinstance(sampler_of("generate"), GenerateSampler)
    model, tokenizer = tiny_model("gpt_neox", 0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = {"name": "completions", "url": stub.url, "model": MODEL}
    policy = CausalLMPolicy.from_pretrained(tmp_path, max_new_tokens=LENGTH, sampler=spec)
    assert policy.sample(PROMPTS, 1, temperature=0, sampler=policy.sampler).version == 0
    assert set(SAMPLERS) >= {"completions", "generate"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vllm", "sampler 'vllm' is unknown"),
        ({"url": "http://localhost"}, "sampler None is unknown"),
        (3, "draws nothing"),
        ({"name": "own", "url": "x"}, "Unknown setting 'url'"),
        ({"name": "generate", "url": "x"}, "has no setting 'url'"),
        ({"name": "completions", "model": MODEL}, "needs the setting 'url'"),
        ({"name": "completions", "url": "http://a"}, "needs the setting 'model'"),
        ({"name": "completions", "url": "localhost:8000", "model": MODEL}, "url is 'localhost:8000'"),
        ({"name": "completions", "url": "http://a:x", "model": MODEL}, "url is 'http://a:x'"),
        ({"name": "completions", "url": "http://me:secret@a", "model": MODEL}, "url is one with a name in it"),
        ({"name": "completions", "url": "http://a", "model": ""}, "model is ''"),
        ({"name": "completions", "url": "http://a", "model": "m", "publish": "x"}, "publish is 'x'"),
        ({"name": "completions", "url": "http://a", "model": "m", "publish_every": 0}, "publish_every is 0"),
        ({"name": "completions", "url": "http://a", "model": "m", "timeout": 0}, "timeout is 0"),
        ({"name": "completions", "url": "http://a", "model": "m", "attempts": 0}, "attempts is 0"),
        ({"name": "completions", "url": "http://a", "model": "m", "concurrency": 0.5}, "concurrency is 0.5"),
        ({"name": "completions", "url": "http://a", "model": "m", "retokenise": "yes"}, "retokenise is 'yes'"),
    ],
)
def test_settings_that_are_none(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        CausalLMPolicy.from_pretrained(tmp_path / "nothing", sampler=given)


def test_a_sampler_may_be_set_later_in_every_form():
    policy = make()
    policy.sampler = {"name": "generate"}
    assert isinstance(policy.sampler, GenerateSampler) and policy.clone().sampler is policy.sampler
    policy.sampler = None
    assert policy.sampler is None


def test_a_sampler_that_draws_too_little():
    class Lazy:
        def draw(self, policy, asked):
            drawn = GenerateSampler().draw(policy, asked)
            return drawn._replace(tokens=drawn.tokens[..., :1])

    with pytest.raises(UserError, match=r"Lazy drew tokens of shape \[4, 2, 1\]"):
        make().sample(PROMPTS, 2, temperature=0, sampler=Lazy())


def test_one_refusal_does_not_wait_for_the_other_answers(stub):
    def some(handler, number):
        if number > 1:
            time.sleep(8)
            return False
        send(handler, 500, {"error": "broken"})
        return True

    stub.before = some
    started = time.perf_counter()
    with pytest.raises(UserError, match=r"answers 500 \(broken\)"):
        make().sample(PROMPTS, 1, temperature=0, sampler=ask(stub))
    assert time.perf_counter() - started < 6


def test_a_sampler_draws_from_the_policy_alone():
    with pytest.raises(UserError, match="draws from the policy alone, not from 'pilaf_plus'"):
        make().sample(PROMPTS, 1, temperature=0, source="pilaf_plus", sampler=GenerateSampler())


def test_a_sampler_of_ones_own_has_a_name():
    class Backwards:
        def __init__(self, step=1):
            self.step = step

        def draw(self, policy, asked):
            drawn = GenerateSampler().draw(policy, asked)
            return drawn._replace(version=policy.version - self.step, log_prob=None)

    SAMPLERS.register("backwards", Backwards)
    try:
        policy = make(sampler={"name": "backwards", "step": 2})
        policy.version = 5
        drawn = draw_candidates(
            policy, np.array(PROMPTS, object), numbers(4, 2), {"policy": 2}, None, sampler=policy.sampler
        )
    finally:
        del SAMPLERS._parts["backwards"]
    assert (drawn.policy_version == 3).all()
    np.testing.assert_allclose(drawn.log_prob, policy.score(PROMPTS, drawn.tokens, drawn.mask), atol=1e-4)
    figures = sampler_figures(drawn, 0)
    assert figures["sampler_lag"] == 2 and np.isnan(figures["importance_mean"])


def test_several_processes_and_a_sampler_are_refused(monkeypatch):
    monkeypatch.setattr(sharding, "others", lambda: True)
    with pytest.raises(UserError, match="several processes train the policy"):
        make().sample(PROMPTS, 1, temperature=0, sampler=GenerateSampler())
    assert make().sample(PROMPTS, 1, temperature=0).tokens.shape == (4, 1, LENGTH)
