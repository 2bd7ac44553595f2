"""Logs out of tables and runs, and the command."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml
from logged import World

from duelenv.experiments.commands.cli import main
from duelenv.experiments.offline.reading import read_log
from duelenv.ground.errors import UserError
from duelenv.text_features import TextFeatures

ROW = {"first_arm": 1, "second_arm": 0, "label": 0.5, "propensity": 0.25, "features": [[0.0, 1.0], [1.0, 0.0]]}
TEXTS = {"prompt": "Why?", "responses": ["Because.", "I do not know."], "features": None}


def table(path, *rows):
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path):
    log = read_log(table(tmp_path / "log.jsonl", ROW, ROW | {"label": None}))
    assert log.features.shape == (2, 2, 2)
    assert log.pairs.tolist() == [[1, 0], [1, 0]]
    assert log.labels == pytest.approx([0.5, np.nan], nan_ok=True)
    assert log.propensities.tolist() == [0.25, 0.25]


def test_an_ordered_propensity_is_half_of_both_orders(tmp_path):
    rows = [ROW | {"propensity": None, "ordered_propensity": 0.25, "second_arm": arm} for arm in (0, 1)]
    assert read_log(table(tmp_path / "log.jsonl", *rows)).propensities.tolist() == [0.5, 0.25]


def test_texts_get_the_default_features(tmp_path):
    log = read_log(table(tmp_path / "log.jsonl", ROW | TEXTS))
    assert log.features == pytest.approx(TextFeatures()([TEXTS["prompt"]], [TEXTS["responses"]]))
    shown = log.observation([0])
    assert (shown["prompt"][0], list(shown["responses"][0])) == (TEXTS["prompt"], TEXTS["responses"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity": None}, "no column 'propensity'"),
        ({"ordered_propensity": 0.1}, "both propensity and ordered_propensity"),
        ({"propensity": 0}, "propensity 0, expected"),
        ({"propensity": 1.2}, "propensity 1.2, expected"),
        ({"propensity": "often"}, "row 0 has the propensity 'often', expected a number"),
        ({"propensity": None, "ordered_propensity": 0.6}, "ordered_propensity 0.6, expected at most 1/2"),
        ({"first_arm": None}, "no column 'first_arm'"),
        ({"first_arm": 0.5}, "not whole numbers"),
        ({"first_arm": 2}, "below 2"),
        ({"label": 2}, "label 2"),
        ({"features": None}, "neither a column 'features' nor 'responses'"),
        ({"features": [[1.0], [1.0, 2.0]]}, "unequal shapes"),
        (TEXTS | {"prompt": None}, "without a column 'prompt'"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_log(table(tmp_path / "log.jsonl", ROW | change))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline")
    config = {
        "name": "logged",
        "env": {"id": "duelenv/FeatureDuel-v0", "num_candidates": 4, "dim": 3, "horizon": 60, "scale": 3.0, "batch": 2},
        "agents": ["passive", "random", "thompson"],
        "seeds": 3,
        "label_log": True,
        "evaluate_every": 60,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["run", str(folder / "config.yaml"), "--output", str(folder / "run"), "--jobs", "1"]) == 0
    return folder / "run"


def test_a_run_at_random_has_its_contexts_and_propensities(run):
    log = read_log(run)
    assert log.features.shape == (360, 4, 3)
    assert log.of_replicate[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert set(log.propensities) == {1 / 6}
    # The labels belong to these contexts: the truth that they tell predicts the others of the replicate.
    own = log.take(log.of_replicate == 1)
    phi = own.features[np.arange(120), own.pairs[:, 0]] - own.features[np.arange(120), own.pairs[:, 1]]
    theta = np.linalg.lstsq(phi[::2], own.labels[::2] - 0.5, rcond=None)[0]
    assert ((phi[1::2] @ theta > 0) == (own.labels[1::2] > 0.5)).mean() > 0.75
    meeting = read_log(run, "random")
    itself = meeting.pairs[:, 0] == meeting.pairs[:, 1]
    assert set(meeting.propensities[itself]) == {1 / 16}
    assert set(meeting.propensities[~itself]) == {1 / 8}


def test_a_pool_with_an_oracle_is_read_and_nobody_is_asked_again(tmp_path):
    texts = ["a", "b b", "c c c", "d d d d"]
    rows = [{"prompt": f"{n}?", "response": f"{t} {n}", "score": len(t)} for n in range(5) for t in texts]
    config = {
        "name": "pool",
        "env": {"id": "duelenv/PoolDuel-v0", "horizon": 30},
        "data": str(table(tmp_path / "pool.jsonl", *rows)),
        "oracle": "length",
        "agents": ["passive"],
        "seeds": 1,
        "evaluate_every": 30,
    }
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = tmp_path / "run"
    assert main(["run", str(tmp_path / "pool.yaml"), "--output", str(run), "--jobs", "1"]) == 0
    log = read_log(run)
    assert (len(log), log.num_candidates) == (30, 4)
    assert main(["labels", str(run), "--export", str(tmp_path / "duels.jsonl")]) == 0
    told = [json.loads(line) for line in (tmp_path / "duels.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = np.take_along_axis(log.responses, log.pairs, axis=1).tolist()
    assert shown == [[row["first"], row["second"]] for row in told]
    assert log.prompts.tolist() == [row["prompt"] for row in told]
    assert log.labels.tolist() == [row["label"] for row in told]
    table(tmp_path / "pool.jsonl", *(row | {"response": row["response"] + "!"} for row in rows))
    with pytest.raises(UserError, match="does not show what it showed in the run"):
        read_log(run)


def test_agents_that_learn_are_no_loggers(run):
    with pytest.raises(UserError, match="'thompson', which chooses by what it has learnt"):
        read_log(run, "thompson")
    with pytest.raises(UserError, match=r"logger is 'rand': did you mean 'random'\?"):
        read_log(run, "rand")


def test_the_command_prints_a_table(run, capsys):
    assert main(["offline", str(run), "--agent", "thompson", "--clip", "1.5", "prior_precision=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "360 logged duels of 4 candidates in 3 replicates; thompson learns from 180" in printed
    found = {name: float(value) for name, value in re.findall(r"^(\w+) +([\d.]+) +\[", printed, re.MULTILINE)}
    assert set(found) == {"IPS", "SNIPS", "DR", "model"}
    assert 0.6 < found["DR"] < 1.0
    bias = float(re.search(r"^IPS.* ([\d.]+)$", printed, re.MULTILINE).group(1))
    assert 0.1 < bias < 0.4  # weights of 2 are cut to 1.5: a quarter of the mean weight, of about 1


def test_the_command_agrees_with_the_truth(tmp_path, capsys):
    world = World(0)
    log = world.log(400)
    rows = [
        ROW | {"features": x.tolist(), "first_arm": int(i), "second_arm": int(j), "label": y, "propensity": q}
        for x, (i, j), y, q in zip(log.features, log.pairs, log.labels, log.propensities, strict=True)
    ]
    path = table(tmp_path / "log.jsonl", *rows)
    assert main(["offline", str(path), "--agent", "thompson", "--interval", "bootstrap"]) == 0
    low, high = re.search(r"^DR +[\d.]+ +\[([\d.]+), ([\d.]+)\]", capsys.readouterr().out, re.MULTILINE).groups()
    best = world.value(log.features, np.eye(4)[(log.features @ world.theta).argmax(axis=1)])
    assert float(low) < best < float(high) + 0.02  # it has learnt nearly all there is to learn


def test_the_command_refuses_in_one_sentence(tmp_path, capsys):
    path = str(table(tmp_path / "log.jsonl", *[ROW | {"propensity": 1.0}] * 20))
    for words, message in (
        (["--agent", "nobody"], "agent 'nobody' is unknown"),
        (["--agent", "thompson", "--learn", "1"], "learn is 1"),
        (["--agent", "thompson", "priorprecision=1"], "reads no setting 'priorprecision'"),
        (["--agent", "thompson", "--logger", "x"], "logger=x is for a run's folder"),
    ):
        assert main(["offline", path, *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
