"""Uses an installed duelenv as a stranger would; run with the Python that has it, from another folder.

Called by tests/test_packaging.py and by `make release-check`. Not a test by itself: pytest does not collect it.
"""

import importlib
import pathlib
import sys

import gymnasium
import numpy as np

import duelenv

PACKAGES = ("duelenv", "duelenv.oracles", "duelenv.agents", "duelenv.experiments")

for name in PACKAGES:
    module_file = importlib.import_module(name).__file__
    assert module_file is not None, name
    # Neither the checkout nor another environment's copy.
    assert pathlib.Path(module_file).is_relative_to(sys.prefix), module_file

env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=4, num_candidates=5, dim=3, horizon=3)
agent = duelenv.agents.make("passive", env, seed=0)
observation, _ = env.reset(seed=0)
for _ in range(3):
    actions = agent.act(observation)
    next_observation, labels, _, truncated, _ = env.step(actions)
    agent.update(observation, actions, labels)
    observation = next_observation
assert np.isin(labels, (0.0, 0.5, 1.0)).all(), labels
assert truncated.all()
print("used duelenv from", pathlib.Path(duelenv.__file__).parent)
