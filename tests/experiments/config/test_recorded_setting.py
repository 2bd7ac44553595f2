"""The record of a world's candidates in a config: where its path starts from, and that its contents decide the run."""

import json

import pytest
import yaml
from worlds import tiny_policy

from duelenv.experiments.config.identity import identify
from duelenv.experiments.config.loading import load
from duelenv.experiments.running.assembly import make_environment

PROMPTS = ["tell me about the garden", "tell me about the river"]


@pytest.mark.parametrize("form", ["{}", "{{path: {}, num_responses: 2}}"])
def test_a_table_beside_the_config_is_read_and_decides_what_the_run_is(tmp_path, form):
    log = tmp_path / "log.jsonl"

    def record(*texts):
        rows = [{"prompt": p, "response": text, "score": n} for p in PROMPTS for n, text in enumerate(texts)]
        log.write_text("\n".join(map(json.dumps, rows)))

    record("the river", "it is old")
    raw = {
        "name": "hybrid",
        "env": {
            "id": "AlignmentDuel",
            "num_envs": 2,
            "horizon": 2,
            "sources": {"policy": 2, "recorded": 2},
            "recorded": yaml.safe_load(form.format("log.jsonl")),
        },
        "policy": "toy",
        "prompts": {"list": {"train": PROMPTS, "test": ["tell me about the village"]}},
        "oracle": "length",
        "agents": {"passive": {}, "hybrid": {"name": "composed", "ask": "against_recorded"}},
        "seeds": 1,
    }
    path = tmp_path / "hybrid.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = load(path)
    env = make_environment(config, policy=tiny_policy())
    observation, _ = env.reset(seed=0)
    assert {*observation["responses"][:, 2:].ravel()} == {"the river", "it is old"}
    before = identify(config)
    record("the river", "it was old")
    after = identify(load(path))
    assert before["settings"] == after["settings"] and before["contents"] != after["contents"]
