"""The policy model against slow exact computations: full forward passes, `generate()`, and its own limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from duelenv.ground.errors import UserError
from duelenv.policies import passes, reading, scoring
from duelenv.policies.causal_lm import CausalLMPolicy
from duelenv.policies.passes import Shortcuts
from duelenv.policies.toy import tiny_model

ARCHITECTURES = ["gpt_neox", "llama", "gpt2"]
PROMPTS = ["tell me about the garden", "describe the river near the old bridge", "how", "what is the road now"]
LENGTH = 10


@pytest.fixture(autouse=True)
def _no_global_randomness():
    """Nothing here may draw from, or seed, torch's global generator."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state())


def make(architecture="gpt_neox", seed=0, **settings):
    settings = {"max_new_tokens": LENGTH, **settings}
    return CausalLMPolicy(*tiny_model(architecture, seed), **settings)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, LENGTH))


def slow_log_prob(model, tokenizer, prompt, tokens, mask):
    """One sequence, no padding, no cache, full log-softmax."""
    ids = tokenizer(prompt)["input_ids"]
    length = int(mask.sum())
    sequence = torch.tensor([ids + tokens[:length].tolist()])
    with torch.no_grad():
        log_probs = model(sequence).logits.log_softmax(-1)[0]
    return sum(float(log_probs[len(ids) - 1 + t, tokens[t]]) for t in range(length))


def nudge(policy, size=0.5):
    """A training step that makes the first candidate of each prompt likelier."""
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2, seed=9))
    optimizer = torch.optim.SGD(policy.parameters(), lr=size)
    log_prob = policy.log_prob(PROMPTS, samples.tokens, samples.mask)
    optimizer.zero_grad()
    (log_prob[:, 1] - log_prob[:, 0]).mean().backward()
    optimizer.step()
    policy.updated()
    return samples


def weights(policy, role):
    """The tensors that play a role."""
    with policy._roles.playing(role) as model:
        return list(model.parameters())


# Sampling


WAYS = {
    "every shortcut": {},
    "its own prompt": {"sharing": False},
    "head and body": {"sharing": False, "head": False},
    "no cache": {"sharing": False, "cache": False},
}


def run_as(policy, way):
    """Take shortcuts away from a policy that is allowed all of them."""
    assert policy.shortcuts == Shortcuts()
    policy.shortcuts = replace(policy.shortcuts, **WAYS[way])
    return policy


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probs_equal_a_full_forward_pass(architecture, way):
    policy = run_as(make(architecture), way)
    samples = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), temperature=0.7)
    scored = policy.log_prob(PROMPTS, samples.tokens, samples.mask).detach()
    for b, prompt in enumerate(PROMPTS):
        for k in range(3):
            slow = slow_log_prob(policy.model, policy.tokenizer, prompt, samples.tokens[b, k], samples.mask[b, k])
            assert samples.log_prob[b, k] == pytest.approx(slow, abs=1e-4)
            assert float(scored[b, k]) == pytest.approx(slow, abs=1e-4)


