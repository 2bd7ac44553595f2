"""A dry run: it asks and writes nothing, and what it says comes true."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import make_vector, tiny_policy

import duelenv.agents
from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.results import labels
from duelenv.experiments.running.assembly import make_agent, make_environment
from duelenv.experiments.running.forecast import dry_run
from duelenv.experiments.running.runner import run
from duelenv.experiments.sizing.memory import bytes_text, footprint_of
from duelenv.policies.activations import Activations, PassSize

PARTS = str(Path(__file__).with_name("run_parts.py"))


def paid(tmp_path, model_path, **changes):
    """A run whose oracle has no utility and writes down each question; two agents, two seeds, four rounds of four."""
    raw = {
        "name": "paid",
        "env": {"id": "AlignmentDuel", "num_envs": 4, "num_candidates": 3, "horizon": 4},
        "policy": {"path": str(model_path), "max_new_tokens": 6},
        "prompts": {"toy": {"train": 5, "test": 2}},
        "oracle": {"name": "counting", "folder": str(tmp_path)},
        "agents": {"passive": {"learning_rate": 1e-2}, "thompson": {"learning_rate": 1e-2}},
        "seeds": 2,
        "evaluate_every": 3,
        "jobs": 1,
        "modules": [PARTS],
    }
    return RunConfig.from_dict({**raw, **changes})


def said(text):
    """Lines of a forecast by their first word."""
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def test_it_asks_nothing_writes_nothing_and_its_labels_come_true(tmp_path, model_path):
    config = paid(tmp_path, model_path, budget={"price": 0.25})
    text = dry_run(config, tmp_path / "run")
    assert not (tmp_path / "asked.txt").exists() and not (tmp_path / "run").exists()
    lines = said(text)
    assert lines["passive"].split()[1:4] == ["4", "16", "32"]
    assert lines["labels"].startswith("labels     64 at most, of the oracle 'counting'")
    # After rounds 3 and 4, two prompts with three responses each, in each of four cells.
    assert "48 comparisons at most" in lines["evaluation"]
    assert f"{112 * 0.25:.2f} at most, 112 answers at 0.25 each" in lines["cost"]
    assert "without the time that who may be paid takes" in lines["time"]
    run(config, tmp_path / "run")
    found = labels.counts_by_cell(RunFolder(tmp_path / "run"), config).values()
    assert sum(counts.asked for counts in found) == 64
    assert 0 < sum(counts.evaluations for counts in found) <= 48


def test_models_chosen_on_training_prompts_are_judged_twice(tmp_path, model_path):
    text = dry_run(paid(tmp_path, model_path, save_models="best"), tmp_path / "run")
    assert f"{4 * 2 * 3 * (2 + 5)} comparisons" in said(text)["evaluation"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, "cost       not known: give 'budget.price'"),
        ({"labels": 10, "price": 2}, f"cost       {2 * (40 + 24):,.2f} at most, 64 answers at 2 each"),
        ({"run": 50, "price": 1.5}, "cost       75.00 at most, 50 answers at 1.5 each"),
    ],
)
def test_the_cost_is_that_of_what_may_be_asked(tmp_path, model_path, budget, expected):
    """Ten labels are spent after three rounds, behind which there is one evaluation."""
    assert expected in dry_run(paid(tmp_path, model_path, budget=budget), tmp_path / "run")


def test_what_is_computed_costs_nothing_and_finished_cells_are_left_out(tmp_path, model_path):
    config = paid(tmp_path, model_path, oracle="length")
    lines = said(dry_run(config, tmp_path / "run"))
    assert "which computes them for nothing" in lines["labels"]
    assert not {"cost", "evaluation"} & set(lines)
    run(paid(tmp_path, model_path, oracle="length", seeds=1), tmp_path / "run")
    lines = said(dry_run(config, tmp_path / "run"))
    assert "2 cells to play (2 of 4 are finished)" in lines["paid:"]
    assert "32 at most" in lines["labels"]
    run(config, tmp_path / "run")
    assert "all of its 4 cells are finished" in dry_run(config, tmp_path / "run")


def test_worlds_of_features_are_forecast_too(tmp_path):
    config = RunConfig.from_dict(
        {"name": "f", "env": {"id": "FeatureDuel", "horizon": 30, "batch": 2}, "agents": ["passive"], "seeds": 3}
    )
    lines = said(dry_run(config, tmp_path / "run"))
    assert lines["passive"].split()[1:4] == ["30", "60", "180"]
    assert "180 at most, of the world itself" in lines["labels"]
    assert "memory" not in lines and "1 cell at a time" in lines["time"]


def test_where_few_rows_ask_only_these_are_counted_and_they_come_true(tmp_path, model_path):
    """`frugal` asks in an eighth of the rows by its own default; `chance` asks by a coin, in all of them at most."""
    config = paid(
        tmp_path,
        model_path,
        oracle="length",
        env={"id": "AlignmentDuel", "num_envs": 16, "num_candidates": 3, "horizon": 4, "selective": True},
        agents={
            "given": {"name": "passive", "asked": 3},
            "own": {"name": "frugal"},
            "chance": {"name": "passive", "ask_share": 0.5},
        },
        baseline="given",
    )
    lines = said(dry_run(config, tmp_path / "run"))
    assert lines["given"].split()[1:4] == ["4", "12", "24"]
    assert lines["own"].split()[1:4] == ["4", "8", "16"]
    assert lines["chance"].split()[1:4] == ["4", "64", "128"]
    assert lines["labels"].startswith("labels     168 at most")
    run(config, tmp_path / "run")
    counts = labels.counts_by_cell(RunFolder(tmp_path / "run"), config)
    asked = {cell.partition("-")[0]: count.asked for cell, count in counts.items()}
    assert asked["given"] == 12 and asked["own"] == 8 and 16 < asked["chance"] < 48


def test_a_source_that_answers_later_is_not_asked_either(tmp_path, model_path):
    with pytest.warns(UserWarning, match="leaves out win_rate"):
        text = dry_run(paid(tmp_path, model_path, oracle="slow_desk"), tmp_path / "run")
    assert "64 at most, of the oracle 'slow_desk'" in text


def test_what_a_run_refuses_is_refused(tmp_path, model_path, capsys):
    with pytest.raises(UserError, match="did you mean 'learning_rate'"):
        dry_run(paid(tmp_path, model_path, agents={"passive": {"learning_rat": 1.0}}), tmp_path / "run")
    with pytest.raises(UserError, match=r"'budget\.price' is 0"):
        paid(tmp_path, model_path, budget={"price": 0})
    assert main(["run", "features", "--dry", "env.dim=0", "--output", str(tmp_path / "run")]) == 2
    assert main(["run", "features", "--dry", "seeds=2", "--output", str(tmp_path / "run")]) == 0
    assert "nothing was asked, and nothing is written" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moving", [False, True])
def test_memory_is_that_of_the_tensors(tmp_path, model_path, moving):
    agent = {"learning_rate": 1e-2, **({"reference": "moving", "reference_every": 1} if moving else {})}
    config = paid(tmp_path, model_path, oracle="length", agents={"passive": agent})
    from duelenv.experiments.running.assembly import make_policy

    policy = make_policy(config)
    env = make_environment(config, policy=policy)
    player = make_agent(config, "passive", env, 0)
    prompts = ["tell me about the garden", "a house"]
    found = footprint_of(env.unwrapped.view(), player, prompts)
    observation, _ = env.reset(seed=0)
    player.update(observation, player.act(observation), [1.0] * 4)
    size = {id(one): one.numel() * one.element_size() for one in policy.model.parameters()}
    assert found.parameters == found.gradients == sum(size.values())
    moments = [
        value
        for state in player.learner.trainer._optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value) and value.numel() > 1
    ]
    assert found.optimiser == sum(one.numel() * one.element_size() for one in moments)
    frozen = 0
    for role in {"start", "reference"} if policy._roles.moved else {"start"}:
        with policy._roles.playing(role) as model:
            frozen += sum(one.numel() * one.element_size() for one in model.parameters())
    assert policy._roles.moved == moving and found.copies == frozen
    # Each prompt once, as long as the longest, and full responses behind it; or a prompt for each of them.
    assert policy.shortcuts.sharing and found.cache == cache_of(policy, 4 * 5 + 4 * 3 * 6)
    policy.shortcuts = replace(policy.shortcuts, sharing=False)
    assert footprint_of(env.unwrapped.view(), player, prompts).cache == cache_of(policy, 4 * 3 * (5 + 6))


def cache_of(policy, tokens):
    """Bytes of keys and values that the model itself keeps of so many tokens."""
    layers = policy.model(torch.zeros((tokens, 1), dtype=torch.long), use_cache=True).past_key_values.layers
    return sum(one.numel() * one.element_size() for layer in layers for one in (layer.keys, layer.values))


def test_activations_are_those_of_the_largest_piece(tmp_path, model_path):
    def of(agent="passive", **settings):
        env = make_vector("duelenv/AlignmentDuel-v0", 4, policy=tiny_policy(), sources={"policy": 1, "reference": 3})
        player = duelenv.agents.make(agent, env, seed=0, **settings)
        return footprint_of(env.unwrapped.view(), player, ["a house"])

    policy = tiny_policy()
    bytes_of = Activations.of(policy.model, policy.shortcuts).bytes
    found = of()
    assert found.activations == bytes_of(PassSize(4, 2, 2, 6))
    assert found.total == found.training > found.sampling
    assert of(micro_batch=1).activations == bytes_of(PassSize(1, 2, 2, 6))
    assert of(max_tokens=30).activations == bytes_of(PassSize(2, 2, 2, 6))
    assert of(replay=3).activations == bytes_of(PassSize(7, 2, 2, 6))
    assert of("selm").activations == bytes_of(PassSize(4, 2, 2, 6))  # its one draw is the duel's own
    assert of("selm", bonus_draws=None).activations == bytes_of(PassSize(4, 2, 2 + 2, 6))


def test_an_adapter_takes_no_copies_and_little_else(tmp_path, model_path):
    peft = pytest.importorskip("peft")
    from duelenv.policies import CausalLMPolicy

    config = paid(tmp_path, model_path, oracle="length")
    whole = CausalLMPolicy.from_pretrained(model_path, max_new_tokens=6)
    adapted = peft.get_peft_model(whole.clone().model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    policy = CausalLMPolicy(adapted, whole.tokenizer, max_new_tokens=6)
    env = make_environment(config, policy=policy)
    found = footprint_of(env.unwrapped.view(), make_agent(config, "passive", env, 0), ["a house"])
    # 2 layers, and in each matrices of 2 x 32 and 32 x 2 in float32.
    assert (found.copies, found.gradients, found.model) == (0, 2 * 2 * 64 * 4, 2 * 2 * 64 * 4)
    assert found.total > found.parameters > 10 * found.gradients


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3e+03 TB")]
)
def test_bytes_are_read_easily(count, text):
    assert bytes_text(count) == text


def test_the_time_is_that_of_all_rounds_and_evaluations(tmp_path, model_path, monkeypatch):
    from duelenv.experiments.running import forecast as dry

    monkeypatch.setattr(dry, "_probe", lambda env, agent, config: (10.0, 100.0))
    lines = said(dry_run(paid(tmp_path, model_path, oracle="length", jobs=2), tmp_path / "run"))
    # Four rounds, and evaluations at 0, 3 and 4, in four cells.
    assert re.search(r" 10 s +1\.67 min +5\.67 min$", lines["passive"])
    assert "about 11.3 min with 2 cells at a time" in lines["time"]
