"""Attention over a shared prompt against a loop over queries, and against plain passes of models."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import model_of, tokenizer
from transformers import DynamicCache

from duelenv.policies import CausalLMPolicy, decoding, reading, scoring, shared_prompt
from duelenv.policies.codec import Prompts
from duelenv.policies.shared_prompt import Packed, Scores, SharedPrompt

KEY, VALUE = 4, 6  # widths that differ


def random(*shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def ragged(lengths):
    """Prompts padded on the left: what stands in the padding is not zero, and must not be seen."""
    width = max(lengths)
    attention = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    return Prompts(torch.ones_like(attention), attention)


def slow(query, keys, values, place, scores):
    """What one query [d] at a place of its sequence takes from the keys and values [n, d] of that sequence alone."""
    first = 0 if scores.window is None else max(0, place + 1 - scores.window)
    products = scores.scaling * (keys[first : place + 1] @ query)
    if scores.softcap is not None:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    return torch.softmax(products, 0) @ values[first : place + 1]


def in_one_sequence(prompts, states, row, response, responses, length):
    """A head's states [T + K * W, d] of one row -> those of a prompt and one of its responses, without the padding."""
    width = prompts.ids.shape[1]
    real = states[prompts.attention[row].bool().nonzero()[:, 0]]
    begin = width + response * length
    assert responses * length + width == len(states)
    return torch.cat([real, states[begin : begin + length]])