def test_sliding_window_attention_with_a_shared_prompt():
    from transformers import MistralConfig, MistralForCausalLM

    _, tokenizer = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=96,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                sliding_window=4,
                max_position_embeddings=64,
                initializer_range=0.2,
                eos_token_id=1,
                pad_token_id=0,
            )
        ).eval()
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    for b, prompt in enumerate(PROMPTS):
        slow = slow_log_prob(model, tokenizer, prompt, samples.tokens[b, 1], samples.mask[b, 1])
        assert samples.log_prob[b, 1] == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_limit_equals_generate(architecture, temperature):
    policy = make(architecture)
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), temperature=temperature)
    encoded = policy.tokenizer(PROMPTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = policy.model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=LENGTH,
            do_sample=False,
        )[:, encoded["input_ids"].shape[1] :].numpy()
    for k in range(2):
        for b in range(len(PROMPTS)):
            length = samples.mask[b, k].sum()
            assert samples.tokens[b, k, :length].tolist() == expected[b, :length].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_first_token_follows_the_softmax(temperature):
    policy = make(max_new_tokens=1)
    count = 20_000
    uniforms = np.random.default_rng(3).random((1, count, 1))
    samples = policy.sample(PROMPTS[:1], count, uniforms=uniforms, temperature=temperature)
    ids = torch.tensor([policy.tokenizer(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        expected = (policy.model(ids).logits[0, -1] / temperature).softmax(-1).double().numpy()
    observed = np.bincount(samples.tokens.ravel(), minlength=len(expected))
    common = expected * count >= 5
    expected *= count / expected.sum()
    if not common.all():  # the rare tokens share a bin
        observed = np.append(observed[common], observed[~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("way", ["every shortcut", "no cache"])
def test_each_token_is_where_its_own_number_falls(way):
    policy = run_as(make(), way)
    uniforms = numbers(4, 3)
    samples = policy.sample(PROMPTS, 3, uniforms=uniforms)
    for b, k in np.ndindex(4, 3):
        ids = policy.tokenizer(PROMPTS[b])["input_ids"]
        said = samples.tokens[b, k, : samples.mask[b, k].sum()]
        with torch.no_grad():
            logits = policy.model(torch.tensor([ids + said.tolist()])).logits[0, len(ids) - 1 : -1]
        below = np.pad(logits.double().softmax(-1).cumsum(-1).numpy(), ((0, 0), (1, 0)))
        steps = np.arange(len(said))
        assert (below[steps, said] - 1e-5 <= uniforms[b, k, steps]).all()
        assert (below[steps, said + 1] + 1e-5 > uniforms[b, k, steps]).all()


def test_same_uniforms_same_tokens_whatever_the_batch():
    policy = make()
    uniforms = numbers(4, 5)
    together = policy.sample(PROMPTS, 5, uniforms=uniforms)
    for b, prompt in enumerate(PROMPTS):
        alone = policy.sample([prompt], 1, uniforms=uniforms[b : b + 1, 4:])
        assert alone.tokens.shape == (1, 1, LENGTH)
        assert alone.tokens[0, 0].tolist() == together.tokens[b, 4].tolist()
        assert alone.texts[0, 0] == together.texts[b, 4]
        np.testing.assert_allclose(alone.log_prob[0, 0], together.log_prob[b, 4], atol=1e-4)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("way", ["every shortcut", "its own prompt", "no cache"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropping_finished_rows_changes_nothing(architecture, way, hidden, monkeypatch):
    model, tokenizer = tiny_model(architecture)
    model.generation_config.eos_token_id = list(range(1, 40))  # most responses end early
    policy = run_as(CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH), way)
    read = []
    step = reading._step
    monkeypatch.setattr(
        reading, "_step", lambda model, ids, *rest, **more: read.append(len(ids)) or step(model, ids, *rest, **more)
    )
    uniforms = numbers(4, 8)
    samples = policy.sample(PROMPTS, 8, uniforms=uniforms, hidden=hidden)
    assert len(set(read)) >= 2 and read == sorted(read, reverse=True)
    if hidden:  # a row that was dropped has been read to its end
        np.testing.assert_allclose(samples.hidden, policy.embed(PROMPTS, samples.tokens, samples.mask), atol=1e-4)
    scored = policy.log_prob(PROMPTS, samples.tokens, samples.mask).detach()
    np.testing.assert_allclose(samples.log_prob, scored, atol=1e-4)
    for b, k in np.ndindex(4, 8):
        alone = policy.sample([PROMPTS[b]], 1, uniforms=uniforms[b : b + 1, k : k + 1])
        assert alone.tokens[0, 0].tolist() == samples.tokens[b, k].tolist()
        assert alone.mask[0, 0].tolist() == samples.mask[b, k].tolist()


@pytest.mark.parametrize("source", ["policy", "pilaf_minus"])
@pytest.mark.parametrize("most", [1, 2, 3, 7, 12, 100])  # of 4 x 5: candidates cut, prompts cut, neither
def test_decoding_in_parts_gives_the_same_responses(most, source, monkeypatch):
    model, tokenizer = tiny_model()
    model.generation_config.eos_token_id = list(range(1, 20))
    whole = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    nudge(whole)
    parts = whole.clone()
    parts.max_sequences = most
    rows, run = [], passes.run
    monkeypatch.setattr(
        reading, "run", lambda model, ids, *rest, **more: rows.append(len(ids)) or run(model, ids, *rest, **more)
    )
    samples = parts.sample(PROMPTS, 5, uniforms=numbers(4, 5), source=source)
    assert max(rows) <= most
    expected = whole.sample(PROMPTS, 5, uniforms=numbers(4, 5), source=source)
    assert (samples.tokens == expected.tokens).all() and (samples.mask == expected.mask).all()
    assert (samples.texts == expected.texts).all()
    np.testing.assert_allclose(samples.log_prob, expected.log_prob, atol=1e-4)
    drawn = [p.sample(PROMPTS, 5, generator=torch.Generator().manual_seed(1)).tokens for p in (whole, parts)]
    assert (drawn[0] == drawn[1]).all()


def test_generator_repeats_itself():
    policy = make()
    draws = [policy.sample(PROMPTS, 2, generator=torch.Generator().manual_seed(seed)).tokens for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


@pytest.mark.parametrize("end_ids", [1, [1, 7, 20]])
def test_mask_ends_with_the_first_end_token(end_ids):
    model, tokenizer = tiny_model()
    model.generation_config.eos_token_id = end_ids
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    samples = policy.sample(PROMPTS, 16, uniforms=numbers(4, 16), temperature=1.5)
    assert samples.tokens.dtype == np.int64 and samples.mask.dtype == np.int8
    assert samples.log_prob.dtype == np.float32 and samples.texts.shape == (4, 16)
    ends = np.isin(samples.tokens, end_ids)
    assert ends.any()
    for row, mask, end in zip(
        samples.tokens.reshape(-1, LENGTH), samples.mask.reshape(-1, LENGTH), ends.reshape(-1, LENGTH), strict=True
    ):
        length = int(end.argmax()) + 1 if end.any() else LENGTH
        assert mask.tolist() == [1] * length + [0] * (LENGTH - length)
        assert (row[length:] == tokenizer.pad_token_id).all()


def test_without_a_pad_token_the_end_token_pads():
    model, tokenizer = tiny_model("llama")
    expected = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH).sample(PROMPTS, 4, uniforms=numbers(4, 4))
    tokenizer.pad_token = None
    samples = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH).sample(PROMPTS, 4, uniforms=numbers(4, 4))
    assert (samples.mask == expected.mask).all()
    assert (samples.tokens[samples.mask == 0] == tokenizer.eos_token_id).all()
    np.testing.assert_allclose(samples.log_prob, expected.log_prob, atol=1e-5)


def test_sampling_in_training_mode_keeps_the_cache_and_restores_the_mode():
    policy = make("llama")
    expected = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    plain = policy.log_prob(PROMPTS, expected.tokens, expected.mask)
    policy.model.train()
    policy.model.gradient_checkpointing_enable()
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    assert (samples.tokens == expected.tokens).all()
    assert policy.model.training and policy.model.is_gradient_checkpointing
    scored = policy.log_prob(PROMPTS, expected.tokens, expected.mask)
    scored.sum().backward()
    assert torch.allclose(scored, plain, atol=1e-4)


def test_chat_template_is_used():
    model, tokenizer = tiny_model()
    with pytest.raises(UserError, match="chat template"):
        CausalLMPolicy(model, tokenizer, chat_template=True)
    tokenizer.chat_template = (
        "{% for m in messages %}tell {{ m.content }}{% endfor %}{% if add_generation_prompt %} now{% endif %}"
    )
    chat = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH, chat_template=True)
    plain = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    wrapped = [f"tell {prompt} now" for prompt in PROMPTS]
    uniforms = numbers(4, 2)
    assert (
        chat.sample(PROMPTS, 2, uniforms=uniforms).tokens == plain.sample(wrapped, 2, uniforms=uniforms).tokens
    ).all()


def test_bfloat16_runs_and_stays_close():
    policy = make("llama")
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    half = CausalLMPolicy(policy.model.to(torch.bfloat16), policy.tokenizer, max_new_tokens=LENGTH)
    drawn = half.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    scored = half.log_prob(PROMPTS, drawn.tokens, drawn.mask)
    assert scored.dtype == torch.float32
    np.testing.assert_allclose(scored.detach().numpy(), drawn.log_prob, atol=0.5)
    again = half.log_prob(PROMPTS, samples.tokens, samples.mask).detach().numpy()
    np.testing.assert_allclose(again, samples.log_prob, atol=0.5)


# Sources


def test_pilaf_with_beta_zero_is_the_policy():
    policy = make()
    nudge(policy)
    uniforms = numbers(4, 3)
    expected = policy.sample(PROMPTS, 3, uniforms=uniforms)
    for source in ("pilaf_plus", "pilaf_minus"):
        samples = policy.sample(PROMPTS, 3, uniforms=uniforms, source=source, beta=0.0)
        assert (samples.tokens == expected.tokens).all()


@pytest.mark.parametrize(("source", "sign"), [("pilaf_plus", 1.0), ("pilaf_minus", -1.0)])
def test_pilaf_mixes_logits(source, sign):
    policy = make()
    nudge(policy, size=2.0)
    beta = 0.4
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), source=source, beta=beta)
    start = tiny_model("gpt_neox", 0)[0]
    for b, prompt in enumerate(PROMPTS):
        ids = policy.tokenizer(prompt)["input_ids"]
        length = int(samples.mask[b, 0].sum())
        response = samples.tokens[b, 0, :length]
        sequence = torch.tensor([ids + response.tolist()])
        with torch.no_grad():
            logits = (1 + sign * beta) * policy.model(sequence).logits - sign * beta * start(sequence).logits
        slow = logits.log_softmax(-1)[0, len(ids) - 1 : -1][range(length), response].sum()
        assert samples.log_prob[b, 0] == pytest.approx(float(slow), abs=1e-4)


def test_pilaf_minus_with_beta_one_is_the_reference():
    policy = make()
    nudge(policy)
    uniforms = numbers(4, 2)
    mixed = policy.sample(PROMPTS, 2, uniforms=uniforms, source="pilaf_minus", beta=1.0)
    reference = policy.sample(PROMPTS, 2, uniforms=uniforms, source="reference")
    assert (mixed.tokens == reference.tokens).all()


# Scoring and training


def test_gradients_flow_and_equal_those_of_a_full_pass():
    policy = make()
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    policy.log_prob(PROMPTS, samples.tokens, samples.mask).sum().backward()
    found = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.model.zero_grad()
    total = 0.0
    for b, prompt in enumerate(PROMPTS):
        ids = policy.tokenizer(prompt)["input_ids"]
        for k in range(2):
            length = int(samples.mask[b, k].sum())
            response = samples.tokens[b, k, :length]
            logits = policy.model(torch.tensor([ids + response.tolist()])).logits
            total = total + logits.log_softmax(-1)[0, len(ids) - 1 : -1][range(length), response].sum()
    total.backward()
    for gradient, parameter in zip(found, policy.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_through_a_shared_prompt(architecture):
    gradients = []
    for way in WAYS:
        policy = run_as(make(architecture), way)
        samples = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3))
        policy.log_prob(PROMPTS, samples.tokens, samples.mask).mean().backward()
        gradients.append([parameter.grad for parameter in policy.parameters()])
    for each in zip(*gradients, strict=True):
        for other in each[1:]:
            torch.testing.assert_close(each[0], other, atol=1e-5, rtol=1e-4)


def test_per_token_sums_to_the_whole_and_is_zero_off_the_mask():
    policy = make()
    samples = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3), temperature=1.5)
    with torch.no_grad():
        tokens = policy.log_prob(PROMPTS, samples.tokens, samples.mask, per_token=True)
        whole = policy.log_prob(PROMPTS, torch.from_numpy(samples.tokens), torch.from_numpy(samples.mask))
    assert tokens.shape == samples.tokens.shape
    assert (tokens.numpy()[samples.mask == 0] == 0).all()
    torch.testing.assert_close(tokens.sum(-1), whole)


