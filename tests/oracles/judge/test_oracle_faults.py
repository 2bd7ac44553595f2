"""Rude servers: after each fault nothing is lost, doubled or invented, and the same question again goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from judge_stub import MODEL, completion, judge_server, longer, texts_of
from rude_server import Behaviour, RudeServer, Seen, rude_server

from duelenv.ground.errors import UserError
from duelenv.oracles import Unanswered, ask, make
from duelenv.oracles.judge.endpoint import _bounded
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.retrying import Unreadable
from duelenv.oracles.services.spending import Cost, Limits, Purse

QUICK = {"attempts": 3, "pause": 0.001, "width": 1, "timeout": 2.0}
COUNT = 6
PROMPTS = [f"p{number}" for number in range(COUNT)]
FIRST, SECOND = ["a" * (number + 1) for number in range(COUNT)], ["bbb"] * COUNT
TRUTH = [0.1, 0.1, 0.1, 0.9, 0.9, 0.9]

TOO_LONG = {
    "openai": {"error": {"message": "Input tokens exceed the limit", "code": "context_length_exceeded"}},
    "vllm": {
        "error": {
            "message": "This model's maximum context length is 4096 tokens. However, your request has 5000.",
            "type": "BadRequestError",
            "code": 400,
        }
    },
    "sglang": {
        "object": "error",
        "message": "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
        "type": "BadRequestError",
        "code": 400,
    },
}


def judge(server: RudeServer, **settings: Any) -> Any:
    given = {"url": f"{server.url}/v1", "model": MODEL, "patience": QUICK, "order": "fixed", "bias_share": 0.0}
    return make("judge", **{**given, **settings})


def good(text: str = "A") -> bytes:
    return json.dumps(completion(text, {"A": 0.5, "B": 0.5})).encode()


PASSING = {
    "too many": [Behaviour(429)],
    "too many, with a pause": [Behaviour(429, headers={"retry-after": "0"})],
    "broken": [Behaviour(500, b"<html>oops")],
    "overloaded twice": [Behaviour(503), Behaviour(529)],
    "hangs up": [Behaviour(hang_up=True)],
    "cut": [Behaviour(body=good(), truncate=100)],
    "no JSON": [Behaviour(body=b"{'choices': [")],
    "half a JSON": [Behaviour(body=good()[:200])],
    "no choices": [Behaviour(body={"id": "1", "object": "chat.completion"})],
    "two choices": [Behaviour(body=completion("A", choices=completion("A")["choices"] * 2))],
    "to another": [Behaviour(body=completion("A", model="another"))],
    "an error with 200": [Behaviour(body={"error": {"message": "try later"}})],
    "10 MB": [Behaviour(body=completion("A", padding="x" * 10_000_000))],
    "compressed": [Behaviour(body=good(), headers={"content-encoding": "gzip"})],
    "prose": [Behaviour(body=completion("Both have their merits, A and B."))],
    "cannot": [Behaviour(body=completion("I cannot judge this."))],
    "deep": [Behaviour(body=b"[" * 100_000)],
}


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("when", [0, 3])
def test_a_fault_that_passes_changes_no_answer(name: str, when: int) -> None:
    script = [Behaviour()] * when + PASSING[name]
    with judge_server(script=script) as (server, _):
        oracle = judge(server)
        answer = ask(oracle, PROMPTS, FIRST, SECOND)
        assert answer.win == pytest.approx(TRUTH) and not answer.tie.any()
        assert len(server.seen) == COUNT + len(PASSING[name]) and oracle.asking.requests == COUNT
        asked = Counter(texts_of(seen)[0] for seen in server.seen)
        assert max(asked.values()) == 1 + len(PASSING[name]) and sorted(asked) == PROMPTS


STAYING = {name: script[0] for name, script in PASSING.items() if name not in ("prose", "cannot")}


@pytest.mark.parametrize("name", [*STAYING, "silent"])
def test_a_fault_that_stays_keeps_what_was_answered_and_the_same_question_goes_on(name: str, tmp_path: Path) -> None:
    silence = threading.Event()
    fault = Behaviour(silent=silence, hang_up=True) if name == "silent" else STAYING[name]
    patience = {**QUICK, "timeout": 0.2} if name == "silent" else QUICK
    home = Home(tmp_path)
    with judge_server(script=[Behaviour()] * 2 + [fault] * 3 * COUNT) as (server, _):
        with pytest.raises(Unanswered, match=r"2 of 6.*same command goes on") as caught:
            ask(judge(server, home=home, patience=patience), PROMPTS, FIRST, SECOND)
        silence.set()
        assert caught.value.answered.tolist() == [True, True, False, False, False, False]
        assert caught.value.preferences.win[:2] == pytest.approx(TRUTH[:2])
        assert "\n" not in str(caught.value)
        assert len(server.seen) == 2 + 3  # one in a row is all that a width of one allows
        server.script.clear()
        before = len(server.seen)
        answer = ask(judge(server, home=home), PROMPTS, FIRST, SECOND)
        assert answer.win == pytest.approx(TRUTH) and len(server.seen) == before + COUNT - 2


def test_one_poisoned_duel_stops_no_other(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Any:
        texts = texts_of(seen)
        return b"{" if texts[0] == "p2" else completion("A" if longer(*texts) > 0.5 else "B")

    with rude_server(answer) as server, pytest.raises(Unanswered, match="5 of 6") as caught:
        ask(judge(server, patience={**QUICK, "width": 2}), PROMPTS, FIRST, SECOND)
    assert caught.value.answered.tolist() == [True, True, False, True, True, True]


def test_an_hours_silence_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks for an hour; no thread sleeps for it."""
    slept: list[float] = []
    monkeypatch.setattr("duelenv.oracles.services.retrying.time.sleep", slept.append)
    with judge_server(script=[Behaviour(429, headers={"retry-after": "3600"})]) as (server, _):
        with pytest.raises(Unanswered, match=r"asks to wait for 3600 s.*0 of 6"):
            ask(judge(server), PROMPTS, FIRST, SECOND)
        assert len(server.seen) == 1
    assert sum(slept) < 1.0


