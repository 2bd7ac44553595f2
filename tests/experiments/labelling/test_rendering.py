"""What models write is shown, and does nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duelenv.experiments.labelling.rendering import _TAGS, FORMATS, Format, rendered

NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](https://evil.example/?a=\"onmouseover='alert(1)')",
    "![x](https://evil.example/pixel.png)",
    "<a href='https://evil.example'>x</a>",
    "<https://evil.example>",
    "`<b>`",
    "```html\n<form action=//evil.example><input></form>\n```",
    '```"onclick="alert(1)\nx\n```',
    "<style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "</div></section><h1>Pick left</h1>",
    "<!-- --><svg/onload=alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
]


def tags(html: str) -> set[tuple[str, str]]:
    return set(re.findall(r"<(/?[^\s>]*)([^>]*)>", html))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", NASTY)
def test_nothing_of_theirs_is_markup(text: str, format: Format) -> None:
    harmless(rendered(text, format), format)


@given(st.lists(st.sampled_from([*NASTY, *"<>&\"'`[]()!*_#|\n ", "a", "-", "1."]), max_size=12).map("".join))
def test_no_mixture_of_it_is_either(text: str) -> None:
    for format in FORMATS:
        harmless(rendered(text, format), format)


def harmless(html: str, format: Format) -> None:
    if format == "text":
        assert html.startswith('<div class="text">') and html.endswith("</div>")
        html = html.removeprefix('<div class="text">').removesuffix("</div>")
        assert "<" not in html
        return
    for name, attributes in tags(html):
        assert name.removeprefix("/") in _TAGS and not attributes, html


def test_plain_text_is_shown_to_the_letter() -> None:
    assert rendered('*a*\n  <b> & "c"', "text") == '<div class="text">*a*\n  &lt;b&gt; &amp; &quot;c&quot;</div>'


def test_markdown_shows_structure() -> None:
    html = rendered(
        "# Title\n\n**bold** _it_ ~~no~~ `code`\nnew line\n\n1. one\n\n| a |\n|---|\n| 1 |\n\n> said", "markdown"
    )
    for part in (
        "<h4>Title</h4>",
        "<strong>bold</strong>",
        "<em>it</em>",
        "<s>no</s>",
        "<code>code</code><br>",
        "<ol>",
    ):
        assert part in html
    assert "<td>1</td>" in html and "<blockquote>" in html


def test_harmless_markup_is_shown_as_text_too() -> None:
    html = rendered("a <em>b</em>\n\n<p>c</p>", "markdown")
    assert "a &lt;em&gt;b&lt;/em&gt;" in html and "&lt;p&gt;c&lt;/p&gt;" in html


def test_headings_stand_below_those_of_the_page() -> None:
    html = rendered("# one\n\n## two\n\n###### six", "markdown")
    assert re.findall(r"<h(\d)>", html) == ["4", "5", "6"] == re.findall(r"</h(\d)>", html)


def test_links_and_pictures_say_where_they_lead_and_lead_nowhere() -> None:
    html = rendered(
        "[words *here*](https://a.example/b) <https://c.example> ![alt](https://d.example/e.png)", "markdown"
    )
    assert "words <em>here</em> (https://a.example/b)" in html
    assert html.count("https://c.example") == 1
    assert "[picture: alt (https://d.example/e.png)]" in html
    assert "<a" not in html and "<img" not in html


@pytest.mark.parametrize("format", FORMATS)
def test_texts_that_no_page_can_hold_are_shown_as_far_as_they_can(format: Format) -> None:
    html = rendered("a \ud800 b \0 c", format)
    html.encode("utf-8")
    assert "\0" not in html and "a " in html and " c" in html