@pytest.mark.parametrize("budget", [1, 96 * LENGTH * 2, 96 * LENGTH * 7])
def test_pieces_change_nothing(budget, monkeypatch):
    policy = make()
    samples = policy.sample(PROMPTS, 3, uniforms=numbers(4, 3))
    whole = policy.reference_log_prob(PROMPTS, samples.tokens, samples.mask)
    embedded = policy.embed(PROMPTS, samples.tokens, samples.mask)
    monkeypatch.setattr(scoring, "_PASS_BUDGET", budget)
    torch.testing.assert_close(
        policy.reference_log_prob(PROMPTS, samples.tokens, samples.mask), whole, atol=1e-5, rtol=1e-5
    )
    np.testing.assert_allclose(policy.embed(PROMPTS, samples.tokens, samples.mask), embedded, atol=1e-5)


def test_score_is_the_log_prob_as_an_array():
    policy = make()
    nudge(policy)
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    arguments = (PROMPTS, samples.tokens, samples.mask)
    found = policy.score(*arguments)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, samples.log_prob, atol=1e-4)
    np.testing.assert_allclose(
        policy.score(*arguments, source="reference"), policy.reference_log_prob(*arguments), atol=1e-6
    )


def test_start_and_reference_stay_while_the_policy_learns_and_the_reference_moves():
    policy = make()
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2, seed=9))
    arguments = (PROMPTS, samples.tokens, samples.mask)
    start = policy.start_log_prob(*arguments)
    np.testing.assert_allclose(policy.log_prob(*arguments).detach(), start, atol=1e-5)  # KL to the start is 0
    embedded = policy.embed(*arguments)
    nudge(policy)
    assert policy.version == 1
    learned = policy.log_prob(*arguments).detach()
    assert (learned - start).abs().max() > 0.01
    torch.testing.assert_close(policy.reference_log_prob(*arguments), start)
    assert (policy.embed(*arguments) == embedded).all()  # features of old data do not drift
    policy.move_reference()
    torch.testing.assert_close(policy.reference_log_prob(*arguments), learned)
    torch.testing.assert_close(policy.start_log_prob(*arguments), start)
    nudge(policy)
    torch.testing.assert_close(policy.reference_log_prob(*arguments), learned)


