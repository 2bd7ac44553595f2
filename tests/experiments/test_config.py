"""Configs: what is accepted, and one sentence for what is not."""

import re

import pytest
import yaml

from duelenv import UserError
from duelenv.experiments import config as configs
from duelenv.experiments.config import RunConfig, apply_override, load, suites

BASE = {
    "name": "test",
    "env": {"id": "FeatureDuel", "horizon": 5},
    "agents": {"passive": {}, "fast": {"name": "thompson"}},
}


def made(**changes):
    return RunConfig.from_dict({**BASE, **changes})


def test_defaults_and_short_names():
    config = made(seeds=3, first_seed=7)
    assert config.env.id == "duelenv/FeatureDuel-v0"
    assert config.seeds == (7, 8, 9)
    assert [(agent.label, agent.name) for agent in config.agents] == [("passive", "passive"), ("fast", "thompson")]
    assert config.replicated


@pytest.mark.parametrize("suite", sorted(suites()))
def test_every_suite_loads_and_reads_back_equal(suite):
    config = load(suite, ["data=pool.parquet"] if suite == "pool" else [])
    again = RunConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict(), sort_keys=False)))
    assert again == config
    assert again.identity() == config.identity()


def test_identity_ignores_how_and_not_what():
    config = made()
    assert (
        made(jobs=2, backend="threading", checkpoint_seconds=1, metric="kl", baseline="fast").identity()
        == config.identity()
    )
    assert made(seeds=2).identity() != config.identity()
    assert made(env={"id": "FeatureDuel", "horizon": 6}).identity() != config.identity()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sedes": 4}, "'sedes'.*did you mean 'seeds'"),
        ({"seeds": "four"}, "'seeds' is 'four'"),
        ({"seeds": 0}, "'seeds' is 0"),
        ({"seeds": True}, "'seeds' is True"),
        ({"seeds": [1, 1]}, "every seed once"),
        ({"seeds": []}, "empty list"),
        ({"seeds": [1, 3]}, "list with gaps"),
        ({"seeds": [1], "first_seed": 2}, "'first_seed'"),
        ({"agents": {}}, "'agents' is empty"),
        ({"agents": {"passive": 3}}, "'agents.passive' is 3"),
        ({"agents": {"a/b": {}}}, "'a/b'"),
        ({"agents": None}, "no 'agents'"),
        ({"baseline": "pasive"}, "did you mean 'passive'"),
        ({"env": {"horizon": 3}}, "no 'id'"),
        ({"env": {"id": "FeatureDuel", "batch": 0}}, "'env.batch' is 0"),
        ({"env": {"id": "FeatureDuel", "num_envs": 4}}, "seeds x batch"),
        ({"policy": {"toys": {}}}, "exactly one of toy, path"),
        ({"policy": {"toy": 3}}, "'policy.toy' is 3"),
        ({"policy": "toy", "env": {"id": "AlignmentDuel", "batch": 2}}, "'env.batch'"),
        ({"oracle": {"scale": 2}}, "'oracle' has no 'name'"),
        ({"oracle": [1]}, "'oracle' is \\[1\\]"),
        ({"data": {"prompt": "q"}}, "no 'path'"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"evaluate_every": 0}, "'evaluate_every' is 0"),
        ({"checkpoint_seconds": -1}, "'checkpoint_seconds' is -1"),
        ({"jobs": 1.5}, "'jobs' is 1.5"),
        ({"label_log": "yes please"}, "true or false"),
        ({"name": "../up"}, "'name'"),
        ({"modules": 3}, "'modules' is 3"),
        ({7: 3}, "7"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(changes, named):
    with pytest.raises(UserError, match=named) as caught:
        RunConfig.from_dict({**BASE, **changes})
    assert "\n" not in str(caught.value)


def test_overrides():
    raw = yaml.safe_load(yaml.safe_dump(BASE))
    for override in ("seeds=4", "env.horizon=20", "agents.fast.num_samples=3", "oracle.name=length", "agents.real={}"):
        apply_override(raw, override)
    config = RunConfig.from_dict(raw)
    assert len(config.seeds) == 4
    assert config.env.settings["horizon"] == 20
    assert config.agent("fast").settings == {"num_samples": 3}
    assert config.agent("real").name == "real"
    assert config.oracle is not None and config.oracle.name == "length"
    assert BASE["env"]["horizon"] == 5


def test_overrides_reach_into_short_spellings():
    raw = {"name": "x", "env": "FeatureDuel", "oracle": "length", "agents": ["passive", "real"], "policy": "toy"}
    for override in ("env.horizon=3", "oracle.scale=2", "agents.real.belief=ensemble", "policy.toy.seed=4"):
        apply_override(raw, override)
    assert raw["env"] == {"id": "FeatureDuel", "horizon": 3}
    assert raw["oracle"] == {"name": "length", "scale": 2}
    assert raw["agents"] == {"passive": None, "real": {"belief": "ensemble"}}
    assert raw["policy"] == {"toy": {"seed": 4}}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seeds", "not key=value"),
        ("=3", "not key=value"),
        ("sed=3", "did you mean 'seeds'"),
        ("evn.horizon=3", "did you mean 'env'"),
        ("seeds.count=3", "single value"),
        ("agents.fats.gamma=1", "did you mean 'fast'"),
        ("env.horizon.more=1", "'env.horizon' is 5"),
        ("env..x=1", "empty part"),
        ("seeds=[1", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_one_sentence(override, named):
    with pytest.raises(UserError, match=named):
        apply_override(yaml.safe_load(yaml.safe_dump(BASE)), override)


def test_paths_start_from_the_file_or_from_the_current_directory(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    file = folder / "own.yaml"
    file.write_text(yaml.safe_dump({**BASE, "data": "table.parquet", "env": {"id": "MatrixDuel", "matrix": "p.npy"}}))
    monkeypatch.chdir(tmp_path)
    config = load(file)
    assert config.data == {"path": str(folder / "table.parquet")}
    assert config.env.settings["matrix"] == str(folder / "p.npy")
    config = load(file, ["data=table.parquet", "env.matrix=p.npy"])
    assert config.data == {"path": str(tmp_path / "table.parquet")}
    assert config.env.settings["matrix"] == str(tmp_path / "p.npy")


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(UserError, match="did you mean 'demo'"):
        load("dmo")
    file = tmp_path / "x.yaml"
    file.write_text("a: [1")
    with pytest.raises(UserError, match="not valid YAML"):
        load(file)
    file.write_text("- 1")
    with pytest.raises(UserError, match="mapping of settings"):
        load(file)


def test_choices_ends_every_sentence_with_what_is_possible():
    assert re.search(r"choose from a, b", configs.choices("zzz", ["b", "a"]))
    assert "none can be set" in configs.choices("zzz", [])


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("-2E5", -2e5), ("1.5e-7", 1.5e-7), ("1.0e-3", 1e-3), ("3", 3), ("e3", "e3")]
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert configs.parse_yaml(text) == value
