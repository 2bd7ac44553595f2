"""What the server answers over a real connection: by id, once, from the record, and never what nobody said."""

from __future__ import annotations

import threading
import time

import httpx
import numpy as np
import pytest
from serving import QUICK, Counting, served

from duelenv.experiments.serving.guard import Limits
from duelenv.experiments.serving.record import Question, Record
from duelenv.ground.errors import UserError
from duelenv.oracles import Answer, Preferences, Request, Unanswered, ask, make
from duelenv.oracles.remote import Remote, RemoteSource
from duelenv.oracles.remote.wire import Duel

DUEL = {"id": "a", "prompt": "p", "first": "long", "second": "c"}


def post(url, *duels, path="/v1/duels", **settings):
    return httpx.post(url + path, json={"duels": list(duels)}, **settings)


def counters(url):
    lines = [line for line in httpx.get(url + "/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_remote_oracle_says_bit_for_bit_what_the_oracle_itself_says() -> None:
    class Thirds:
        def __call__(self, prompts, first, second):
            win = np.array([1 / 3, 0.1 + 0.2, np.nan, 5e-324])
            return Preferences(win, np.array([1 / 7, 0.0, 0.0, 1 / 3]))

    texts = (["p", "\ud800", "\x00", "é"], ["a"] * 4, ["b"] * 4)
    here = ask(Thirds(), *texts)
    with served(Thirds()) as url:
        there = ask(Remote(url, patience=QUICK), *texts)
    assert here.win.tobytes() == there.win.tobytes() and here.tie.tobytes() == there.tie.tobytes()


def test_a_repeated_question_is_answered_from_the_record() -> None:
    oracle = Counting()
    with served(oracle) as url:
        answers = [post(url, DUEL, DUEL).json() for _ in range(2)]
        count = counters(url)
    assert (
        answers[0] == answers[1] == {"answers": [{"id": "a", "win": 0.8, "tie": 0.0}], "unanswered": [], "message": ""}
    )
    assert oracle.asked == [("p", "long", "c")]
    assert count["duelenv_duels_total"] == 4 and count["duelenv_record_hits_total"] == 2
    assert count["duelenv_oracle_duels_total"] == 1 and count['duelenv_requests_total{status="200"}'] == 2


def test_the_same_id_with_other_texts_is_refused_and_nobody_is_asked() -> None:
    oracle = Counting()
    with served(oracle) as url:
        post(url, DUEL)
        later = post(url, {**DUEL, "first": "d"})
        within = post(url, {**DUEL, "id": "b"}, {**DUEL, "id": "b", "second": "e"})
    assert (later.status_code, within.status_code) == (409, 409) and "'a'" in later.json()["detail"]
    assert len(oracle.asked) == 1


def test_a_record_outlives_its_server_and_belongs_to_one_oracle(tmp_path) -> None:
    oracle, file = Counting(), tmp_path / "new" / "record.db"
    for _ in range(2):
        with served(oracle, record=file) as url:
            assert post(url, DUEL).json()["answers"][0]["win"] == 0.8
            with pytest.raises(UserError, match="another server"):
                Record(file, oracle="test")
    assert len(oracle.asked) == 1
    with pytest.raises(UserError, match="holds answers of test"):
        Record(file, oracle="another")
    (tmp_path / "text").write_text("no database, but long enough to be looked at " * 20)
    with pytest.raises(UserError, match="no record"):
        Record(tmp_path / "text", oracle="test")


def test_memory_forgets_the_oldest_first() -> None:
    record = Record(None, oracle="test", keep=2)
    questions = [Question.of(Duel(name, "p", name, "b")) for name in "abc"]
    for question in questions:
        record.put([question], [Answer(question.id, 0.5)])
    assert sorted(record.known(questions)) == ["b", "c"] and len(record) == 2


def test_two_who_ask_the_same_at_the_same_time_get_one_answer() -> None:
    class Slow(Counting):
        def __call__(self, *texts):
            time.sleep(0.1)
            return super().__call__(*texts)

    oracle, won = Slow(), []
    with served(oracle) as url:
        threads = [
            threading.Thread(target=lambda: won.append(post(url, DUEL).json()["answers"][0]["win"])) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert won == [0.8] * 4 and len(oracle.asked) == 1


def test_who_goes_before_the_answer_finds_it_in_the_record() -> None:
    class Slow(Counting):
        def __call__(self, *texts):
            time.sleep(0.3)
            return super().__call__(*texts)

    oracle = Slow()
    with served(oracle) as url:
        with pytest.raises(httpx.ReadTimeout):
            post(url, DUEL, timeout=0.1)
        assert post(url, DUEL).json()["answers"][0]["win"] == 0.8
    assert len(oracle.asked) == 1


def test_an_oracle_that_takes_long_is_said_and_its_answer_recorded() -> None:
    go = threading.Event()

    class Slow(Counting):
        def __call__(self, *texts):
            go.wait(10.0)
            return super().__call__(*texts)

    oracle = Slow()
    with served(oracle, limits=Limits(seconds=0.05, waiting=1)) as url:
        assert post(url, DUEL).status_code == 504
        full = post(url, {**DUEL, "id": "b"})
        assert full.status_code == 503 and full.headers["retry-after"] == "1"
        go.set()
        assert Remote(url, patience=QUICK)(["p"], ["x"], ["y"]).win.tolist() == [0.3]
        assert post(url, DUEL).json()["answers"][0]["win"] == 0.8
    assert oracle.asked.count(("p", "long", "c")) == 1


def test_a_part_that_is_answered_is_recorded_and_the_rest_asked_again() -> None:
    asked = []

    def halting(prompts, first, second):
        asked.append(list(first))
        win = np.full(len(first), 0.25)
        if len(asked) == 1:
            raise Unanswered("the judge is down", Preferences(win, win * 0), np.array([True, False]))
        return win

    with served(halting) as url:
        oracle = Remote(url, patience=QUICK)
        with pytest.raises(Unanswered, match="judge is down") as caught:
            oracle(["p"] * 2, ["a", "b"], ["x"] * 2)
        assert caught.value.answered.tolist() == [True, False] and caught.value.preferences.win[0] == 0.25
        assert oracle(["p"] * 2, ["a", "b"], ["x"] * 2).win.tolist() == [0.25, 0.25]
    assert asked == [["a", "b"], ["b"]]


def test_what_the_oracle_refuses_is_said_in_its_sentence() -> None:
    def refusing(prompts, first, second):
        raise UserError("response 'x' has no recorded score")

    with served(refusing) as url:
        answer = post(url, DUEL)
        assert answer.status_code == 422 and answer.json() == {"detail": "response 'x' has no recorded score"}
        with pytest.raises(Unanswered, match="no recorded score"):
            Remote(url, patience=QUICK)(["p"], ["x"], ["y"])


def test_an_oracle_that_fails_does_not_tell_how_and_goes_on() -> None:
    calls = []

    def failing(prompts, first, second):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("secret place")
        return [0.5] * len(first)

    with served(failing) as url:
        answer = post(url, DUEL)
        assert answer.status_code == 500 and "secret" not in answer.text and "Traceback" not in answer.text
        assert post(url, DUEL).json()["answers"][0]["win"] == 0.5
        assert counters(url)["duelenv_oracle_errors_total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[" * 100_000,
        b"{}",
        b'{"duels": []}',
        b'{"duels": [{"id": "a", "prompt": "p", "first": "f"}]}',
        b'{"duels": [{"id": "a", "prompt": "p", "first": "f", "second": "s", "more": 1}]}',
        b'{"duels": [{"id": "a", "prompt": 1, "first": "f", "second": "s"}]}',
        b'{"duels": [{"id": 1, "prompt": "p", "first": "f", "second": "s"}]}',
        b'{"duels": [{"id": "", "prompt": "p", "first": "f", "second": "s"}]}',
        b'{"duels": [{"id": "\\ud800", "prompt": "p", "first": "f", "second": "s"}]}',
        b'{"duels": [{"id": "a", "prompt": null, "first": "f", "second": "s"}], "truth": true}',
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_batch_is_refused_in_a_sentence(body) -> None:
    oracle = Counting()
    with served(oracle) as url:
        answer = httpx.post(url + "/v1/duels", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str)
    assert oracle.asked == []


def test_the_description_says_what_comes_and_goes() -> None:
    with served(Counting()) as url:
        said = httpx.get(url + "/openapi.json").json()
    duels = said["paths"]["/v1/duels"]["post"]
    assert set(duels["responses"]) >= {"200", "401", "409", "413", "422", "429", "503", "504"}
    assert duels["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Duels")
    entry = said["components"]["schemas"]["DuelEntry"]
    assert entry["required"] == ["id", "prompt", "first", "second"] and entry["additionalProperties"] is False
    assert all("description" in field for field in entry["properties"].values())
    assert all(entry["properties"][name]["type"] == "string" for name in entry["required"])
    assert "utility" not in httpx.Response(200, json=said).text


def test_the_truth_stays_with_the_server() -> None:
    from duelenv.oracles import utility_of

    with served(make("good_words")) as url:
        assert utility_of(Remote(url, patience=QUICK)) is None
        assert httpx.get(url + "/v1/utility").status_code == 404


class Later:
    """A source that answers each request when it is looked for the second time."""

    def __init__(self):
        self.asked, self.looks = [], {}

    def ask(self, requests):
        for request in requests:
            if request.id not in self.looks:
                self.asked.append(request.id)
                self.looks[request.id] = 0

    def collect(self):
        for key in self.looks:
            self.looks[key] += 1
        return [Answer(key, 0.25) for key, looks in self.looks.items() if looks > 1]


def test_a_source_is_asked_once_and_its_answers_come_when_they_are_looked_for() -> None:
    source = Later()
    requests = [Request(f"r{n}", n, 0, "p", "a", "b") for n in range(2)]
    with served(source) as url:
        remote = RemoteSource(Remote(url, patience=QUICK))
        remote.ask(requests[:1])
        remote.ask(requests)
        answers = [answer for _ in range(3) for answer in remote.collect()]
        with pytest.raises(Unanswered, match="ask again"):
            Remote(url, patience=QUICK)(["q"], ["a"], ["b"])
    assert sorted(answer.id for answer in answers) == ["r0", "r1"] and {answer.win for answer in answers} == {0.25}
    assert source.asked[:2] == ["r0", "r1"] and len(source.asked) == 3


def test_a_source_that_cannot_be_reached_keeps_what_has_come() -> None:
    with served(lambda p, a, b: [0.75] * len(p)) as url:
        remote = RemoteSource(Remote(url, patience={**QUICK, "attempts": 1}))
        remote.ask([Request("r", 0, 0, "p", "a", "b")])
    with pytest.raises(UserError, match="did not answer"):
        remote.ask([Request("s", 0, 1, "p", "a", "b")])
    remote._open.clear()
    assert remote.collect() == [Answer("r", 0.75)]