def test_no_copy_for_the_reference_until_it_moves():
    policy = make()
    with policy._roles.playing("start") as start, policy._roles.playing("reference") as reference:
        assert start is reference is not policy.model
        assert not any(parameter.requires_grad for parameter in start.parameters())


# Embeddings


@pytest.mark.parametrize("way", ["every shortcut", "its own prompt"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embedding_is_the_mean_hidden_state_of_the_response(architecture, way):
    policy = run_as(make(architecture), way)
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), hidden=True)
    with_prompt = policy.embed(PROMPTS, samples.tokens, samples.mask)
    alone = policy.embed(None, samples.tokens, samples.mask)
    assert with_prompt.shape == (4, 2, policy.hidden_size) and with_prompt.dtype == np.float32
    for b, prompt in enumerate(PROMPTS):
        length = int(samples.mask[b, 1].sum())
        response = samples.tokens[b, 1, :length].tolist()
        for found, before in ((with_prompt, policy.tokenizer(prompt)["input_ids"]), (alone, [])):
            with torch.no_grad():
                output = policy.model(torch.tensor([before + response]), output_hidden_states=True)
            expected = output.hidden_states[-1][0, len(before) :].mean(0).numpy()
            np.testing.assert_allclose(found[b, 1], expected, atol=1e-4)
    np.testing.assert_allclose(samples.hidden, with_prompt, atol=1e-4)  # the start itself drew


