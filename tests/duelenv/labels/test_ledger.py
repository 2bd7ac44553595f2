"""The ledger: a question before it is asked, its answer before it is used, on two files either of which is enough."""

import json
import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from duelenv import UserError
from duelenv.labels.arrivals import Arrivals
from duelenv.labels.ledger import Ledger, counts, text_of
from duelenv.labels.ledger_file import COPY, DATABASE, LedgerFile, read
from duelenv.oracles import Answer, Request

NASTY = [
    "",
    "a\u2028b",
    "a\u2029b\u0085",
    "line\nfeed\r\n",
    "nul\x00l",
    "'\"; DROP TABLE texts; --",
    "half \ud800",
    "😀\u202e",
    "",
]


def request(number=0, row=0, prompt="p", first="a", second="b", key=None):
    return Request(key or f"r-{number}-{row}-{first}-{second}", number, row, prompt, first, second)


def held(folder):
    """Counts as another process finds them."""
    with closing(read(folder)) as connection:
        return counts(connection.execute)


def texts_in(folder):
    with closing(read(folder)) as connection:
        return {text_of(text) for (text,) in connection.execute("SELECT text FROM texts")}


def filled(folder, rounds=5):
    """A ledger of some rounds of two questions each, closed."""
    ledger = Ledger(folder)
    for number in range(rounds):
        asked = [request(number, row, first=f"first {number}", second=f"second {row}") for row in range(2)]
        ledger.put(number, asked)
        ledger.answer(number, [Answer(asked[0].id, 0.1 * number, 0.25), Answer(asked[1].id, float("nan"))])
        nothing = np.zeros(0, np.int64)
        late = Arrivals(number, nothing, nothing, np.zeros(0), np.zeros((0, 2), np.int64), {}, nothing)
        shown = {"prompt": np.array(["p", "p"]), "responses": np.array([["a", "b"], ["c", "d"]], dtype=object)}
        ledger.tell(number, shown, np.array([[0, 1], [1, 0]]), None, np.array([0.5, np.nan]), late)
    ledger.close()
    return held(folder)


def content(folder):
    with closing(read(folder)) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
            for table in ("texts", "requests", "answers", "rounds", "duels")
        ]


def test_a_question_is_on_the_disk_before_it_is_asked_and_its_answer_before_it_is_used(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.put(3, [request(3, 0), request(3, 1)]) == {}
    assert held(tmp_path)[:2] == (2, 0)
    ledger.answer(3, [Answer(request(3, 1).id, 0.7, 0.1)])
    assert held(tmp_path)[:2] == (2, 1)
    assert ledger.put(3, [request(3, 0), request(3, 1)]) == {request(3, 1).id: Answer(request(3, 1).id, 0.7, 0.1)}
    ledger.close()


@pytest.mark.parametrize("text", NASTY)
def test_every_text_comes_back_as_it_was(tmp_path, text):
    asked = request(prompt=text, first=text + "1", second="2" + text, key="k")
    for _ in range(2):  # the second time from the file
        ledger = Ledger(tmp_path)
        known = ledger.put(0, [asked])
        ledger.answer(0, [Answer("k", 1.0)])
        ledger.close()
    assert known == {"k": Answer("k", 1.0)}
    assert texts_in(tmp_path) == {text, text + "1", "2" + text}
    (tmp_path / DATABASE).unlink()
    assert texts_in(tmp_path) == {text, text + "1", "2" + text}


def test_a_source_that_declined_has_answered(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request()])
    ledger.answer(0, [Answer(request().id, float("nan"))])
    known = ledger.put(0, [request()])
    assert np.isnan(known[request().id].win)
    assert ledger.counts.answered == 1
    ledger.close()


def test_only_a_question_that_was_being_put_is_asked_again(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request(0, 0), request(0, 1)])
    ledger.answer(0, [])  # a source took them, and will answer later
    ledger.put(1, [request(1, 0)])
    ledger.close()  # as if killed in the call
    ledger = Ledger(tmp_path)
    assert ledger.counts.asked_again == 0
    assert ledger.put(0, [request(0, 0), request(0, 1)]) == {}
    assert ledger.counts.asked_again == 0
    ledger.put(1, [request(1, 0)])
    assert (ledger.counts.asked_again, ledger.counts.spent) == (1, 4)
    ledger.close()


def test_other_texts_in_the_same_place_supersede_and_can_come_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request(0, 0), request(0, 1)])
    ledger.answer(0, [Answer(request(0, 0).id, 1.0), Answer(request(0, 1).id, 0.0)])
    other = request(0, 0, first="other")
    assert ledger.put(0, [other, request(0, 1)]) == {request(0, 1).id: Answer(request(0, 1).id, 0.0)}
    assert ledger.counts[:3] == (2, 1, 1)
    assert ledger.put(0, [request(0, 0), request(0, 1)])[request(0, 0).id].win == 1.0
    assert ledger.counts == (2, 2, 1, 0, 0, 3)
    ledger.close()


