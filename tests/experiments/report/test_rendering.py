"""Texts in the page: what stands between backticks is code, and all of it is escaped."""

import pytest

from duelenv.experiments.report.rendering import code_spans


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Does `frugal` beat `passive`?", "Does <code>frugal</code> beat <code>passive</code>?"),
        ("a < b & `<i>c</i>`", "a &lt; b &amp; <code>&lt;i&gt;c&lt;/i&gt;</code>"),
        ("`</code><script>x</script>`", "<code>&lt;/code&gt;&lt;script&gt;x&lt;/script&gt;</code>"),
        ("one ` alone", "one ` alone"),
        ("``", "``"),
        ("", ""),
    ],
)
def test_what_stands_between_backticks_is_code_and_all_of_it_is_escaped(text, html):
    assert str(code_spans(text)) == html