# Copies and files


def test_clone_is_independent():
    policy = make()
    nudge(policy)
    policy.move_reference()
    twin = policy.clone()
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    arguments = (PROMPTS, samples.tokens, samples.mask)
    before = policy.log_prob(*arguments).detach()
    torch.testing.assert_close(twin.log_prob(*arguments).detach(), before)
    nudge(twin)
    twin.move_reference()
    assert (policy.version, twin.version) == (1, 2)
    torch.testing.assert_close(policy.log_prob(*arguments).detach(), before)
    torch.testing.assert_close(policy.reference_log_prob(*arguments), before)
    assert (twin.reference_log_prob(*arguments) - before).abs().max() > 1e-3


@pytest.mark.parametrize("move", [False, True])
def test_save_and_load_give_back_the_same_policy(move, tmp_path):
    policy = make("llama", temperature=0.7, max_sequences=6)
    nudge(policy)
    if move:
        policy.move_reference()
        nudge(policy)
    policy.save(tmp_path / "saved")
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = CausalLMPolicy.load(tmp_path / "saved")
    assert (loaded.version, loaded.temperature, loaded.max_new_tokens) == (1 + move, 0.7, LENGTH)
    assert (loaded.chat_template, loaded.max_sequences) == (False, 6)
    assert not any(parameter.requires_grad for role in ("start", "reference") for parameter in weights(loaded, role))
    uniforms = numbers(4, 2)
    for source in ("policy", "reference", "start"):
        expected = policy.sample(PROMPTS, 2, uniforms=uniforms, source=source)
        samples = loaded.sample(PROMPTS, 2, uniforms=uniforms, source=source)
        assert (samples.tokens == expected.tokens).all()
        np.testing.assert_allclose(samples.log_prob, expected.log_prob, atol=1e-5)
        assert (samples.texts == expected.texts).all()


