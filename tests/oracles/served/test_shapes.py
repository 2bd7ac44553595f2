"""Every server's shape over a connection, and what is made of answers that are not what they should be."""

from __future__ import annotations

import math
from typing import Any

import pytest
from numpy.testing import assert_allclose
from reward_stub import documented
from rude_server import rude_server

from duelenv.oracles import UserError, ask, make
from duelenv.oracles.served.reading import Reading
from duelenv.oracles.served.server import APIS, RewardServer
from duelenv.oracles.served.shapes import by_index
from duelenv.oracles.services.retrying import Refused, Unreadable

PROMPTS = ["a", "b", "a", "b", "a"]
RESPONSES = ["first:2.5", "second:-1", "third:0.25", "fourth:7", "fifth:-3"]
SCORES = [2.5, -1.0, 0.25, 7.0, -3.0]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_raw_scores_come_to_the_responses_they_belong_to(api: str, batch_size: int) -> None:
    with rude_server(documented(api)) as server:
        oracle = make("reward_server", url=server.url, api=api, model="m", batch_size=batch_size)
        assert_allclose(oracle.utility(PROMPTS, RESPONSES), SCORES)
        win = ask(oracle, ["a"], ["first:2.5"], ["third:0.25"]).win
    assert_allclose(win, 1 / (1 + math.exp(0.25 - 2.5)))
    assert all(one.body["model"] == "m" and one.method == "POST" for one in server.seen)
    if api == "tei_rerank":  # a request is about one prompt
        assert len(server.seen) == {1: 5, 2: 3, 32: 2}[batch_size]
    else:
        assert len(server.seen) == {1: 5, 2: 3, 32: 1}[batch_size]


@pytest.mark.parametrize("api", [name for name in APIS if name != "sglang_classify"])
def test_probabilities_become_logits(api: str) -> None:
    with rude_server(documented(api)) as server:
        oracle = make("reward_server", url=server.url, api=api, scale="probability")
        assert_allclose(oracle.utility(PROMPTS, RESPONSES), SCORES, rtol=1e-9)


def test_what_is_sent_is_what_is_documented() -> None:
    bodies: dict[str, Any] = {}
    for api in APIS:
        with rude_server(documented(api)) as server:
            make("reward_server", url=server.url, api=api, text=None).utility(["p"], ["r:1"])
            bodies[api] = server.seen[0].body
    assert bodies == {
        "vllm_classify": {"input": ["p\n\nr:1"], "use_activation": False},
        "vllm_pooling": {"input": ["p\n\nr:1"], "encoding_format": "float", "use_activation": False},
        "vllm_score": {"text_1": ["p"], "text_2": ["r:1"], "use_activation": False},
        "sglang_classify": {"text": ["p\n\nr:1"]},
        "tei_predict": {"inputs": [["p\n\nr:1"]], "raw_scores": True, "truncate": False},
        "tei_rerank": {"query": "p", "texts": ["r:1"], "raw_scores": True, "truncate": False},
    }


def test_an_older_server_is_told_by_another_field_and_never_by_both() -> None:
    with rude_server(lambda seen: {"data": [{"index": 0, "probs": [0.5]}]}) as server:
        extra = {"use_activation": None, "activation": False}
        make("reward_server", url=server.url, api="vllm_classify", extra=extra).utility(["p"], ["r"])
    assert server.seen[0].body == {"input": ["p\n\nr"], "activation": False}


def test_a_pair_for_predict_and_the_pooling_of_a_whole_text() -> None:
    with rude_server(documented("tei_predict")) as server:
        assert make("reward_server", url=server.url, api="tei_predict", text="pair").utility(["p"], ["r:3"]) == [3.0]
        assert server.seen[0].body["inputs"] == [["p", "r:3"]]
    assert APIS["vllm_pooling"]().rows({"data": [{"index": 0, "data": [1.5]}]}, 1) == [{0: 1.5}]


