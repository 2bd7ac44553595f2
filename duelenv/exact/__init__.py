"""Exact truth for a policy whose responses can all be listed: what it is worth, and what it could be worth."""

from duelenv.exact.objective import ExactFigures, ExactObjective, divergence, optimum, value
from duelenv.exact.responses import MOST_RESPONSES, Responses, count_responses, enumerate_responses
from duelenv.exact.truth import ExactTruth

__all__ = [
    "MOST_RESPONSES",
    "ExactFigures",
    "ExactObjective",
    "ExactTruth",
    "Responses",
    "count_responses",
    "divergence",
    "enumerate_responses",
    "optimum",
    "value",
]
