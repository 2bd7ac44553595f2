"""APL's gap rule: the pair with the largest estimated gap (active preference learning, arXiv 2402.08114).

Rule. In the paper the gap is that of the implicit reward of a policy, among prompts of high predictive entropy; where a
policy is trained, that is what is asked, `ask: implicit_gap`, in a selective world in an eighth of the rows, `prompts:
entropy`. In worlds of features it is that of the linear estimate,
i = argmax_i theta_hat . phi_i, j = argmin_j theta_hat . phi_j, and every row is asked.

It always shows the candidate it believes worst: its cumulative regret is linear. Judge it by the recommended candidate.
"""

from __future__ import annotations

from duelenv.agents.base import Agent, SettingsReader, register
from duelenv.agents.parts import compose
from duelenv.core import AgentView


@register("apl")
def apl(view: AgentView, seed: int, settings: SettingsReader) -> Agent:
    """Build the APL agent."""
    if view.policy is None:
        return compose(view, seed, settings, name="apl", ask="extreme")
    settings.prefer(prompts="entropy", asked=max(1, view.batch // 8))
    return compose(view, seed, settings, name="apl", ask="implicit_gap")
