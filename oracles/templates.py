"""How a prompt and responses become the one text that a model reads: a template with named fields."""

from __future__ import annotations

import re
import string
from typing import Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError

_HALF: Final = re.compile("[\ud800-\udfff]")


def check_template(text: object, fields: tuple[str, ...], *, besides: tuple[str, ...] = ()) -> str:
    """Check a template with exactly these fields, or one of the words that stand for another way.

    Raises:
        UserError: It is neither.
    """
    given = checks.text("text", text)
    if given in besides:
        return given
    try:
        found = {field for _, field, _, _ in string.Formatter().parse(given) if field is not None}
    except ValueError:
        found = set()
    if found != set(fields):
        ways = "".join(f"{word!r}, " for word in besides)
        named = [f"{{{field}}}" for field in fields]
        raise UserError(
            f"text is {given!r}, expected {ways.removesuffix(', ')}{' or ' if ways else ''}a template with "
            f"{', '.join(named[:-1])} and {named[-1]}; correct it"
        )
    return given


def check_whole(*texts: str) -> None:
    """Refuse text that is cut in the middle of a character.

    Raises:
        UserError: A text holds half of a surrogate pair, which neither tokenizers nor UTF-8 take.
    """
    broken = next((text for text in texts if _HALF.search(text)), None)
    if broken is not None:
        raise UserError(
            f"the text {broken[:40]!r} holds half of a surrogate pair, which no tokenizer reads; correct how it "
            "was read, or leave it out"
        )
