"""Servers that are rude: what is asked again, what is kept, what is paid, and what is said in the end."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reward_stub import documented
from rude_server import GOOD, Behaviour, RudeServer, rude_server

from duelenv.oracles import Temperature, Unanswered, UserError, ask
from duelenv.oracles.served.server import RewardServer, Unscored
from duelenv.oracles.served.transport import Transport
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, Limits, Purse

HURRY = {"attempts": 3, "pause": 0.001, "timeout": 5.0, "width": 1}
DUELS = (["p", "p", "q"], ["a:1", "b:2", "c:3"], ["d:0", "e:4", "f:3"])
WIN = 1 / (1 + np.exp([0.0 - 1.0, 4.0 - 2.0, 0.0]))


def oracle_of(server: RudeServer, **settings: Any) -> RewardServer:
    return RewardServer(server.url, settings.pop("api", "vllm_classify"), **{"patience": HURRY, **settings})


def answered(*probs: Any) -> Behaviour:
    return Behaviour(body={"data": [{"index": place, "probs": [value]} for place, value in enumerate(probs)]})


FAULTS = {
    "too many, no pause named": Behaviour(status=429),
    "too many, a pause named": Behaviour(status=429, headers={"retry-after": "0"}),
    "broken": Behaviour(status=500, body={"error": "x"}),
    "hangs up": Behaviour(hang_up=True),
    "cut short": Behaviour(truncate=20),
    "no JSON": Behaviour(body=b"<html>busy</html>"),
    "cut JSON": Behaviour(body=b'{"data": [{"index": 0, "pro'),
    "nested without end": Behaviour(body=b"[" * 100_000),
    "fewer scores": answered(1.0),
    "more scores": answered(*[1.0] * 7),
    "one index twice": Behaviour(body={"data": [{"index": 0, "probs": [1.0]}] * 6}),
    "no number": answered(1.0, 2.0, float("nan"), 0.0, 4.0, 3.0),
    "null": answered(1.0, 2.0, None, 0.0, 4.0, 3.0),
    "10 MB": Behaviour(
        body={"data": [{"index": place, "probs": [0.5]} for place in range(6)], "padding": "x" * 10_000_000}
    ),
    "another question's answer": Behaviour(body={"object": "chat.completion", "choices": []}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_asked_again_and_nothing_is_invented(fault: str) -> None:
    with rude_server(documented("vllm_classify"), [FAULTS[fault]]) as server:
        assert_allclose(ask(oracle_of(server), *DUELS).win, WIN)
        assert len(server.seen) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_ends_in_a_sentence(fault: str) -> None:
    with rude_server(documented("vllm_classify"), [FAULTS[fault]] * 3) as server:
        oracle = oracle_of(server)
        with pytest.raises(
            Unanswered, match=r"6 of 6 responses have no score: http://127.* no readable answer"
        ) as caught:
            ask(oracle, *DUELS)
        assert not caught.value.answered.any() and len(server.seen) == 3
        assert_allclose(ask(oracle, *DUELS).win, WIN)  # and the same question goes on


def test_silence_ends_after_the_timeout() -> None:
    silent = threading.Event()
    try:
        with rude_server(documented("vllm_classify"), [Behaviour(silent=silent)] * 2) as server:
            oracle = oracle_of(server, patience={**HURRY, "timeout": 0.1, "attempts": 2})
            with pytest.raises(Unanswered, match=r"\(ReadTimeout"):
                ask(oracle, *DUELS)
            silent.set()
    finally:
        silent.set()


def test_a_duel_is_answered_if_both_of_its_scores_are_there_and_none_is_asked_for_twice() -> None:
    # Batches of two, in order: a b, c d, e f. The second fails for good, so that a, b, e and f have scores.
    script = [GOOD, Behaviour(status=500), Behaviour(status=500), Behaviour(status=500)]
    with rude_server(documented("vllm_classify"), script) as server:
        oracle = oracle_of(server, batch_size=2)
        with pytest.raises(Unanswered) as caught:
            ask(oracle, *DUELS)
        assert caught.value.answered.tolist() == [False, True, False]
        assert_allclose(caught.value.preferences.win[1], WIN[1])
        before = len(server.seen)
        assert_allclose(ask(oracle, *DUELS).win, WIN)
        assert [one.body["input"] for one in server.seen[before:]] == [["q\n\nc:3", "p\n\nd:0"]]


def test_the_wrapper_of_temperatures_tells_what_is_answered() -> None:
    script = [GOOD, *[Behaviour(status=500)] * 3]
    with rude_server(documented("vllm_classify"), script) as server:
        with pytest.raises(Unanswered) as caught:
            ask(Temperature(oracle_of(server, batch_size=2), 2.0), *DUELS)
    assert_allclose(caught.value.preferences.win[1], 1 / (1 + np.exp(1.0)))


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "correct what was asked"),
        (401, "check the token: it may be wrong, or have expired"),
        (404, "check the address"),
        (413, "smaller 'batch_size'"),
        (424, "choose another 'api'"),
        (302, "correct what was asked"),
    ],
)
def test_what_will_be_refused_again_is_asked_once(status: int, advice: str) -> None:
    with rude_server(
        documented("vllm_classify"), [Behaviour(status=status, body={"error": "too\x1b[2J long"})]
    ) as server:
        with pytest.raises(Unanswered, match=advice) as caught:
            ask(oracle_of(server), *DUELS)
        assert "\x1b" not in str(caught.value) and len(server.seen) == 1


def test_a_token_expires_and_is_renewed_and_stands_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "sk-secret")
    refusal = Behaviour(status=401, body={"error": "sk-secret is no longer valid"})
    with rude_server(documented("vllm_classify"), [GOOD, refusal]) as server:
        oracle = oracle_of(server, token={"env": "REWARD_TOKEN"}, batch_size=2)
        with pytest.raises(Unanswered, match="expired") as caught:
            ask(oracle, *DUELS)
        assert "sk-secret" not in str(caught.value)
        assert_allclose(ask(oracle, *DUELS).win, WIN)
        assert {one.headers["authorization"] for one in server.seen} == {"Bearer sk-secret"}


def test_scores_outlive_the_process_in_a_run_and_are_of_one_model_and_text(tmp_path: Path) -> None:
    home = Home(tmp_path / "oracles")
    with rude_server(documented("vllm_classify")) as server:
        for _ in range(2):
            assert_allclose(ask(oracle_of(server, home=home), *DUELS).win, WIN)
        assert len(server.seen) == 1
        for changed in ({"model": "other"}, {"text": "{prompt} {response}"}, {"scale": "probability"}, {"label": 0}):
            ask(oracle_of(server, home=home, **changed), *DUELS)
        assert len(server.seen) == 5
    (tmp_path / "oracles" / "reward_servers.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="move the file away"):
        oracle_of(server, home=home).utility(["p"], ["a:1"])


def test_equal_texts_are_asked_for_once() -> None:
    with rude_server(documented("vllm_classify")) as server:
        assert_allclose(oracle_of(server).utility(["p"] * 4, ["a:1", "b:2", "a:1", "a:1"]), [1, 2, 1, 1])
        assert server.seen[0].body["input"] == ["p\n\na:1", "p\n\nb:2"]
        assert oracle_of(server).utility([], []).shape == (0,)


def test_scores_are_paid_from_the_purse_and_a_refusal_is_not() -> None:
    home = Home(None, Purse(Limits(money=1.0)))
    with rude_server(documented("vllm_classify"), [Behaviour(status=503)]) as server:
        oracle = oracle_of(server, home=home, price=0.1, batch_size=2)
        ask(oracle, *DUELS)
        assert home.purse.spent == Cost(money=pytest.approx(0.6))
        with pytest.raises(Unanswered, match=r"the next answer may bring what is spent to 1\.2 in money") as caught:
            ask(oracle, ["p"] * 3, ["g:1", "h:2", "i:3"], ["j:1", "k:2", "l:3"])
        assert home.purse.spent.money == pytest.approx(1.0)
        assert caught.value.answered.tolist() == [True, False, False]  # of g and h, i and j, but not of k and l
        assert len(server.seen) == 1 + 3 + 2


def test_what_hung_up_stays_paid() -> None:
    home = Home(None, Purse())
    with rude_server(documented("vllm_classify"), [Behaviour(hang_up=True)]) as server:
        oracle_of(server, home=home, price=1.0).utility(["p"], ["a:1"])
    assert home.purse.spent.money == 2.0


def test_no_more_requests_are_open_than_allowed() -> None:
    with rude_server(documented("vllm_classify")) as server:
        oracle = oracle_of(server, batch_size=1, patience={**HURRY, "width": 3})
        oracle.utility(["p"] * 12, [f"r:{number}" for number in range(12)])
        assert len(server.seen) == 12 and server.most_at_once <= 3


def test_a_defect_here_is_no_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with rude_server(documented("vllm_classify")) as server:
        oracle = oracle_of(server)
        monkeypatch.setattr(oracle._reading, "utility", lambda row: {}["absent"])
        with pytest.raises(KeyError, match="absent"):
            oracle.utility(["p"], ["a:1"])


def test_what_has_no_score_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(Unscored("down", np.array([1.0, np.nan]))))
    assert str(error) == "down" and np.isnan(error.utilities).tolist() == [False, True]


def test_half_a_character_and_what_is_no_text() -> None:
    oracle = RewardServer("http://127.0.0.1:1", "vllm_classify")
    with pytest.raises(UserError, match="half of a surrogate pair"):
        oracle.utility(["p"], ["\ud83d"])
    with pytest.raises(UserError, match="expected a string"):
        oracle.utility(["p"], [7])  # type: ignore[list-item]


def test_bytes_that_keep_coming_do_not_hold_a_request_up() -> None:
    import httpx

    def drip() -> Any:
        for _ in range(100):
            time.sleep(0.02)
            yield b" " * 2**16

    transport = Transport("http://127.0.0.1:1", None, timeout=0.05)
    transport._client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, content=drip())))
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no whole answer within 0\.05 seconds"):
        transport.post("/classify", {}, most_bytes=2**30)
    assert time.monotonic() - begun < 1.0
