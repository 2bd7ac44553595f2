"""The models that a run leaves: which one, that plain transformers loads it, and that it survives what runs survive."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from interrupts import stop_after
from transformers import AutoModelForCausalLM, AutoTokenizer

from duelenv import UserError
from duelenv.experiments.commands.cli import main
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.running import play
from duelenv.experiments.running.runner import Interrupted, run

CELL = "passive-seed0"


def config(model_path, **changes):
    raw = {
        "name": "models",
        "env": {"id": "AlignmentDuel", "num_envs": 4, "num_candidates": 4, "horizon": 4},
        "policy": {"path": str(model_path), "max_new_tokens": 6},
        "prompts": {"toy": {"train": 6, "test": 3}},
        "oracle": {"name": "length", "target": 3},
        "agents": {"passive": {"learning_rate": 1e-2, "beta": 0.2}},
        "evaluate_every": 1,
        "jobs": 1,
        "checkpoint_seconds": 0,
    }
    return RunConfig.from_dict({**raw, **changes})


def weights(folder):
    # Copies: a model may lie in memory as its file.
    return {
        name: value.numpy().copy() for name, value in AutoModelForCausalLM.from_pretrained(folder).state_dict().items()
    }


def same(left, right):
    return all(np.array_equal(value, right[name]) for name, value in left.items())


def card(folder):
    text = (folder / "README.md").read_text()
    return dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", text, re.MULTILINE)), yaml.safe_load(text.split("---\n")[1])


def cell_of(directory, name=CELL):
    return RunFolder(Path(directory)).cell(name)


def test_a_cell_leaves_the_last_model_with_what_is_to_be_known_of_it(tmp_path, model_path):
    run(config(model_path, budget=14), tmp_path)
    folder = cell_of(tmp_path).model
    assert not same(weights(folder), weights(model_path))
    assert AutoTokenizer.from_pretrained(folder)("tell me")["input_ids"]
    facts, metadata = card(folder)
    expected = {
        "base model": str(model_path),
        "run": "models",
        "agent": "passive",
        "seed": "0",
        "oracle": "length (target 3)",
        "labels": "14",
        "rounds": "4",
        "loss": "DPO",
        "beta": "0.2",
        "which": "the last, after 4 rounds",
    }
    assert expected.items() <= facts.items()
    assert re.fullmatch(r"0\.\d{3} on held-out prompts", facts["win rate against the start"])
    assert metadata["library_name"] == "transformers"


def test_models_can_be_left_out_and_what_was_not_trained_leaves_none(tmp_path, model_path):
    run(config(model_path, save_models="none"), tmp_path / "none")
    assert not cell_of(tmp_path / "none").model.exists()
    agents = {"passive": {"learning_rate": 1e-2}, "random": {}}
    run(config(model_path, agents=agents), tmp_path / "some")
    assert cell_of(tmp_path / "some").model.is_dir()
    assert not cell_of(tmp_path / "some", "random-seed0").model.exists()
    with pytest.raises(UserError, match=r"save_models='first' is unknown: choose from best, last, none"):
        config(model_path, save_models="first")


def stopped(monkeypatch, rounds, settings, directory):
    """Plays a run until it is stopped after so many rounds."""
    with monkeypatch.context() as patch:
        stop_after(patch, rounds)
        with pytest.raises(Interrupted):
            run(settings, directory)


def judged(win_rates):
    """Replaces what the world measures on training prompts, in turn; held-out figures stay."""
    from duelenv.worlds.alignment_duel import AlignmentDuelVectorEnv

    measure, left = AlignmentDuelVectorEnv.evaluate, dict(enumerate(win_rates))

    def evaluate(self, agent, split="test"):
        found = measure(self, agent, split)
        if split == "train":
            found["win_rate"] = np.array([left[self._number]])
        return found

    return AlignmentDuelVectorEnv, "evaluate", evaluate


@pytest.fixture(scope="module")
def rounds_of(model_path, tmp_path_factory):
    """The weights after each round of the run, from runs that end there."""
    found, folder = [], tmp_path_factory.mktemp("rounds")
    for rounds in range(1, 5):
        env = {**config(model_path).to_dict()["env"], "horizon": rounds}
        run(config(model_path, env=env), folder / f"{rounds}")
        found.append(weights(cell_of(folder / f"{rounds}").model))
    return found


@pytest.mark.parametrize("stops", [(), (1,), (2,), (3,), (2, 1)])
def test_the_best_model_is_that_of_the_highest_win_rate_on_training_prompts(
    tmp_path, model_path, rounds_of, monkeypatch, stops
):
    """However often the run was stopped on the way; of equals the earlier one."""
    monkeypatch.setattr(*judged([0.9, 0.3, 0.7, 0.2, 0.7]))
    for rounds in stops:
        stopped(monkeypatch, rounds, config(model_path, save_models="best"), tmp_path / "run")
    run(config(model_path, save_models="best"), tmp_path / "run")
    cell = cell_of(tmp_path / "run")
    assert same(weights(cell.model), rounds_of[1])
    facts, _ = card(cell.model)
    assert facts["which"] == "of 4 rounds, the highest win rate on training prompts, 0.700"
    assert (facts["rounds"], facts["labels"]) == ("2", "8")
    assert [path.name for path in cell.path.glob("best-*")] == ["best-000002"]
    assert "which" not in card(cell.best(2))[0]


def test_a_run_goes_on_behind_its_best_model(tmp_path, model_path, rounds_of, monkeypatch):
    """A checkpoint is written with it, since the one before it is gone."""
    monkeypatch.setattr(*judged([0.9, 0.3, 0.7, 0.2, 0.1]))
    settings = config(model_path, save_models="best", checkpoint_seconds=1e9)
    stopped(monkeypatch, 3, settings, tmp_path)
    played, original = [], play._Run._round
    monkeypatch.setattr(play._Run, "_round", lambda self: (original(self), played.append(self.step)))
    run(settings, tmp_path)
    assert played == [3, 4]
    assert same(weights(cell_of(tmp_path).model), rounds_of[1])


def test_a_best_model_that_is_damaged_is_found_out_and_made_again(tmp_path, model_path, rounds_of, monkeypatch, capsys):
    monkeypatch.setattr(*judged([0.9, 0.3, 0.7, 0.2, 0.1]))
    stopped(monkeypatch, 3, config(model_path, save_models="best"), tmp_path / "run")
    path = cell_of(tmp_path / "run").best(2) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    run(config(model_path, save_models="best"), tmp_path / "run", progress=False)
    assert "was damaged: the cell is played again from its start" in capsys.readouterr().err
    assert same(weights(cell_of(tmp_path / "run").model), rounds_of[1])


def test_the_best_needs_a_judge(tmp_path, model_path):
    module = tmp_path / "later.py"
    module.write_text(
        "from duelenv.oracles import register\n\n\nclass Later:\n    def ask(self, requests):\n        pass\n\n"
        "    def collect(self):\n        return []\n\n\nregister('never', Later)\n"
    )
    with pytest.warns(UserWarning, match="leaves out win_rate"), pytest.raises(UserError, match="nobody judges"):
        run(config(model_path, save_models="best", oracle="never", modules=[str(module)]), tmp_path / "run")


def test_a_killed_run_leaves_the_model_that_an_undisturbed_one_leaves(tmp_path, model_path, monkeypatch):
    run(config(model_path), tmp_path / "whole")
    stopped(monkeypatch, 2, config(model_path), tmp_path / "run")
    leftover = cell_of(tmp_path / "run").path / ".model.1.tmp"  # of a process that was killed while it wrote
    leftover.mkdir()
    (leftover / "half").write_bytes(b"x")
    run(config(model_path), tmp_path / "run")
    assert same(weights(cell_of(tmp_path / "run").model), weights(cell_of(tmp_path / "whole").model))
    assert not leftover.exists()


def test_a_disk_that_is_full_is_one_sentence_and_the_same_command_goes_on(tmp_path, model_path, monkeypatch):
    from safetensors import SafetensorError

    def full(self, *arguments, **settings):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        with pytest.raises(
            UserError, match=r"No space left on device .*: free space on the disk, or set 'save_models'"
        ):
            run(config(model_path), tmp_path)
    assert not cell_of(tmp_path).finished and not cell_of(tmp_path).model.exists()
    run(config(model_path), tmp_path)
    assert cell_of(tmp_path).finished and cell_of(tmp_path).model.is_dir()


@pytest.mark.parametrize("damage", ["cut", "gone", "folder"])
def test_a_model_that_is_lost_is_made_again(tmp_path, model_path, damage):
    run(config(model_path), tmp_path)
    cell = cell_of(tmp_path)
    before, path = weights(cell.model), cell.model / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "gone":
        path.unlink()
    else:
        cell.model.rename(tmp_path / "away")
    assert not cell.finished
    run(config(model_path), tmp_path)
    assert cell.finished and same(weights(cell.model), before)


def test_the_command_exports_a_model(tmp_path, model_path, capsys):
    run(config(model_path, seeds=[3, 4]), tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "passive", "4", str(tmp_path / "out")]) == 0
    assert "out" in capsys.readouterr().out
    assert same(weights(tmp_path / "out"), weights(cell_of(tmp_path / "run", "passive-seed4").model))
    assert card(tmp_path / "out")[0]["seed"] == "4"


def test_what_an_export_refuses(tmp_path, model_path, capsys):
    agents = {"passive": {"learning_rate": 1e-2}, "random": {}}
    directory, out = tmp_path / "run", tmp_path / "out"
    run(config(model_path, agents=agents), directory)

    def refusal(agent="passive", seed="0", target=out, *rest):
        assert main(["export", str(directory), agent, seed, str(target), *rest]) == 2
        return capsys.readouterr().err

    assert "did you mean 'passive'" in refusal("pasive")
    assert "seed is 7, expected one of 0" in refusal(seed="7")
    assert "holds something already" in refusal(target=tmp_path)
    assert "leave out --merge" in refusal("passive", "0", out, "--merge")
    assert "'random-seed0' left no model" in refusal("random")
    path = cell_of(directory).model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "model.safetensors' is damaged: remove the folder" in refusal()
    path.unlink()
    assert "is not finished, or something of it is damaged" in refusal()
    assert not out.exists()


def test_precision_adapters_and_chat_settings_are_said_in_a_config(model_path, tmp_path, capsys):
    """From a checkpoint in bfloat16 through a new adapter to a whole model that plain transformers loads."""
    import torch

    place = tmp_path / "given"
    AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.bfloat16).save_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}{% if brief %}now{% endif %}"
    tokenizer.save_pretrained(place)
    chat = {"chat_template": True, "chat_template_kwargs": {"brief": True}}
    policy = {"path": str(place), "max_new_tokens": 6, "dtype": "auto", "device": "cpu", "lora": {"r": 3}, **chat}
    raw = config(model_path, policy=policy).to_dict()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
    assert main(["run", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "run")]) == 0
    left = tmp_path / "run" / "cells" / CELL / "model"
    assert (left / "adapter_config.json").is_file()
    assert '"r": 3' in (left / "adapter_config.json").read_text()
    for merged in (False, True):
        target = tmp_path / f"out{merged}"
        assert (
            main(["export", str(tmp_path / "run"), "passive", "0", str(target), *(["--merge"] if merged else [])]) == 0
        )
        model = AutoModelForCausalLM.from_pretrained(target)
        assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    capsys.readouterr()
    wrong = {**raw, "policy": {**policy, "lora": {"rank": 3}}}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    assert main(["run", str(tmp_path / "wrong.yaml"), "--output", str(tmp_path / "wrong")]) == 2
    assert "Unknown setting 'rank' of lora" in capsys.readouterr().err
