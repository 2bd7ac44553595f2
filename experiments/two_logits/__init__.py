"""Two responses, two logits: the rare-good-arm bandit, on which optimists are told apart; importing it registers both.

A policy of two logits is small enough for its loss to be minimised exactly after every label, so that what is seen is
the method and no optimiser. `duelenv run exact` plays it.
"""

from duelenv.experiments.two_logits.minimiser import ExactMinimiser
from duelenv.experiments.two_logits.policy import TwoLogits
from duelenv.experiments.two_logits.world import TwoLogitsVectorEnv, TwoLogitsView, register_world

__all__ = ["ExactMinimiser", "TwoLogits", "TwoLogitsVectorEnv", "TwoLogitsView"]

register_world()
