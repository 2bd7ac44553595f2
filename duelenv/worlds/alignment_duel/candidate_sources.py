"""Where candidates of AlignmentDuel may come from, and how many from where: the checks of `sources`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

RECORDED: Final = "recorded"
"""Responses that nobody draws but were said elsewhere; see `duelenv.worlds.alignment_duel.recorded_candidates`."""
SOURCES: Final = ("policy", "reference", "start", "pilaf_plus", "pilaf_minus", RECORDED)
"""Where candidates may come from; all others are those of `duelenv.policies.CausalLMPolicy.sample`."""
_MIXTURES = ("pilaf_plus", "pilaf_minus")
PILAF_BETA = 0.1

_DEFAULT_CANDIDATES = 20


def check_sources(sources: Mapping[str, int] | None, num_candidates: int | None) -> dict[str, int]:
    """Return how many candidates come from where, in the order given; all from the policy by default.

    Raises:
        UserError: An unknown source, a number out of range, or numbers that do not add up.
    """
    if sources is None:
        count = _DEFAULT_CANDIDATES if num_candidates is None else num_candidates
        return {"policy": checks.integer("num_candidates", count, low=2)}
    if not isinstance(sources, Mapping):
        raise UserError(
            f"sources is {sources!r}, expected how many come from where; give a mapping like {{'policy': 4}}"
        )
    for source, count in sources.items():
        if source not in SOURCES:
            raise checks.unknown_name("source", source, SOURCES)
        checks.integer(f"sources[{source!r}]", count, low=1)
    total = sum(sources.values())
    if num_candidates is not None and num_candidates != total:
        raise UserError(
            f"num_candidates={num_candidates} is not the sum {total} of sources={dict(sources)}; leave one of them out"
        )
    return dict(sources)


def check_pilaf_beta(beta: float | None, sources: Mapping[str, int]) -> float:
    """Return the beta of PILAF's mixtures, 0.1 by default, that of DPO.

    Raises:
        UserError: It is negative, or no candidates come from a mixture.
    """
    if beta is None:
        return PILAF_BETA
    if not any(source in _MIXTURES for source in sources):
        raise UserError(
            f"pilaf_beta={beta!r} is read by the sources {' and '.join(_MIXTURES)} alone, and candidates come from "
            f"{', '.join(sources)}; add those to sources, or leave it out"
        )
    return checks.number("pilaf_beta", beta, low=0.0)
