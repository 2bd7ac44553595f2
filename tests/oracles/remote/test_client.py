"""The client of a served oracle, against a server that misbehaves: nothing lost, doubled or invented."""

from __future__ import annotations

import json
import pickle
import threading
import time

import numpy as np
import pytest
from rude_server import Behaviour, rude_server

from duelenv.ground.errors import UserError
from duelenv.oracles import Unanswered, make
from duelenv.oracles.remote import Remote
from duelenv.oracles.remote.wire import make_duel

QUICK = {"pause": 0.001, "attempts": 3, "timeout": 5.0}
TEXTS = (["p", "q"], ["a", "long"], ["bb", "c"])


def entries(duels):
    """What a good server says: the longer wins with 0.8."""
    return [
        {"id": one["id"], "win": 0.8 if len(one["first"]) > len(one["second"]) else 0.3, "tie": 0.1} for one in duels
    ]


def good(seen):
    return {"answers": entries(seen.body["duels"]), "unanswered": [], "message": ""}


def reply(seen, change):
    """A good answer, changed."""
    body = good(seen)
    change(body)
    return body


def test_answers_are_told_by_id_in_whatever_order_they_come() -> None:
    def backwards(seen):
        return reply(seen, lambda body: body["answers"].reverse())

    with rude_server(backwards) as server:
        answer = Remote(server.url, patience=QUICK)(*TEXTS)
    assert answer.win.tolist() == [0.3, 0.8] and answer.tie.tolist() == [0.1, 0.1]


def test_a_duel_that_stands_twice_in_a_batch_is_asked_once() -> None:
    with rude_server(good) as server:
        answer = Remote(server.url, patience=QUICK)(["p"] * 3, ["a", "aa", "a"], ["b"] * 3)
        assert [len(seen.body["duels"]) for seen in server.seen] == [2]
    assert answer.win.tolist() == [0.3, 0.8, 0.3]


def test_null_is_an_answer_and_means_that_the_oracle_declines() -> None:
    def decline(seen):
        return reply(seen, lambda body: body["answers"][0].update(win=None, tie=0.0))

    with rude_server(decline) as server:
        answer = Remote(server.url, patience=QUICK)(*TEXTS)
    assert np.isnan(answer.win[0]) and answer.tie[0] == 0.0 and answer.win[1] == 0.8


def test_an_id_follows_from_the_texts_in_their_order_and_the_salt() -> None:
    assert make_duel("", "p", "a", "b") == make_duel("", "p", "a", "b")
    others = [
        make_duel("", "p", "b", "a"),
        make_duel("s", "p", "a", "b"),
        make_duel("", "pa", "", "b"),
        make_duel("", "p", "a\ud800", "b"),
    ]
    assert len({duel.id for duel in [make_duel("", "p", "a", "b"), *others]}) == 5


