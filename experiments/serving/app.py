"""The application: `/v1/duels`, `/compare`, `/health`, `/metrics`, `/openapi.json`. Sets no socket up."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer

from duelenv.experiments.serving.desk import Desk
from duelenv.experiments.serving.guard import Guard, Limits
from duelenv.experiments.serving.models import Answers, Duels, Problem
from duelenv.experiments.serving.nemo_gym import compare_router
from duelenv.experiments.serving.record import Conflict, Question
from duelenv.ground.errors import UserError
from duelenv.oracles.remote.wire import PATH, Duel, Reply, answer_entry
from duelenv.oracles.services.secrets import Secret

__all__ = ["make_app"]

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": Problem, "description": meaning}
    for code, meaning in {
        401: "A bearer token is missing or wrong.",
        409: "An id was used for other texts.",
        413: "Too many duels or bytes for one request.",
        422: "The request is no batch of duels, or the oracle refuses it.",
        429: "Too many requests; Retry-After says when to come again.",
        500: "The oracle failed.",
        503: "Too many requests wait for the oracle.",
        504: "The oracle takes long; ask again, its answer will be in the record.",
    }.items()
}


def make_app(desk: Desk, *, limits: Limits, token: Secret | None = None, local: bool = True) -> Guard:
    """Make the ASGI application that serves an oracle.

    Args:
        desk: Answers.
        limits: What the server takes on.
        token: That must come with requests; None for none.
        local: Whether requests must name this machine as their host.
    """
    metrics = desk.metrics
    ask = _asking(desk, limits)
    app = FastAPI(
        title="duelenv serve",
        description="Answers which of two responses to a prompt is better. Every question has an id: asked again, it "
        "is answered from the record.",
        docs_url=None,
        redoc_url=None,
        version=importlib.metadata.version("duelenv"),
    )
    behind_token = [Security(HTTPBearer(auto_error=False))]  # described here, checked by the guard

    @app.post(
        PATH,
        response_model=Answers,
        responses=_PROBLEMS,
        dependencies=behind_token,
        summary="Answer a batch of duels",
    )
    async def duels(batch: Duels) -> Response:
        reply = await ask([Duel(one.id, one.prompt, one.first, one.second) for one in batch.duels])
        missing = dict.fromkeys(one.id for one in batch.duels if one.id not in reply.answers)
        body = {
            "answers": [answer_entry(answer.id, answer.win, answer.tie) for answer in reply.answers.values()],
            "unanswered": list(missing),
            "message": reply.message,
        }
        return Response(json.dumps(body), media_type="application/json")

    app.include_router(compare_router(ask, problems=_PROBLEMS), dependencies=behind_token)

    @app.get("/health", summary="Whether the server is up")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        dependencies=behind_token,
        summary="Counters as Prometheus reads them",
    )
    async def tell_metrics() -> Response:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        # What was sent is not repeated: it may be long, and hold what no answer can.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{place}: {first['msg']}".encode("ascii", "replace").decode()}, 422)

    return Guard(app, limits=limits, token=token, local=local, metrics=metrics)


def _asking(desk: Desk, limits: Limits) -> Callable[[Sequence[Duel]], Awaitable[Reply]]:
    """Make what gets a request its answers, or the status that says why not."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="oracle")
    waiting = 0

    def leave(_: object) -> None:
        nonlocal waiting
        waiting -= 1

    async def ask(duels: Sequence[Duel]) -> Reply:
        nonlocal waiting
        if len(duels) > limits.batch:
            raise HTTPException(413, f"{len(duels)} duels in one request, expected at most {limits.batch}; split them")
        questions = [Question.of(duel) for duel in duels]
        try:
            known = desk.recorded(questions)
            if all(question.id in known for question in questions):
                return desk.answer_known(known, len(questions))
            if waiting >= limits.waiting:
                raise HTTPException(503, "too many requests wait for the oracle", {"Retry-After": "1"})
            waiting += 1
            future = asyncio.get_running_loop().run_in_executor(pool, desk.answer, questions)
            future.add_done_callback(leave)
            # Shielded: whoever asked may go, the answer is recorded all the same.
            return await asyncio.wait_for(asyncio.shield(future), limits.seconds)
        except Conflict as error:
            raise HTTPException(409, str(error)) from error
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        except HTTPException:
            raise
        except TimeoutError as error:
            raise HTTPException(504, "the oracle takes long; ask again, its answer will be in the record") from error
        except Exception as error:
            logging.getLogger("duelenv.serving").exception("the oracle failed")
            raise HTTPException(500, "the oracle failed; its server's log says how") from error

    return ask
