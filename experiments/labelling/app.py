"""The page: a question and two responses, what is said of them, and how far it is. All that it keeps is on the desk."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import jinja2
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from duelenv.experiments.labelling.agreement import overview
from duelenv.experiments.labelling.guard import PASS, Guard, cookie
from duelenv.experiments.labelling.rendering import Format, rendered
from duelenv.ground.errors import UserError
from duelenv.oracles.people.desk import Desk
from duelenv.oracles.people.figures import last_answer, standing
from duelenv.oracles.people.verdicts import Verdict
from duelenv.oracles.services.secrets import Secret

_HERE: Final = Path(__file__).parent
NAME: Final = "duelenv_annotator"
"""Cookie with the annotator's name."""

_LONGEST_NAME: Final = 60
_LARGEST_FORM: Final = 10_000

#: What the page says first, after something was done.
_MESSAGES: Final = {
    "recorded": "Recorded.",
    "skipped": "Skipped: it comes back later.",
    "declined": "Recorded: no answer to that one.",
    "answered before": "You had answered that one already; your first answer stays.",
    "taken back": "Taken back: here it is again.",
    "nothing": "There is nothing to take back.",
    "learnt": "That answer was given to the run, which may have learnt from it: it stays.",
}


@dataclass(frozen=True)
class Choice:
    """A button.

    Attributes:
        verdict: What it says.
        words: What stands on it.
        key: The key that presses it, as browsers name it.
        also: Another one.
    """

    verdict: Verdict
    words: str
    key: str
    also: str = ""


_LEFT_OR_RIGHT: Final = (
    Choice(Verdict.LEFT, "Left", "1", "ArrowLeft"),
    Choice(Verdict.TIE, "Tie", "2", "t"),
    Choice(Verdict.RIGHT, "Right", "3", "ArrowRight"),
)
_WITH_STRENGTH: Final = (
    Choice(Verdict.LEFT, "Left, clearly", "1", "ArrowLeft"),
    Choice(Verdict.SLIGHTLY_LEFT, "Left, slightly", "2"),
    Choice(Verdict.TIE, "Tie", "3", "t"),
    Choice(Verdict.SLIGHTLY_RIGHT, "Right, slightly", "4"),
    Choice(Verdict.RIGHT, "Right, clearly", "5", "ArrowRight"),
)
_ELSE: Final = (
    Choice(Verdict.SKIP, "Skip for now", "s"),
    Choice(Verdict.DECLINE, "Cannot say", "d"),
)


@dataclass(frozen=True)
class Look:
    """How the page looks and to whom it is open.

    Attributes:
        title: What is labelled.
        format: How texts are shown.
        strength: Whether people say how much better one is.
        grows: Whether a run may ask more, so that the page waits when it is through.
        token: What lets in where the page is open to other machines.
    """

    title: str
    format: Format = "text"
    strength: bool = False
    grows: bool = False
    token: Secret | None = None


