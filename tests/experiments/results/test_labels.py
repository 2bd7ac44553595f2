"""The labels of a run: counted, exported, taken in, and given to another run to begin with."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from paid_runs import asked, labels, paid_run, results

from duelenv import UserError, agents
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results.labels import counts_by_cell, labels_table, preferences_of, table_of, write_table
from duelenv.experiments.running import assembly
from duelenv.experiments.running import given_labels as warm
from duelenv.experiments.running.answers import take_in
from duelenv.experiments.running.runner import Interrupted, run
from duelenv.labels.ledger import Ledger


def stopped_run(folder, at, **changes):
    """A run that stopped while its oracle was asked for the n-th time."""
    oracle = {"name": "paid", "folder": str(folder), "stop_at": at, "error": "KeyboardInterrupt()"}
    config = paid_run(folder, oracle=oracle, **changes)
    with pytest.raises(Interrupted):
        run(config, folder / "run")
    return config


@pytest.mark.parametrize("checkpoint_seconds", [0, 1e9])
def test_a_stopped_run_asks_again_only_what_was_being_asked(tmp_path, checkpoint_seconds):
    whole = paid_run(tmp_path / "whole")
    run(whole, tmp_path / "whole" / "run")
    config = stopped_run(tmp_path / "stopped", 4, checkpoint_seconds=checkpoint_seconds)
    run(config, tmp_path / "stopped" / "run")
    assert asked(tmp_path / "stopped") == asked(tmp_path / "whole")
    for read in (results, labels):
        assert read(tmp_path / "stopped" / "run").equals(read(tmp_path / "whole" / "run"))
    found = counts_by_cell(RunFolder(tmp_path / "stopped" / "run"), config)
    assert {name: held.asked_again for name, held in found.items()} == {"passive-seeds2": 4, "thompson-seeds2": 0}
    assert {held[:4] for held in found.values()} == {(24, 24, 0, 0)}


def test_the_table_says_what_the_source_said_and_when_the_agent_was_told(tmp_path):
    stages = [{"name": "delay", "mean": 2.0, "deliver_rest": True}]
    config = paid_run(tmp_path, env={"id": "PoolDuel", "horizon": 6, "batch": 2, "stages": stages}, agents=["passive"])
    run(config, tmp_path / "run")
    rows = labels(tmp_path / "run").to_pylist()
    assert len(rows) == 24
    later = 0
    for row in rows:
        assert row["win"] == (0.8 if len(row["first"]) > len(row["second"]) else 0.3)
        assert row["told_step"] >= row["step"]
        assert row["label"] in (0.0, 1.0)
        later += row["told_step"] > row["step"]
    assert 0 < later < 24
    assert [row["seed"] for row in rows[:4]] == [0, 0, 1, 1]
    env = assembly.make_environment(config)
    agent, observation = agents.make("passive", env, seed=0), env.reset(seed=0)[0]
    told = {}
    for step in range(1, 7):
        actions = agent.act(observation)
        observation, heard, _, _, info = env.step(actions)
        late = info["late"]
        told |= {(step, row): (step, label) for row, label in enumerate(heard) if not np.isnan(label)}
        triples = zip(late.round.tolist(), late.row.tolist(), late.label.tolist(), strict=True)
        told |= {(number + 1, row): (step, label) for number, row, label in triples}
    assert {(row["step"], row["row"]): (row["told_step"], row["label"]) for row in rows} == told


def test_preferences_are_written_as_the_ecosystem_reads_them(tmp_path):
    config = paid_run(tmp_path)
    run(config, tmp_path / "run")
    table = table_of(RunFolder(tmp_path / "run"), config, agent="thompson", seed=1)
    assert set(table["seed"].to_pylist()) == {1}
    assert set(table["agent"].to_pylist()) == {"thompson"}
    pairs = preferences_of(table).to_pylist()
    for row, pair in zip(table.to_pylist(), pairs, strict=True):
        better, worse = ("first", "second") if row["label"] == 1.0 else ("second", "first")
        assert (pair["chosen"], pair["rejected"], pair["tie"]) == (row[better], row[worse], False)
        longer = len(row["first"]) > len(row["second"])
        first_leads = 2 * (0.8 if longer else 0.3) - 1
        assert pair["margin"] == pytest.approx(first_leads if better == "first" else -first_leads)
    assert {pair["margin"] > 0 for pair in pairs} == {True, False}  # a coin decides, not the source's probability
    for kind in ("parquet", "jsonl", "csv"):
        write_table(preferences_of(table), tmp_path / f"pairs.{kind}")
        given = warm.read_labels(tmp_path / f"pairs.{kind}")
        assert given.labels.tolist() == [1.0] * len(pairs)
        assert [text.strip() for text in given.first] == [pair["chosen"].strip() for pair in pairs]
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == pairs  # whoever reads by lines, U+2028 in the prompts or not


def test_an_unfinished_run_is_counted_and_exported(tmp_path, capsys):
    stopped_run(tmp_path, 3)
    assert main(["labels", str(tmp_path / "run"), "--export", str(tmp_path / "d.parquet")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in shown[:3]] == [
        ["asked", "answered", "open", "superseded", "evaluation", "asked", "again"],
        ["16", "12", "4", "0", "0", "0"],
        ["16", "12", "4", "0", "0", "0"],
    ]
    assert len(pq.read_table(tmp_path / "d.parquet")) == 12


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_what_a_lost_run_had_asked_is_given_back(tmp_path, kind):
    run(paid_run(tmp_path / "old"), tmp_path / "old" / "run")
    config = stopped_run(tmp_path / "new", 0)
    write_table(labels(tmp_path / "old" / "run"), tmp_path / f"labels.{kind}")
    folder = RunFolder(tmp_path / "new" / "run")
    assert take_in(folder, config, tmp_path / f"labels.{kind}") == (48, 0, 0, 44, 0)
    assert take_in(folder, config, tmp_path / f"labels.{kind}") == (0, 48, 0, 0, 0)
    run(config, tmp_path / "new" / "run")
    assert not asked(tmp_path / "new")
    assert results(tmp_path / "new" / "run").equals(results(tmp_path / "old" / "run"))
    assert labels(tmp_path / "new" / "run").equals(labels(tmp_path / "old" / "run"))


def test_labels_of_another_run_stand_in_nobodys_place(tmp_path):
    """The same seed in the same place, and other texts."""
    old = paid_run(tmp_path / "old", env={"id": "PoolDuel", "horizon": 6, "batch": 2, "num_candidates": 3})
    run(old, tmp_path / "old" / "run")
    config = paid_run(tmp_path / "new")
    run(config, tmp_path / "new" / "run")
    before = labels(tmp_path / "new" / "run")
    write_table(labels(tmp_path / "old" / "run"), tmp_path / "old.parquet")
    folder = RunFolder(tmp_path / "new" / "run")
    taken = take_in(folder, config, tmp_path / "old.parquet")
    assert taken.new == 0
    assert taken.strange > 0
    run(config, tmp_path / "new" / "run")
    assert labels(tmp_path / "new" / "run").equals(before)


def test_an_export_warms_whatever_its_kind(tmp_path):
    run(paid_run(tmp_path), tmp_path / "run")
    for kind in ("parquet", "jsonl", "csv"):
        write_table(labels(tmp_path / "run"), tmp_path / f"all.{kind}")
    given = [warm.read_labels(tmp_path / f"all.{kind}").labels.tolist() for kind in ("parquet", "jsonl", "csv")]
    assert given[0] == given[1] == given[2]
    assert set(given[0]) == {0.0, 1.0}


def test_half_a_surrogate_pair_ends_no_run(tmp_path):
    config = paid_run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text().splitlines()]
    rows = [{**row, "prompt": row["prompt"] + "\ud800"} for row in rows]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(config, tmp_path / "run")
    assert len(labels(tmp_path / "run")) == 48
    assert {text[-1] for text in labels(tmp_path / "run")["prompt"].to_pylist()} == {"\ufffd"}
    write_table(labels(tmp_path / "run"), tmp_path / "labels.csv")
    folder = RunFolder(tmp_path / "run")
    assert take_in(folder, config, tmp_path / "labels.csv") == (0, 48, 0, 0, 0)
    connection = sqlite3.connect(folder.cell("thompson-seeds2").path / "ledger.sqlite")
    assert connection.execute("SELECT COUNT(*) FROM answers").fetchone() == (24,)
    connection.close()
    other = stopped_run(tmp_path / "other", 0, data=str(tmp_path / "pool.jsonl"))
    taken = take_in(RunFolder(tmp_path / "other" / "run"), other, tmp_path / "labels.csv")
    assert (taken.new, taken.strange) == (4, 44)  # of the others the texts are not known


def test_it_is_said_that_nobody_hears_of_answers_to_a_finished_cell(tmp_path, capsys):
    (tmp_path / "silent.py").write_text(
        "from duelenv.oracles import register\n\n\nclass Silent:\n"
        "    def ask(self, requests):\n        pass\n\n    def collect(self):\n        return []\n\n\n"
        'register("silent", Silent)\n'
    )
    config = paid_run(tmp_path, oracle="silent", modules=[str(tmp_path / "silent.py")], agents=["passive"])
    run(config, tmp_path / "run")
    with closing(Ledger(RunFolder(tmp_path / "run").cell("passive-seeds2").path)) as ledger:
        waiting = ledger.open_questions()
    assert len(waiting) == 24
    given = [{"prompt": one.prompt, "first": one.first, "second": one.second, "label": 1.0} for one in waiting]
    (tmp_path / "given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    assert main(["labels", str(tmp_path / "run"), "--import", str(tmp_path / "given.jsonl"), "--last", "0"]) == 0
    said = capsys.readouterr().out
    assert "24 answers taken in" in said
    assert "finished cells among theirs: 1, whose agents are not told" in said
    assert main(["labels", str(tmp_path / "run"), "--import", str(tmp_path / "given.jsonl"), "--last", "0"]) == 0
    assert "finished" not in capsys.readouterr().out


def test_an_id_that_does_not_fit_is_refused(tmp_path):
    run(paid_run(tmp_path), tmp_path / "run")
    rows = labels(tmp_path / "run").to_pylist()
    rows[3]["first"] += "!"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="row 3 has an id that does not fit"):
        take_in(RunFolder(tmp_path / "run"), paid_run(tmp_path), tmp_path / "d.jsonl")


def test_open_questions_are_answered_by_labels_of_the_same_texts_in_either_order(tmp_path):
    config = stopped_run(tmp_path, 2)
    folder = RunFolder(tmp_path / "run")
    ledger = Ledger(folder.cell("passive-seeds2").path)
    waiting = ledger.open_questions()
    ledger.close()
    assert len(waiting) == 4
    one, two, three, _ = waiting
    given = [
        {"prompt": one.prompt, "first": one.first, "second": one.second, "label": 1.0},
        {"prompt": two.prompt, "first": two.second, "second": two.first, "label": 1.0},
        {"prompt": three.prompt, "first": three.first, "second": three.second, "label": 0.5},
        {"prompt": "nobody asked", "first": "a", "second": "b", "label": 0.0},
    ]
    (tmp_path / "given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    taken = take_in(folder, config, tmp_path / "given.jsonl")
    assert taken == (3, 0, 1, 0, 0)
    run(config, tmp_path / "run")
    rows = {row["id"]: row for row in labels(tmp_path / "run").to_pylist() if row["agent"] == "passive"}
    assert [(rows[key.id]["win"], rows[key.id]["tie"], rows[key.id]["label"]) for key in (one, two, three)] == [
        (1.0, 0.0, 1.0),
        (0.0, 0.0, 0.0),
        (0.0, 1.0, 0.5),
    ]
    # Only the fourth of the round was put to the oracle again.
    counted = [len(json.loads(line)) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert counted[:4] == [4, 4, 1, 4]


def test_a_world_of_numbers_keeps_duels_where_it_is_told_to(tmp_path):
    raw = {
        "name": "numbers",
        "env": {"id": "MatrixDuel", "matrix": {"name": "cyclic", "num_arms": 3}, "horizon": 5},
        "agents": ["passive"],
        "jobs": 1,
    }
    run(RunConfig.from_dict(raw), tmp_path / "without")
    assert not (tmp_path / "without" / "labels.parquet").exists()
    assert counts_by_cell(RunFolder(tmp_path / "without"), RunConfig.from_dict(raw)) == {}
    run(RunConfig.from_dict({**raw, "label_log": True}), tmp_path / "with")
    rows = labels(tmp_path / "with").to_pylist()
    assert [(row["step"], row["prompt"], row["win"], row["source"]) for row in rows] == [
        (step, None, None, "oracle") for step in range(1, 6)
    ]
    run(paid_run(tmp_path / "texts", label_log=False), tmp_path / "texts" / "run")
    assert labels_table(RunFolder(tmp_path / "texts" / "run").cell("passive-seeds2").path, "passive", (0, 1)) is None
    assert counts_by_cell(RunFolder(tmp_path / "texts" / "run"), paid_run(tmp_path))["passive-seeds2"].answered == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--export", "x.txt"], "ends in '.txt', expected one of"),
        (["--pairs"], "'--pairs' says what is exported"),
        (["--agent", "nobody"], "agent='nobody' is unknown: choose from passive, thompson"),
        (["--import", "nothing.parquet"], "nothing.parquet does not exist"),
    ],
)
def test_a_wrong_command_is_one_sentence(tmp_path, capsys, words, message):
    run(paid_run(tmp_path), tmp_path / "run")
    capsys.readouterr()
    assert main(["labels", str(tmp_path / "run"), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_a_folder_of_nothing_is_one_sentence(tmp_path, capsys):
    assert main(["labels", str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


# To begin with ------------------------------------------------------------------------------------------------------


def preferences_file(folder, count=60):
    """Pairs of the pool, of which the longer response is chosen."""
    generator, rows = np.random.default_rng(0), []
    while len(rows) < count:
        p, one, two = generator.integers(8), *generator.choice(4, 2, replace=False)
        texts = sorted((f"{p} {'x' * (3 * k % 7)}" for k in (one, two)), key=len)
        if len(texts[0]) < len(texts[1]):
            rows.append({"prompt": f"q{p}\u2028", "chosen": texts[1], "rejected": texts[0]})
    path = folder / "given.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def longer_is_believed(belief_of, world):
    """How often the belief prefers the longer of two responses."""
    pool = world.pool
    prompts = np.array(pool.prompts, dtype=object)[: world.num_envs]
    shown = world.show(prompts, pool.responses[: world.num_envs])
    means, lengths = belief_of.mean(shown["features"]), np.vectorize(len)(pool.responses[: world.num_envs])
    first, second = np.triu_indices(means.shape[1], 1)
    return np.mean(np.sign(means[:, first] - means[:, second]) == np.sign(lengths[:, first] - lengths[:, second]))


def test_a_belief_begins_with_what_others_said_in_every_replicate(tmp_path):
    config = paid_run(tmp_path, env={"id": "PoolDuel", "horizon": 6, "batch": 4, "dim": 8}, seeds=2)
    load_modules(config.modules)
    given = warm.read_labels(preferences_file(tmp_path))
    agreed = []
    for labels_given in (None, given):
        env = assembly.make_environment(config)
        agent = agents.make("thompson", env, seed=0)
        env.reset(seed=0)
        if labels_given is not None:
            left_out = warm.warm_up(agent, env.unwrapped, labels_given)
        agreed.append(longer_is_believed(agent.belief, env.unwrapped))
    assert agreed[1] > 0.8 > agreed[0]
    features = env.unwrapped.show(
        np.array(["q1\u2028"] * 8, dtype=object), np.array([["1 ", "1 xxx"] * 2] * 8, dtype=object)
    )
    means = agent.belief.mean(features["features"])
    assert (means[:, 1] > means[:, 0]).all()
    held_out = env.unwrapped.held_out(given.prompts)
    assert held_out.any(axis=1).all() and (held_out[0] != held_out[1]).any()  # each seed holds out others
    assert agent.belief.num_labels.tolist() == (~held_out).sum(axis=1).tolist()
    assert left_out == held_out.sum(axis=1).max()


def test_labels_about_held_out_prompts_are_not_learnt(tmp_path, capsys):
    """A belief that was told the opposite of them is none the wiser; and the run says that they were left out."""
    path = preferences_file(tmp_path)
    config = paid_run(tmp_path, env={"id": "PoolDuel", "horizon": 6, "batch": 4, "dim": 8}, seeds=2, labels=str(path))
    load_modules(config.modules)
    given = warm.read_labels(path)
    thetas = []
    for turned in (False, True):
        env = assembly.make_environment(config)
        env.reset(seed=0)
        told = env.unwrapped.held_out(given.prompts)[0] & turned
        lied = warm.GivenLabels(given.prompts, given.first, given.second, np.where(told, 0.0, given.labels))
        agent = agents.make("thompson", env, seed=0)
        warm.warm_up(agent, env.unwrapped, lied)
        thetas.append(agent.belief.theta[0])
    np.testing.assert_array_equal(*thetas)
    run(config, tmp_path / "run")
    assert "of 60 'labels' are about held-out prompts" in capsys.readouterr().err
    only = warm.GivenLabels(*(values[told] for values in (given.prompts, given.first, given.second, given.labels)))
    with pytest.raises(UserError, match="all 'labels' are about prompts that the world holds out"):
        warm.warm_up(agents.make("thompson", env, seed=0), env.unwrapped, only)


def test_a_policy_begins_with_what_others_said():
    """The response that others chose becomes likelier, and its tokens are the text's."""
    from worlds import make_vector

    env = make_vector("duelenv/AlignmentDuel-v0", 3, num_candidates=4)
    policy = env.view().policy
    drawn = policy.sample(["tell me about the river"], 2, generator=torch.Generator().manual_seed(0)).texts
    prompts = np.array(["tell me about the river"] * 7, dtype=object)
    chosen, rejected = (np.array([drawn[0, k]] * 7, dtype=object) for k in range(2))
    pair = np.stack([chosen, rejected], axis=1)[:3]
    shown = env.show(prompts[:3], pair[:, [0, 1, 0, 1]])
    assert policy.decode(shown["tokens"], shown["mask"])[0].tolist() == [drawn[0, 0], drawn[0, 1]] * 2
    agent = agents.make("passive", env, seed=0, learning_rate=1e-3)
    before = shown["log_prob"][0]
    warm.warm_up(agent, env, warm.GivenLabels(prompts, chosen, rejected, np.ones(7)))
    after = env.show(prompts[:3], pair[:, [0, 1, 0, 1]])["log_prob"][0]
    assert after[0] - after[1] > before[0] - before[1]
    assert agent.gradient_steps == 2  # seven labels of three a round: the last one waits
    env.reset(seed=0)
    assert env.evaluate(agent)["win_rate"].shape == (1,)


