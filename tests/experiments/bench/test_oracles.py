"""`duelenv bench oracles`: what its numbers are of, and its command."""

from __future__ import annotations

import time

import pytest

from duelenv.experiments.bench import oracles as bench
from duelenv.experiments.commands.cli import main


def test_overheads_are_beyond_the_bare_oracle(tmp_path, monkeypatch) -> None:
    def slow(inner, value):
        def ask(*texts):
            time.sleep(0.002)
            return inner(*texts)

        return ask

    monkeypatch.setitem(bench.WRAPPERS._parts, "slow", slow)
    monkeypatch.setattr(bench, "_STRENGTH", {**bench._STRENGTH, "slow": 1.0})
    lines = {line.name: line for line in bench.wrapper_overheads(repeats=9, ledger_rounds=3, folder=tmp_path)}
    assert list(lines) == ["bare oracle", *bench.WRAPPERS.in_order(), "all wrappers", "ledger"]
    assert lines["slow"].microseconds >= 1_900 and lines["all wrappers"].microseconds >= 1_900
    assert lines["noise"].microseconds < 1_900 and lines["ledger"].microseconds > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_server_is_asked_what_it_has_not_answered_before(tmp_path) -> None:
    lines = bench.serve_rate(duels=4, clients=2, seconds=0.3, folder=tmp_path)
    assert [line.name for line in lines] == ["server", "server with --record", "the oracle 'remote'"]
    assert all(line.per_second > 0 and 0 < line.median <= line.slowest and line.processor > 0 for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_what_one_thread_meets_is_said_by_the_one_that_waits(monkeypatch) -> None:
    def broken(url):
        raise RuntimeError("no connection")

    monkeypatch.setattr(bench, "_processor_seconds", lambda url: 0.0)
    with pytest.raises(RuntimeError, match="no connection"):
        bench._rate("x", "http://127.0.0.1:9", broken, 1, 2, 5.0)


def test_the_command_prints_every_measurement(monkeypatch, capsys) -> None:
    monkeypatch.setattr(bench, "MEASUREMENTS", (lambda: "one table", lambda: "another"))
    assert main(["bench", "oracles"]) == 0
    assert capsys.readouterr().out == "one table\n\nanother\n\n"


@pytest.mark.parametrize(
    "words",
    [
        ["oracles", "FeatureDuel"],
        ["oracles", "--quick"],
        ["oracles", "--kills", "3"],
        ["ledger", "--faults"],
        ["--faults"],
    ],
)
def test_what_is_not_for_it_is_refused(words, capsys) -> None:
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.startswith("duelenv: '")