def test_state_dict_continues_on_a_policy_with_the_same_start():
    policy = make()
    nudge(policy)
    policy.move_reference()
    nudge(policy)
    state = policy.state_dict()
    nudge(policy)
    other = make()
    other.load_state_dict(state)
    policy.load_state_dict(state)
    assert other.version == policy.version == 2
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    for score in ("log_prob", "reference_log_prob", "start_log_prob"):
        torch.testing.assert_close(
            getattr(other, score)(PROMPTS, samples.tokens, samples.mask),
            getattr(policy, score)(PROMPTS, samples.tokens, samples.mask),
        )
    with pytest.raises(UserError, match="start model"):
        make(seed=1).load_state_dict(state)


def test_from_pretrained(tmp_path):
    model, tokenizer = tiny_model("gpt2")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = CausalLMPolicy.from_pretrained(tmp_path, max_new_tokens=LENGTH, max_sequences=3)
    assert policy.max_sequences == 3
    uniforms = numbers(4, 2)
    expected = make("gpt2").sample(PROMPTS, 2, uniforms=uniforms)
    assert (policy.sample(PROMPTS, 2, uniforms=uniforms).tokens == expected.tokens).all()
    with pytest.raises(UserError, match="nothing-here"):
        CausalLMPolicy.from_pretrained(tmp_path / "nothing-here")


# A user's mistakes


def test_long_prompt_is_named():
    policy = make()  # context 64
    with pytest.raises(UserError, match=r"prompt 1 has 55 tokens; expected at most 54"):
        policy.sample(["the"] * 1 + [" ".join(["the"] * 55)], 1, uniforms=numbers(2, 1))
    policy.sample([" ".join(["the"] * 54)], 1, uniforms=numbers(1, 1))
    policy.check_prompts([" ".join(["the"] * 54)])


@pytest.mark.parametrize("prompts", [[], "how", ["how", " ".join(["the"] * 55)]])
def test_check_prompts_says_what_sample_says(prompts):
    policy = make()
    with pytest.raises(UserError) as checked:
        policy.check_prompts(prompts)
    with pytest.raises(UserError) as sampled:
        policy.sample(prompts, 1, uniforms=numbers(len(prompts), 1))
    assert str(checked.value) == str(sampled.value)
    assert "\n" not in str(checked.value) and str(checked.value)[-1] != "."


