"""APL's gap rule: the pair with the largest estimated gap (active preference learning, arXiv 2402.08114).

Rule. i = argmax_i theta_hat . phi_i, j = argmin_j theta_hat . phi_j. In the paper the gap is that of the implicit
reward of a policy, among prompts of high predictive entropy; here it is that of the linear estimate, and every row is
asked.

It always shows the candidate it believes worst: its cumulative regret is linear. Judge it by the recommended candidate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose, make_belief
from duelenv.agents.selection import extreme_pair, random_order
from duelenv.core import AgentView, Observation, Pairs
from duelenv.ground.randomness import RowStreams


@register("apl")
def apl(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the APL agent."""
    belief = make_belief(view, seed, settings)
    streams = RowStreams(seed, "agents/apl", view.num_envs)

    def select(observation: Observation, groups: NDArray[np.int64] | None) -> Pairs:
        return random_order(extreme_pair(belief.mean(observation["features"]), streams, groups), streams)

    return compose(view, seed, settings, select=select, streams=streams, belief=belief)