def slow_packed(prompts, query, key, value, responses, length, scores):
    """Outputs of the responses [B, H, K, W, d] and of the real tokens of the prompts, as a list [B][H] of [n, d]."""
    rows, heads = query.shape[:2]
    groups = heads // key.shape[1]
    said, read = [], []
    for row in range(rows):
        count = int(prompts.attention[row].sum())
        for head in range(heads):
            for response in range(responses):
                parts = [
                    in_one_sequence(prompts, states[row, at], row, response, responses, length)
                    for states, at in ((query, head), (key, head // groups), (value, head // groups))
                ]
                outputs = [slow(parts[0][i], *parts[1:], i, scores) for i in range(count + length)]
                said.append(torch.stack(outputs[count:]) if length else torch.zeros(0, VALUE))
                if response == 0:
                    read.append(torch.stack(outputs[:count]))
    return torch.stack(said).view(rows, heads, responses, length, VALUE), read


# (lengths of prompts, K, W, KV heads, groups, window, softcap)
CASES = {
    "plain": ([3, 3], 2, 3, 2, 1, None, None),
    "ragged, in groups": ([4, 1, 2], 3, 2, 2, 2, None, None),
    "one KV head": ([2, 3], 2, 2, 1, 4, None, None),
    "a window of one": ([3, 2], 2, 2, 1, 2, 1, None),
    "a window below both": ([5, 3], 2, 4, 1, 2, 2, None),
    "a window as long as a response": ([5, 2], 2, 3, 2, 2, 3, None),
    "a window as long as a prompt": ([4, 2], 2, 5, 1, 2, 4, None),
    "a window between": ([5, 1], 2, 3, 1, 1, 4, None),
    "a window of all": ([3, 2], 2, 3, 1, 1, 6, None),
    "a window beyond all": ([3, 2], 2, 3, 1, 1, 20, None),
    "a window without padding": ([4, 4], 2, 3, 1, 2, 3, None),
    "a cap": ([3, 1], 2, 2, 2, 2, None, 0.7),
    "a cap without padding": ([3, 3], 2, 2, 1, 2, None, 0.7),
    "a cap and a window": ([4, 2], 2, 3, 1, 2, 3, 0.7),
    "one response": ([3, 2], 1, 3, 1, 2, None, None),
    "one token": ([3, 2], 3, 1, 1, 2, None, None),
    "nothing behind": ([3, 2], 2, 0, 1, 2, None, None),
    "a prompt of one token": ([1], 2, 3, 1, 2, None, None),
    "one of everything": ([1], 1, 1, 1, 1, 1, 0.7),
}


@pytest.mark.parametrize("case", CASES)
def test_packed_attention_equals_a_loop_over_queries(case):
    lengths, responses, length, heads, groups, window, softcap = CASES[case]
    prompts, scores = ragged(lengths), Scores(0.6, softcap, window, 0.0)
    total = prompts.ids.shape[1] + responses * length
    shapes = [(heads * groups, KEY), (heads, KEY), (heads, VALUE)]
    states = [
        random(len(lengths), count, total, width, seed=seed).requires_grad_()
        for seed, (count, width) in enumerate(shapes)
    ]
    layout = Packed(prompts.attention, responses, length, [window])
    found = layout.attend(*states, scores)
    assert found.shape == (len(lengths), heads * groups, total, VALUE) and found.isfinite().all()
    said, read = slow_packed(prompts, *states, responses, length, scores)
    width = prompts.ids.shape[1]
    own = found[:, :, width:].unflatten(2, (responses, length)) if length else found.new_zeros(said.shape)
    before = [
        found[b, h, :width][prompts.attention[b].bool()] for b in range(len(lengths)) for h in range(heads * groups)
    ]
    torch.testing.assert_close(own, said.to(own), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(before, read, atol=1e-9, rtol=1e-9)

    def gradients(own, before):
        weighted = [(torch.cos(torch.arange(float(part.numel())).view(part.shape)) * part).sum() for part in before]
        loss = (torch.sin(torch.arange(1.0, 1 + own.numel()).view(own.shape)) * own).sum() + sum(weighted)
        return torch.autograd.grad(loss, states)

    torch.testing.assert_close(gradients(own, before), gradients(said, read), atol=1e-8, rtol=1e-8)


def test_positions_go_on_behind_each_prompt():
    layout = Packed(ragged([3, 1]).attention, 2, 2, [None])
    assert layout.places().tolist() == [[0, 1, 2, 3, 4, 3, 4], [0, 0, 0, 1, 2, 1, 2]]


def test_packed_attention_passes_the_check_of_its_gradients():
    prompts = ragged([3, 1])
    layout = Packed(prompts.attention, 2, 2, [2])
    shapes = ((4, 2), (2, 2), (2, 3))
    states = [random(2, heads, 7, wide, seed=heads + wide).requires_grad_() for heads, wide in shapes]
    for softcap in (None, 0.7):
        assert torch.autograd.gradcheck(
            lambda *parts, cap=softcap: layout.attend(*parts, Scores(0.6, cap, 2, 0.0)), states
        )


# Rows that go on after each step, of those there are; () drops none
DROPS = {
    "none": [(), (), ()],
    "one": [(0, 1, 3, 4, 5, 6, 7, 8), (), ()],
    "unevenly": [(0, 3, 4, 7, 8), (), (1, 2, 4)],
    "a whole prompt": [(0, 1, 2, 6, 8), (), ()],
    "the first prompt, then of the rest": [(3, 4, 5, 7), (0, 2, 3), (1, 2)],
    "all but the last row": [(8,), (), ()],
    "several at once": [(0, 1, 2, 3, 4, 5), (0, 2, 3, 5), (0, 3)],
}


def drawn_step_by_step(prompts, states, responses, length, windows, scores, drops, twice=False):
    """Outputs [H, d] by (prompt, response, step), from a cache as a model fills it, one layer or two."""
    _, key, value = states
    width = prompts.ids.shape[1]
    read = DynamicCache()
    for number, window in enumerate(windows):
        read.update(key[number][:, :, :width], value[number][:, :, :width], number)
        if window is not None:  # a layer with a window keeps no more
            layer = read.layers[number]
            layer.keys, layer.values = (part[:, :, max(0, width - window + 1) :] for part in (layer.keys, layer.values))
    cache = SharedPrompt(read, prompts, responses, length, windows)
    rows = [(b, k) for b in range(len(prompts)) for k in range(responses)]
    outputs, places = [{} for _ in windows], []
    for step in range(length):
        assert cache.get_seq_length() == width + step
        places.append([(row, int(place)) for row, place in zip(rows, cache.places()[:, 0], strict=True)])
        at = [(b, width + k * length + step) for b, k in rows]
        for number, window in enumerate(windows):
            now = [torch.stack([part[number][b, :, i] for b, i in at])[:, :, None] for part in states]
            cache.update(now[1], now[2], number)
            out = cache.attend(*now, Scores(scores.scaling, scores.softcap, window, 0.0))
            for (b, k), each in zip(rows, out[:, :, 0], strict=True):
                outputs[number][b, k, step] = each
        if step < len(drops):
            for kept in [drops[step]] if not twice else [drops[step], ()]:
                if kept:
                    cache.select(torch.tensor(kept))
                    rows = [rows[i] for i in kept]
                elif twice:
                    cache.select(torch.arange(len(rows)))
    return outputs, places


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("window", [None, 1, 3, 4, 7])
def test_drawing_behind_a_shared_prompt_equals_a_loop_over_queries(drop, window):
    lengths, responses, length, heads = [2, 4, 1], 3, 4, 2
    prompts = ragged(lengths)
    total = prompts.ids.shape[1] + responses * length
    windows = [None, window]
    for groups, softcap in ((1, None), (2, 0.7), (4, None)):
        scores = Scores(0.6, softcap, None, 0.0)
        shapes = [(heads * groups, KEY), (heads, KEY), (heads, VALUE)]
        states = [random(2, 3, count, total, wide, seed=wide + count) for count, wide in shapes]
        found, places = drawn_step_by_step(
            prompts, states, responses, length, windows, scores, DROPS[drop], twice=groups == 2
        )
        assert len(found[0]) >= 3 * responses
        for step, at in enumerate(places):
            assert all(place == lengths[b] + step for (b, _), place in at)
        chosen = [key for number, key in enumerate(found[1]) if number % 4 == 0 or key[2] == length - 1]
        for number, seen in enumerate(windows):
            for b, k, step in chosen:
                for head in range(heads * groups):
                    parts = [
                        in_one_sequence(prompts, states[i][number][b, at], b, k, responses, length)
                        for i, at in ((0, head), (1, head // groups), (2, head // groups))
                    ]
                    place = lengths[b] + step
                    expected = slow(parts[0][place], *parts[1:], place, Scores(0.6, softcap, seen, 0.0))
                    torch.testing.assert_close(found[number][b, k, step][head], expected, atol=1e-9, rtol=1e-9)


def test_half_precision_comes_close_to_the_loop():
    prompts, scores = ragged([4, 2]), Scores(0.5, None, 3, 0.0)
    exact = [random(1, 2, count, 10, wide, seed=wide) for count, wide in ((4, KEY), (2, KEY), (2, VALUE))]
    half = [part.to(torch.bfloat16) for part in exact]
    found, _ = drawn_step_by_step(prompts, half, 2, 3, [3], scores, DROPS["none"])
    expected, _ = drawn_step_by_step(prompts, exact, 2, 3, [3], scores, DROPS["none"])
    packed = Packed(prompts.attention, 2, 3, [3]).attend(*(part[0] for part in half), scores)
    for (b, k, step), each in found[0].items():
        assert each.dtype == torch.bfloat16
        torch.testing.assert_close(each.double(), expected[0][b, k, step], atol=0.05, rtol=0.05)
        torch.testing.assert_close(
            packed[b, :, 4 + 3 * k + step].double(), expected[0][b, k, step], atol=0.05, rtol=0.05
        )


# Models


LENGTH = 12


def policy_of(family, model=None, **changes):
    model = model_of(family, **changes) if model is None else model
    return CausalLMPolicy(model, tokenizer(), max_new_tokens=LENGTH)


def texts(*lengths):
    generator = np.random.default_rng(7)
    return [" ".join(f"w{number}" for number in generator.integers(3, 96, length)) for length in lengths]


def numbers(prompts, responses, seed=0):
    return np.random.default_rng(seed).random((len(prompts), responses, LENGTH))


def plain_passes(policy, prompts, tokens, mask):
    """Log-probs with gradients [B, K], and mean hidden layers [B, K, h]: each sequence alone, from its beginning."""
    said, means = [], []
    for b, prompt in enumerate(prompts):
        for k in range(tokens.shape[1]):
            before = [int(word[1:]) for word in prompt.split()]
            response = tokens[b, k, : int(mask[b, k].sum())].tolist()
            output = policy.model(input_ids=torch.tensor([before + response]), output_hidden_states=True)
            steps = output.logits[0].float().log_softmax(-1)[len(before) - 1 : -1]
            said.append(steps[range(len(response)), response].sum())
            means.append(output.hidden_states[-1][0, len(before) :].mean(0).detach())
    shape = tokens.shape[:2]
    return torch.stack(said).view(shape), torch.stack(means).view(*shape, -1)


def gradients_of(policy, loss):
    policy.model.zero_grad()
    loss.backward()
    return {name: each.grad.clone() for name, each in policy.model.named_parameters() if each.grad is not None}


def check_round(policy, prompts, responses=3):
    """What is drawn, scored, embedded and differentiated is what each sequence says alone."""
    drawn = policy.sample(prompts, responses, uniforms=numbers(prompts, responses), hidden=True)
    said, means = plain_passes(policy, prompts, drawn.tokens, drawn.mask)
    np.testing.assert_allclose(drawn.log_prob, said.detach(), atol=1e-3)
    np.testing.assert_allclose(policy.score(prompts, drawn.tokens, drawn.mask), said.detach(), atol=1e-3)
    np.testing.assert_allclose(drawn.hidden, means, atol=1e-4)
    np.testing.assert_allclose(policy.embed(prompts, drawn.tokens, drawn.mask), means, atol=1e-4)
    expected = gradients_of(policy, said.mean())
    found = gradients_of(policy, policy.log_prob(prompts, drawn.tokens, drawn.mask).mean())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    return drawn


LONG = {"max_position_embeddings": 512}
BOTH = {"layer_types": ["sliding_attention", "full_attention"]}
WINDOWED = {
    "llama": LONG,
    "mistral": LONG | {"sliding_window": 192},
    "starcoder2": LONG | {"sliding_window": 8},
    "gemma2": LONG | BOTH | {"sliding_window": 192},
    "gemma3_text": LONG | BOTH | {"sliding_window": 8},
    "cohere2": LONG | BOTH | {"sliding_window": 128},
    "qwen2": LONG | BOTH | {"sliding_window": 192, "use_sliding_window": True},
    "modernbert-decoder": LONG | {"local_attention": 2 * 192},
}


@pytest.mark.parametrize("family", WINDOWED)
def test_long_prompts_and_windows_that_responses_cross(family):
    policy = policy_of(family, **WINDOWED[family])
    assert policy.shortcuts.sharing and policy.shortcuts.head
    check_round(policy, texts(1, 6, 185, 200))


def test_a_model_whose_masks_are_not_its_caches_windows_does_not_share():
    """Moshi's cache forgets, and its mask does not: past the longest window that is tried only the mask tells."""
    assert not policy_of("moshi", **LONG, sliding_window=100).shortcuts.cache
    policy = policy_of("moshi", **LONG, sliding_window=192)
    assert not policy.shortcuts.sharing
    prompts = texts(1, 200)
    tokens = np.random.default_rng(1).integers(3, 96, (2, 2, LENGTH))
    mask = np.ones_like(tokens)
    said, _ = plain_passes(policy, prompts, tokens, mask)
    np.testing.assert_allclose(policy.score(prompts, tokens, mask), said.detach(), atol=1e-3)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("doge", {"keep_window_size": 2048}, "a mask of the model's own"),
        ("gpt_oss", {}, "attention that takes s_aux"),
        ("llama4_text", {}, "layers of the kind chunked_attention"),
    ],
)
def test_attention_of_a_models_own_is_refused(family, changes, reason, caplog):
    assert not policy_of(family, **changes).shortcuts.sharing
    assert reason in caplog.text


def attended(window, **said):
    """What a layer of a model gets that says something besides queries, keys and values."""
    states = [random(1, 2, 3, KEY, seed=seed) for seed in range(3)]
    layout = Packed(torch.ones(1, 3, dtype=torch.long), 1, 0, [None, window])
    told = {"attention_mask": None} | said
    with shared_prompt.laid_out(model_of("llama"), layout):
        found, weights = shared_prompt._attention(SimpleNamespace(layer_idx=1), *states, **told)
    assert weights is None
    return found.transpose(1, 2), layout.attend(*states, Scores(KEY**-0.5, None, window, 0.0))


@pytest.mark.parametrize(
    ("window", "said", "reason"),
    [
        (5, {"sliding_window": 4}, "a window of 4 where the layer's is 5"),
        (None, {"sliding_window": 4}, "a window of 4 where the layer's is None"),
        (5, {"attention_mask": torch.full((1, 1, 1, 1), 0)}, "a window of 0 where the layer's is 5"),
        (None, {"attention_mask": torch.full((1, 1, 1, 1), 5)}, "a window of 5 where the layer's is None"),
        (None, {"attention_mask": torch.zeros(1, 1, 1, 1)}, "a mask of the model's own"),
        (None, {"attention_mask": torch.zeros(1, 1, 3, 3, dtype=torch.int64)}, "a mask of the model's own"),
        (None, {"is_causal": False}, "attention that takes no order of tokens"),
        (None, {"s_aux": torch.zeros(2)}, "attention that takes s_aux"),
        (None, {"cu_seq_lens_q": torch.zeros(2), "sinks": 1}, "attention that takes cu_seq_lens_q, sinks"),
    ],
)
def test_what_would_be_ignored_is_refused(window, said, reason):
    with pytest.raises(ValueError, match=reason):
        attended(window, **said)


@pytest.mark.parametrize("window", [None, 2])
def test_what_says_nothing_is_taken(window):
    mask = shared_prompt._window_as_mask(local_size=window, use_vmap=False, allow_is_causal_skip=True)
    idle = {
        "is_causal": True,
        "position_ids": torch.arange(3),
        "use_cache": True,
        "s_aux": None,
        "output_router": False,
    }
    found, expected = attended(window, attention_mask=mask, sliding_window=window, **idle)
    torch.testing.assert_close(found, expected)


def test_a_mask_that_adds_something_is_refused():
    with pytest.raises(ValueError, match="a mask that adds something of the model's own"):
        shared_prompt._window_as_mask(use_vmap=True)


def test_windows_are_told_layer_by_layer():
    def told(family, **changes):
        return shared_prompt.windows_of(model_of(family, **changes))

    assert told("gemma2", **BOTH, sliding_window=5) == [5, None]
    assert told("mistral", sliding_window=5) == [5, 5]
    assert told("llama") == [None, None]
    model = model_of("llama")
    model.config.attention_chunk_size = 200
    with pytest.raises(ValueError, match="layers of the kind chunked_attention"):
        shared_prompt.windows_of(model)


def headed(family, **changes):
    """A policy whose head has something of its own."""
    if family != "an adapter on the head":
        return policy_of(family, **changes)
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
        return policy_of("", peft.get_peft_model(model_of("llama", tie_word_embeddings=False), settings))


HEADS = {
    "llama": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0},
    "an adapter on the head": {},
}


@pytest.mark.parametrize("family", HEADS)
def test_log_probs_in_pieces_are_those_of_the_whole(family, monkeypatch):
    policy = headed(family, **HEADS[family])
    assert policy.shortcuts.head and policy.shortcuts.sharing
    prompts = texts(2, 5)
    drawn = (
        check_round(policy, prompts)
        if family != "an adapter on the head"
        else policy.sample(prompts, 3, uniforms=numbers(prompts, 3))
    )
    arguments = (prompts, drawn.tokens, drawn.mask)
    whole = policy.log_prob(*arguments, per_token=True)
    expected = gradients_of(policy, whole.square().sum())
    rows = []
    head = scoring.head_logits
    monkeypatch.setattr(
        scoring, "head_logits", lambda model, states: rows.append(states.shape[1]) or head(model, states)
    )
    for most in (1, 5, 7):
        monkeypatch.setattr(scoring, "LOGITS_BUDGET", most * 96 + 95)
        rows.clear()
        found = policy.log_prob(*arguments, per_token=True)
        assert max(rows) == most and sum(rows) == drawn.mask.sum()
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradients_of(policy, found.square().sum()), expected, atol=1e-4, rtol=1e-4)
        assert sum(rows) == 2 * drawn.mask.sum()  # made again on the way back, not kept
        np.testing.assert_allclose(policy.score(*arguments), whole.detach().sum(-1), atol=1e-4)
        assert sum(rows) == 3 * drawn.mask.sum()


def test_responses_without_a_token_have_no_log_prob():
    policy = policy_of("llama")
    tokens = np.zeros((2, 3, LENGTH), np.int64)
    found = policy.log_prob(texts(1, 4), tokens, np.zeros_like(tokens))
    assert (found == 0).all()
    found.sum().backward()
    assert (policy.embed(texts(1, 4), tokens, np.zeros_like(tokens)) == 0).all()


def test_hidden_layers_come_in_the_order_of_responses_however_they_are_drawn():
    policy = policy_of("llama")
    prompts = texts(1, 4, 2)
    whole = policy.sample(prompts, 5, uniforms=numbers(prompts, 5), hidden=True).hidden
    for most in (1, 2, 5, 7, 10):
        policy.max_sequences = most
        found = policy.sample(prompts, 5, uniforms=numbers(prompts, 5), hidden=True).hidden
        np.testing.assert_allclose(found, whole, atol=1e-5)


def test_hidden_layers_are_kept_without_a_head_apart_too_and_not_of_two_models():
    prompts = texts(1, 4)
    policy = policy_of("llama4_text")
    assert not policy.shortcuts.head
    drawn = policy.sample(prompts, 2, uniforms=numbers(prompts, 2), hidden=True)
    np.testing.assert_allclose(drawn.hidden, policy.embed(prompts, drawn.tokens, drawn.mask), atol=1e-4)
    policy = policy_of("llama")
    drawn = policy.sample(prompts, 2, uniforms=numbers(prompts, 2), source="pilaf_plus", hidden=True)
    assert drawn.hidden is None


def test_right_answers_with_wrong_gradients_are_not_enough(monkeypatch):
    attend = Packed.attend
    monkeypatch.setattr(Packed, "attend", lambda self, query, key, *rest: attend(self, query, key.detach(), *rest))
    assert not policy_of("llama").shortcuts.sharing


# What a pass leaves behind


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_models_attention_is_put_back(implementation):
    model = model_of("llama")
    model.set_attn_implementation(implementation)
    policy = policy_of("", model)
    assert policy.shortcuts.sharing
    check_round(policy, texts(1, 4))
    assert model.config._attn_implementation == implementation
    twin = copy.deepcopy(model)
    ids = torch.arange(3, 9)[None]
    torch.testing.assert_close(twin(input_ids=ids).logits, model(input_ids=ids).logits)


def test_each_part_of_a_model_gets_its_own_attention_back():
    inner = SimpleNamespace(sub_configs={}, _attn_implementation="eager")

    class Outer:
        def __init__(self):
            self.sub_configs, self.none = ("inner", "none"), None
            self.inner, self.own = inner, "sdpa"

        @property
        def _attn_implementation(self):
            return self.own

        @_attn_implementation.setter
        def _attn_implementation(self, value):
            self.own = self.inner._attn_implementation = value

    outer = Outer()
    with shared_prompt.laid_out(SimpleNamespace(config=outer), Packed(torch.ones(1, 1), 1, 1, [None])):
        assert outer.own == inner._attn_implementation == "duelenv_shared_prompt"
    assert (outer.own, inner._attn_implementation) == ("sdpa", "eager")


@pytest.mark.parametrize("way", ["drawing", "scoring", "embedding", "the head"])
def test_an_exception_inside_a_pass_leaves_the_model_as_it_was(way):
    policy = policy_of("llama")
    model, prompts = policy.model, texts(1, 4)
    before = policy.sample(prompts, 2, uniforms=numbers(prompts, 2), hidden=True)
    arguments = (prompts, before.tokens, before.mask)

    def fails(*_):
        raise KeyboardInterrupt

    passes = []
    module = model.lm_head if way == "the head" else model.model.layers[1].self_attn.o_proj
    # Prompts are read in a pass of their own before anything is drawn behind them.
    hook = module.register_forward_hook(lambda *_: passes.append(1) or (len(passes) > (way == "drawing") and fails()))
    if way == "embedding":
        policy._roles._start = model
    calls = {
        "drawing": lambda: policy.sample(prompts, 2, uniforms=numbers(prompts, 2), hidden=True),
        "embedding": lambda: policy.embed(*arguments),
    }
    with pytest.raises(KeyboardInterrupt):
        calls.get(way, lambda: policy.log_prob(*arguments))()
    hook.remove()
    assert model.config._attn_implementation == "sdpa"
    assert "forward" not in model.model.__dict__
    assert shared_prompt._layout.get(None) is None
    again = policy.sample(prompts, 2, uniforms=numbers(prompts, 2), hidden=True)
    np.testing.assert_array_equal(again.tokens, before.tokens)
    np.testing.assert_array_equal(again.hidden, before.hidden)


def test_a_wrapped_body_keeps_its_wrapper():
    policy = policy_of("llama")
    body = policy.model.model
    calls, own = [], body.forward
    body.forward = wrapper = lambda *rest, **settings: calls.append(1) or own(*rest, **settings)
    check_round(policy, texts(1, 4))
    assert calls and body.__dict__["forward"] is wrapper


def test_two_policies_may_have_one_model():
    base = model_of("llama")
    first, second, alone = policy_of("", base), policy_of("", base), policy_of("llama")
    prompts = texts(1, 4)
    expected = alone.sample(prompts, 3, uniforms=numbers(prompts, 3), hidden=True)
    for each in (first, second, first):
        found = each.sample(prompts, 3, uniforms=numbers(prompts, 3), hidden=True)
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_array_equal(found.hidden, expected.hidden)


def layouts_taken(monkeypatch):
    taken = []
    for kind in (Packed, SharedPrompt):
        attend = kind.attend

        def noted(self, *rest, kind=kind, attend=attend):
            taken.append(kind.__name__)
            return attend(self, *rest)

        monkeypatch.setattr(kind, "attend", noted)
    return taken


def test_adapters_take_the_same_path_in_every_role(monkeypatch):
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        policy = policy_of("", peft.get_peft_model(model_of("llama"), settings))
    prompts = texts(1, 4)
    policy.move_reference()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3
    policy.updated()
    taken = layouts_taken(monkeypatch)
    for source in ("policy", "reference", "start"):
        drawn = policy.sample(prompts, 3, uniforms=numbers(prompts, 3), source=source, hidden=True)
        assert set(taken) == {"SharedPrompt"}
        taken.clear()
        with policy._roles.playing(source), torch.no_grad():
            said, means = plain_passes(policy, prompts, drawn.tokens, drawn.mask)
        np.testing.assert_allclose(drawn.log_prob, said, atol=1e-3)
        np.testing.assert_allclose(drawn.hidden, means, atol=1e-4)
        np.testing.assert_allclose(policy.score(prompts, drawn.tokens, drawn.mask, source=source), said, atol=1e-3)
        assert set(taken) == {"Packed"}
        taken.clear()


@pytest.mark.parametrize("inner", [False, True])
def test_gradient_checkpointing_takes_the_plain_path(inner, monkeypatch):
    policy = policy_of("llama")
    prompts = texts(1, 4)
    drawn = policy.sample(prompts, 3, uniforms=numbers(prompts, 3))
    expected = gradients_of(policy, policy.log_prob(prompts, drawn.tokens, drawn.mask).sum())
    policy.model.gradient_checkpointing_enable()
    (policy.model.model if inner else policy.model).train()
    taken = layouts_taken(monkeypatch)
    found = gradients_of(policy, policy.log_prob(prompts, drawn.tokens, drawn.mask).sum())
    assert not taken
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        policy.log_prob(prompts, drawn.tokens, drawn.mask)
    assert taken  # which runs nothing again
    taken.clear()
    policy.model.eval()
    policy.log_prob(prompts, drawn.tokens, drawn.mask)
    assert taken  # and neither does this


def test_autocast_stays_close():
    policy = policy_of("llama")
    prompts = texts(1, 4)
    drawn = policy.sample(prompts, 3, uniforms=numbers(prompts, 3), hidden=True)
    arguments = (prompts, drawn.tokens, drawn.mask)
    with torch.autocast("cpu", torch.bfloat16):
        cast = policy.sample(prompts, 3, uniforms=numbers(prompts, 3), hidden=True)
        scored, embedded = policy.log_prob(*arguments), policy.embed(*arguments)
    np.testing.assert_allclose(scored.detach(), drawn.log_prob, atol=0.5)
    np.testing.assert_allclose(embedded, drawn.hidden, atol=0.1)
    assert cast.log_prob.dtype == cast.hidden.dtype == np.float32 and np.isfinite(cast.log_prob).all()
    assert all(each.isfinite().all() for each in gradients_of(policy, scored.sum()).values())


def test_double_precision_shares_prompts_too():
    policy = policy_of("", model_of("llama").double())
    assert policy.shortcuts.sharing
    check_round(policy, texts(1, 4))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_when_rows_are_dropped_changes_nothing(share, every, hidden, monkeypatch):
    """Elsewhere than on a CPU nobody looks at every token."""
    model = model_of("mistral", sliding_window=6)
    model.generation_config.eos_token_id = list(range(2, 30))
    policy = policy_of("", model)
    prompts = texts(1, 9, 4)
    expected = policy.sample(prompts, 6, uniforms=numbers(prompts, 6), hidden=hidden)
    assert len(set(expected.mask.sum(-1).ravel())) > 3
    widths = []
    step = reading._step
    monkeypatch.setattr(
        reading, "_step", lambda model, ids, *rest, **more: widths.append(len(ids)) or step(model, ids, *rest, **more)
    )
    monkeypatch.setattr(decoding, "_DROP_AT", share)
    monkeypatch.setattr(decoding, "_look_every", lambda device: every)
    found = policy.sample(prompts, 6, uniforms=numbers(prompts, 6), hidden=hidden)
    for name in ("tokens", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.log_prob, expected.log_prob, atol=1e-4)
    if hidden:
        np.testing.assert_allclose(found.hidden, expected.hidden, atol=1e-5)
    assert (len(set(widths)) > 1) == (share > 0)
