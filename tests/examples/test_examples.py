"""The examples run as they stand, and show what they claim."""

import dataclasses
import re
import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification

from duelenv.testing import check_belief

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_agent_learns_more_from_the_same_labels_than_random_pairs(capsys):
    runpy.run_path(str(EXAMPLES / "my_agent.py"), run_name="__main__")
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", capsys.readouterr().out)
    (_, passive, _), (_, mine, error) = figures
    assert float(mine) < float(passive) - 2 * float(error)


def test_the_last_layer_does_not_hold_the_words_that_were_said(capsys):
    """And hashed words do: what the choice of features in the demo and the study rests on."""
    names = runpy.run_path(str(EXAMPLES / "what_features_hold.py"))
    names["main"](["green", "busy"])
    printed = capsys.readouterr().out
    for word in ("green", "busy"):
        said, start, words = re.search(rf"{word} +([\d.]+) +([-\d.]+) +([\d.]+)", printed).groups()
        assert 0.01 < float(said) < 0.03
        assert float(start) < 0.3
        assert float(words) > 0.9


def test_the_example_oracle_shortens_answers(capsys):
    runpy.run_path(str(EXAMPLES / "my_oracle.py"), run_name="__main__")
    printed = capsys.readouterr().out
    win_rate = float(re.search(r"start policy: ([\d.]+)", printed).group(1))
    assert win_rate > 0.6
    assert printed.count("before:") == 3


def test_the_offline_example_finds_the_truth_by_a_log(capsys):
    runpy.run_path(str(EXAMPLES / "offline_evaluation.py"), run_name="__main__")
    printed = capsys.readouterr().out
    low, high = map(float, re.search(r"DR +[\d.]+ \[([\d.]+), ([\d.]+)\]", printed).groups())
    truth = float(re.search(r"truth ([\d.]+)", printed).group(1))
    assert low < truth < high  # by these seeds
    assert high - low < 0.12
    assert truth > 0.65


def test_the_example_belief_passes_the_check_and_the_linear_one_knows_more(capsys):
    names = runpy.run_path(str(EXAMPLES / "my_belief.py"), run_name="__main__")
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", capsys.readouterr().out)
    regrets = {name: float(regret) for name, regret, _ in figures}
    assert set(regrets) == {"linear_logistic", "measured"}
    assert max(regrets.values()) < 0.6
    check_belief(names["Measured"])


def test_the_example_teacher_moves_the_policy_by_its_belief_alone(capsys):
    runpy.run_path(str(EXAMPLES / "my_teacher.py"), run_name="__main__")
    win_rate, kl = re.search(r"start policy: ([\d.]+), KL ([\d.]+)", capsys.readouterr().out).groups()
    assert float(win_rate) > 0.55  # .59 to .94 over seeds; with the signal turned round below a half
    assert float(kl) > 0.1


def reward_model(folder, tokenizer):
    """A classifier of one label with random weights, as transformers writes it."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,  # so that it has opinions
    )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("how", [[], ["--chat"], ["--reward-model", "judge"]])
def test_a_real_model_is_loaded_aligned_watched_saved_and_loaded_by_transformers(how, tmp_path, monkeypatch, capsys):
    from duelenv.policies import toy_policy, toy_prompts

    policy = toy_policy()
    if "--chat" in how:
        policy.tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    policy.export(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(toy_prompts(30)))
    words = [str(tmp_path / name) for name in ("model", "prompts.txt", "aligned")]
    words += ["--rounds", "20", "--tokens", "16", "--learning-rate", "1e-3", *how]
    reward_model(tmp_path / "judge", policy.tokenizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["real_model.py", *words])
    runpy.run_path(str(EXAMPLES / "real_model.py"), run_name="__main__")
    printed = capsys.readouterr().out
    figures = [(int(labels), float(rate)) for labels, rate in re.findall(r"(\d+) labels, win rate ([\d.]+)", printed)]
    assert [labels for labels, _ in figures] == [160, 320]
    assert figures[-1][1] > (0.5 if "--reward-model" in how else 0.6)
    assert printed.count("before:") == 3
    answer = re.search(r"aligned says to '[^']+': (.+)", printed).group(1)
    assert 0 < len(answer.split()) < 17
    before, after = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("model", "aligned"))
    moved = [(a != b).any() for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert any(moved)
    assert "| agent | thompson |" in (tmp_path / "aligned" / "README.md").read_text()


def test_what_the_real_model_refuses_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("tell me\n")
    monkeypatch.setattr("sys.argv", ["real_model.py", str(tmp_path), str(tmp_path / "prompts.txt"), "out"])
    with pytest.raises(SystemExit, match=r"real_model\.py: no causal language model with a tokenizer could be loaded"):
        runpy.run_path(str(EXAMPLES / "real_model.py"), run_name="__main__")


@pytest.mark.slow
def test_an_optimist_finds_the_rare_response_of_a_real_model_and_pays_for_it_where_it_is_bad(tmp_path):
    from duelenv.experiments.results.measurements import Results
    from duelenv.experiments.running.runner import run

    names = runpy.run_path(str(EXAMPLES / "rare_response.py"))
    names["save_model"](tmp_path / "model")
    kept = ("pi_ref", "pi_ref_c1e2")
    regret = {}
    for name, gap in {"good": 1.0, "bad": -1.0}.items():
        config = names["config"](tmp_path / "model", gap, ["seeds=1", "env.horizon=100", "jobs=1"])
        config = dataclasses.replace(config, agents=tuple(agent for agent in config.agents if agent.label in kept))
        run(config, tmp_path / name, progress=False)
        results = Results(tmp_path / name)
        regret[name] = {label: results.final(label, "regret_kl")[0] for label in kept}
    assert regret["good"]["pi_ref"] > 2 * regret["good"]["pi_ref_c1e2"]
    assert regret["bad"]["pi_ref"] < 0.1 < regret["bad"]["pi_ref_c1e2"]