@pytest.mark.parametrize(
    "entries",
    [
        [{"index": 0}],
        [{"index": 0}, {"index": 1}, {"index": 2}],
        [{"index": 0}, {"index": 0}],
        [{"index": 1}, {"index": 2}],
        [{"index": -1}, {"index": 0}],
        [{"index": True}, {"index": 0}],
        [{"index": "0"}, {"index": 1}],
        [{}, {"index": 1}],
        ["0", "1"],
        {"0": 1},
        None,
    ],
)
def test_indices_are_a_permutation_or_the_answer_is_none(entries: Any) -> None:
    with pytest.raises(Unreadable):
        by_index(entries, 2)


WRONG = [float("nan"), float("inf"), None, "0.5", True, [], {}]
GOOD = {
    "vllm_classify": lambda value: {"data": [{"index": 0, "probs": [value]}]},
    "vllm_pooling": lambda value: {"data": [{"index": 0, "data": [[0.5], [value]]}]},
    "vllm_score": lambda value: {"data": [{"index": 0, "score": value}]},
    "sglang_classify": lambda value: [{"embedding": [value]}],
    "tei_predict": lambda value: [[{"label": "a", "score": value}]],
    "tei_rerank": lambda value: [{"index": 0, "score": value}],
}


@pytest.mark.parametrize("api", APIS)
def test_a_score_is_a_finite_number_or_the_answer_is_none(api: str) -> None:
    assert list(APIS[api]().rows(GOOD[api](2), 1)[0].values()) == [2.0]
    for value in WRONG:
        with pytest.raises(Unreadable):
            APIS[api]().rows(GOOD[api](value), 1)
    for answer in ({}, [], {"data": []}, {"data": [{"index": 0}]}, [{}], [[]], "x", None, 3):
        with pytest.raises(Unreadable):
            APIS[api]().rows(answer, 1)
    with pytest.raises(Unreadable):
        APIS[api]().rows(GOOD[api](2), 2)


def test_one_of_several_labels_or_the_difference_of_two() -> None:
    row = {"bad": -1.0, "good": 2.0, "odd": 0.5}
    assert Reading("good", "raw").utility(row) == 2.0
    assert Reading(["good", "bad"], "raw").utility(row) == 3.0
    softmax = {name: math.exp(value) / sum(map(math.exp, row.values())) for name, value in row.items()}
    assert_allclose(Reading(["good", "bad"], "probability").utility(softmax), 3.0)
    for label, scale, values, message in (
        (None, "raw", row, r"3 labels \(bad, good, odd\).*choose it with label"),
        ("best", "raw", row, "label is 'best', expected one that the server knows: bad, good, odd"),
        (None, "raw", softmax, "choose it with label"),
        ("good", "raw", softmax, "sum to 1: it applies a softmax though raw scores were asked for"),
        ("good", "probability", softmax, "a softmax leaves only differences of logits"),
        (None, "probability", {0: 1.0}, "answers 1 where a probability between 0 and 1"),
        (None, "probability", {0: -0.3}, "answers -0.3 where a probability"),
    ):
        with pytest.raises(Refused, match=message):
            Reading(label, scale).utility(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api": "vllm_clasify"}, r"did you mean 'vllm_classify'\?"),
        ({"url": "localhost:8000"}, "begins with http:// or https://"),
        ({"url": "http://[::"}, "is no address"),
        ({"text": "{prompt}"}, "a template with {prompt} and {response}"),
        ({"text": "chat"}, "needs the model's tokenizer"),
        ({"text": "pair"}, "is sent one text"),
        ({"api": "tei_rerank", "text": "{prompt} {response}"}, "sent prompt and response apart"),
        ({"tokenizer": "x"}, "for text='chat' only"),
        ({"scale": "log"}, "scale='log' is unknown: choose from probability, raw"),
        ({"label": ["a", "a"]}, "one label or two different ones"),
        ({"label": []}, "one label or two different ones"),
        ({"patience": {"atempts": 3}}, "did you mean 'attempts'"),
        ({"token": "sk-123"}, "token is given as str, expected {env: NAME}"),
        ({"price": -1}, "price is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"link": "probit2"}, "link 'probit2' is unknown"),
    ],
)
def test_settings_are_refused_in_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RewardServer(**{"url": "http://127.0.0.1:1", "api": "vllm_classify", **settings})
