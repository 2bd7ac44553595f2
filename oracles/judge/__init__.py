"""A language model as a judge, behind any OpenAI-compatible address: which of two responses is better.

One idea a file: how it is asked (`templates`, `fences`), how its reply is read (`verdicts`), the line to it
(`endpoint`) and its prices (`prices`), what it has said (`verdict_cache`), in which order responses stand and what that
does (`orders`), who sends requests and tries again (`asking`), the judge itself (`oracle`) and its `settings`, and how
far it can be talked round (`canaries`).
"""

from duelenv.oracles.judge.canaries import Canary, CanaryReport, canaries, try_canaries
from duelenv.oracles.judge.oracle import Judge
from duelenv.oracles.judge.settings import make_judge

__all__ = ["Canary", "CanaryReport", "Judge", "canaries", "make_judge", "try_canaries"]