async def _fields(request: Request) -> dict[str, str]:
    """Read what a form sent, as browsers write it without files."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise HTTPException(413, "This form is larger than any of this page.")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


Fields = Annotated[dict[str, str], Depends(_fields)]


def make_app(desk: Desk, look: Look) -> FastAPI:
    """Return the application that shows the questions of a desk.

    Args:
        desk: Whose questions.
        look: How, and to whom.
    """
    app = FastAPI(title="duelenv label", docs_url=None, redoc_url=None, openapi_url=None)
    guard = Guard(look.token)
    app.middleware("http")(guard)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates.filters["duration"] = duration
    choices = _WITH_STRENGTH if look.strength else _LEFT_OR_RIGHT

    def page(template: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
        return HTMLResponse(templates.get_template(template).render(look=look, **values), status)

    @app.get("/")
    def pair(request: Request) -> Response:
        annotator = _annotator(request)
        if annotator is None:
            return RedirectResponse("/enter", 303)
        wish = request.query_params.get("pair", "")
        question = desk.next_for(annotator, int(wish) if wish.isdecimal() and len(wish) < 16 else None)
        common: dict[str, Any] = {
            "annotator": annotator,
            "standing": standing(desk, annotator),
            "message": _MESSAGES.get(request.query_params.get("said", ""), ""),
            "can_undo": last_answer(desk, annotator) is not None,
            "post": secrets.token_urlsafe(12),
        }
        if question is None:
            return page("through.html", common)
        texts = {name: rendered(getattr(question, name), look.format) for name in ("prompt", "left", "right")}
        own = {"number": question.number, "choices": choices, "others": _ELSE}
        return page("pair.html", own | texts | common)

    @app.get("/open")
    def is_open(request: Request) -> Response:
        annotator = _annotator(request)
        return JSONResponse({"open": annotator is not None and desk.next_for(annotator) is not None})

    @app.post("/answer")
    def answer(request: Request, fields: Fields) -> Response:
        annotator = _annotator(request)
        number, post, said = fields.get("pair", ""), fields.get("post", ""), fields.get("verdict", "")
        if annotator is None:
            return RedirectResponse("/enter", 303)
        if not number.isdecimal() or len(number) > 15 or not post or len(post) > 64 or said not in list(Verdict):
            return PlainTextResponse("This form is not complete: open the page again.", 400)
        verdict = Verdict(said)
        try:
            outcome: str = desk.record(annotator, int(number), verdict, post)
        except UserError as error:
            return PlainTextResponse(str(error), 404)
        if outcome == "recorded":
            outcome = {Verdict.SKIP: "skipped", Verdict.DECLINE: "declined"}.get(verdict, outcome)
        return _back(said=outcome)

    @app.post("/undo")
    def undo(request: Request, fields: Fields) -> Response:
        annotator, post = _annotator(request), fields.get("post", "")
        if annotator is None:
            return RedirectResponse("/enter", 303)
        if not post or len(post) > 64:
            return PlainTextResponse("This form is not complete: open the page again.", 400)
        outcome, number = desk.undo(annotator, post)
        return _back(said=outcome, **({"pair": str(number)} if outcome == "taken back" else {}))

    @app.get("/enter")
    def enter(request: Request) -> Response:
        values = {"name": _annotator(request) or "", "needs_token": _needs(request), "problem": ""}
        return page("enter.html", values)

    def _needs(request: Request) -> bool:
        return guard.wants_token and not guard.knows(request)

    @app.post("/enter")
    def entered(request: Request, fields: Fields) -> Response:
        name, needs = " ".join(fields.get("name", "").split()), _needs(request)
        problem = ""
        if needs and not guard.admits(fields.get("token", "").strip()):
            problem = "That is not the token."
        elif not _is_name(name):
            problem = f"A name has 1 to {_LONGEST_NAME} letters or digits."
        if problem:
            values = {"name": name, "needs_token": needs, "problem": problem}
            return page("enter.html", values, 403 if needs else 400)
        response = RedirectResponse("/", 303)
        response.set_cookie(NAME, quote(name), max_age=90 * 86_400, httponly=True, samesite="strict")
        if needs:
            response.set_cookie(PASS, guard.proof(), max_age=90 * 86_400, httponly=True, samesite="strict")
        return response

    @app.get("/overview")
    def figures(request: Request) -> Response:
        annotator = _annotator(request)
        if annotator is None:
            return RedirectResponse("/enter", 303)
        values = {"annotator": annotator, "standing": standing(desk, annotator), "overview": overview(desk)}
        return page("overview.html", values)

    return app


def _annotator(request: Request) -> str | None:
    name = unquote(cookie(request, NAME))
    return name if _is_name(name) else None


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable() and "\ufffd" not in name and name == name.strip()


def _back(**values: str) -> Response:
    return RedirectResponse(f"/?{urlencode(values)}", 303)


def duration(seconds: float | None) -> str:
    """Write seconds in words.

    Example:
        >>> duration(8.4), duration(130.0), duration(9000.0)
        ('8 s', '2 min', '2.5 h')
    """
    if seconds is None:
        return "unknown"
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"
