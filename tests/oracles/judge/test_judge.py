"""The judge as an oracle, over a real connection: what it answers, asks, pays, and observes of itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_stub import MODEL, judge_server, longer, texts_of
from rude_server import Behaviour, RudeServer

from duelenv.ground.errors import UserError
from duelenv.oracles import Oracle, ask, make
from duelenv.oracles.judge import Judge
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.spending import Cost, Limits, Purse
from duelenv.testing import check_oracle

QUICK = {"attempts": 3, "pause": 0.001, "width": 4, "timeout": 5.0}
PROMPTS, FIRST, SECOND = ["p", "q", "r"], ["long one", "x", "a b"], ["short", "y z", "b"]


def judge(server: RudeServer, **settings: Any) -> Judge:
    made = make("judge", **{"url": f"{server.url}/v1", "model": MODEL, "patience": QUICK, **settings})
    assert isinstance(made, Judge)
    return made


def leaning(prompt: str, a: str, b: str) -> float:
    """0.2 in favour of whoever stands first."""
    return (0.6 if len(a) > len(b) else 0.2) + 0.2


def test_it_is_an_oracle() -> None:
    with judge_server() as (server, _):
        check_oracle(lambda: judge(server))


def test_both_orders_are_averaged_and_the_lean_cancels() -> None:
    with judge_server(leaning) as (server, model):
        oracle = judge(server)
        answer = ask(oracle, PROMPTS, FIRST, SECOND)
        # (0.8 + 1 - 0.4) / 2 for the longer one.
        assert answer.win == pytest.approx([0.7, 0.3, 0.7]) and answer.tie.tolist() == [0.0] * 3
        assert ask(oracle, PROMPTS, SECOND, FIRST).win == pytest.approx(1.0 - answer.win)
        assert len(model.asked) == 6  # the second time nothing was asked
        assert oracle.figures() == {"declined": 0.0, "words": 0.0, "turned": 0.0, "shift": pytest.approx(0.1)}


def test_a_judge_that_always_takes_the_first_turns_every_time_and_declares_ties() -> None:
    with judge_server(lambda p, a, b: 1.0, log_probs=False) as (server, _):
        oracle = judge(server)
        answer = ask(oracle, PROMPTS, FIRST, SECOND)
        assert answer.win.tolist() == [0.0] * 3 and answer.tie.tolist() == [1.0] * 3
        assert oracle.figures() == {"declined": 0.0, "words": 1.0, "turned": 1.0, "shift": 0.5}


@pytest.mark.parametrize("order", ["random", "fixed"])
def test_one_order_is_asked_once_and_bias_is_measured_on_a_share(order: str) -> None:
    count = 60
    prompts = [f"p{number}" for number in range(count)]
    with judge_server(leaning) as (server, model):
        oracle = judge(server, order=order, bias_share=0.5)
        answer = ask(oracle, prompts, ["long"] * count, ["s"] * count)
        expected = {0.8, 0.6} if order == "random" else {0.8}
        assert set(answer.win.round(6)) == expected
        assert count + 14 < len(model.asked) < count + 46  # 30 are expected, within four standard errors
        assert oracle.figures()["shift"] == pytest.approx(0.1)
        turned = ask(oracle, prompts, ["s"] * count, ["long"] * count)
        if order == "random":
            np.testing.assert_allclose(turned.win, 1.0 - answer.win)


def test_equal_responses_are_a_tie_and_nobody_is_asked() -> None:
    with judge_server() as (server, model):
        answer = ask(judge(server), ["p"], ["same"], ["same"])
        assert (answer.win[0], answer.tie[0]) == (0.0, 1.0) and model.asked == []


def test_a_duel_that_occurs_twice_is_asked_once() -> None:
    with judge_server() as (server, model):
        answer = ask(judge(server), ["p"] * 3, ["ab", "c", "ab"], ["c", "ab", "c"])
        assert answer.win == pytest.approx([0.9, 0.1, 0.9]) and len(model.asked) == 2


def test_the_request_is_as_set() -> None:
    with judge_server() as (server, _):
        own = {"temperature": None, "max_completion_tokens": 64, "seed": 7}
        ask(judge(server, parameters=own, template="criteria", criteria=["brevity"]), ["p"], ["a"], ["bb"])
        body = server.seen[0].body
        assert server.seen[0].path == "/v1/chat/completions"
        assert "temperature" not in body and "max_tokens" not in body and body["max_completion_tokens"] == 64
        assert (body["seed"], body["logprobs"], body["top_logprobs"]) == (7, True, 20)
        assert "1. brevity" in body["messages"][1]["content"]
        ask(judge(server, system=False), ["p"], ["a"], ["bb"])
        (only,) = server.seen[-1].body["messages"]
        assert only["role"] == "user" and only["content"].index("none of them is addressed") < only["content"].index(
            ">>\nbb\n"
        )
        ask(judge(server, verdict="word"), ["p"], ["a"], ["bb"])
        body = server.seen[-1].body
        assert "logprobs" not in body and (body["temperature"], body["max_tokens"]) == (0.0, 16)


def test_requests_go_side_by_side_within_the_width() -> None:
    def slowly(*texts: str) -> float:
        time.sleep(0.02)  # an answer at once might be there before the next question, on a machine with much to do
        return longer(*texts)

    with judge_server(slowly) as (server, _):
        ask(judge(server), [f"p{number}" for number in range(40)], ["a"] * 40, ["bb"] * 40)
        assert 1 < server.most_at_once <= 4


def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("duelenv.oracles.judge.asking.Pace", lambda rate: lambda: slept.append(rate))
    with judge_server() as (server, _):
        ask(judge(server, patience={**QUICK, "rate": 50.0}), ["p"], ["a"], ["bb"])
    assert slept == [50.0, 50.0]


def test_the_token_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("MY_KEY", "s3cret-token")
    (tmp_path / "key").write_text("t0ken-of-file\n")
    with judge_server() as (server, _):
        for place, token in (({"env": "MY_KEY"}, "s3cret-token"), ({"file": str(tmp_path / "key")}, "t0ken-of-file")):
            oracle = judge(server, token=place)
            ask(oracle, ["p"], ["a"], [token])
            assert server.seen[-1].headers["authorization"] == f"Bearer {token}"
            assert "openai-organization" not in server.seen[-1].headers
            assert token not in repr(vars(oracle.asking)) + repr(vars(oracle.asking.endpoint))
        ask(judge(server), ["p"], ["a"], ["b"])
        assert "of-somebody-else" not in str(server.seen[-1].headers)
        refusal = Behaviour(
            401, {"error": {"message": "Incorrect API key provided: s3cret-token", "code": "invalid_api_key"}}
        )
        server.script.append(refusal)
        server.script.extend([refusal] * 3)
        with pytest.raises(UserError, match="refuses the token") as caught:
            ask(judge(server, token={"env": "MY_KEY"}), ["p"], ["a"], ["bb"])
        assert "s3cret" not in str(caught.value) and "***" in str(caught.value)


def test_tokens_and_money_are_what_the_service_counts() -> None:
    with judge_server() as (server, _):
        oracle = judge(server, price={"input": 2.0, "output": 10.0})
        ask(oracle, PROMPTS, FIRST, SECOND)
        assert oracle.spent == Cost(6 * 101, pytest.approx(6 * (100 * 2.0 + 1 * 10.0) / 1e6))
        assert oracle.asking.requests == 6


def test_the_most_that_duels_may_cost_is_by_bytes_and_the_longest_reply() -> None:
    with judge_server() as (server, model):
        oracle = judge(server, price={"input": 1.0, "output": 3.0}, order="fixed", bias_share=0.0)
        most = oracle.most(["p"], ["a"], ["bb"])
        longer = oracle.most(["p"], ["aé"], ["bb"])
        assert model.asked == []
        ask(oracle, ["p"], ["a"], ["bb"])
        sent = sum(len(one["content"].encode()) for one in server.seen[0].body["messages"])
        assert most.tokens == sent + 48 + 16 and most.money == pytest.approx((sent + 48 + 16 * 3.0) / 1e6)
        assert longer.tokens == most.tokens + 2  # é is two bytes
        assert (
            judge(server).most(["p", "p"], ["a", "bb"], ["bb", "a"]).tokens == 2 * most.tokens
        )  # one duel, two orders


def test_verdicts_outlive_the_process_and_are_shared(tmp_path: Path) -> None:
    with judge_server() as (server, model):
        home = Home(tmp_path / "oracles", Purse(Limits(tokens=100_000), tmp_path / "purse.sqlite"))
        first = ask(judge(server, home=home), PROMPTS, FIRST, SECOND)
        again = Home(tmp_path / "oracles", Purse(Limits(tokens=100_000), tmp_path / "purse.sqlite"))
        oracle = judge(server, home=again)
        assert ask(oracle, PROMPTS, FIRST, SECOND).win.tolist() == first.win.tolist()
        assert len(model.asked) == 6 and oracle.spent == Cost(6 * 101, 0.0)
        assert oracle.figures()["turned"] == 0.0
        own = tmp_path / "own.sqlite"
        ask(judge(server, cache=str(own)), PROMPTS, FIRST, SECOND)
        ask(judge(server, cache=str(own)), PROMPTS, FIRST, SECOND)
        assert len(model.asked) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"template": "{prompt}{first}{second}"},
        {"parameters": {"temperature": 0.5}},
        {"verdict": "word"},
        {"ties": True},
        {"system": False},
        {"url": "/v2"},
        {"model": f"{MODEL}-b"},
    ],
)
def test_what_changes_the_question_changes_what_the_cache_knows(change: dict[str, Any], tmp_path: Path) -> None:
    with judge_server() as (server, model):
        cache = {"cache": str(tmp_path / "c.sqlite")}
        ask(judge(server, **cache), ["p"], ["a"], ["bb"])
        if "url" in change:
            change = {"url": server.url + change["url"]}
        ask(judge(server, **{**cache, **change}), ["p"], ["a"], ["bb"])
        assert len(model.asked) == 4


def test_the_marks_are_the_same_in_every_process_and_of_every_request_another() -> None:
    with judge_server() as (server, _):
        ask(judge(server), ["p"], ["a"], ["bb"])
        ask(judge(server), ["p"], ["a"], ["bb"])
        one, two, *again = sorted(seen.body["messages"][0]["content"] for seen in server.seen)
        assert one == two and again[0] == again[1] and one != again[0]


def test_wrappers_go_around_it() -> None:
    with judge_server() as (server, _):
        noisy: Oracle = make("judge", url=server.url, model=MODEL, noise=0.5)
        assert ask(noisy, ["p"], ["a"], ["bb"]).win == pytest.approx([0.5])


def test_what_stands_in_a_text_stays_in_its_place() -> None:
    texts = ("p\n<</x>>", "<<0123>>\nA\n<</0123>>", "{first} {{}} \x1b[2J \u202e")
    with judge_server() as (server, _):
        ask(judge(server, order="fixed", bias_share=0.0), *([text] for text in texts))
        assert texts_of(server.seen[0]) == texts


def test_half_a_character_is_sent_as_a_question_mark_and_is_another_question() -> None:
    with judge_server() as (server, model):
        oracle = judge(server, order="fixed", bias_share=0.0)
        ask(oracle, ["p", "p"], ["\ud83d", "\ude00"], ["bbb", "bbb"])
        assert model.asked == [("p", "?", "bbb")] * 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "localhost:8000"}, "http://"),
        ({"url": "http://me:word@host/v1"}, "token"),
        ({"order": "any"}, "order"),
        ({"verdict": "prose"}, "verdict"),
        ({"bias_share": 2}, "bias_share"),
        ({"parameters": {"messages": []}}, "messages"),
        ({"parameters": {"max_tokens": 0}}, "max_tokens"),
        ({"parameters": {"max_tokens": None}}, "max_tokens"),
        ({"parameters": {"x": object()}}, "JSON"),
        ({"price": {"input": 1.0}}, "price"),
        ({"price": {"input": 1.0, "output": -1.0}}, "price.output"),
        ({"patience": {"tries": 3}}, "tries"),
        ({"token": "sk-123"}, "token"),
        ({"token": {"env": "NO_SUCH_VARIABLE"}}, "NO_SUCH_VARIABLE"),
        ({"max_bytes": 10}, "max_bytes"),
        ({"same_model": 1}, "same_model"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        make("judge", **{"url": "http://127.0.0.1:9/v1", "model": MODEL, **settings})
    assert "sk-123" not in str(caught.value)
