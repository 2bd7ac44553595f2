"""A real policy of three tokens and one-token responses, which has moved away from its reference, and its learner."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch

from duelenv.agents.base import SettingsReader
from duelenv.agents.learners import PreferenceLearner
from duelenv.agents.trainer import Trainer
from duelenv.exact import enumerate_responses
from duelenv.oracles.base import make


class Recorded(Trainer):
    """Takes no step, and keeps the gradient that it would have taken it with."""

    def train(self, terms, steps, *, outcome=None):
        self.gradient = collect(self.policy, terms())
        return [0.0]


def collect(policy, terms):
    for parameter in policy.parameters():
        parameter.grad = None
    for term in terms:
        term.backward()
    return flat(policy, [parameter.grad for parameter in policy.parameters()])


def flat(policy, gradients):
    pairs = zip(policy.parameters(), gradients, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs]).numpy()


def gradient_of(policy, value):
    return flat(policy, torch.autograd.grad(value, policy.parameters(), allow_unused=True))


def listed_world(prompts=("kind", "rude"), num_envs=1, sources=None):
    """Its environment, the policy, and all responses."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    from duelenv.policies import CausalLMPolicy

    inner = Tokenizer(models.WordLevel({"<eos>": 0, "kind": 1, "rude": 2}, unk_token="<eos>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<eos>", eos_token="<eos>")
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=3,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        initializer_range=0.5,
        eos_token_id=0,
        pad_token_id=0,
    )
    policy = CausalLMPolicy(GPTNeoXForCausalLM(config).eval(), tokenizer, max_new_tokens=1)
    env = gymnasium.make_vec(
        "duelenv/AlignmentDuel-v0",
        num_envs=num_envs,
        policy=policy,
        oracle=make("good_words", scale=1.0),
        prompts=list(prompts),
        test_prompts=["kind"],
        sources=sources or {"policy": 1, "reference": 1},
    ).unwrapped
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    policy.updated()
    return env, policy, enumerate_responses(policy)


def learner_of(view, **settings):
    learner = PreferenceLearner.of(view, 0, SettingsReader("test", settings), duel_is_draw=True)
    learner.trainer.__class__ = Recorded
    return learner


def laws(policy, responses, prompt="kind"):
    tokens, mask = responses.tokens[np.newaxis], responses.mask[np.newaxis]
    return [
        np.exp(policy.score([prompt], tokens, mask, source=source)[0].astype(np.float64))
        for source in ("policy", "reference")
    ]


class Sure:
    """A belief that knows the utility, by the one-hot features of the responses."""

    def __init__(self, utility):
        self.utility = np.asarray(utility)

    def sample(self, features, count):
        return np.broadcast_to(features @ self.utility, (count, *features.shape[:2]))

    def mean(self, features):
        return features @ self.utility
