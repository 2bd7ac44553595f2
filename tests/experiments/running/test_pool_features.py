"""A user's own encoder: named in a config, called once per text whatever runs, known by texts and code."""

import json

import numpy as np
import pytest

from duelenv.experiments.config.identity import identify
from duelenv.experiments.config.loading import load
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.results.measurements import Results
from duelenv.experiments.running.assembly import make_environment, make_policy
from duelenv.experiments.running.backends.local import end_kept_workers
from duelenv.experiments.running.pool_features import features_folder
from duelenv.experiments.running.runner import run
from duelenv.ground.errors import UserError
from duelenv.worlds.pool_duel.inputs import encoded

CODE = """
import numpy as np
from pathlib import Path

def embed(prompts, responses):
    with Path("FOLDER", "calls.txt").open("a") as stream:
        stream.write(f"{len(responses)} {len(set(zip(prompts, responses)))}\\n")
    return np.array([[len(text), text.count("e"), 1.0] for text in responses])

def other(prompts, responses):
    return -embed(prompts, responses)

NUMBER = 3
"""
PROMPTS, RESPONSES = 8, 3


def write_code(folder, code):
    (folder / "encoder.py").write_text(code.replace("FOLDER", str(folder)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with an encoder and three pools: other prompts or other responses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    end_kept_workers()  # workers of an earlier test keep the variables of theirs
    write_code(tmp_path, CODE)
    for name, prompt, word in (("a", "why", "word "), ("b", "how", "word "), ("c", "why", "text ")):
        rows = [
            {"prompt": f"{prompt} {p}", "response": word * (1 + (p + k) % 4), "score": float(k)}
            for p in range(PROMPTS)
            for k in range(RESPONSES)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def config(folder, function="embed", data=("a",), **changes):
    return RunConfig.from_dict(
        {
            "name": "encoded",
            "env": {"id": "PoolDuel", "horizon": 4, "features": f"{folder / 'encoder.py'}:{function}"},
            "data": [str(folder / f"{name}.jsonl") for name in data],
            "agents": ["passive", "thompson", "real"],
            "seeds": 2,
            "jobs": 2,
            "backend": "loky",
            **changes,
        }
    )


def calls(folder):
    path = folder / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_all_cells_of_all_runs_share_one_call_for_each_pool(folder):
    run(config(folder, data="abc"), folder / "run")
    every = PROMPTS * RESPONSES
    assert calls(folder) == [f"{every} {every}"] * 3
    assert len(list(features_folder().iterdir())) == 3
    run(config(folder, data="abc", first_seed=5), folder / "again")
    assert len(calls(folder)) == 3
    assert Results(folder / "run").metrics


def test_the_world_shows_what_the_function_says(folder):
    own = config(folder, function="other").for_agent("passive-a")
    for _ in range(2):  # made, and read from the disk
        observation, _ = make_environment(own).reset(seed=0)
        expected = [[[-len(text), -text.count("e"), -1] for text in row] for row in observation["responses"]]
        np.testing.assert_array_equal(observation["features"], expected)
    assert len(calls(folder)) == 1


def test_changed_code_another_function_and_a_damaged_file_are_made_anew(folder):
    for number, change in enumerate((None, "code", "function", "damage", None)):
        if change == "code":
            write_code(folder, CODE.replace("1.0]", "2.0]"))
        if change == "damage":
            encoded.cache_clear()  # as in another process
            for path in features_folder().iterdir():
                path.write_bytes(path.read_bytes()[:-200])
        function = "embed" if number < 2 else "other"
        last = make_environment(config(folder, function).for_agent("passive-a")).reset(seed=0)[0]["features"][0, 0, 2]
        assert last == (1.0, 2.0, -2.0, -2.0, -2.0)[number]
        assert len(calls(folder)) == (1, 2, 3, 4, 4)[number]


def test_a_run_is_known_by_the_function_and_by_its_code(folder):
    before = identify(config(folder))["contents"]["env.features"]
    assert identify(config(folder, "other"))["contents"]["env.features"] != before
    run(config(folder), folder / "run")
    write_code(folder, CODE + "# changed\n")
    with pytest.raises(UserError, match=r"'env\.features' holds something else"):
        run(config(folder), folder / "run")


def test_a_path_starts_from_the_config_and_a_module_has_none(folder):
    file = folder / "own.yaml"
    raw = {"name": "x", "env": {"id": "PoolDuel", "features": "encoder.py:embed"}, "data": "a.jsonl"}
    variants = {"m": {"features": "package.module:embed"}, "n": {"features": "encoder.py:other"}}
    file.write_text(json.dumps({**raw, "agents": ["passive"], "variants": variants}))
    config = load(file)
    assert config.env.settings["features"] == f"{folder / 'encoder.py'}:embed"
    assert config.agent("passive-m").env["features"] == "package.module:embed"
    assert config.agent("passive-n").env["features"] == f"{folder / 'encoder.py'}:other"


@pytest.mark.parametrize(
    ("features", "named"),
    [
        ("{}/encoder.py:embbed", "has no function 'embbed', .*did you mean 'embed'"),
        ("{}/encoder.py:NUMBER", "has no function 'NUMBER'"),
        ("{}/gone.py:embed", "No Python file .*gone.py': correct 'env.features'"),
        ("no_such_package.part:embed", "No module 'no_such_package.part'"),
    ],
)
def test_what_is_not_there_is_one_sentence(folder, features, named):
    env = {"id": "PoolDuel", "horizon": 4, "features": features.format(folder)}
    with pytest.raises(UserError, match=named):
        make_environment(config(folder, env=env).for_agent("passive-a"))


def test_a_world_without_a_pool_has_nothing_to_encode(folder):
    env = {"id": "PoolDuel", "features": f"{folder / 'encoder.py'}:embed"}
    with pytest.raises(UserError, match="needs 'data'"):
        make_environment(RunConfig.from_dict({"name": "x", "env": env, "agents": ["passive"]}))
    with pytest.raises(UserError, match="Unknown setting 'features'"):
        make_environment(RunConfig.from_dict({"name": "x", "env": {**env, "id": "FeatureDuel"}, "agents": ["passive"]}))


@pytest.mark.slow
def test_a_function_may_stand_in_a_list_of_blocks(folder):
    file = folder / "own.yaml"
    raw = {"name": "x", "policy": "toy", "prompts": "toy", "oracle": "length", "agents": ["passive"]}
    env = {"id": "AlignmentDuel", "num_envs": 2, "num_candidates": 3}

    def seen(features):
        file.write_text(json.dumps({**raw, "env": {**env, "features": features}}))
        made = load(file)
        world = make_environment(made.for_agent("passive"), policy=make_policy(made))
        return made, world.reset(seed=0)[0]["features"]

    made, both = seen(["words", "encoder.py:embed"])
    assert made.env.settings["features"] == ["words", f"{folder / 'encoder.py'}:embed"]
    assert "env.features" in identify(made)["contents"]
    np.testing.assert_array_equal(both, np.concatenate([seen(name)[1] for name in ("words", "encoder.py:embed")], -1))
