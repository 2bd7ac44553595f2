"""Texts of prompts and responses as HTML that holds nothing of theirs: no markup, no link, no picture, no script."""

from __future__ import annotations

import html
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from duelenv.ground.errors import UserError

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Format = Literal["text", "markdown"]
FORMATS: Final[tuple[Format, ...]] = ("text", "markdown")

#: What may stand in a response, and no attribute of any of them.
_TAGS: Final = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li"),
    *("h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}


def rendered(text: str, format: Format) -> str:
    """Return a text as HTML.

    Args:
        text: What somebody or some model wrote.
        format: "text" shows it to the letter; "markdown" with the structure that it gives itself. HTML in it is shown
            as text in both; of links the address is shown, of pictures the description.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be sent
    text = text.replace("\0", "\ufffd")
    if format == "text":
        return f'<div class="text">{html.escape(text)}</div>'
    import nh3

    # The parser lets no HTML through; the second lock is for the case that it ever does.
    return nh3.clean(_parser().render(text), tags=_TAGS, attributes={}, link_rel=None)


@cache
def _parser() -> MarkdownIt:
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise UserError("Markdown needs a package that is missing; pip install 'duelenv[web]'") from error

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.add_render_rule("link_open", _nothing)
    parser.add_render_rule("link_close", _address)
    parser.add_render_rule("image", _picture)
    for rule in ("heading_open", "heading_close"):
        parser.add_render_rule(rule, _heading)
    return parser


def _nothing(self: Any, tokens: list[Token], place: int, options: Any, env: Any) -> str:
    return ""


def _address(self: Any, tokens: list[Token], place: int, options: Any, env: Any) -> str:
    """Write after a link's words where it leads, unless the words say so."""
    depth, start = 1, place
    while depth:
        start -= 1
        depth += {"link_close": 1, "link_open": -1}.get(tokens[start].type, 0)
    address = str(tokens[start].attrGet("href"))
    words = "".join(token.content for token in tokens[start + 1 : place])
    return "" if words == address else f" ({html.escape(address)})"


def _picture(self: Any, tokens: list[Token], place: int, options: Any, env: Any) -> str:
    return f"[picture: {html.escape(tokens[place].content)} ({html.escape(str(tokens[place].attrGet('src')))})]"


def _heading(self: Any, tokens: list[Token], place: int, options: Any, env: Any) -> str:
    """Set a response's headings below those of the page."""
    token = tokens[place]
    level = min(int(token.tag[1:]) + 3, 6)
    return f"<{'/' if token.nesting < 0 else ''}h{level}>"
