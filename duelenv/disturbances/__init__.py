"""Stages that disturb labels on their way to the agent, one a file; a moving truth is the world's.

    stages = [Flip(probability=0.1), Delay(mean=20.0)]
    env = gymnasium.make_vec("duelenv/FeatureDuel-v0", num_envs=64, horizon=2_000, stages=stages)

or by name, here and in a config, `stages: [{name: flip, probability: 0.1}, {name: delay, mean: 20}]`. A label passes
them in the order of the list. `Flip` and `Corruption` change labels, `Missing` loses them, `Delay`, `AdversarialDelay`
and `Batching` hold them back; what comes late stands in `info["late"]`. Queries are counted before, whatever becomes of
the label, and observations, regret and `info["margin"]` stay the world's. A stage of one's own: `duelenv.labels.stage`.
Drift and abrupt change of the truth are settings of `FeatureDuel` and `MatrixDuel`, `drift` and `changes`.
"""

from duelenv.disturbances.adversarial_delay import AdversarialDelay
from duelenv.disturbances.batching import Batching
from duelenv.disturbances.corruption import Corruption
from duelenv.disturbances.delay import Delay
from duelenv.disturbances.flip import Flip
from duelenv.disturbances.missing import Missing

__all__ = ["AdversarialDelay", "Batching", "Corruption", "Delay", "Flip", "Missing"]
