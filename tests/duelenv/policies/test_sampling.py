"""Inverse-CDF draws against a plain search, at small and at blocked vocabulary sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from duelenv.policies.sampling import draw, token_log_prob


@pytest.mark.parametrize("temperature", [1.0, 0.8])
@pytest.mark.parametrize("vocabulary", [3, 96, 8192, 8193, 8704, 20_000])
def test_draw_inverts_the_cumulative_distribution(vocabulary, temperature):
    generator = np.random.default_rng(0)
    logits = torch.from_numpy(generator.normal(size=(6, vocabulary)) * 3).float()
    uniforms = torch.from_numpy(generator.random((6, 40)))
    drawn, log_prob = (each.numpy() for each in draw(logits, uniforms, temperature))
    shifted = logits - logits.amax(-1, keepdim=True)
    cumulative = torch.softmax(shifted / temperature, -1).double().cumsum(-1).numpy()
    for row in range(6):
        expected = np.searchsorted(cumulative[row], uniforms[row].numpy() * cumulative[row, -1], side="right")
        assert drawn[row].tolist() == expected.tolist()
    at_one = np.take_along_axis(logits.double().log_softmax(-1).numpy(), drawn, axis=-1)
    np.testing.assert_allclose(log_prob, at_one, atol=2e-6, rtol=1e-6)


@pytest.mark.parametrize("vocabulary", [10, 9000])
def test_impossible_tokens_are_never_drawn(vocabulary):
    logits = torch.full((1, vocabulary), -torch.inf)
    logits[0, 4], logits[0, 7] = 0.0, 0.0
    uniforms = torch.tensor([[0.0, 0.4999, 0.5, 0.75, 1 - 2**-53]], dtype=torch.float64)
    assert draw(logits, uniforms, 1.0)[0].tolist() == [[4, 4, 7, 7, 7]]


@pytest.mark.parametrize("vocabulary", [10, 9000])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_what_is_not_a_number_is_told_by_the_log_prob(vocabulary, temperature):
    logits = torch.zeros((2, vocabulary))
    logits[1, 3] = torch.nan
    tokens, log_prob = draw(logits, torch.full((2, 3), 0.9, dtype=torch.float64), temperature)
    assert ((tokens >= 0) & (tokens < vocabulary)).all()
    assert log_prob.isnan().tolist() == [[False] * 3, [True] * 3]


def test_low_temperatures_do_not_overflow():
    logits = torch.tensor([[1e4, 3e4, -1e4]])
    uniforms = torch.rand((1, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (0.0, 1e-30, 1e-3):
        tokens, log_prob = draw(logits, uniforms, temperature)
        assert tokens.tolist() == [[1] * 5]
        assert log_prob.tolist() == [[0.0] * 5]


def test_token_log_prob_is_log_softmax_gathered():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((20, 30), generator=generator)
    tokens = torch.randint(30, (20,), generator=generator)
    expected = logits.log_softmax(-1)[torch.arange(20), tokens]
    torch.testing.assert_close(token_log_prob(logits, tokens), expected)
    assert token_log_prob(logits.bfloat16(), tokens).dtype == torch.float32