def test_a_run_begins_with_a_file_and_pays_for_none_of_it(tmp_path):
    path = preferences_file(tmp_path)
    plain = paid_run(tmp_path / "plain")
    warmed = paid_run(tmp_path / "warmed", labels=str(path))
    for config, name in ((plain, "plain"), (warmed, "warmed")):
        run(config, tmp_path / name / "run")
    first = [
        {row["agent"]: row for row in results(tmp_path / name / "run").to_pylist() if row["step"] == 0}
        for name in ("plain", "warmed")
    ]
    assert first[1]["thompson"]["queries"] == 0
    assert first[0]["thompson"]["simple_regret"] != first[1]["thompson"]["simple_regret"]
    assert sum(asked(tmp_path / "warmed").values()) == sum(asked(tmp_path / "plain").values())
    stopped = stopped_run(tmp_path / "stopped", 3, labels=str(path), checkpoint_seconds=0)
    run(stopped, tmp_path / "stopped" / "run")
    assert results(tmp_path / "stopped" / "run").equals(results(tmp_path / "warmed" / "run"))
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"'labels\.path' holds something else"):
        run(warmed, tmp_path / "warmed" / "run")


@pytest.mark.parametrize("tie", [True, "true", 1])
def test_a_pair_marked_as_a_tie_is_one(tmp_path, tie):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "tie": tie},
        {"prompt": "p", "chosen": "c", "rejected": "d", "tie": False},
        {"prompt": "q", "chosen": "e", "rejected": "f", "tie": None},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = warm.read_labels(tmp_path / "pairs.jsonl")
    assert given.labels.tolist() == [0.5, 1.0, 1.0]
    assert given.first.tolist() == ["a", "c", "e"]


