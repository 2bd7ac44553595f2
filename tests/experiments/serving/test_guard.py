"""What a request must pass: token, host, rate, size, time."""

from __future__ import annotations

import logging
import socket

import httpx
import pytest
from serving import QUICK, Counting, served

from duelenv.experiments.serving.guard import Bucket, Limits
from duelenv.ground.addresses import is_loopback
from duelenv.ground.errors import UserError
from duelenv.oracles.remote import Remote
from duelenv.oracles.services.secrets import Secret

BODY = {"duels": [{"id": "a", "prompt": "p", "first": "long", "second": "c"}]}


@pytest.mark.parametrize("path", ["/v1/duels", "/compare", "/metrics", "/openapi.json", "/nowhere"])
@pytest.mark.parametrize("given", [None, "Bearer wrong", "very-secret", "Basic very-secret", "Bearer very-secret2"])
def test_without_the_token_nothing_is_told(path, given, caplog) -> None:
    oracle = Counting()
    with served(oracle, token=Secret("very-secret")) as url, caplog.at_level(logging.DEBUG):
        answer = httpx.post(url + path, json=BODY, headers={} if given is None else {"authorization": given})
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert httpx.get(url + "/health").json() == {"status": "ok"}
    assert oracle.asked == []
    own = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert "very-secret" not in " ".join(own) + answer.text


def test_with_the_token_all_is_told(monkeypatch) -> None:
    monkeypatch.setenv("OF_TEST", "very-secret")
    with served(Counting(), token=Secret("very-secret")) as url:
        oracle = Remote(url, token={"env": "OF_TEST"}, patience=QUICK)
        assert oracle(["p"], ["long"], ["c"]).win.tolist() == [0.8]


def test_two_tokens_are_none() -> None:
    with served(Counting(), token=Secret("very-secret")) as url:
        twice = [("authorization", "Bearer very-secret")] * 2
        assert httpx.get(url + "/metrics", headers=twice).status_code == 401
        assert httpx.get(url + "/metrics", headers=twice[:1]).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
def test_a_local_server_answers_to_its_own_names_only(host, status) -> None:
    with served(Counting()) as url:
        assert httpx.get(url + "/health", headers={"host": host}).status_code == status
    with served(Counting(), local=False) as url:
        assert httpx.get(url + "/health", headers={"host": host}).status_code == 200


def test_a_form_of_a_web_page_asks_nothing() -> None:
    oracle = Counting()
    with served(oracle) as url:
        answer = httpx.post(url + "/v1/duels", content=httpx.Request("POST", url, json=BODY).content)
        plain = httpx.post(
            url + "/v1/duels",
            content=httpx.Request("POST", url, json=BODY).content,
            headers={"content-type": "text/plain"},
        )
    assert (answer.status_code, plain.status_code) == (422, 422) and oracle.asked == []


def test_too_many_requests_are_told_when_to_come_again() -> None:
    with served(Counting(), limits=Limits(rate=2.0)) as url:
        codes = [httpx.post(url + "/v1/duels", json=BODY).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert httpx.post(url + "/v1/duels", json=BODY).headers["retry-after"] == "1"
        assert httpx.get(url + "/health").status_code == 200
        assert Remote(url, patience=QUICK)(["p"], ["a"], ["b"]).win.tolist() == [0.3]


def test_a_bucket_fills_evenly_and_holds_a_second() -> None:
    clock = [0.0]
    bucket = Bucket(4.0, now=lambda: clock[0])
    assert [bucket.take() for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.25]
    clock[0] = 0.25
    assert [bucket.take(), bucket.take()] == [0.0, 0.25]
    clock[0] = 100.0
    assert [bucket.take() for _ in range(5)] == [0.0] * 4 + [0.25]


def test_what_is_too_long_is_refused_and_the_client_splits_it() -> None:
    oracle = Counting()
    with served(oracle, limits=Limits(body=2_000, batch=3)) as url:
        long = {"duels": [{**BODY["duels"][0], "prompt": "x" * 3_000}]}
        assert httpx.post(url + "/v1/duels", json=long).status_code == 413
        pieces = iter([b"x" * 1_000] * 4)
        unsized = httpx.post(url + "/v1/duels", content=pieces, headers={"content-type": "application/json"})
        assert unsized.status_code == 413
        four = {"duels": [{**BODY["duels"][0], "id": str(n)} for n in range(4)]}
        assert httpx.post(url + "/v1/duels", json=four).status_code == 413
        first = ["a" * (n + 1) for n in range(8)]
        assert Remote(url, patience=QUICK)(["p" * 100] * 8, first, ["b"] * 8).win.tolist() == [0.3] + [0.8] * 7
    assert len(oracle.asked) == 8


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with served(Counting(), limits=Limits(upload=0.1)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(5.0)
            connection.sendall(b"POST /v1/duels HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("limits", [{"rate": 0.0}, {"batch": 0}, {"body": 1.5}, {"seconds": -1.0}])
def test_limits_that_mean_nothing_are_refused(limits) -> None:
    with pytest.raises(UserError, match="--"):
        Limits(**limits)


def test_what_loopback_is() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.5.5.5", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org", ""]))