def test_an_answer_comes_again_in_its_own_round(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request(0, 0), request(0, 1)])
    ledger.answer(0, [])
    ledger.answer(1, [Answer(request(0, 1).id, 0.5)])
    ledger.answer(2, [Answer(request(0, 0).id, 0.25)])
    ledger.close()
    ledger = Ledger(tmp_path)
    assert [[answer.win for answer in ledger.came_in(number)] for number in range(4)] == [[], [0.5], [0.25], []]
    assert [ledger.is_closed(number) for number in (2, 3)] == [True, False]
    assert [ledger.answered_before(number) for number in (1, 2, 3)] == [0, 1, 2]
    ledger.close()


def test_an_answer_from_elsewhere_to_a_round_that_was_played_comes_in_the_next_one(tmp_path):
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.put(number, [request(number)])
        ledger.answer(number, [])
    assert ledger.take_in([(request(0), Answer(request(0).id, 0.5)), (request(7), Answer(request(7).id, 1.0))]) == 2
    assert [[answer.win for answer in ledger.came_in(number)] for number in (0, 3, 7)] == [[], [0.5], [1.0]]
    ledger.close()


def test_comparisons_are_counted_apart_by_the_round_of_their_first_asking(tmp_path):
    ledger = Ledger(tmp_path)
    for number, names in ((0, "ab"), (5, "bc")):
        asked = [request(number, -1, first=name, key=name) for name in names]
        known = ledger.put(number, asked, "evaluation")
        ledger.answer(number, [Answer(name, 0.5) for name in names if name not in known], close=False)
    assert [ledger.evaluations(number) for number in (0, 4, 5)] == [2, 2, 3]
    assert ledger.counts == (0, 0, 0, 3, 0, 3)
    assert not ledger.is_closed(0)
    assert ledger.came_in(5) == []
    ledger.close()
    with closing(Ledger(tmp_path)) as again:  # nor does the file say that a round was played
        assert not again.is_closed(0)


def test_an_answer_to_what_was_never_asked_in_a_round_that_was_played_is_not_taken(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request(0, 0)])
    ledger.answer(0, [Answer(request(0, 0).id, 1.0)])
    ledger.put(1, [request(1, 0, first="asked here")])  # and not answered: its process died
    elsewhere = request(1, 0, first="asked elsewhere")
    assert ledger.take_in([(elsewhere, Answer(elsewhere.id, 1.0))]) == 0  # another question stands in its place
    never, later = request(0, 5), request(1, 5)
    assert ledger.take_in([(never, Answer(never.id, 1.0)), (later, Answer(later.id, 0.0))]) == 1
    assert ledger.among([never, later, elsewhere]) == {later.id}
    assert ledger.counts.asked == 3
    ledger.close()


def test_what_refuses_to_spend_leaves_nothing_written(tmp_path):
    seen = []

    def refuse(total):
        seen.append(total)
        if total > 3:
            raise RuntimeError("too much")

    ledger = Ledger(tmp_path, refuse)
    ledger.put(0, [request(0, row) for row in range(2)])
    with pytest.raises(RuntimeError, match="too much"):
        ledger.put(1, [request(1, row) for row in range(2)])
    assert held(tmp_path).spent == 2
    ledger.put(1, [request(1, 0)])
    ledger.close()
    ledger = Ledger(tmp_path, refuse)
    with pytest.raises(RuntimeError):
        ledger.put(1, [request(1, 0)])  # asked again is spent again
    assert seen == [2, 4, 3, 4]
    ledger.close()


def test_late_labels_stand_where_they_were_asked_for(tmp_path):
    ledger = Ledger(tmp_path)
    actions, past, nothing = np.array([[0, 1], [2, 0]]), np.zeros(1, np.int64), np.zeros(0, np.int64)
    none = Arrivals(0, nothing, nothing, np.zeros(0), actions[:0], {}, nothing)
    ledger.tell(0, {}, actions, np.array([True, False]), np.array([np.nan, np.nan]), none)
    ledger.flush()
    late = Arrivals(1, past, past, np.array([0.5]), actions[:1], {}, past + 1)
    ledger.tell(1, {}, actions, None, np.array([0.0, 1.0]), late)
    ledger.close()
    duels = content(tmp_path)[-1]
    assert [row[:4] + row[7:10] for row in duels] == [
        (0, 0, 0, 1, 1, 0.5, 1),
        (0, 1, 2, 0, 0, None, None),
        (1, 0, 0, 1, 1, 0.0, 1),
        (1, 1, 2, 0, 1, 1.0, 1),
    ]


# Damage --------------------------------------------------------------------------------------------------------------


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def flip(path, place=0.5):
    whole = bytearray(path.read_bytes())
    whole[int(len(whole) * place)] ^= 0x40
    path.write_bytes(whole)


