"""Makes text that others wrote safe to print on a terminal; not for files that programs read.

A prompt, a response or a name in a stranger's run folder may hold characters that a terminal obeys: they clear the
screen, set the window's title, or turn the reading order around so that a line says something else than it holds.
"""

from __future__ import annotations

import re
import warnings

#: C0, DEL and C1 control characters; ends of lines and paragraphs; overrides, embeddings and isolates of the reading
#: order; and lone surrogates, on which printing itself fails.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, *, newlines: bool = False) -> str:
    r"""Make everything in a text visible that a terminal would obey, as `\x1b` or `\u202e`.

    Args:
        text: Anything.
        newlines: Keep line feeds.
    """
    return _OBEYED.sub(lambda found: "\n" if newlines and found[0] == "\n" else _visible(ord(found[0])), text)


def warn_printably() -> None:
    """Make everything that a terminal would obey visible in this process's warnings, which may quote a data set."""
    plain = warnings.formatwarning
    if getattr(plain, "printable", False):
        return

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        return printable(plain(message, category, filename, lineno, line), newlines=True)

    formatted.printable = True  # type: ignore[attr-defined]
    warnings.formatwarning = formatted


def _visible(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
