"""The examples run as they stand, and show what they claim."""

import itertools
import re
import runpy
from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification

import duelenv
from duelenv.testing import check_belief, check_world

pytestmark = pytest.mark.usefixtures("own_registries")
EXAMPLES = Path(__file__).parents[2] / "examples"


def play(script, words, monkeypatch):
    """Run an example as a program; returns what it defined."""
    monkeypatch.setattr("sys.argv", [script, *words])
    return runpy.run_path(str(EXAMPLES / script), run_name="__main__")


# What each prints ----------------------------------------------------------------------------------------------------


def learns_more_from_the_same_labels_than_random_pairs(printed, _):
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", printed)
    (_, passive, _), (_, mine, error) = figures
    assert float(mine) < float(passive) - 2 * float(error)


def passes_the_check_and_is_nearly_as_good_as_the_usual_belief(printed, names):
    figures = re.findall(r"(\w+) +simple regret ([\d.]+) \+- ([\d.]+)", printed)
    regrets = {name: float(regret) for name, regret, _ in figures}
    assert set(regrets) == {"linear_logistic", "measured"}
    assert max(regrets.values()) < 0.6
    check_belief(names["Measured"])


def shortens_answers(printed, _):
    win_rate = float(re.search(r"start policy: ([\d.]+)", printed).group(1))
    assert win_rate > 0.6
    assert printed.count("before:") == 3


def is_a_world_in_which_bandits_learn(printed, names):
    regret = {name: float(value) for name, value in re.findall(r"(\w+) +regret +([\d.]+)", printed)}
    assert regret["thompson"] < regret["passive"] / 2 > regret["maxinp"]
    world = names["IdealPoints"]
    check_world(lambda: world(num_envs=4, batch=2, horizon=5))
    check_env(gymnasium.make(world.world).unwrapped, skip_render_check=True)
    run = duelenv.experiments.run(
        modules=[str(EXAMPLES / "my_world.py")],
        env={"id": world.world, "num_candidates": 3, "horizon": 4},
        agents=["passive", "thompson"],
        seeds=2,
        jobs=1,
        progress=False,
    )
    assert run.regret.num_rows == 2


def moves_the_policy_by_its_belief_alone(printed, _):
    win_rate, kl = re.search(r"start policy: ([\d.]+), KL ([\d.]+)", printed).groups()
    assert float(win_rate) > 0.55  # after 60 rounds .59 to .94 over seeds; with the signal turned round below a half
    assert float(kl) > 0.1


def finds_the_truth_by_a_log(printed, _):
    low, high = map(float, re.search(r"DR +[\d.]+ \[([\d.]+), ([\d.]+)\]", printed).groups())
    truth = float(re.search(r"truth ([\d.]+)", printed).group(1))
    assert low < truth < high  # by these seeds
    assert high - low < 0.12
    assert truth > 0.65


def says_that_the_last_layer_does_not_hold_the_words_that_were_said(printed, _):
    """And hashed words do: what the choice of features in the demo and the study rests on."""
    for word in ("green", "busy"):
        said, start, words = re.search(rf"{word} +([\d.]+) +([-\d.]+) +([\d.]+)", printed).groups()
        assert 0.01 < float(said) < 0.03
        assert float(start) < 0.3
        assert float(words) > 0.9


def learns_from_a_judge_and_measures_its_bias(printed, names):
    regret, at_random = map(
        float, re.search(r"64 labels, simple regret ([\d.]+) \(at random ([\d.]+)\)", printed).groups()
    )
    assert regret < at_random / 3
    shift = float(re.search(r"shift ([\d.]+)", printed).group(1))
    stub, pairs = names["stub"], itertools.combinations(names["ANSWERS"], 2)
    worth = [(stub("", a, b) + stub("", b, a) - 1) / 2 for a, b in pairs]  # half of what standing first adds
    assert 0 < min(worth) < shift < max(worth)


def learns_from_answers_that_come_later(printed, _):
    asked, late = map(int, re.search(r"(\d+) questions, (\d+) of them answered in a later round", printed).groups())
    assert asked == 32 and 0 <= late < 32  # of the last round, all come at once
    regret, at_random = map(float, re.search(r"simple regret ([\d.]+) \(at random ([\d.]+)\)", printed).groups())
    assert regret < at_random / 2


