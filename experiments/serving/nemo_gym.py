"""NeMo Gym's pairwise comparison: `POST /compare` as its resources server `genrm_compare` has it.

Request and answer follow the README and `app.py` of `resources_servers/genrm_compare` in NVIDIA-NeMo/Gym, with its
default strategy "circular" and one judge a pair. Its cohorts (`/verify`) are no part of this.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from duelenv.experiments.serving.models import Text
from duelenv.ground.dialogue import prompt_of
from duelenv.ground.errors import UserError
from duelenv.oracles.remote.wire import Duel, Reply, make_duel
from duelenv.oracles.sources import Answer

__all__ = ["compare_router"]

#: What a single response is worth there (`default_score`).
_ALONE: Final = 3.0
#: The client's own default: a pair is one question, whoever asks it.
_SALT: Final = ""


class CompareRequest(BaseModel):
    """Responses to one conversation. Response objects carry much that is not read here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    conversation_history: list[dict[str, Text]] = Field(description="Messages {role, content} before the responses.")
    response_objs: list[dict[str, Any]] = Field(description="Objects of the Responses API, to be compared.")
    principle: Text | None = Field(default=None, description="Refused where given: the oracle has its own criteria.")


class Comparison(BaseModel):
    """Two responses, compared."""

    response_i: int = Field(description="Place of the first response in the request.")
    response_j: int = Field(description="Place of the second.")
    judge_idx: int = Field(description="0: one judge a pair.")
    score_1: float = Field(description="Of the first, 1 to 5.")
    score_2: float = Field(description="Of the second, 1 to 5.")
    ranking: float = Field(description="1 (the first is much better) to 6 (the second is).")


class CompareResponse(BaseModel):
    """A reward for each response, and the comparisons behind them."""

    rewards: list[float] = Field(description="Mean score of each response over its comparisons, 1 to 5.")
    comparison_results: list[Comparison] | None = Field(
        default=None, description="Each response with the next, in a ring."
    )
    metrics: dict[str, float] | None = Field(default=None, description="Mean and deviation of the scores.")


def compare_router(
    ask: Callable[[Sequence[Duel]], Awaitable[Reply]], *, problems: dict[int | str, dict[str, Any]]
) -> APIRouter:
    """Make the route.

    Args:
        ask: Answers duels, or raises the HTTP error that says why not.
        problems: How these errors are described.
    """
    router = APIRouter()

    @router.post("/compare", responses=problems, summary="Compare responses as NeMo Gym asks for it")
    async def compare(body: CompareRequest) -> CompareResponse:
        if body.principle is not None:
            raise HTTPException(422, "'principle' is given, but the oracle has its own criteria; leave it out")
        if len(body.response_objs) < 2:
            return CompareResponse(rewards=[_ALONE] * len(body.response_objs))
        try:
            prompt = prompt_of(body.conversation_history, "conversation_history", "message 0")
            texts = [_output_text(one, number) for number, one in enumerate(body.response_objs)]
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        pairs = _circular(len(texts))
        duels = [make_duel(_SALT, prompt, texts[i], texts[j]) for i, j in pairs]
        reply = await ask(duels)
        answers = [reply.answers.get(duel.id) for duel in duels]
        found = [answer for answer in answers if answer is not None and not math.isnan(answer.win)]
        if len(found) < len(duels):
            # A comparison without an answer is no tie.
            raise HTTPException(503, reply.message or "the oracle declines to answer")
        return _response(pairs, found, len(texts))

    return router


def _circular(count: int) -> list[tuple[int, int]]:
    """Pair each response with the next, and the last with the first."""
    return [(place, (place + 1) % count) for place in range(count)]


def scores(answer: Answer) -> tuple[float, float, float]:
    """Read score_1, score_2 and ranking off an answer: linear in the expected label.

    A certain win is (5, 1, 1), a certain loss (1, 5, 6), and a tie or a coin (3, 3, 3.5), the middle of each scale.
    """
    label = answer.win + 0.5 * answer.tie
    return 1.0 + 4.0 * label, 5.0 - 4.0 * label, 6.0 - 5.0 * label


def _response(pairs: Sequence[tuple[int, int]], answers: Sequence[Answer], count: int) -> CompareResponse:
    found: list[list[float]] = [[] for _ in range(count)]
    results = []
    for (i, j), answer in zip(pairs, answers, strict=True):
        one, two, ranking = scores(answer)
        found[i].append(one)
        found[j].append(two)
        results.append(Comparison(response_i=i, response_j=j, judge_idx=0, score_1=one, score_2=two, ranking=ranking))
    every = [score for own in found for score in own]
    return CompareResponse(
        rewards=[statistics.fmean(own) for own in found],
        comparison_results=results,
        metrics={
            "mean_individual_score": statistics.fmean(every),
            "std_individual_score": statistics.pstdev(every),
            "tiebreak_usage_rate": 0.0,
        },
    )


def _output_text(response: dict[str, Any], number: int) -> str:
    """Read the answer in an object of the Responses API, without its reasoning."""
    try:
        parts = [
            part["text"]
            for item in response["output"]
            if item.get("type") == "message"
            for part in item["content"]
            if part.get("type") == "output_text"
        ]
        if parts and all(isinstance(part, str) for part in parts):
            return "".join(parts)
    except (AttributeError, KeyError, TypeError):
        pass
    raise UserError(
        f"response_objs.{number} holds no text, expected output: [{{type: message, content: [{{type: output_text, "
        "text}]}]"
    )
