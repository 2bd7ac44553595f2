# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv", "numpy", "scipy"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""How good would another agent's recommendations be? Asked of duels that a random agent fought, and of the truth.

Half of the log teaches the agent, the other half judges what it then recommends, by four estimators. Run it: `python
examples/offline_evaluation.py`. Out come their values with 95 % intervals, the truth (how often the recommendation is
preferred to another candidate), and how many rounds an agent that learns as it goes would have chosen itself.
"""

import numpy as np
from scipy.special import expit

import duelenv.agents
from duelenv.experiments.offline.estimators import estimate
from duelenv.experiments.offline.log import DuelLog
from duelenv.experiments.offline.targets import recommendations, replay, taught

ROUNDS, CANDIDATES, DIM = 2_000, 5, 4


def logged_duels(theta, generator):
    """Draw random pairs of random candidates, labelled by Bradley-Terry with the utility theta . x."""
    features = generator.normal(size=(ROUNDS, CANDIDATES, DIM)).astype(np.float32)
    pairs = np.array([generator.choice(CANDIDATES, 2, replace=False) for _ in range(ROUNDS)])
    first, second = (features[np.arange(ROUNDS), pairs[:, side]] @ theta for side in (0, 1))
    labels = (generator.random(ROUNDS) < expit(first - second)).astype(float)
    propensity = 2 / (CANDIDATES * (CANDIDATES - 1))  # of these two, in either order
    return DuelLog(features, pairs, labels, np.full(ROUNDS, propensity))


def true_value(log, theta, target):
    """Measure how often the recommended candidate beats another one, by the utility that nobody is told."""
    utilities = log.features @ theta
    wins = expit(utilities[:, :, None] - utilities[:, None, :]).sum(axis=2) - 0.5  # without itself
    return (target * wins).sum(axis=1).mean() / (CANDIDATES - 1)


def main() -> None:
    """Teach an agent by half of a log, judge it by the other half, and let it play the log by itself."""
    generator = np.random.default_rng(0)
    theta = generator.normal(size=DIM)
    log = logged_duels(theta, generator)

    def make(view, replicate):
        return duelenv.agents.make("thompson", view, seed=replicate)

    early, late = log.split(0.5)
    target = recommendations(late, taught(early, make))
    for one in estimate(late, target):
        print(f"{one.name:6}{one.value:.3f} [{one.low:.3f}, {one.high:.3f}], {one.effective:.0f} effective rounds")
    print(f"truth {true_value(late, theta, target):.3f}")
    played = replay(log, make)
    print(f"replay: {played.accepted} of {played.rounds} rounds were its own choice")


if __name__ == "__main__":
    main()
