"""The schema of configs for editors: what ships satisfies it, and what a person mistypes does not."""

import copy

import jsonschema
import pytest

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.loading import load, read_config, read_study_file, suites
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.config.schema import config_schema

SUITES = sorted(name for name in suites() if read_study_file(name) is None)


@pytest.fixture(scope="module")
def schema():
    return config_schema()


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
}


def mistaken(key):
    config = copy.deepcopy(dict(read_config("demo")[1]))
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = MISTAKES[key]
    return config


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


def test_keys_are_described_as_beside_the_fields(schema):
    assert schema["properties"]["evaluate_every"]["description"].startswith("Rounds between two evaluations;")
    assert all("description" in one for one in schema["properties"].values())
    assert set(schema["properties"]) > {"env", "agents", "first_seed", "variants"}


def test_the_command_prints_it(schema, capsys):
    import json

    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