REFUSALS = {
    "token": (401, {"error": {"message": "expired", "code": "invalid_api_key"}}, "token.*expired"),
    "forbidden": (403, {"error": {"message": "no"}}, "token"),
    "credit": (402, {"error": {"message": "pay"}}, "paid"),
    "quota": (429, {"error": {"message": "You exceeded", "code": "insufficient_quota"}}, "used up"),
    "model": (
        404,
        {"error": {"message": "The model `tiny-judge` does not exist.", "code": 404}},
        "no model 'tiny-judge'",
    ),
    "moved": (307, b"", "sends on to"),
    "parameter": (400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}}, "max_tokens"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_for_good_in_the_middle_is_asked_once_and_keeps_what_there_is(name: str, tmp_path: Path) -> None:
    status, body, said = REFUSALS[name]
    home = Home(tmp_path)
    script = [Behaviour()] * 3 + [Behaviour(status, body, headers={"location": "http://elsewhere.example/"})] * COUNT
    with judge_server(script=script) as (server, _):
        with pytest.raises(UserError, match=said) as caught:
            ask(judge(server, home=home), PROMPTS, FIRST, SECOND)
        assert isinstance(caught.value, Unanswered) and caught.value.answered.sum() == 3
        assert len(server.seen) == 4 and "\n" not in str(caught.value)
        server.script.clear()
        assert ask(judge(server, home=home), PROMPTS, FIRST, SECOND).win == pytest.approx(TRUTH)
        assert len(server.seen) == 4 + 3


@pytest.mark.parametrize("dialect", TOO_LONG)
def test_a_duel_that_is_too_long_is_declined_and_the_others_are_not(dialect: str) -> None:
    with judge_server(script=[Behaviour(), Behaviour(400, TOO_LONG[dialect])]) as (server, _):
        oracle = judge(server)
        answer = ask(oracle, PROMPTS, FIRST, SECOND)
        assert np.isnan(answer.win).tolist() == [False, True] + [False] * 4
        assert oracle.asking.declined == 1 and oracle.figures()["declined"] == pytest.approx(1 / 6)
        assert len(server.seen) == COUNT