def leaves_tables_and_a_figure(printed, _):
    assert "average regret, cumulative after 300 rounds, 2 replicates" in printed
    assert Path("regret_study.png").read_bytes().startswith(b"\x89PNG")


def trl_moves_the_policy_where_the_labels_point(printed, _):
    here, there = map(float, re.search(r"trained here ([\d.]+), by TRL ([\d.]+)", printed).groups())
    assert here > 0.7  # .82 and .88; with chosen and rejected in each other's place TRL's is .34
    assert there > 0.7
    assert "640 rows written" in printed
    trained, start = (
        AutoModelForCausalLM.from_pretrained(Path("trl_round_trip") / name) for name in ("trained", "start")
    )
    assert any((a != b).any() for a, b in zip(trained.parameters(), start.parameters(), strict=True))


def learns_slower_than_the_bandit(printed, _):
    labels, network, bandit = re.search(r"([\d,]+) labels: PPO ([\d.]+), thompson ([\d.]+)", printed).groups()
    assert labels == "384"
    assert float(bandit) < float(network) < 1.0


@pytest.mark.parametrize(
    ("script", "words", "holds"),
    [
        ("judge.py", [], learns_from_a_judge_and_measures_its_bias),
        ("my_agent.py", [], learns_more_from_the_same_labels_than_random_pairs),
        ("my_belief.py", [], passes_the_check_and_is_nearly_as_good_as_the_usual_belief),
        ("my_oracle.py", [], shortens_answers),
        ("my_teacher.py", ["20"], moves_the_policy_by_its_belief_alone),
        ("my_world.py", [], is_a_world_in_which_bandits_learn),
        ("offline_evaluation.py", [], finds_the_truth_by_a_log),
        ("people.py", [], learns_from_answers_that_come_later),
        ("regret_study.py", ["2"], leaves_tables_and_a_figure),
        ("sb3_policy.py", ["--labels", "384"], learns_slower_than_the_bandit),
        pytest.param(
            "trl_round_trip.py", [], trl_moves_the_policy_where_the_labels_point, marks=pytest.mark.exhaustive
        ),
        ("what_features_hold.py", ["green", "busy"], says_that_the_last_layer_does_not_hold_the_words_that_were_said),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_example_shows_what_it_claims(script, words, holds, tmp_path, monkeypatch, capsys):
    if script == "trl_round_trip.py":
        pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    names = play(script, words, monkeypatch)
    holds(capsys.readouterr().out, names)


def test_no_example_is_left_out():
    here = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {"distributed.py"}  # tests/agents/test_distributed.py, in two processes
    assert {path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in here} <= elsewhere


# A model of one's own ------------------------------------------------------------------------------------------------


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
    play("real_model.py", words, monkeypatch)
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
    with pytest.raises(SystemExit, match=r"real_model\.py: no causal language model with a tokenizer could be loaded"):
        play("real_model.py", [str(tmp_path), str(tmp_path / "prompts.txt"), "out"], monkeypatch)


@pytest.mark.slow
def test_an_optimist_finds_the_rare_response_of_a_real_model_and_pays_for_it_where_it_is_bad(tmp_path):
    from duelenv.experiments import run

    names = runpy.run_path(str(EXAMPLES / "rare_response.py"))
    names["save_model"](tmp_path / "model")
    kept = ("pi_ref", "pi_ref_c1e2")
    regret = {}
    for name, gap in {"good": 1.0, "bad": -1.0}.items():
        settings = names["settings"](tmp_path / "model", gap)
        settings["agents"] = {agent: settings["agents"][agent] for agent in kept}
        played = run(settings, progress=False, seeds=1, jobs=1, **{"env.horizon": 100})
        regret[name] = {label: played.results.final(label, "regret_kl")[0] for label in kept}
    assert regret["good"]["pi_ref"] > 2 * regret["good"]["pi_ref_c1e2"]
    assert regret["bad"]["pi_ref"] < 0.1 < regret["bad"]["pi_ref_c1e2"]
