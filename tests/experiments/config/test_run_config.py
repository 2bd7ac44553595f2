"""Configs: what is accepted, and one sentence for what is not."""

import pytest

from duelenv import UserError
from duelenv.experiments.config.run_config import RunConfig

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
        ({"seeds": 0}, "'seeds' is 0.*seeds=8"),
        ({"seeds": True}, "'seeds' is True"),
        ({"seeds": [1, 1]}, "every seed once"),
        ({"seeds": []}, "empty list"),
        ({"seeds": [1, 3]}, "list with gaps"),
        ({"seeds": [1], "first_seed": 2}, "'first_seed'"),
        ({"agents": {}}, "'agents' is empty"),
        ({"agents": {"passive": 3}}, "'agents.passive' is 3"),
        ({"agents": {"a/b": {}}}, "'a/b'"),
        ({"agents": None}, "no 'agents'"),
        (
            {"agents": "passive, real"},
            r"'agents' is 'passive, real', expected a list of names; write \[passive, real\]",
        ),
        ({"agents": " "}, r"write \[passive\]"),
        ({"agents": ["passive", "real", "real"]}, "names 'real' 2 times"),
        ({"agents": ["nosuch"]}, "agent 'nosuch' is unknown"),
        ({"baseline": "pasive"}, "set 'baseline' to one of them: did you mean 'passive'"),
        ({"agents": ["own"], "modules": ["own.py"]}, "'baseline' is 'passive'"),
        ({"env": {"horizon": 3}}, "no 'id'"),
        ({"env": {"id": "FeatureDuel", "batch": 0}}, "'env.batch' is 0"),
        ({"env": {"id": "FeatureDuel", "num_envs": 4}}, "seeds x batch"),
        ({"policy": {"toys": {}}}, "policy 'toys' is unknown: did you mean 'toy'"),
        ({"policy": "toyy"}, r"policy 'toyy' is unknown: did you mean 'toy'\? .* once 'modules' names the file"),
        ({"policy": {"path": "toyy"}}, "did you mean 'toy'"),
        ({"policy": {"pathh": "model"}}, "policy 'pathh' is unknown: did you mean 'path'"),
        ({"prompts": {"pathh": "a.csv"}, "modules": ["own.py"]}, "source of prompts 'pathh' is unknown: did you mean"),
        ({"prompts": {"toy": {}, "toyy": {"train": 4}}}, "source of prompts 'toyy' is unknown: did you mean 'toy'"),
        ({"prompts": "toyy"}, "source of prompts 'toyy' is unknown: did you mean 'toy'"),
        ({"prompts": {"path": "listt"}}, "did you mean 'list'"),
        ({"policy": {"toy": {}, "path": "x"}}, "exactly one of path, toy"),
        ({"policy": {"toy": 3}}, "'policy.toy' is 3"),
        ({"policy": {"path": ""}}, "'policy.path' is ''"),
        ({"policy": {"path": {"path": "model"}, "device": "cpu"}}, "'device' in 'policy'"),
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
        ({"name": ".."}, "'name'"),
        ({"name": "."}, "'name'"),
        ({"name": ".hidden"}, "'name'"),
        ({"name": "-rf"}, "'name'"),
        ({"better": "most"}, "better='most' is unknown"),
        ({"budget": {"label": 3}}, "did you mean 'labels'"),
        ({"modules": 3}, "'modules' is 3"),
        ({7: 3}, "7"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(changes, named):
    with pytest.raises(UserError, match=named) as caught:
        RunConfig.from_dict({**BASE, **changes})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "../up", "a/b", "/etc", "nul\x00", "a\\b", "é" * 101, "-rf", "\x1b[2J"])
def test_names_that_would_not_do_as_a_folder_are_refused(name):
    with pytest.raises(UserError, match="'name' is ") as caught:
        made(name=name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("label", ["../up", "a/b", "nul\x00", "é" * 101])
def test_labels_that_would_not_do_as_a_folder_are_refused(label):
    with pytest.raises(UserError, match="The agent label "):
        made(agents=["passive", label])
    if "/" not in label and "\x00" not in label:
        with pytest.raises(UserError, match="too long"):
            made(agents=["passive"], variants={"x" * 195: {"dim": 3}})


@pytest.mark.parametrize(
    "changes",
    [
        {"oracle": {"name": "length", "token": "sk-very-secret"}},
        {"oracle": {"name": "length", "headers": {"Authorization": "Bearer sk-very-secret"}}},
        {"evaluation_oracle": {"name": "length", "judges": [{"api-key": "sk-very-secret"}]}},
        {"agents": {"passive": {"OPENAI_API_KEY": "sk-very-secret"}}},
        {"oracle": {"name": "length", "url": "https://me:sk-very-secret@judge.example/v1"}},
        {"oracle": {"name": "length", "url": "https://judge.example/v1?api_key=sk-very-secret"}},
    ],
)
def test_a_secret_in_a_config_is_refused_and_not_repeated(changes):
    with pytest.raises(UserError, match="secret") as caught:
        made(**changes)
    assert "sk-very-secret" not in str(caught.value)


def test_where_a_secret_stands_may_be_in_a_config():
    settings = {"token": {"env": "JUDGE_TOKEN"}, "password": None, "tokens": 5, "url": "http://localhost:8000/v1?a=b"}
    assert made(oracle={"name": "length", **settings}).oracle.settings == settings


def test_only_a_bare_word_that_is_nearly_a_name_and_no_folder_is_a_slip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert made(policy="gpt2").policy.settings["path"] == "gpt2"
    assert made(policy="somebody/toyy").policy.settings["path"] == "somebody/toyy"
    (tmp_path / "toyy").mkdir()
    assert made(policy="toyy").policy.settings["path"] == str(tmp_path / "toyy")
    assert made(prompts="toyy").prompts.settings["path"] == str(tmp_path / "toyy")
    assert made(prompts="questions").prompts.settings["path"] == "questions"
    assert made(prompts="./listt").prompts.settings["path"] == str(tmp_path / "listt")