def test_empty_prompt_continues_from_the_end_token_or_fails():
    model, tokenizer = tiny_model()
    policy = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    samples = policy.sample(["", PROMPTS[0]], 2, uniforms=numbers(2, 2))
    assert np.isfinite(samples.log_prob).all()
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    bare = CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)
    with pytest.raises(UserError, match="prompt 1 has no tokens"):
        bare.sample([PROMPTS[0], ""], 1, uniforms=numbers(2, 1))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (([], 2), {"uniforms": numbers(1, 2)}, "no prompts"),
        (("how", 2), {"uniforms": numbers(1, 2)}, "sequence of strings"),
        ((PROMPTS, 2), {"uniforms": numbers(4, 3)}, r"\[4, 3, 10\]; expected .*\[4, 2, 10\]"),
        ((PROMPTS, 2), {"uniforms": numbers(4, 2) + 0.5}, r"\[0, 1\)"),
        ((PROMPTS, 2), {"uniforms": numbers(4, 2) * np.nan}, r"\[0, 1\)"),
        ((PROMPTS, 2), {}, "randomness"),
        ((PROMPTS, 2), {"uniforms": numbers(4, 2), "generator": torch.Generator()}, "both given"),
        ((PROMPTS, 0), {"uniforms": numbers(4, 2)}, "num_responses is 0"),
        (
            (PROMPTS, 2),
            {"uniforms": numbers(4, 2), "source": "best"},
            "source='best' is unknown: choose from",
        ),
        ((PROMPTS, 2), {"uniforms": numbers(4, 2), "temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_mistakes_in_sampling(arguments, settings, message):
    with pytest.raises(UserError, match=message):
        make().sample(*arguments, **settings)


def test_mistakes_in_scoring_and_settings():
    policy = make()
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    with pytest.raises(UserError, match="3 prompts came with responses to 4"):
        policy.log_prob(PROMPTS[:3], samples.tokens, samples.mask)
    with pytest.raises(UserError, match="shape"):
        policy.log_prob(PROMPTS, samples.tokens[:, 0], samples.mask[:, 0])
    with pytest.raises(UserError, match="shape"):
        policy.embed(PROMPTS, samples.tokens, samples.mask[:, :, 1:])
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        make(max_new_tokens=0)
    with pytest.raises(UserError, match="temperature is nan"):
        make(temperature=float("nan"))
    with pytest.raises(UserError, match="max_sequences is 0"):
        make(max_sequences=0)
    with pytest.raises(UserError, match="source='pilaf_plus' is unknown: choose from policy, reference, start"):
        policy.score(PROMPTS, samples.tokens, samples.mask, source="pilaf_plus")


# PEFT


def adapted(name="default"):
    peft = pytest.importorskip("peft")
    model, tokenizer = tiny_model("llama")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(1)
        model = peft.get_peft_model(
            model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"), adapter_name=name
        )
    return CausalLMPolicy(model, tokenizer, max_new_tokens=LENGTH)


def test_adapter_disabled_is_the_reference_and_a_second_one_a_moved_reference():
    policy = adapted()
    base = make("llama")
    trainable = [parameter.requires_grad for parameter in policy.model.parameters()]
    samples = base.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    arguments = (PROMPTS, samples.tokens, samples.mask)
    start = base.start_log_prob(*arguments)
    nudge(policy, size=2.0)
    learned = policy.log_prob(*arguments).detach()
    assert (learned - start).abs().max() > 1e-3
    torch.testing.assert_close(policy.reference_log_prob(*arguments), start, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(policy.embed(*arguments), base.embed(*arguments), atol=1e-5)
    assert [parameter.requires_grad for parameter in policy.model.parameters()] == trainable
    count = len(policy.parameters())
    policy.move_reference()
    assert len(policy.parameters()) == count
    torch.testing.assert_close(policy.reference_log_prob(*arguments), learned)
    nudge(policy, size=2.0)
    torch.testing.assert_close(policy.reference_log_prob(*arguments), learned)
    torch.testing.assert_close(policy.start_log_prob(*arguments), start, atol=1e-5, rtol=1e-5)
    mixed = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), source="pilaf_minus", beta=1.0)
    reference = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2), source="reference")
    assert (mixed.tokens == reference.tokens).all()


