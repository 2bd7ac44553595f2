"""The desk: every answer once, the order of the page undone, nothing changed that a run may have learnt from."""

from __future__ import annotations

import math
import sqlite3
import threading
from pathlib import Path

import pytest

from duelenv.ground.errors import UserError
from duelenv.oracles.people import Desk, Overlap, Verdict
from duelenv.oracles.people.desk import LEASE_SECONDS
from duelenv.oracles.people.figures import asked, said, standing
from duelenv.oracles.sources import Request


def requests(count: int, round: int = 0) -> list[Request]:
    return [Request(f"q{row}", round, row, f"prompt {row}", f"first {row}", f"second {row}") for row in range(count)]


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(tmp_path: Path, clock: Clock) -> Desk:
    made = Desk(tmp_path / "folder" / "desk.sqlite", now=clock)
    made.put(requests(4))
    return made


def posts() -> str:
    posts.count = getattr(posts, "count", 0) + 1  # type: ignore[attr-defined]
    return f"post {posts.count}"  # type: ignore[attr-defined]


def test_the_side_on_which_a_response_stood_is_undone(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite")
    desk.put(requests(40))
    sides = []
    while (question := desk.next_for("Ann")) is not None:
        assert {question.left, question.right} == {f"first {question.number - 1}", f"second {question.number - 1}"}
        sides.append(question.left.startswith("second"))
        assert question.swapped == sides[-1]
        # Ann likes the first response, wherever it stands.
        desk.record("Ann", question.number, Verdict.RIGHT if question.swapped else Verdict.LEFT, posts())
    assert 5 < sum(sides) < 35  # both orders occur; outside with probability 2e-6
    assert all(answer.win == 1.0 and answer.tie == 0.0 for answer in desk.settle([f"q{row}" for row in range(40)]))
    assert [one.swapped for one in said(desk)] == sides


@pytest.mark.parametrize(
    ("verdict", "swapped", "win", "tie"),
    [
        (Verdict.LEFT, False, 1.0, 0.0),
        (Verdict.LEFT, True, 0.0, 0.0),
        (Verdict.SLIGHTLY_LEFT, False, 0.75, 0.0),
        (Verdict.SLIGHTLY_LEFT, True, 0.25, 0.0),
        (Verdict.SLIGHTLY_RIGHT, False, 0.25, 0.0),
        (Verdict.RIGHT, True, 1.0, 0.0),
        (Verdict.TIE, True, 0.0, 1.0),
    ],
)
def test_a_verdict_stands_for_a_probability(verdict: Verdict, swapped: bool, win: float, tie: float) -> None:
    assert verdict.preference(swapped) == (win, tie)


def test_the_order_is_the_same_after_a_restart_and_differs_between_people(desk: Desk, tmp_path: Path) -> None:
    desk.put(requests(30))
    again = Desk(desk.store.path)

    def sides(of: Desk, name: str) -> list[bool]:
        return [of._is_swapped(f"q{row}", name) for row in range(30)]

    assert sides(desk, "Ann") == sides(again, "Ann")
    assert sides(desk, "Ann") != sides(desk, "Bob")
    assert sides(desk, "Ann") != sides(Desk(tmp_path / "other.sqlite"), "Ann")


def test_a_repeated_post_counts_once(desk: Desk) -> None:
    assert desk.record("Ann", 1, Verdict.LEFT, "post") == "recorded"
    assert desk.record("Ann", 1, Verdict.LEFT, "post") == "repeated"
    assert desk.record("Ann", 2, Verdict.LEFT, "post") == "repeated"  # as where the next pair got a double click
    assert [one.question for one in said(desk)] == [1]


def test_the_first_word_stands_where_a_page_was_open_twice(desk: Desk) -> None:
    assert desk.next_for("Ann") == desk.next_for("Ann")
    assert desk.record("Ann", 1, Verdict.TIE, "tab one") == "recorded"
    assert desk.record("Ann", 1, Verdict.LEFT, "tab two") == "answered before"
    assert [one.verdict for one in said(desk)] == [Verdict.TIE]


def test_what_somebody_looks_at_is_shown_to_nobody_else_for_a_while(desk: Desk, clock: Clock) -> None:
    assert desk.next_for("Ann").number == 1  # type: ignore[union-attr]
    assert desk.next_for("Bob").number == 2  # type: ignore[union-attr]
    assert desk.next_for("Bob", wish=1).number == 2  # type: ignore[union-attr]
    clock.time += LEASE_SECONDS + 1.0  # Ann is gone
    assert desk.next_for("Bob").number == 1  # type: ignore[union-attr]
    # She comes back to her page, and what she says is kept beside what he says.
    desk.record("Bob", 1, Verdict.TIE, posts())
    assert desk.record("Ann", 1, Verdict.TIE, posts()) == "recorded"
    assert standing(desk).given == 1  # of those that are wanted
    assert len(said(desk)) == 2


def test_a_skipped_question_comes_back_last(desk: Desk, clock: Clock) -> None:
    seen = []
    for _ in range(4):
        question = desk.next_for("Ann")
        assert question is not None
        seen.append(question.number)
        clock.time += 1.0
        desk.record("Ann", question.number, Verdict.SKIP, posts())
    assert seen == [1, 2, 3, 4]
    assert desk.next_for("Ann").number == 1  # type: ignore[union-attr]  # skipped longest ago
    assert desk.next_for("Bob").number == 2  # type: ignore[union-attr]  # what Ann skipped is new to him
    assert desk.settle(["q0", "q1", "q2", "q3"]) == [] and said(desk) == []


def test_who_cannot_say_has_answered_that_there_is_no_answer(desk: Desk) -> None:
    desk.record("Ann", 1, Verdict.DECLINE, posts())
    (answer,) = desk.settle(["q0", "q1"])
    assert answer.id == "q0" and math.isnan(answer.win) and answer.tie == 0.0


def test_undo_brings_the_question_back_and_keeps_the_history(desk: Desk) -> None:
    desk.record("Ann", 1, Verdict.LEFT, posts())
    desk.record("Ann", 2, Verdict.SKIP, posts())
    assert desk.undo("Ann", "undo one") == ("taken back", 2)
    assert desk.undo("Ann", "undo one") == ("repeated", None)  # a double click takes back one
    assert desk.undo("Ann", "undo two") == ("taken back", 1)
    assert desk.undo("Ann", "undo three") == ("nothing", None)
    assert desk.settle(["q0"]) == []
    desk.record("Ann", 1, Verdict.TIE, posts())
    (answer,) = desk.settle(["q0"])
    assert (answer.win, answer.tie) == (0.0, 1.0)
    kept = sqlite3.connect(desk.store.path).execute("SELECT verdict, undone IS NOT NULL FROM answers ORDER BY number")
    assert kept.fetchall() == [("left", 1), ("skip", 1), ("tie", 0)]


def test_what_a_run_was_told_is_never_taken_back(desk: Desk) -> None:
    desk.record("Ann", 1, Verdict.TIE, posts())
    told = desk.settle(["q0"])
    assert desk.undo("Ann", posts()) == ("learnt", 1)
    # Nor does another answer to it, from a page that was left open, change what the run is told when it asks again.
    desk.record("Bob", 1, Verdict.LEFT, posts())
    assert desk.settle(["q0"]) == told


def test_several_people_are_asked_where_that_is_wanted_and_averaged(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite", Overlap(1.0, raters=3))
    desk.put(requests(1))
    for name, likes_first in (("Ann", True), ("Bob", True)):
        question = desk.next_for(name)
        assert question is not None
        desk.record(name, 1, Verdict.LEFT if likes_first != question.swapped else Verdict.RIGHT, posts())
        assert desk.next_for(name) is None  # nobody answers twice
        assert desk.settle(["q0"]) == []
    assert desk.next_for("Cem") is not None
    desk.record("Cem", 1, Verdict.TIE, posts())
    (answer,) = desk.settle(["q0"])
    assert answer.win == pytest.approx(2.0 / 3.0) and answer.tie == pytest.approx(1.0 / 3.0)
    assert standing(desk).wanted == standing(desk).given == 3


def test_who_declines_leaves_the_mean_to_the_others(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite", Overlap(1.0))
    desk.put(requests(1))
    desk.record("Ann", 1, Verdict.DECLINE, posts())
    desk.record("Bob", 1, Verdict.TIE, posts())
    (answer,) = desk.settle(["q0"])
    assert (answer.win, answer.tie) == (0.0, 1.0)


def test_a_share_or_a_number_of_questions_is_shared(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite", Overlap(0.3))
    desk.put(requests(400))
    assert 400 + 80 < standing(desk).wanted < 400 + 160  # 120 +- 4.4 deviations of 9.2
    exact = Desk(tmp_path / "exact.sqlite")
    ids = [request.id for request in requests(50)]
    exact.overlap = Overlap(exact.share_of(7, ids), raters=4)
    exact.put(requests(50))
    assert standing(exact).wanted == 50 + 7 * 3
    assert exact.share_of(50, ids) == 1.0


def test_asking_again_keeps_place_and_answers(desk: Desk) -> None:
    desk.record("Ann", 2, Verdict.TIE, posts())
    desk.put(requests(4))
    assert standing(desk) == standing(Desk(desk.store.path)) and standing(desk).questions == 4
    assert [answer.id for answer in desk.settle(["q0", "q1"])] == ["q1"]


def test_an_id_stands_for_the_same_texts_for_ever(desk: Desk) -> None:
    with pytest.raises(UserError, match=r"'q0' lies on the desk .* with other texts"):
        desk.put([Request("q0", 0, 0, "prompt 0", "first 0", "another")])
    assert len(asked(desk)) == 4


def test_what_nobody_wants_any_more_is_shown_to_nobody(desk: Desk) -> None:
    desk.put(requests(1))  # another cell asks the same
    desk.withdraw(["q0", "q1"])
    assert desk.next_for("Ann").number == 1  # type: ignore[union-attr]
    desk.withdraw(["q0"])
    assert desk.next_for("Ann").number == 3  # type: ignore[union-attr]
    desk.put(requests(1))
    assert desk.next_for("Ann").number == 1  # type: ignore[union-attr]


def test_a_table_that_changed_withdraws_what_it_no_longer_asks(desk: Desk) -> None:
    desk.put(requests(2), alone=True)
    desk.put(requests(2), alone=True)
    assert standing(desk).questions == 2


def test_texts_come_back_to_the_letter(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite")
    texts = ("\ud800 half", "zero \0 byte", "\r\n\u2028 ")
    desk.put([Request("q", 0, 0, *texts)])
    (question,) = asked(desk)
    assert (question.prompt, question.first, question.second) == texts


def test_times_are_from_sight_to_answer(desk: Desk, clock: Clock) -> None:
    for seconds in (4.0, 100.0, 6.0):
        question = desk.next_for("Ann")
        assert question is not None
        clock.time += seconds
        desk.record("Ann", question.number, Verdict.TIE, posts())
    found = standing(desk, "Ann")
    assert found.seconds == 6.0 and found.seconds_left == 6.0 and found.mine == 3


def test_many_hands_lose_and_double_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk.sqlite", Overlap(0.5))
    desk.put(requests(30))
    wanted = standing(desk).wanted

    def work(name: str) -> None:
        mine = Desk(desk.store.path)
        while (question := mine.next_for(name)) is not None:
            mine.record(name, question.number, Verdict.TIE, f"{name} {question.number}")

    hands = [threading.Thread(target=work, args=(f"hand {number}",)) for number in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    work("the last")  # what two looked at when they left
    work("the very last")
    assert standing(desk).given == wanted == len(said(desk))
    assert len({(one.question, one.annotator) for one in said(desk)}) == wanted


@pytest.mark.parametrize("content", [b"no database at all, but a text that is long enough to look like one" * 20, None])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (a)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is no desk"):
        Desk(path)
    assert path.read_bytes()[100:] == before[100:]  # SQLite's own header counts changes


def test_a_desk_of_another_version_is_refused(desk: Desk) -> None:
    with desk.store.writing() as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE name = 'version'")
    with pytest.raises(UserError, match="version 99, expected 1"):
        Desk(desk.store.path)


def test_there_is_no_answer_to_what_was_not_asked(desk: Desk) -> None:
    with pytest.raises(UserError, match="no question 77"):
        desk.record("Ann", 77, Verdict.LEFT, posts())
