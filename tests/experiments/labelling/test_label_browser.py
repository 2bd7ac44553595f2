"""The page in headless Chromium: keys, widths, colours, and that what a response says is done by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from label_page import desk_of, page_of

from duelenv.oracles.people import Desk, Verdict
from duelenv.oracles.people.figures import said

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        chromium.found() is None, reason=f"none of {', '.join(chromium.NAMES)} is found: apt-get install chromium"
    ),
]

NASTY = (
    "# Title\n\n<script>document.title = 'taken'</script>\n\n"
    "<img src=//evil.example/x onerror=\"document.title='taken'\">\n\n"
    "![pixel](http://evil.example/pixel.png) [press me](http://evil.example/)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    "```\n" + "one very long line of code " * 12 + "\n```\n\n" + "unbreakable" * 30
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    texts = [("Which?", NASTY, "plain")] + [(f"prompt {row}", f"first {row}", f"second {row}") for row in range(7)]
    return desk_of(tmp_path / "desk.sqlite", texts)


def enter(browser: chromium.Browser, url: str, name: str = "Ann") -> None:
    browser("Network.clearBrowserCookies")
    browser.events.clear()
    browser.open(f"{url}enter")
    browser.until("document.activeElement.id === 'name'")  # by itself, once the page is drawn
    browser.run(f"document.activeElement.value = '{name}'")
    browser.leaving(lambda: browser.press("Enter", "Enter", "\r"))


def test_keys_press_the_buttons(browser: chromium.Browser, desk: Desk) -> None:
    with page_of(desk) as url:
        enter(browser, url)
        for key in ("1", "2", "3", "ArrowLeft", "ArrowRight", "t", "d"):
            browser.leaving(lambda key=key: browser.press(key))
        assert [str(one.verdict) for one in said(desk)] == ["left", "tie", "right", "left", "right", "tie", "decline"]
        browser.leaving(lambda: browser.press("u"))
        browser.leaving(lambda: browser.press("s"))
        assert len(said(desk)) == 6
        # With a modifier it is the browser's own key, and switched off it is nobody's.
        browser("Input.dispatchKeyEvent", type="keyDown", key="1", modifiers=2)
        browser.run("document.getElementById('keys').click()")
        browser.press("1")
        browser.open(url)
        assert not browser.run("document.getElementById('keys').checked")
        browser.press("1")
        assert browser.run("new Promise(done => setTimeout(() => done(true), 200))") and len(said(desk)) == 6
        browser.run("document.getElementById('keys').click()")
        assert browser.complaints() == []


def test_a_double_click_on_a_slow_page_answers_one_pair(browser: chromium.Browser, desk: Desk) -> None:
    with page_of(desk) as url:
        enter(browser, url)
        press = "const one = document.querySelector('button[value=left]'); one.click(); one.click()"
        browser.leaving(lambda: browser.run(press))
        browser.until("document.title.startsWith('Pair 2')")
        assert [one.verdict for one in said(desk)] == [Verdict.LEFT]


def test_what_a_response_says_is_done_by_nobody(browser: chromium.Browser, desk: Desk) -> None:
    with page_of(desk, format="markdown") as url:
        enter(browser, url)
        assert browser.run("document.title") == "Pair 1 · a table"
        assert browser.run("document.querySelectorAll('.words :is(a, img, script, form, style)').length") == 0
        assert {one.split("/")[2] for one in browser.requested()} == {url.split("/")[2]}
        assert browser.complaints() == []
        # The policy of the page is a second lock: what got in all the same would not run.
        browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = `taken`\">')")
        browser.until("document.querySelector('img').complete")
        assert browser.run("document.title") != "taken" and browser.complaints()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_nothing_is_cut_off_and_all_can_be_read(browser: chromium.Browser, desk: Desk, width: int, dark: bool) -> None:
    with page_of(desk, format="markdown", strength=True) as url:
        enter(browser, url)
        browser.look(width, 800, dark)
        for path in ("", "overview", "enter"):
            browser.open(url + path)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run(chromium.FAINT) == []
        browser.open(url)
        beside = "(([left, right]) => left.offsetTop == right.offsetTop)(document.querySelectorAll('.pair section'))"
        assert browser.run(beside) == (width > 700)
        sizes = browser.run("[...document.querySelectorAll('button')].map(one => [one.offsetHeight, one.offsetWidth])")
        assert all(height >= 40 and across >= 44 for height, across in sizes)


def test_a_screen_reader_finds_its_way(browser: chromium.Browser, desk: Desk) -> None:
    with page_of(desk) as url:
        enter(browser, url)
        nodes = [one for one in browser("Accessibility.getFullAXTree")["nodes"] if not one.get("ignored")]
        found = [(one["role"]["value"], one.get("name", {}).get("value", "").strip()) for one in nodes]
        for role in ("banner", "main", "contentinfo", "navigation"):
            assert sum(role == one for one, _ in found) == 1, role
        for wanted in (
            ("heading", "Which response is better?"),
            ("region", "Prompt"),
            ("region", "Left response"),
            ("region", "Right response"),
            ("group", "Your answer"),
            ("button", "Left"),
            ("button", "Tie"),
            ("progressbar", "0 of 8 labels"),
        ):
            assert wanted in found
        browser.until("document.activeElement.tagName === 'H1'")  # a new pair is read from its beginning
        order = []
        for _ in range(5):
            browser.press("Tab", "Tab")
            order.append(browser.run("document.activeElement.value"))
        assert order == ["left", "tie", "right", "skip", "decline"]
        browser.leaving(lambda: browser.press("1"))
        browser.until("document.querySelector('[role=status]').textContent == 'Recorded.'")


def test_the_page_finds_new_questions_of_a_run_by_itself(browser: chromium.Browser, tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with page_of(desk_of(path, []), grows=True) as url:
        enter(browser, url)
        assert browser.run("document.querySelector('h1').textContent") == "No question for you now"
        desk_of(path, [("p", "x", "y")])
        browser.until("document.title.startsWith('Pair 1')")
