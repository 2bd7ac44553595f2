"""What client and server write to each other: ids, questions, and the reading of answers that nobody trusts yet."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from duelenv.ground.errors import UserError
from duelenv.oracles.services.retrying import Unreadable
from duelenv.oracles.sources import Answer, checked

#: Where duels are answered.
PATH: Final = "/v1/duels"


class Duel(NamedTuple):
    """One question under its id."""

    id: str
    prompt: str
    first: str
    second: str


class Reply(NamedTuple):
    """What came back for a batch.

    Attributes:
        answers: By id.
        message: Why the others of the batch have no answer now; empty where there are no others.
    """

    answers: dict[str, Answer]
    message: str


def texts_digest(*texts: str) -> str:
    """Hash texts in order by SHA-256, each with its length: no two lists of texts run into one. Hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")  # data sets hold halves of characters, too
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()


def make_duel(salt: str, prompt: str, first: str, second: str) -> Duel:
    """Make a duel under the id that follows from what it asks: who asks again, and when, does not matter.

    Args:
        salt: Sets questions of equal texts apart that are to be answered anew.
        prompt: The prompt.
        first: The response shown first.
        second: The response shown second.
    """
    return Duel(texts_digest(salt, prompt, first, second), prompt, first, second)


def question(duels: Sequence[Duel]) -> bytes:
    """Write the body of a request. Lone surrogates travel as JSON escapes."""
    return json.dumps({"duels": [duel._asdict() for duel in duels]}).encode("ascii")


def reply(raw: bytes, asked: Collection[str]) -> Reply:
    """Read the body of an answer.

    Args:
        raw: As it came.
        asked: Ids of the duels that were asked about.

    Raises:
        Unreadable: It is no JSON of this kind, speaks of duels that were not asked about, says two things of one, or
            leaves one out.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the answer is no JSON") from error
    if not isinstance(body, dict) or not isinstance(body.get("answers"), list):
        raise Unreadable("the answer is JSON without a list of answers")
    answers: dict[str, Answer] = {}
    for one in body["answers"]:
        answer = _answer(one)
        if answer.id not in asked:
            raise Unreadable("the answer is to another question")
        if repr(answers.setdefault(answer.id, answer)) != repr(answer):  # by repr, since nan differs from itself
            raise Unreadable("the answer says two things of one duel")
    missing = body.get("unanswered", [])
    if not isinstance(missing, list) or not all(isinstance(one, str) for one in missing):
        raise Unreadable("the answer does not say which duels it leaves out")
    if set(missing) != set(asked) - set(answers):
        raise Unreadable("the answer leaves out a duel that was asked about, or names another")
    message = body.get("message", "")
    return Reply(answers, message if isinstance(message, str) else "")


def _answer(raw: Any) -> Answer:
    if not isinstance(raw, dict) or not isinstance(raw.get("id"), str):
        raise Unreadable("the answer has an entry without an id")
    win, tie = raw.get("win", ""), raw.get("tie", 0.0)
    for value in (win, tie):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Unreadable("the answer has an entry without a probability")
    if tie is None or (win is not None and not (math.isfinite(win) and math.isfinite(tie))):
        raise Unreadable("the answer has an entry that is no probability")
    try:
        return checked(Answer(raw["id"], math.nan if win is None else float(win), float(tie)))
    except UserError as error:
        raise Unreadable(str(error)) from error


def answer_entry(id_: str, win: float, tie: float) -> dict[str, Any]:
    """Write an answer; `win` is null where the oracle declines for good. Doubles arrive bit for bit."""
    return {"id": id_, "win": None if math.isnan(win) else win, "tie": tie}
