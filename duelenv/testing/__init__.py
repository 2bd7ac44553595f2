"""Checks of one's own parts, as `gymnasium.utils.env_checker.check_env` is for environments: one line in a test.

Each takes a factory, so that it can make the part as often as it needs, and raises `CheckFailed` with one sentence:
what was expected and what was found instead. They know parts by their contract only and import none.
"""

from duelenv.testing.agents import alignment_world, check_agent
from duelenv.testing.beliefs import check_belief
from duelenv.testing.failure import CheckFailed
from duelenv.testing.losses import check_loss
from duelenv.testing.oracles import check_oracle
from duelenv.testing.rules import check_ask_rule, check_prompt_rule, check_teaching_rule
from duelenv.testing.trackers import check_tracker
from duelenv.testing.worlds import check_world

__all__ = [
    "CheckFailed",
    "alignment_world",
    "check_agent",
    "check_ask_rule",
    "check_belief",
    "check_loss",
    "check_oracle",
    "check_prompt_rule",
    "check_teaching_rule",
    "check_tracker",
    "check_world",
]
