"""Bodies of requests and answers, as checked and as described in `/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

__all__ = ["AnswerEntry", "Answers", "DuelEntry", "Duels", "Problem"]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


# Pydantic's own text refuses lone surrogates, which data sets hold and JSON can say.
Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string"})]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DuelEntry(_Strict):
    """Which of two responses to a prompt is better?"""

    id: str = Field(
        min_length=1,
        max_length=200,
        description="Names the question for ever: asked again, it is answered from the record; with other texts, 409.",
    )
    prompt: Text = Field(description="The prompt.")
    first: Text = Field(description="The response shown first.")
    second: Text = Field(description="The response shown second.")


class Duels(_Strict):
    """A batch of questions."""

    duels: list[DuelEntry] = Field(min_length=1, description="In any order; the same duel may stand here twice.")


class AnswerEntry(_Strict):
    """What the oracle says of a duel, once and for all."""

    id: str = Field(description="The duel's.")
    win: float | None = Field(
        ge=0.0, le=1.0, description="Probability that the first response is preferred; null where it declines for good."
    )
    tie: float = Field(ge=0.0, le=1.0, description="Probability of a declared tie; win + tie is at most 1.")


class Answers(_Strict):
    """Answers to a batch; every duel of it stands in one of the two lists."""

    answers: list[AnswerEntry] = Field(description="One for each different duel that has an answer.")
    unanswered: list[str] = Field(description="Ids of duels that have no answer now; ask for them again.")
    message: str = Field(description="Why these have none.")


class Problem(_Strict):
    """Why a request got no answer."""

    detail: str = Field(description="One sentence.")