@pytest.mark.parametrize("name", ["default", "aligned"])
def test_adapter_save_load_state_and_clone(name, tmp_path):
    policy = adapted(name)
    nudge(policy, size=2.0)
    policy.move_reference()
    nudge(policy, size=2.0)
    policy.save(tmp_path)
    samples = policy.sample(PROMPTS, 2, uniforms=numbers(4, 2))
    fresh = adapted(name)
    fresh.load_state_dict(policy.state_dict())
    loaded = CausalLMPolicy.load(tmp_path, base_model=tiny_model("llama")[0])
    assert len(loaded.parameters()) == len(fresh.parameters()) == len(policy.parameters())
    for other in (fresh, loaded, policy.clone()):
        assert other.version == 2
        for score in ("log_prob", "reference_log_prob", "start_log_prob"):
            torch.testing.assert_close(
                getattr(other, score)(PROMPTS, samples.tokens, samples.mask),
                getattr(policy, score)(PROMPTS, samples.tokens, samples.mask),
            )


def test_adapter_state_from_before_the_reference_moved():
    policy = adapted()
    state = policy.state_dict()
    samples = nudge(policy, size=2.0)
    arguments = (PROMPTS, samples.tokens, samples.mask)
    policy.move_reference()
    policy.load_state_dict(state)
    torch.testing.assert_close(policy.reference_log_prob(*arguments), policy.start_log_prob(*arguments))
    nudge(policy, size=2.0)
    policy.move_reference()  # once more, into the adapter that is there
    torch.testing.assert_close(policy.reference_log_prob(*arguments), policy.log_prob(*arguments).detach())


def test_a_prompt_is_tokenised_once(monkeypatch):
    """However often a round and its lessons meet it, and also where more are met than are remembered."""
    from duelenv.policies import codec

    policy = CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=6)
    given = []
    tokenizer = policy.tokenizer

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, **settings):
            given.extend(texts)
            return tokenizer(texts, **settings)

    plain = policy._codec.encode(["a village", "b", "a village"], 2)
    policy._codec.tokenizer = Counting()
    policy._codec._remembered.clear()
    for _ in range(3):
        again = policy._codec.encode(["a village", "b", "a village"], 2)
        assert torch.equal(again.ids, plain.ids) and torch.equal(again.attention, plain.attention)
    assert given == ["a village", "b"]
    monkeypatch.setattr(codec, "_REMEMBERED", 3)
    for _ in range(2):
        policy._codec.encode(["c", "d", "b"], 2)
        assert torch.equal(policy._codec.encode(["a village", "b", "a village"], 2).ids, plain.ids)


@pytest.mark.parametrize("prompts", [None, ["a village", "a market"]])
def test_an_embedding_is_the_mean_over_the_responses_own_tokens(prompts):
    """Beside a longer response, and cut to its own length, a short one is the same."""
    policy = CausalLMPolicy(*tiny_model("gpt_neox", 0), max_new_tokens=6)
    tokens = policy.sample(["a village", "a market"], 2, generator=torch.Generator().manual_seed(0)).tokens
    mask = np.ones_like(tokens, np.int8)
    mask[:, 0, 2:] = 0
    both = policy.embed(prompts, tokens, mask)
    alone = policy.embed(prompts, tokens[:, :1, :2], mask[:, :1, :2])
    np.testing.assert_allclose(both[:, :1], alone, atol=1e-5)
    other = tokens.copy()
    other[:, 0, 2:] = 3  # what lies behind the response
    np.testing.assert_allclose(policy.embed(prompts, other, mask)[:, 0], both[:, 0], atol=1e-5)
    assert np.abs(policy.embed(prompts, tokens, np.ones_like(mask))[:, 0] - both[:, 0]).max() > 1e-3