CHANGES = {
    "an answer to another question": lambda body: body["answers"][0].update(id="strange"),
    "one answer more": lambda body: body["answers"].append({"id": "strange", "win": 1.0, "tie": 0.0}),
    "two things of one duel": lambda body: body["answers"].append({**body["answers"][0], "win": 0.5}),
    "one left out": lambda body: body["answers"].pop(),
    "a strange one left out": lambda body: body["unanswered"].append("strange"),
    "more than certain": lambda body: body["answers"][0].update(win=1.5),
    "a sum of more than one": lambda body: body["answers"][0].update(win=0.8, tie=0.4),
    "not a number": lambda body: body["answers"][0].update(win=float("nan")),
    "infinite": lambda body: body["answers"][0].update(win=float("inf")),
    "true": lambda body: body["answers"][0].update(win=True),
    "text": lambda body: body["answers"][0].update(win="0.5"),
    "no win": lambda body: body["answers"][0].pop("win"),
    "no list": lambda body: body.update(answers={}),
    "a null tie": lambda body: body["answers"][0].update(tie=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_answer_that_is_none_is_not_taken_and_the_same_is_asked_again(change) -> None:
    calls = []

    def once(seen):
        calls.append(seen)
        return reply(seen, change) if len(calls) == 1 else good(seen)

    with rude_server(once) as server:
        answer = Remote(server.url, patience=QUICK)(*TEXTS)
        assert [seen.body for seen in server.seen] == [server.seen[0].body] * 2
    assert answer.win.tolist() == [0.3, 0.8]


FAULTS = {
    "429": Behaviour(status=429),
    "429 with a pause": Behaviour(status=429, headers={"retry-after": "0.01"}),
    "500": Behaviour(status=500),
    "503": Behaviour(status=503),
    "hang-up": Behaviour(hang_up=True),
    "cut short": Behaviour(truncate=20),
    "no JSON": Behaviour(body=b"<html>"),
    "deep JSON": Behaviour(body=b"[" * 60_000),
    "JSON of another kind": Behaviour(body=[1, 2]),
    "10 MB": Behaviour(body=b"x" * 10_000_000),
    "a good answer and 10 MB": Behaviour(change=lambda body: json.dumps(body).encode() + b" " * 10_000_000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_may_pass_is_tried_again_with_the_same_ids(fault) -> None:
    with rude_server(good, [fault]) as server:
        answer = Remote(server.url, patience=QUICK)(*TEXTS)
        assert [seen.body for seen in server.seen] == [server.seen[0].body] * 2
    assert answer.win.tolist() == [0.3, 0.8]


def test_a_duplicate_of_an_answer_is_that_answer() -> None:
    def twice(seen):
        return reply(seen, lambda body: body["answers"].extend(list(body["answers"])))

    with rude_server(twice) as server:
        assert Remote(server.url, patience=QUICK)(*TEXTS).win.tolist() == [0.3, 0.8]
        assert len(server.seen) == 1


@pytest.mark.parametrize("fault", [{"silent": threading.Event()}, {"drip": 0.02}], ids=["silent", "dripping"])
def test_an_answer_that_does_not_come_to_an_end_is_given_up_in_time(fault) -> None:
    with rude_server(good, [Behaviour(**fault)] * 2) as server:
        begun = time.monotonic()
        with pytest.raises(Unanswered, match="2 of 2"):
            Remote(server.url, patience={"attempts": 2, "pause": 0.001, "timeout": 0.05})(*TEXTS)
        assert time.monotonic() - begun < 2.0
        if "silent" in fault:
            fault["silent"].set()


def test_what_was_answered_before_a_fault_is_kept_and_nobody_is_asked_after_it() -> None:
    broken = Behaviour(status=400, body={"detail": "no\nmore \x1b[31m"})
    with rude_server(good, [Behaviour(), broken]) as server:
        oracle = Remote(server.url, batch=1, patience={**QUICK, "width": 1})
        with pytest.raises(Unanswered, match="3 of 4") as caught:
            oracle(["p"] * 4, ["a", "aa", "aaa", "aaaa"], ["b"] * 4)
        assert len(server.seen) == 2
    assert caught.value.answered.tolist() == [True, False, False, False]
    assert caught.value.preferences.win[0] == 0.3


def test_what_the_server_leaves_unanswered_is_unanswered_here_for_its_reason() -> None:
    def half(seen):
        duels = seen.body["duels"]
        return {"answers": entries(duels[:1]), "unanswered": [duels[1]["id"]], "message": "the judge is down"}

    with rude_server(half) as server:
        with pytest.raises(Unanswered, match="judge is down") as caught:
            Remote(server.url, patience=QUICK)(*TEXTS)
        assert len(server.seen) == 1
    assert caught.value.answered.tolist() == [True, False]


def test_a_batch_that_is_too_long_is_halved_until_it_fits() -> None:
    def short(seen):
        return good(seen)

    with rude_server(short) as server:
        server.script = [Behaviour(status=413), Behaviour(), Behaviour(status=413)]
        answer = Remote(server.url, patience={**QUICK, "width": 1})(["p"] * 4, ["a", "bb", "c", "dd"], ["x"] * 4)
        assert [len(seen.body["duels"]) for seen in server.seen] == [4, 2, 2, 1, 1]
    assert answer.win.tolist() == [0.3, 0.8, 0.3, 0.8]


def test_one_duel_that_is_too_long_is_said() -> None:
    with rude_server(good, [Behaviour(status=413)]) as server, pytest.raises(Unanswered, match="413"):
        Remote(server.url, patience=QUICK)(["p"], ["a"], ["b"])


def test_a_token_that_has_expired_is_read_again_where_it_stands(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text("old-token")

    def turn(seen):
        return good(seen)

    with rude_server(turn, [Behaviour(status=401)]) as server:
        oracle = Remote(server.url, token={"file": str(file)}, patience=QUICK)
        file.write_text("new-token")
        assert oracle(*TEXTS).win.tolist() == [0.3, 0.8]
        assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer old-token", "Bearer new-token"]


def test_a_token_that_stays_wrong_is_not_tried_again_and_not_repeated(monkeypatch) -> None:
    monkeypatch.setenv("OF_TEST", "very-secret")
    said = {"detail": "very-secret is wrong"}
    with rude_server(good, [Behaviour(status=401, body=said)]) as server:
        oracle = make("remote", url=server.url, token={"env": "OF_TEST"}, patience=QUICK)
        with pytest.raises(Unanswered, match="401") as caught:
            oracle(*TEXTS)
        assert len(server.seen) == 1
    assert "very-secret" not in str(caught.value) + repr(vars(oracle))


def test_an_id_that_another_question_has_is_not_tried_again() -> None:
    with rude_server(good, [Behaviour(status=409)]) as server:
        with pytest.raises(Unanswered, match="another question"):
            Remote(server.url, patience=QUICK)(*TEXTS)
        assert len(server.seen) == 1


def test_a_mistake_in_a_program_is_no_fault_of_the_server(monkeypatch) -> None:
    with rude_server(good) as server:
        oracle = Remote(server.url, patience=QUICK)
        monkeypatch.setattr(oracle, "_attempt", lambda duels: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            oracle(*TEXTS)


def test_nobody_at_the_address_is_unanswered() -> None:
    with rude_server(good) as server:
        url = server.url
    with pytest.raises(Unanswered, match="2 of 2") as caught:
        Remote(url, patience={"attempts": 2, "pause": 0.001})(*TEXTS)
    assert not caught.value.answered.any()


def test_it_goes_to_another_process_without_its_token(monkeypatch) -> None:
    monkeypatch.setenv("OF_TEST", "very-secret")
    with rude_server(good) as server:
        oracle = Remote(server.url, token={"env": "OF_TEST"}, salt="s", batch=3, patience=QUICK)
        oracle(*TEXTS)
        packed = pickle.dumps(oracle)
        assert b"very-secret" not in packed
        other = pickle.loads(packed)
        assert other(*TEXTS).win.tolist() == [0.3, 0.8]
        assert server.seen[0].body == server.seen[1].body
        assert server.seen[1].headers["authorization"] == "Bearer very-secret"
        oracle.close()
        assert oracle(*TEXTS).win.tolist() == [0.3, 0.8]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "expected an address"),
        ({"url": "http://me:secret@host"}, "token by"),
        ({"url": "http://x", "batch": 0}, "batch"),
        ({"url": "http://x", "salt": 3}, "salt"),
        ({"url": "http://x", "patience": {"tries": 3}}, "tries"),
        ({"url": "http://x", "token": "abc"}, "env"),
        ({"url": "http://x", "later": True, "salt": "s"}, "salt"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words) -> None:
    with pytest.raises(UserError, match=words):
        make("remote", **settings)


def test_no_more_requests_are_open_than_patience_says() -> None:
    def slow(seen):
        time.sleep(0.02)
        return good(seen)

    with rude_server(slow) as server:
        oracle = Remote(server.url, batch=1, patience={**QUICK, "width": 3})
        oracle(["p"] * 9, ["a" * (n + 1) for n in range(9)], ["b"] * 9)
        assert len(server.seen) == 9 and 1 < server.most_at_once <= 3


@pytest.mark.parametrize("url", ["http://[::1", "ftp://127.0.0.1", "http://"])
def test_what_is_no_address_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(UserError, match="'url' is"):
        make("remote", url=url)
