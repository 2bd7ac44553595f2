"""The source: it plays on with what has come, waits with patience, and stops with everything kept."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest

from duelenv.ground.errors import UserError
from duelenv.oracles import make, takes_home
from duelenv.oracles.people import Desk, NobodyAnswers, People, Verdict
from duelenv.oracles.people.figures import standing
from duelenv.oracles.people.source import FILE
from duelenv.oracles.services.home import Home
from duelenv.oracles.sources import Request, Source, answers_later, collected


def requests(round: int, rows: int = 2, root: str = "r") -> list[Request]:
    return [
        Request(f"{root}-{round}-{row}", round, row, "p", f"a{round}{row}", f"b{round}{row}") for row in range(rows)
    ]


def answer(desk: Desk, count: int = 1, verdict: Verdict = Verdict.TIE) -> None:
    for _ in range(count):
        question = desk.next_for("Ann")
        assert question is not None
        desk.record("Ann", question.number, verdict, f"{question.number} {verdict}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def desk(home: Home) -> Desk:
    assert home.folder is not None
    return Desk(home.folder / FILE)


def test_it_is_a_source_by_name_that_keeps_its_desk_at_home(home: Home, desk: Desk) -> None:
    source = make("people", home=home, open=5)
    assert takes_home("people") and answers_later(source) and isinstance(source, Source)
    source.ask(requests(0))
    assert standing(desk).questions == 2


def test_the_run_plays_on_with_what_has_come(home: Home, desk: Desk) -> None:
    source = People(home=home, open=3)
    source.ask(requests(0))
    assert source.collect() == []
    answer(desk)
    assert [(one.id, one.win, one.tie) for one in source.collect()] == [("r-0-0", 0.0, 1.0)]
    assert source.collect() == []
    source.ask(requests(1))
    assert source.collect() == []  # three are open, as many as may be


def test_it_waits_until_few_enough_are_open(home: Home, desk: Desk) -> None:
    waited = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        answer(desk)

    source = People(home=Home(home.folder, pause=pause), open=1)
    source.ask(requests(0, rows=4))
    assert [one.id for one in source.collect()] == ["r-0-0", "r-0-1", "r-0-2"]
    assert len(waited) == 3


def test_it_stops_when_patience_ends_and_another_process_goes_on(home: Home, desk: Desk) -> None:
    source = People(home=home, open=0, patience=0.0)
    source.ask(requests(0))
    answer(desk)
    with pytest.raises(NobodyAnswers, match=r"1 questions wait .* at most 0 .*0 seconds.*the same command goes on"):
        source.collect()
    answer(desk)
    again = People(home=home, open=0, patience=0.0)
    again.ask(requests(0))
    assert standing(desk).questions == 2  # nobody is asked twice
    assert [one.id for one in again.collect()] == ["r-0-0", "r-0-1"]  # what came before the stop is not lost
    assert [one.id for one in source.collect()] == ["r-0-0", "r-0-1"]


def test_the_last_round_waits_for_all(home: Home, desk: Desk) -> None:
    source = make("people", home=Home(home.folder, pause=lambda seconds: answer(desk)), open=9, noise=0.5)
    source.ask(requests(0, rows=3))  # type: ignore[attr-defined]
    assert list(source.collect()) == []  # type: ignore[attr-defined]
    assert [one.tie for one in collected(source, last=True)] == [1.0, 1.0, 1.0]  # type: ignore[arg-type]
    stopping = People(home=home, open=9, patience=0.0)
    stopping.ask(requests(1))
    with pytest.raises(NobodyAnswers, match=r"2 questions .* at most 0 in the last round"):
        stopping.collect_last()


def test_an_answer_renews_patience(home: Home, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("duelenv.oracles.people.source.time.monotonic", lambda: now[0])

    def pause(seconds: float) -> None:
        now[0] += 6.0
        if now[0] in (6.0, 12.0, 18.0):
            answer(desk)

    source = People(home=Home(home.folder, pause=pause), open=0, patience=10.0)
    source.ask(requests(0, rows=4))
    with pytest.raises(NobodyAnswers, match="1 questions"):
        source.collect()
    assert now[0] == 30.0  # 10 seconds after the last answer, at the next look


def test_a_run_that_is_told_to_stop_does_not_wait(home: Home) -> None:
    class Told(Exception):
        pass

    def pause(seconds: float) -> None:
        raise Told

    source = People(home=Home(home.folder, pause=pause), open=0)
    source.ask(requests(0))
    with pytest.raises(Told):
        source.collect()


def test_who_declines_gives_no_label(home: Home, desk: Desk) -> None:
    source = People(home=home, open=0, patience=0.0)
    source.ask(requests(0, rows=1))
    answer(desk, verdict=Verdict.DECLINE)
    (one,) = source.collect()
    assert math.isnan(one.win)


def test_a_round_that_is_played_again_with_other_pairs_withdraws_the_old_ones(home: Home, desk: Desk) -> None:
    source = People(home=home, open=2, patience=0.0)
    source.ask(requests(0))
    source.ask(requests(1, root="before"))
    source.ask(requests(1))  # after a fault, other texts
    assert standing(desk).wanted == 4
    source.ask(requests(0, root="another world"))
    assert standing(desk).wanted == 2


def test_one_desk_serves_several_cells(home: Home, desk: Desk) -> None:
    one, two = People(home=home, open=9), People(home=home, open=9)
    one.ask(requests(0))
    two.ask([*requests(0)[:1], *requests(0, root="own")])
    assert standing(desk).questions == 4  # what both ask is put once
    answer(desk, 4)
    assert [len(source.collect()) for source in (one, two)] == [2, 3]


def test_without_a_place_for_a_desk_nobody_is_asked(tmp_path: Path) -> None:
    source = People()
    assert source.collect() == []
    with pytest.raises(UserError, match="no desk outside of a run"):
        source.ask(requests(0))
    elsewhere = People(desk=tmp_path / "own.sqlite")
    elsewhere.ask(requests(0))
    assert (tmp_path / "own.sqlite").exists()


@pytest.mark.parametrize(
    ("setting", "value"), [("open", -1), ("open", 1.5), ("patience", -1), ("overlap", 1.5), ("raters", 1)]
)
def test_settings_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(UserError, match=setting):
        make("people", **{setting: value})


def test_the_page_on_people_names_the_defaults_of_the_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "people.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `(\w+)` \|.*\| (\S*) \|$", page, re.MULTILINE))
    defaults = {name: one.default for name, one in inspect.signature(People).parameters.items() if name != "home"}
    assert {name: float(value or "nan") for name, value in named.items()} == pytest.approx(
        {name: float("nan") if value is None else float(value) for name, value in defaults.items()}, nan_ok=True
    )