DAMAGES = {"cut": cut, "emptied": empty, "deleted": lambda path: path.unlink()}
DAMAGES |= {f"flipped at {place}": lambda path, place=place: flip(path, place) for place in np.linspace(0, 0.999, 23)}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [DATABASE, COPY])
def test_either_file_is_made_good_from_the_other(tmp_path, name, damage):
    before = filled(tmp_path)
    whole = content(tmp_path)
    DAMAGES[damage](tmp_path / name)
    assert content(tmp_path) == whole  # for a reader, who mends nothing
    ledger = Ledger(tmp_path)
    assert ledger.counts == before == (10, 10, 0, 0, 0, 10)
    assert len(ledger.put(2, [request(2, row, first="first 2", second=f"second {row}") for row in range(2)])) == 2
    ledger.close()
    (tmp_path / name).unlink()
    Ledger(tmp_path).close()
    assert content(tmp_path) == whole


@pytest.mark.parametrize("damage", ["cut", "emptied", "deleted", "flipped at 0.0"])
def test_what_had_not_reached_the_database_itself_is_in_the_copy(tmp_path, damage):
    """A process is killed; then the database's log of the last commits is damaged."""
    ledger = Ledger(tmp_path / "live")
    for number in range(4):
        ledger.put(number, [request(number)])
        ledger.answer(number, [Answer(request(number).id, 0.1 * number)])
    (tmp_path / "dead").mkdir()
    for path in (tmp_path / "live").iterdir():  # what a kill would leave
        (tmp_path / "dead" / path.name).write_bytes(path.read_bytes())
    ledger.close()
    DAMAGES[damage](tmp_path / "dead" / f"{DATABASE}-wal")
    ledger = Ledger(tmp_path / "dead")
    assert ledger.counts.answered == 4
    assert "made good from its copy" in ledger.healed[0]
    ledger.close()


def test_with_both_files_damaged_it_is_one_sentence(tmp_path):
    filled(tmp_path)
    cut(tmp_path / DATABASE)
    flip(tmp_path / COPY)
    with pytest.raises(UserError, match=r"ledger\.sqlite.* is damaged, and so is its copy") as caught:
        Ledger(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="damaged or missing"):
        read(tmp_path)


def test_a_line_cut_short_by_a_death_is_no_damage(tmp_path):
    filled(tmp_path)
    with (tmp_path / COPY).open("ab") as stream:
        stream.write(b"12345678 [99, fal")
    ledger = Ledger(tmp_path)
    assert ledger.counts.answered == 10
    assert ledger.healed == []
    ledger.put(9, [request(9)])
    ledger.close()
    (tmp_path / DATABASE).unlink()
    assert held(tmp_path).asked == 11


def test_an_answer_that_the_database_refuses_is_found_in_the_copy(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.put(0, [request()])
    ledger._file.connection.execute("PRAGMA query_only = 1")  # the disk says no
    with pytest.raises(UserError, match="cannot write"):
        ledger.answer(0, [Answer(request().id, 0.75)])
    with pytest.raises(UserError, match="could not be written before"):
        ledger.put(1, [request(1)])
    ledger._file.close()
    ledger = Ledger(tmp_path)
    assert ledger.put(0, [request()])[request().id].win == 0.75
    assert ledger.counts.asked_again == 0
    ledger.close()


def test_a_file_of_something_else_is_not_written_over(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"my thesis" * 100)
    with pytest.raises(UserError, match="is damaged"):
        Ledger(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == b"my thesis" * 100


def test_every_commit_is_synced(tmp_path):
    file = LedgerFile(tmp_path)
    assert file.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    file.close()


def test_the_copy_is_plain_text(tmp_path):
    filled(tmp_path)
    for line in (tmp_path / COPY).read_text("ascii").splitlines():
        number, base, rows = json.loads(line[9:])
        assert isinstance(number, int)
        assert base is False
        assert isinstance(rows, dict)


@pytest.mark.parametrize(
    "hostile",
    [
        "CREATE TRIGGER theirs AFTER INSERT ON meta BEGIN DELETE FROM answers; END",
        "ALTER TABLE answers RENAME TO hidden; CREATE VIEW answers AS WITH RECURSIVE c(id, round, win, tie, crc) AS "
        "(SELECT 'x', 0, 1, 0, 0 UNION ALL SELECT id, round, win, tie, crc FROM c) SELECT * FROM c",
    ],
)
def test_views_and_triggers_of_a_stranger_are_damage(tmp_path, hostile):
    filled(tmp_path)
    before = held(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(hostile)
    assert held(tmp_path) == before  # of the copy
    file = LedgerFile(tmp_path)
    assert "was damaged: made good from its copy" in file.healed[0]
    file.close()
    assert held(tmp_path) == before
    assert (tmp_path / f"{DATABASE}.damaged-1").is_file()
