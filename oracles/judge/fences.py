"""Marks between which a text stands in a judge's prompt, so that the text cannot pretend to have ended.

The mark is a keyed hash of all that is asked. It is the same whenever the same is asked, as a cache and a repeated run
need; and who writes a response cannot put it in, since it depends on the response itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from duelenv.oracles.judge.digests import digest_of

#: Bytes of a mark: to write a text that holds its own mark, one would have to try 2^96 of them.
_SIZE = 12


def mark_for(key: bytes, texts: Sequence[str]) -> str:
    """Make a mark that stands in none of the texts.

    Args:
        key: Of the judge: others get other marks.
        texts: All that will stand between marks, in order.
    """
    number = 0
    while True:
        mark = digest_of((*texts, str(number)), size=_SIZE, key=key).hex()
        if not any(mark in text for text in texts):
            return mark
        number += 1


def fenced(text: str, mark: str) -> str:
    """Put a text between its marks, each on a line of its own; halves of characters, which nobody can send, as "?"."""
    return f"<<{mark}>>\n{text.encode('utf-8', 'replace').decode()}\n<</{mark}>>"