def test_labels_of_a_table_with_names_of_its_own(tmp_path):
    """A prompt that stands in several columns, or in the dialogues themselves, is no less a prompt here."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "good": " a\n", "bad": "b"}) + "\n")
    config = paid_run(tmp_path, labels={"path": str(path), "chosen": "good", "rejected": "bad"})
    given = warm.read_labels(**config.labels)
    assert [given.prompts[0], given.first[0], given.second[0], given.labels[0]] == ["p", "a", "b", 1.0]
    assert RunConfig.from_dict(config.to_dict()) == config
    plain = {"prompt": "p", "chosen": "a", "rejected": "b"}
    (tmp_path / "plain.jsonl").write_text(json.dumps(plain) + "\n")
    turned = warm.read_labels(tmp_path / "plain.jsonl", chosen="rejected", rejected="chosen")
    assert turned.first.tolist() == ["b"]  # what is named is what counts, in a table that could do without
    with pytest.raises(UserError, match=r"name others as labels=\{path: FILE"):
        warm.read_labels(path)
    rows = [{"prompt": "p", "first": "a", "second": "b", "label": label} for label in ("A", "B", "tie")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = warm.read_labels(path)
    assert given.first.tolist()[:2] == ["a", "b"] and given.labels.tolist() == [1.0, 1.0, 0.5]
    text = "\n\nHuman: hi\n\nAssistant: "
    path.write_text(json.dumps({"source": "hh", "chosen": text + "yes", "rejected": text + "no"}) + "\n")
    given = warm.read_labels(path)
    assert [given.prompts[0], given.first[0], given.second[0]] == [text.strip(), "yes", "no"]


def test_labels_of_a_run_warm_another(tmp_path):
    run(paid_run(tmp_path / "one"), tmp_path / "one" / "run")
    source = str(tmp_path / "one" / "run" / "labels.parquet")
    given = warm.read_labels(source)
    assert len(given) == 48
    run(paid_run(tmp_path / "two", labels=source), tmp_path / "two" / "run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "p", "response": "r"}', "expected prompt, first, second and label"),
        ('{"prompt": "p", "first": "a", "second": "b", "label": 2}', "has the label 2, expected a number from 0 to 1"),
        ('{"prompt": "p", "first": "a", "second": "b", "label": null}', "holds no label"),
        ('{"prompt": "p", "first": null, "second": "b", "label": 1}', "lacks a text"),
        ('{"prompt": "p", "first": "a", "second": "b", "label": 1}', "the pool has no response 'a'"),
        (None, "does not exist"),
    ],
)
def test_a_wrong_file_is_refused_before_anybody_is_asked(tmp_path, content, message):
    path = tmp_path / "given.jsonl"
    if content is not None:
        path.write_text(content + "\n")
    with pytest.raises(UserError, match=message):
        run(paid_run(tmp_path, labels=str(path)), tmp_path / "run")
    assert not asked(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_world_without_texts_takes_no_labels(tmp_path):
    path = preferences_file(tmp_path)
    raw = {
        "name": "x",
        "env": {"id": "FeatureDuel", "horizon": 3},
        "agents": ["passive"],
        "labels": str(path),
        "jobs": 1,
    }
    with pytest.raises(UserError, match="this world has none: leave 'labels' out"):
        run(RunConfig.from_dict(raw), tmp_path / "run")


def test_labels_come_before_the_first_round():
    from worlds import make_vector

    env = make_vector("duelenv/PoolDuel-v0", 2)
    agent = agents.make("thompson", env, seed=0)
    observation = env.reset(seed=0)[0]
    actions = agent.act(observation)
    agent.update(observation, actions, env.step(actions)[1])
    with pytest.raises(UserError, match="warm_up was called after round 0"):
        agent.warm_up(observation, actions, np.ones(2))
