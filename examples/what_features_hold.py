# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "gymnasium", "numpy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""What can a belief over these features know? Measured before a label is paid for.

A belief whose utility is linear in the features holds no more of what an oracle rewards than a linear function of the
features tells. For words that an oracle might reward, this prints how much of the variance of "the response says it"
is explained on prompts that the fit has not seen; within prompts, since only responses to one prompt are ever
compared.

Run it: `python examples/what_features_hold.py [WORD ...]`. Out comes a line a word: how often it is said, and the
share that features of the start model and hashed words tell.
"""

import sys

import gymnasium
import numpy as np

from duelenv.oracles.base import make
from duelenv.policies import toy_policy, toy_prompts

PROMPTS, RESPONSES = 64, 64
WORDS = ("because", "green", "busy", "forest")
RIDGE = 1e-3


def held(features, wanted):
    """Find what share of variance of `wanted` [P, K] a linear function of features [P, K, d] tells on new prompts."""
    x = (features - features.mean(axis=1, keepdims=True)).reshape(wanted.size, -1).astype(np.float64)
    y = (wanted - wanted.mean(axis=1, keepdims=True)).ravel()
    half = len(y) // 2
    ridge = RIDGE * half * np.diag(x[:half].var(axis=0) + 1e-9)
    weights = np.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ y[:half])
    return 1.0 - ((y[half:] - x[half:] @ weights) ** 2).mean() / (y[half:] ** 2).mean()


def main(words) -> None:
    """Print a line for each word: how often it is said, and what either kind of features holds of it."""
    policy, oracle = toy_policy(seed=0), make("rare_word")
    shown = {}
    for features in ("start", "words"):
        env = gymnasium.make_vec(
            "duelenv/AlignmentDuel-v0",
            num_envs=PROMPTS,
            policy=policy,
            oracle=oracle,
            prompts=toy_prompts(PROMPTS),
            test_prompts=toy_prompts(8, "test"),
            num_candidates=RESPONSES,
            features=features,
        )
        observation, _ = env.reset(seed=1)
        shown[features] = observation["features"]
        responses = observation["responses"]  # the same for both: the same seed
    print(f"{'word':10s} {'said in':>8s} {'start':>7s} {'words':>7s}")
    for word in words:
        said = np.vectorize(lambda text, word=word: float(word in text.split()))(responses)
        values = [held(features, said) for features in shown.values()]
        print(f"{word:10s} {said.mean():8.3f} {values[0]:7.2f} {values[1]:7.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] or WORDS)
