"""What is held after many rounds is what was held after few: nothing of a round stays but labels that are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from growth import held
from worlds import PROMPTS, make_vector

import duelenv.agents
from duelenv.policies import CausalLMPolicy, tiny_model

FIRST, LAST = 40, 90
ROWS = 2


def game(agent, **settings):
    """Rounds of a tiny policy, one after the other."""
    policy = CausalLMPolicy(*tiny_model("gpt_neox", hidden=16, layers=1, heads=2), max_new_tokens=4)
    sources = {"policy": 2, "reference": 2}
    env = make_vector(
        "duelenv/AlignmentDuel-v0",
        ROWS,
        policy=policy,
        prompts=PROMPTS,
        sources=sources,
        num_candidates=None,
        horizon=999,
        features="start",  # some thousand words are remembered, which are not all said yet
    )
    player = duelenv.agents.make(agent, env, seed=0, **settings)
    observation, _ = env.reset(seed=0)
    while True:
        actions = player.act(observation)
        following, labels, *_, info = env.step(actions)
        player.update(observation, actions, labels, info["late"])
        observation = following
        yield following


def grown(rounds):
    """What is more in the end than after the first rounds, a round."""
    for _ in range(FIRST):
        next(rounds)
    before = held()
    for _ in range(LAST - FIRST):
        next(rounds)
    return [(after - one) / (LAST - FIRST) for one, after in zip(before, held(), strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "replay"), [("passive", 0), ("passive", 4), ("selm", 0)])
def test_rounds_leave_nothing_behind(agent, replay):
    objects, tensors, arrays = grown(game(agent, **({"replay": replay} if replay else {})))
    assert objects < 1 and tensors == 0
    # A replayed label is 5 bytes for each of 2 x 4 tokens, a label and a name, in arrays with room for as many again.
    assert arrays <= (2 * ROWS * (2 * 4 * 5 + 16) if replay else 8)


@pytest.mark.slow
def test_an_observation_that_was_kept_would_be_seen():
    kept = []

    def keeping():
        for observation in game("passive"):
            kept.append(np.array(observation["tokens"]))
            yield observation

    assert grown(keeping())[2] >= ROWS * 4 * 4 * 8