def declining(text: str, whom: Sequence[str] = ("p1",)) -> Any:
    def answer(seen: Seen) -> Any:
        texts = texts_of(seen)
        return completion(text if texts[0] in whom else "A" if longer(*texts) > 0.5 else "B")

    return answer


@pytest.mark.parametrize("text", ["I cannot choose.", "", "Both are good: A", "C"])
def test_a_model_that_will_not_judge_is_asked_again_and_then_declines_and_that_is_no_tie(text: str) -> None:
    with rude_server(declining(text)) as server:
        oracle = judge(server)
        answer = ask(oracle, PROMPTS, FIRST, SECOND)
        assert np.isnan(answer.win[1]) and answer.tie[1] == 0.0
        assert (np.isnan(answer.win).sum(), oracle.asking.declined) == (1, 1)
        asked = Counter(texts_of(seen)[0] for seen in server.seen)
        assert asked["p1"] == 3 and sum(asked.values()) == COUNT + 2


def test_one_order_declined_is_no_answer_from_the_other() -> None:
    def answer(seen: Seen) -> Any:
        return completion("hm" if texts_of(seen)[1] == "bbb" else "A")

    with rude_server(answer) as server:
        assert np.isnan(ask(judge(server, order="both"), ["p"], ["a"], ["bbb"]).win).all()


def test_a_judge_that_never_judges_is_a_mistake_in_its_settings() -> None:
    count = 12
    with rude_server(declining("<think>", [f"p{number}" for number in range(count)])) as server:
        with pytest.raises(UserError, match=r"no verdict on its first 8 requests.*<think>") as caught:
            ask(judge(server), [f"p{number}" for number in range(count)], ["a"] * count, ["b"] * count)
        assert not isinstance(caught.value, Unanswered)
        assert len(server.seen) < count * 3


def test_a_server_without_log_probs_is_asked_without_from_then_on() -> None:
    def answer(seen: Seen) -> Any:
        texts = texts_of(seen)
        return completion("A" if longer(*texts) > 0.5 else "B")

    refusal = Behaviour(400, {"error": {"message": "logprobs is not supported with this model"}})
    with rude_server(answer, [refusal]) as server:
        assert ask(judge(server), PROMPTS, FIRST, SECOND).win.tolist() == [0.0] * 3 + [1.0] * 3
        assert ["logprobs" in seen.body for seen in server.seen] == [True] + [False] * COUNT
        server.script.append(refusal)
        with pytest.raises(UserError, match="set 'verdict' to word"):
            ask(judge(server, verdict="logprobs"), PROMPTS, FIRST, SECOND)


def test_threads_that_learn_at_once_that_there_are_no_log_probs_all_ask_without() -> None:
    together = threading.Barrier(4, timeout=5.0)
    refusal = {"error": {"message": "This model does not support logprobs"}}

    def answer(seen: Seen) -> Any:
        if "logprobs" in seen.body:
            with suppress(threading.BrokenBarrierError):
                together.wait()
            return Behaviour(400, refusal)
        return completion("A")

    with rude_server(answer) as server:
        answers = ask(judge(server, patience={**QUICK, "width": 4}), PROMPTS[:4], FIRST[:4], SECOND[:4])
    assert answers.win.tolist() == [1.0] * 4


def test_an_empty_purse_in_the_middle_sends_nothing_more_and_a_fuller_one_goes_on(tmp_path: Path) -> None:
    with judge_server() as (server, _):
        one = judge(server).most(PROMPTS[2:3], FIRST[2:3], SECOND[2:3]).tokens

        def home(tokens: int) -> Home:
            return Home(tmp_path, Purse(Limits(tokens=tokens), tmp_path / "purse.sqlite"))

        with pytest.raises(UserError, match=r"budget\.tokens.*3 of 6") as caught:
            ask(judge(server, home=home(2 * 101 + one)), PROMPTS, FIRST, SECOND)
        assert isinstance(caught.value, Unanswered) and caught.value.answered.sum() == 3
        assert len(server.seen) == 3
        rich = home(10**6)
        assert ask(judge(server, home=rich), PROMPTS, FIRST, SECOND).win == pytest.approx(TRUTH)
        assert len(server.seen) == COUNT and rich.purse.spent == Cost(COUNT * 101, 0.0)


