"""Attention over a shared prompt against a loop over queries, and against plain passes of models."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import model_of, tokenizer
from transformers import DynamicCache

from duelenv.policies import CausalLMPolicy, reading, scoring, shared_prompt
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
    query, key, value = states
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
        chosen = [key for number, key in enumerate(found[1]) if number % 3 == 0 or key[2] == length - 1]
        for number, seen in enumerate(windows):
            for b, k, step in chosen:
                for head in (0, heads * groups - 1):
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
