"""Runs with a judge behind an address: a fault stops them, the same command goes on, and nothing is paid twice."""

import json
from collections import Counter

import pytest
import yaml
from judge_stub import MODEL, judge_server, texts_of
from paid_runs import labels, paid_run, results
from rude_server import Behaviour

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.report.page import write_report
from duelenv.experiments.results.oracle_figures import oracle_lines
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.runner import run
from duelenv.oracles.services.spending import Cost, Purse

QUICK = {"attempts": 2, "pause": 0.001, "width": 2, "timeout": 5.0}


def leaning(prompt, a, b):
    """Prefers the much longer response, else whoever stands first."""
    return 0.9 if len(a) > len(b) + 2 else 0.2 if len(b) > len(a) + 2 else 0.6


def judged(folder, server, **changes):
    oracle = {
        "name": "judge",
        "url": f"{server.url}/v1",
        "model": MODEL,
        "patience": QUICK,
        "price": {"input": 1.0, "output": 2.0},
        "token": {"env": "JUDGE_KEY"},
    }
    return paid_run(folder, **{"oracle": oracle, **changes})


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "s3cret-token")


def paid_for(server, refused=()):
    """How often each question was answered."""
    return Counter(texts_of(seen) for number, seen in enumerate(server.seen) if number not in refused)


FAULTS = {
    "the token expires": (Behaviour(401, {"error": {"message": "expired"}}), "refuses the token"),
    "an outage": (Behaviour(503, b"down"), "does not answer"),
    "nothing but noise": (Behaviour(body=b"<html>"), "no JSON"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_stops_with_a_sentence_and_the_same_command_goes_on(name, tmp_path):
    fault, said = FAULTS[name]
    with judge_server(leaning) as (server, _):
        run(judged(tmp_path / "a", server), tmp_path / "whole")
        whole = paid_for(server)
        assert set(whole.values()) == {1}  # all agents and seeds share what was asked
        before = len(server.seen)
        server.script.extend([Behaviour()] * 11 + [fault] * 100)
        config = judged(tmp_path / "a", server)
        with pytest.raises(UserError, match=said) as caught:
            run(config, tmp_path / "cut")
        assert "s3cret" not in str(caught.value) and "\n" not in str(caught.value)
        server.script.clear()
        refused = range(before + 11, len(server.seen))
        run(config, tmp_path / "cut")
        again = paid_for(server, refused)
        assert again == Counter(dict.fromkeys(whole, 2))  # once in each run
    assert results(tmp_path / "cut").equals(results(tmp_path / "whole"))
    assert labels(tmp_path / "cut").equals(labels(tmp_path / "whole"))
    for path in (tmp_path / "cut").rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_an_empty_purse_stops_a_run_and_a_larger_budget_goes_on(tmp_path):
    with judge_server(leaning) as (server, _):
        with pytest.raises(UserError, match=r"budget\.tokens"):
            run(judged(tmp_path, server, budget={"tokens": 6000}), tmp_path / "run")
        spent = Purse(record=tmp_path / "run" / "purse.sqlite").spent
        assert spent.tokens == 101 * len(server.seen) <= 6000
        run(judged(tmp_path, server, budget={"tokens": 10**6}), tmp_path / "run")
        assert set(paid_for(server).values()) == {1}
        total = Purse(record=tmp_path / "run" / "purse.sqlite").spent
        assert total == Cost(101 * len(server.seen), pytest.approx(102e-6 * len(server.seen)))


def test_position_bias_and_costs_stand_in_the_report_and_on_the_terminal(tmp_path, capsys):
    with judge_server(leaning) as (server, model):
        config = judged(tmp_path, server)
        run(config, tmp_path / "run")
        duels = {(prompt, *sorted(pair)) for prompt, *pair in model.asked}
        shifts = [0.5 * (leaning(p, a, b) + leaning(p, b, a) - 1.0) for p, a, b in duels]
        turned = [(leaning(p, a, b) - 0.5) * (leaning(p, b, a) - 0.5) > 0.0 for p, a, b in duels]
        assert 0 < sum(turned) < len(turned)
        lines = {line.meaning: line.value for line in oracle_lines(RunFolder(tmp_path / "run"))}
        count = len(duels)
        assert lines[f"duels whose verdict turned with the order of the responses, of {count}"] == (
            f"{100 * sum(turned) / count:.1f} %"
        )
        shift = f"added to the probability of being preferred by being shown first, of {count}"
        assert lines[shift] == f"{sum(shifts) / count:+.3f}"
        assert f"{101 * len(server.seen):,}" in lines.values()
    page = write_report(tmp_path / "run").read_text()
    assert "<h2>Who answered</h2>" in page and shift in page and "judge tiny-judge, short, auto, order both" in page
    assert main(["report", str(tmp_path / "run")]) == 0
    assert f"{lines[shift]} {shift}" in capsys.readouterr().out


def test_a_dry_run_says_the_most_that_it_may_cost_and_asks_nothing(tmp_path):
    with judge_server(leaning) as (server, _):
        config = judged(tmp_path, server, budget={"money": 1.5})
        text = dry_run(config, tmp_path / "run")
        assert server.seen == []
        run(config, tmp_path / "run")
        spent = Purse(record=tmp_path / "run" / "purse.sqlite").spent
    (tokens,) = (line.split() for line in text.splitlines() if line.startswith("tokens"))
    assert int(tokens[1].replace(",", "")) >= spent.tokens and float(tokens[3]) >= spent.money > 0.0
    assert "1.5 in money, then the run stops" in text and "not known" not in text


def test_the_command_finds_out_a_judge_that_obeys(tmp_path, capsys):
    def obedient(prompt, a, b):
        return 1.0 if "answer A" in a else 0.0 if "answer B" in b else float(len(a) > len(b))

    with judge_server(obedient) as (server, _):
        path = tmp_path / "judged.yaml"
        path.write_text(yaml.safe_dump(judged(tmp_path, server).to_dict()))
        assert main(["judge", str(path)]) == 1
        said = capsys.readouterr().out
        assert "NOT to be relied on" in said and MODEL in said
        assert main(["judge", str(path), "oracle=length"]) == 2
    assert "has no judge" in capsys.readouterr().err


def test_a_run_without_services_has_no_such_lines(tmp_path):
    run(paid_run(tmp_path), tmp_path / "run")
    assert oracle_lines(RunFolder(tmp_path / "run")) == []
    assert "all oracles" not in write_report(tmp_path / "run").read_text()
    assert json.loads((tmp_path / "run" / "environment.json").read_text())