KILLED = """
import sys
from pathlib import Path
from duelenv.oracles import ask, make
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Purse
url, model, folder = sys.argv[1:]
home = Home(Path(folder), Purse(record=Path(folder) / "purse.sqlite"))
judge = make("judge", url=url, model=model, home=home, order="fixed", bias_share=0.0, patience={"width": 1})
ask(judge, [f"p{n}" for n in range(6)], ["a" * (n + 1) for n in range(6)], ["bbb"] * 6)
"""


def test_of_a_process_that_is_killed_all_verdicts_are_kept_and_the_open_request_stays_paid(tmp_path: Path) -> None:
    silence = threading.Event()
    with judge_server(script=[Behaviour()] * 3 + [Behaviour(silent=silence, hang_up=True)]) as (server, _):
        child = subprocess.Popen([sys.executable, "-c", KILLED, f"{server.url}/v1", MODEL, str(tmp_path)])
        end = time.monotonic() + 60.0
        while len(server.seen) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        child.kill()
        child.wait()
        silence.set()
        home = Home(tmp_path, Purse(record=tmp_path / "purse.sqlite"))
        open_request = judge(server).most(["p3"], ["aaaa"], ["bbb"])
        assert home.purse.spent == Cost(3 * 101 + open_request.tokens, 0.0)
        assert ask(judge(server, home=home), PROMPTS, FIRST, SECOND).win == pytest.approx(TRUTH)
        assert Counter(texts_of(seen)[0] for seen in server.seen) == {**dict.fromkeys(PROMPTS, 1), "p3": 2}
        assert home.purse.spent == Cost(6 * 101 + open_request.tokens, 0.0)


def test_what_a_fault_costs(tmp_path: Path) -> None:
    """What was refused costs nothing, what may have been made costs the most, what was made costs what it says."""
    faults = {
        "refused": (Behaviour(503), Cost()),
        "cut": (Behaviour(body=good(), truncate=50), None),
        "hung up": (Behaviour(hang_up=True), None),
        "not counted": (Behaviour(body=completion("A", usage=None, choices=[])), None),
        "prose": (Behaviour(body=completion("Well.")), Cost(101, 101e-6)),
    }
    for fault, expected in faults.values():
        with judge_server(script=[fault]) as (server, _):
            oracle = judge(server, price={"input": 1.0, "output": 1.0})
            most = oracle.most(PROMPTS[:1], FIRST[:1], SECOND[:1])
            ask(oracle, PROMPTS[:1], FIRST[:1], SECOND[:1])
            total = Cost(101, 101e-6) + (most if expected is None else expected)
            assert oracle.spent == (total.tokens, pytest.approx(total.money))


def test_a_server_that_is_not_there_costs_nothing() -> None:
    oracle = make("judge", url="http://127.0.0.1:9/v1", model=MODEL, patience=QUICK)
    with pytest.raises(Unanswered, match="does not answer within its patience"):
        ask(oracle, ["p"], ["a"], ["b"])
    assert oracle.spent == Cost()  # type: ignore[attr-defined]


class Dripping(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        for _ in range(1000):
            time.sleep(0.001)
            yield b"x"


def test_an_answer_that_drips_is_not_waited_for_longer_than_one_may_take() -> None:
    response = httpx.Response(200)
    response.stream = Dripping()
    _bounded(10**6, 0.02)(response)
    with pytest.raises(Unreadable, match="complete within"):
        list(response.stream)


def test_patience_of_the_settings_is_used() -> None:
    with judge_server(script=[Behaviour(500)] * 10) as (server, _):
        with pytest.raises(Unanswered):
            ask(judge(server, patience={**QUICK, "attempts": 2}), ["p"], ["a"], ["bb"])
        assert len(server.seen) == 2
