"""The schema for editors: what ships and what the documents show satisfies it, and what a person mistypes does not."""

import copy
import json
import pathlib
import re

import jsonschema
import pytest
import yaml

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.commands.schema import file_schema
from duelenv.experiments.config.loading import load, read_config, read_study_file, suites
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.efficiency.reading import read_study
from duelenv.experiments.sweeps.plan import read_sweep

SUITES = sorted(name for name in suites() if read_study_file(name) is None)
STUDIES = sorted(set(suites()) - set(SUITES))
DOCS = pathlib.Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def schema():
    return file_schema()


def faults(schema, config):
    return list(jsonschema.Draft202012Validator(schema).iter_errors(config))


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_satisfies_it(schema, suite):
    assert not faults(schema, read_config(suite)[1])


@pytest.mark.parametrize("suite", SUITES)
def test_so_does_the_resolved_config_in_a_run_folder(schema, suite):
    resolved = load(suite, ["data=a.parquet"] if suite == "pool" else []).to_dict()
    resolved = {key: list(value) if isinstance(value, tuple) else value for key, value in resolved.items()}
    assert not faults(schema, resolved | {"modules": resolved["modules"]})


#: What is written into the demo, by dotted key, and refused by the schema and by the config's own checks alike.
MISTAKES = {
    "sedes": 3,
    "seeds": "many",
    "horizon": 3,
    "agents.passive.name": "pasive",
    "agents.nobody": None,
    "agents.frugal.loss": "dop",
    "agents.frugal.ask": "thomson",
    "oracle": "lenght",
    "oracle.taget": 3,
    "env.id": "AlignmentDul",
    "env.horzion": 3,
    "env.num_envs": 0,
    "env.stages": ["flop"],
    "budget": {"label": 3},
    "policy": {"toy": {}, "path": "x"},
    "split": "tset",
    "better": "up",
    "evaluate_every": "often",
    "trackers": ["mlflo"],
    "backend": "luky",
}


def changed(config, key, value):
    config = copy.deepcopy(dict(config))
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


def mistaken(key):
    return changed(read_config("demo")[1], key, MISTAKES[key])


@pytest.mark.parametrize("key", MISTAKES)
def test_what_is_mistyped_does_not(schema, key):
    assert faults(schema, mistaken(key))


@pytest.mark.parametrize("key", ["sedes", "seeds", "horizon", "budget", "policy", "split", "better", "evaluate_every"])
def test_the_config_s_own_checks_refuse_it_too(key):
    with pytest.raises(UserError):
        RunConfig.from_dict(mistaken(key))


def test_what_stands_beside_every_oracle_s_own_settings_is_no_mistake(schema):
    config = read_config("demo")[1]
    for key, value in {"noise": 0.1, "tie_band": 0.1, "price": 1.0}.items():
        oracle = {"name": "length", "target": 12, key: value}
        assert not faults(schema, {**config, "oracle": oracle}), key


def test_names_are_free_where_modules_register_them(schema):
    config = {**read_config("demo")[1], "oracle": "mine"}
    assert faults(schema, config)
    assert not faults(schema, {**config, "modules": "mine.py"})
    for key in ("policy", "prompts"):
        own = {**read_config("demo")[1], key: {"mine": {"size": 3}}}
        assert faults(schema, own)
        assert not faults(schema, {**own, "modules": "mine.py"})


#: What stands beside a name is checked as well.
@pytest.mark.parametrize(
    ("key", "value", "fine"),
    [
        ("trackers", "wandb", True),
        ("trackers", [{"name": "tensorboard", "strict": True}], True),
        ("trackers", [{"name": "tensorboard", "strickt": True}], False),
        ("backend", {"name": "dask", "scheduler": "tcp://10.0.0.1:8786"}, True),
        ("backend", {"name": "dask", "schedular": "tcp://10.0.0.1:8786"}, False),
        ("backend", {"name": "dask", "jobs": 3}, False),
    ],
)
def test_settings_of_trackers_and_backends_are_known(schema, key, value, fine):
    assert bool(faults(schema, {**read_config("demo")[1], key: value})) is not fine


