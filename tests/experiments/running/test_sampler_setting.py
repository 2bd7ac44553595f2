"""A run whose candidates a completions server draws, as a config says it."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from completions_server import MODEL, serving

from duelenv import UserError
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.runner import run
from duelenv.policies.causal_lm import CausalLMPolicy
from duelenv.policies.toy import tiny_model


def config(folder, sampler):
    raw = f"""
        name: served
        env: {{id: AlignmentDuel, num_envs: 4, num_candidates: 4, horizon: 4}}
        policy: {{path: {folder}, max_new_tokens: 6, sampler: {sampler}}}
        prompts: {{toy: {{train: 6, test: 3}}}}
        oracle: {{name: length, target: 3}}
        agents: {{passive: {{learning_rate: 0.01}}}}
        evaluate_every: 2
        jobs: 1
    """
    return RunConfig.from_dict(yaml.safe_load(raw))


def saved(folder):
    model, tokenizer = tiny_model("gpt_neox")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_asks_its_server_and_its_results_say_how_far_that_lags(tmp_path):
    policy = CausalLMPolicy(*tiny_model("gpt_neox"), max_new_tokens=6)
    with serving(policy) as stub:
        sampler = f"{{name: completions, url: {stub.url!r}, model: {MODEL}}}"
        run(config(saved(tmp_path / "model"), sampler), tmp_path / "run")
        assert len(stub.asked) == 4 * 4, "one request for each prompt of a round, and none for an evaluation"
    rows = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert [row["sampler_lag"] for row in rows[1:]] == [0.5, 2.5]  # nobody publishes: each round lags one more
    for row in rows[1:]:
        assert np.isfinite([row["importance_mean"], row["importance_max"]]).all()
        assert 0 < row["effective_sample_share"] <= 1


def test_generate_by_its_name_alone(tmp_path):
    run(config(saved(tmp_path / "model"), "generate"), tmp_path / "run")
    rows = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    assert [row["sampler_lag"] for row in rows[1:]] == [0.0, 0.0]
    assert [row["importance_max"] for row in rows[1:]] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_a_wrong_setting_is_refused_before_a_model_is_loaded(tmp_path):
    wrong = config(tmp_path / "nothing", "{name: completions, model: m}")
    with pytest.raises(UserError, match="sampler 'completions' needs the setting 'url'"):
        run(wrong, tmp_path / "run")
