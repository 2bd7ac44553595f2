"""The page over HTTP, without scripts: what is pressed is recorded once, and what others send is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from label_page import Visitor, desk_of, page_of

from duelenv.oracles.people import Desk, Overlap, Verdict
from duelenv.oracles.people.figures import said
from duelenv.oracles.services.secrets import Secret

TEXTS = [(f"prompt {row}", f"first {row}", f"second {row}") for row in range(4)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return desk_of(tmp_path / "desk.sqlite", TEXTS)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    with ExitStack() as opened:
        yield lambda desk, **look: opened.enter_context(page_of(desk, **look))


def test_what_is_pressed_is_what_is_recorded(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    assert "Pair 1" in ann.page and "prompt 0" in ann.page and "0 of 4 labels" in ann.page
    left = ann.left
    ann.say("left")
    assert ann.message == "Recorded." and "Pair 2" in ann.page and "1 of 4 labels" in ann.page
    ann.say("tie")
    ann.say("decline")
    assert ann.message == "Recorded: no answer to that one."
    ann.say("skip")
    assert ann.message == "Skipped: it comes back later." and "Pair 4" in ann.page
    ann.say("right")
    assert "All done" in ann.page and "4 of 4 labels" in ann.page
    first, *others = desk.settle(["q0", "q1", "q2", "q3"])
    assert first.win == float(left == "first 0")
    assert [one.verdict for one in said(desk)] == [Verdict.LEFT, Verdict.TIE, Verdict.DECLINE, Verdict.RIGHT]
    assert len(others) == 3


def test_every_answer_is_on_the_disk_before_the_page_goes_on(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    ann.say("left")
    # Another page, as after the first was killed.
    again = Visitor(serve(Desk(desk.store.path)), "Ann")
    assert "Pair 2" in again.page and "1 of 4 labels" in again.page


def test_a_double_click_counts_once(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    form = {"pair": ann.hidden("pair"), "post": ann.hidden("post"), "verdict": "left"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ann.http.post("/answer", data=form).status_code, range(8)))
    assert answers == [303] * 8 and len(said(desk)) == 1
    ann.http.post("/answer", data=form | {"pair": "2"})
    assert len(said(desk)) == 1


def test_a_page_that_was_open_twice_records_the_first_word(desk: Desk, serve: Callable[..., str]) -> None:
    url = serve(desk)
    one = Visitor(url, "Ann")
    two = Visitor(url, "Ann")
    assert one.left == two.left and "Pair 1" in two.page
    one.say("left")
    two.say("right")
    assert two.message.startswith("You had answered that one already") and "Pair 2" in two.page
    assert [one.verdict for one in said(desk)] == [Verdict.LEFT]


def test_two_people_get_two_pairs_and_a_shared_one_gets_both(tmp_path: Path, serve: Callable[..., str]) -> None:
    desk = desk_of(tmp_path / "alone.sqlite", TEXTS)
    url = serve(desk)
    ann, bob = Visitor(url, "Ann"), Visitor(url, "Bob")
    assert "Pair 1" in ann.page and "Pair 2" in bob.page
    shared = desk_of(tmp_path / "shared.sqlite", TEXTS[:1], overlap=Overlap(1.0))
    url = serve(shared)
    ann, bob = Visitor(url, "Ann"), Visitor(url, "Bob")
    for one in (ann, bob):
        one.say("left" if one.left == "first 0" else "right")
    assert "Nothing left for you" not in bob.page and "All done" in bob.page
    (answer,) = shared.settle(["q0"])
    assert answer.win == 1.0
    page = ann.look("/overview")
    assert "1 pair has" in page and "not defined yet" in page and "Bob" in page


def test_undo_brings_the_pair_back(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    assert 'data-key="u" aria-keyshortcuts="u" disabled' in ann.page
    ann.say("left")
    ann.undo()
    assert ann.message == "Taken back: here it is again." and "Pair 1" in ann.page and said(desk) == []
    ann.http.post("/undo", data={"post": "another"})
    ann.say("right")
    desk.settle(["q0"])
    ann.undo()
    assert "it stays" in ann.message and len(said(desk)) == 1


def test_strength_is_asked_for_on_request(tmp_path: Path, serve: Callable[..., str]) -> None:
    desk = desk_of(tmp_path / "desk.sqlite", TEXTS)
    ann = Visitor(serve(desk, strength=True), "Ann")
    assert "Left, slightly" in ann.page
    liked = ann.left
    ann.say("slightly_left")
    (answer,) = desk.settle(["q0"])
    assert answer.win == (0.75 if liked == "first 0" else 0.25)
    assert "slightly" not in Visitor(serve(desk), "Bob").page


def test_a_run_may_ask_more(tmp_path: Path, serve: Callable[..., str]) -> None:
    desk = desk_of(tmp_path / "desk.sqlite", [])
    ann = Visitor(serve(desk, grows=True), "Ann")
    assert "No question for you now" in ann.page and 'data-look="/open"' in ann.page
    assert ann.http.get("/open").json() == {"open": False}
    desk_of(tmp_path / "desk.sqlite", TEXTS[:1])
    assert ann.http.get("/open").json() == {"open": True}


# Whose requests are let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[", "0.0.0.0"]
)
def test_a_foreign_name_that_leads_here_is_not_served(desk: Desk, serve: Callable[..., str], host: str) -> None:
    url = serve(desk)
    assert httpx.get(url, headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:8765", "LOCALHOST"])
def test_this_machine_has_several_names(desk: Desk, serve: Callable[..., str], host: str) -> None:
    assert httpx.get(serve(desk), headers={"Host": host}).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_change_nothing(desk: Desk, serve: Callable[..., str], headers: dict[str, str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    del ann.http.headers["Origin"]
    for path in ("/answer", "/undo", "/enter"):
        form = {"pair": "1", "post": "p", "verdict": "left", "name": "Eve"}
        assert ann.http.post(path, data=form, headers=headers).status_code == 403
    assert said(desk) == []


def test_a_browser_without_origin_says_where_it_comes_from(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    del ann.http.headers["Origin"]
    form = {"pair": "1", "post": "p", "verdict": "left"}
    assert ann.http.post("/answer", data=form, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_every_answer_forbids_what_the_page_does_not_need(desk: Desk, serve: Callable[..., str]) -> None:
    ann = Visitor(serve(desk), "Ann")
    for path in ("/", "/enter", "/overview", "/static/label.js", "/nothing", "/static/../app.py"):
        headers = ann.http.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    assert ann.entered.headers["set-cookie"].endswith("HttpOnly; Max-Age=7776000; Path=/; SameSite=strict")


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "best"},
        {"pair": "-1"},
        {"pair": "1e3"},
        {"pair": "9" * 40},
        {"pair": "²"},
        {"post": ""},
        {"post": "p" * 65},
        {"pair": "999"},
        {"post": "p" * 20_000},
    ],
)
def test_a_form_that_the_page_does_not_send_is_refused(
    desk: Desk, serve: Callable[..., str], fields: dict[str, str]
) -> None:
    ann = Visitor(serve(desk), "Ann")
    assert ann.say(**({"verdict": "left"} | fields)).status_code in (400, 404, 413)
    assert said(desk) == []


@pytest.mark.parametrize("name", ["", " ", "x" * 61, "a\x00b", "a\u202eb", "\ufffd"])
def test_a_name_is_letters(desk: Desk, serve: Callable[..., str], name: Any) -> None:
    ann = Visitor(serve(desk))
    assert ann.http.post("/enter", data={"name": name}).status_code == 400
    assert ann.http.get("/").headers["location"] == "/enter"


@pytest.mark.parametrize("name", ["<b>Ann</b>", "Ännchen & Söhne", "\"'; path=/x", "名前"])
def test_any_name_comes_back_as_text(desk: Desk, serve: Callable[..., str], name: str) -> None:
    ann = Visitor(serve(desk), name)
    ann.say("left")
    assert [one.annotator for one in said(desk)] == [name]
    assert "<b>Ann" not in ann.page and "<b>Ann" not in ann.look("/overview")


def test_a_name_in_a_forged_cookie_is_checked_too(desk: Desk, serve: Callable[..., str]) -> None:
    url = serve(desk)
    for value in ("%00", "x" * 100, "", "%FF"):
        response = httpx.get(url, headers={"Cookie": f"duelenv_annotator={value}"})
        assert response.status_code == 303 and response.headers["location"] == "/enter"


def test_a_token_stands_before_everything(desk: Desk, serve: Callable[..., str]) -> None:
    url = serve(desk, token=Secret("opensesame"))
    eve = Visitor(url, "Eve", token="guess")
    assert eve.entered.status_code == 403 and "That is not the token." in eve.entered.text
    assert eve.http.get("/", headers={"Cookie": "duelenv_annotator=Eve"}).headers["location"] == "/enter"
    for path in ("/answer", "/undo"):
        form = {"pair": "1", "post": "p", "verdict": "left"}
        cookies = {"Cookie": "duelenv_annotator=Eve; duelenv_pass=é"}
        assert eve.http.post(path, data=form, headers={"Cookie": "duelenv_annotator=Eve"}).status_code == 403
        assert eve.http.post(path, data=form, headers={k: v.encode() for k, v in cookies.items()}).status_code == 403
    assert "prompt 0" not in eve.page and said(desk) == []
    ann = Visitor(url, "Ann", token="opensesame")
    assert "prompt 0" in ann.page and "opensesame" not in str(ann.entered.headers)
    # With a token, any name that leads here will do.
    assert ann.http.get("/", headers={"Host": "label.example"}).status_code == 200