def documented_sweep():
    texts = re.findall(r"```yaml\n(.*?)```", (DOCS / "runs.md").read_text(), re.DOTALL)
    (found,) = (one for one in map(yaml.safe_load, texts) if "sweep" in one)
    return found


def refused_sweep(config):
    base = {key: value for key, value in config.items() if key != "sweep"}
    with pytest.raises(UserError):
        read_sweep(base, config["sweep"])
    return True


def test_the_documented_sweep_satisfies_it(schema):
    config = documented_sweep()
    assert not faults(schema, config)
    for halving in ("labels", {"over": "seeds", "factor": 3, "least": 2}, None):
        assert not faults(schema, changed(config, "sweep.halving", halving))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sweep.lables", 20),
        ("sweep.labels", "many"),
        ("sweep.agent", None),
        ("sweep.search", "bayes"),
        ("sweep.confirm", -1),
        ("sweep.halving", "time"),
        ("sweep.halving", {"over": "seeds", "factor": 1}),
        ("sweep.halving", {"ovr": "seeds"}),
        ("sweep.settings", {}),
        ("sweep.settings", {"agents.thompson.prior_precision": 0.1}),
        ("sweep.settings", {"agents.thompson.prior_precision": []}),
        ("sweep.settings", {"agents.thompson.prior_precision": {"loguniform": [0.01, 10]}}),
        ("sweep.settings", {"agents.thompson.prior_precision": {"uniform": [0.01]}}),
    ],
)
def test_a_mistyped_sweep_does_not_and_is_refused_where_it_is_read(schema, key, value):
    config = changed(documented_sweep(), key, value)
    assert faults(schema, config)
    assert refused_sweep(config)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_satisfies_it(schema, study):
    assert not faults(schema, read_study_file(study))
    assert len(STUDIES) == 2


#: What is written into the study that ships, refused by the schema; the last column says what its reader does, which
#: leaves to the runs what belongs to them.
STUDY_MISTAKES = [
    ("sharre", 0.9, True),
    ("share", 1.5, True),
    ("growth", "often", True),
    ("regimes.label_limited.per_rund", 2, True),
    ("regimes.label_limited", {"per_round": 2, "labels": 240}, True),
    ("tuning.replay", 14, True),
    ("seeds.tune", {"count": 1}, True),
    ("seeds.tuning", {"count": 1, "first": 7}, True),
    ("development.because.metric", 3, True),
    ("base.seeds", 3, True),
    ("held_out.busy.first_seed", 3, True),
    ("held_out.busy.orcale", "length", False),
    ("held_out.busy.oracle", {"name": "rare_wrd", "word": "busy"}, False),
    ("base.env.id", "AlignmentDul", False),
    ("base.sedes", 3, False),
    ("cells.dissimilar.ask", "disimilar", False),
    ("cells.pairs.teach", ["duel", "best_wrost"], False),
    ("controls.perfect.ask", "xtreme", False),
]


@pytest.mark.parametrize(("key", "value", "read"), STUDY_MISTAKES)
def test_a_mistyped_study_does_not(schema, key, value, read):
    study = changed(read_study_file("efficiency"), key, value)
    assert faults(schema, study)
    if read:
        with pytest.raises(UserError):
            read_study(study)


def test_names_of_a_study_are_free_where_its_modules_register_them(schema):
    study = changed(read_study_file("efficiency"), "cells.dissimilar.ask", "mine")
    assert faults(schema, study)
    assert not faults(schema, changed(study, "base.modules", "mine.py"))


def test_what_an_override_leaves_out_is_no_mistake(schema):
    for key in ("regimes.step_limited", "cells.pairs", "pools", "controls"):
        study = changed(read_study_file("efficiency"), key, None)
        assert not faults(schema, study), key
        read_study(study)


def test_keys_are_described_as_beside_the_fields(schema):
    properties = schema["else"]["properties"]
    assert properties["evaluate_every"]["description"].startswith("Rounds between two evaluations;")
    assert all("description" in one for one in properties.values())
    assert set(properties) > {"env", "agents", "first_seed", "variants", "sweep"}


def test_the_command_prints_it(schema, capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
