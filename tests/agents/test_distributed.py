"""Two processes take a step together: what becomes of the weights is what one process makes of them."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_steps import CASES, NOT_SHARDED, ROUNDS, made, play, weights_of
from transformers import AutoModelForCausalLM
from worlds import tiny_policy

from duelenv import UserError
from duelenv.agents.distributed import Alone, Sharing, Together, processes_of
from duelenv.agents.passes import in_pieces_of
from duelenv.agents.trainer import TrainerSettings
from duelenv.policies import CausalLMPolicy, tiny_model, toy_policy, toy_prompts
from duelenv.policies.passes import Shortcuts

SCRIPT = Path(__file__).parents[1] / "support" / "shared_steps.py"
CLOSE = 1e-5


#: What torch 2.13 says when it aborts a finished process that used FSDP2 over gloo, as the interpreter ends.
ABORTED_AT_THE_END = "terminate called without an active exception"


def launched(*arguments, processes=2, timeout=240, last_words=None):
    """Run a script as `accelerate launch` does; --multi_gpu is its launcher of several processes, on a CPU too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    command += ["--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        printed, said = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.terminate()  # the launcher takes its processes along
        printed, said = run.communicate(timeout=60)
    finished = last_words is not None and last_words in printed and ABORTED_AT_THE_END in said
    assert run.returncode == 0 or finished, said[-4000:]
    return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    launched(SCRIPT, folder)
    return folder


def distance(one, other, number):
    return float(np.abs(one[f"weights {number}"] - other[f"weights {number}"]).max())


#: The files of every way in which a case is launched, and the case.
WHOLE = {case: case for case in CASES}
SHARDED = {f"{case}-sharded": case for case in CASES if case not in NOT_SHARDED}
BY_ACCELERATE = {f"{case}-accelerate": case for case in ("odd", "belief", "adapter")}
EVERY = WHOLE | SHARDED | BY_ACCELERATE
EXACT = [way for way, case in EVERY.items() if "dtype" not in CASES[case]]


@functools.cache
def played_alone(case):
    """What one process makes of a case, which several tests compare with each way of two."""
    return play(**CASES[case])


@pytest.mark.slow
@pytest.mark.parametrize("way", EXACT)
def test_a_step_of_two_processes_is_that_of_one(folder, way):
    alone, shared = played_alone(EVERY[way]), np.load(folder / f"{way}-0.npz")
    for number in (1, ROUNDS):
        assert distance(alone, shared, number) <= CLOSE
    assert distance(alone, {f"weights {ROUNDS}": alone["weights 1"]}, ROUNDS) >= 5 * CLOSE  # that is not standing still
    assert shared["steps"] == alone["steps"]


@pytest.mark.slow
@pytest.mark.parametrize("way", EVERY)
def test_all_processes_have_the_same_weights_to_the_bit(folder, way):
    first, second = (np.load(folder / f"{way}-{rank}.npz") for rank in range(2))
    for number in (1, ROUNDS):
        assert distance(first, second, number) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("way", EXACT)
def test_figures_are_those_of_the_whole_lesson_on_every_process(folder, way):
    alone = played_alone(EVERY[way])
    for rank in range(2):
        shared = np.load(folder / f"{way}-{rank}.npz")
        assert set(shared.files) == set(alone)
        for name in alone:
            if not name.startswith("weights"):
                assert shared[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(("case", "wrong"), [("odd", "MeanOfMeans"), ("clipped", "ClippedApart")])
def test_other_ways_to_combine_gradients_are_seen_to_be_wrong(folder, case, wrong):
    shared = np.load(folder / f"{case}-{wrong}-0.npz")
    assert distance(played_alone(case), shared, 1) > 10 * CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("case", ["odd", "adapter"])
def test_a_sharded_policy_is_saved_and_kept_as_a_whole_one(folder, case):
    kept = np.load(folder / f"{case}-kept-0.npz", allow_pickle=True)
    base = {"base_model": tiny_model("llama", seed=0)[0]} if case == "adapter" else {}
    policy = CausalLMPolicy.load(folder / f"{case}-saved", **base)
    assert np.abs(weights_of(policy) - kept["weights 1"]).max() == 0.0
    asked = (list(kept["prompts"]), kept["tokens"], kept["mask"])
    np.testing.assert_allclose(policy.score(*asked), kept["score"], atol=1e-5)
    np.testing.assert_allclose(policy.score(*asked, source="start"), kept["start"], atol=1e-5)
    np.testing.assert_allclose(policy.embed(*asked), kept["embedded"], atol=1e-5)
    _, agent, _ = made(**CASES[case])
    agent.load_state_dict(torch.load(folder / f"{case}-state.pt", weights_only=False))
    assert np.abs(weights_of(agent.learner.policy) - kept["weights 1"]).max() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["odd", "adapter"])
def test_a_sharded_policy_goes_on_from_its_state(folder, case):
    for rank in range(2):
        kept = np.load(folder / f"{case}-kept-{rank}.npz", allow_pickle=True)
        assert np.abs(kept["on"] - kept["weights 1"]).max() > 10 * CLOSE
        assert np.abs(kept["on"] - kept["resumed"]).max() == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("different", "the processes are to train the policy on different lessons"),
        ("alone", "processes='one'; set 'all'"),
        ("moving", "reference='moving' copies the policy"),
        ("moved", "cannot be copied"),
        ("clone", "clone a policy before it is sharded"),
        ("twice", "sharded already"),
        ("failed", "Gradient step 2 of the policy is not finite (loss inf, "),
        ("failed sharded", "Gradient step 2 of the policy is not finite (loss "),
    ],
)
def test_what_several_processes_cannot_do_is_refused(folder, what, words):
    for rank in range(2):
        assert words in json.loads((folder / f"said-{rank}.json").read_text(encoding="utf-8"))[what]


@pytest.mark.slow
@pytest.mark.parametrize("how", [pytest.param([], marks=pytest.mark.exhaustive), ["--shard"]])
def test_the_example_aligns_a_model_in_two_processes(tmp_path, how):
    policy = toy_policy()
    policy.export(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(toy_prompts(30)))
    script = Path(__file__).parents[2] / "examples" / "distributed.py"
    words = [tmp_path / name for name in ("model", "prompts.txt", "aligned")]
    words += ["--rounds", "3", "--batch", "8", "--candidates", "4", "--tokens", "8", "--learning-rate", "1e-3"]
    printed = launched(script, *words, "--agent", "passive", *how, last_words="3 steps of 2 processes")
    assert printed.count("round 3: 24 labels") == 1
    assert "3 steps of 2 processes" in printed
    aligned = AutoModelForCausalLM.from_pretrained(tmp_path / "aligned")
    assert any((a != b).any() for a, b in zip(policy.model.parameters(), aligned.parameters(), strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_every_item_is_counted_by_one_process(monkeypatch, size, count, at_once):
    found = []
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        process = Together(torch.device("cpu"))
        parts = list(process.counted(count, in_pieces_of(at_once)))
        assert [part for part, _ in parts] == list(process.scored(count, in_pieces_of(at_once)))
        for part, weight in parts:
            assert 0 < part.stop - part.start <= at_once
            assert weight == 1.0
            found += range(part.start, part.stop)
    assert found == list(range(count))


def test_all_processes_are_one_where_there_are_no_others():
    assert isinstance(processes_of("all", tiny_policy()), Alone)


def test_processes_that_torch_was_not_told_of_are_missed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="no group yet"):
        processes_of("all", tiny_policy())
    assert isinstance(processes_of("one", tiny_policy()), Alone)


def test_a_policy_is_sharded_over_processes_that_there_are():
    with pytest.raises(UserError, match="there is none"):
        tiny_policy().shard()


def test_a_model_without_padding_is_not_sharded():
    policy = tiny_policy()
    policy.shortcuts = Shortcuts(padding=False)
    with pytest.raises(UserError, match="without padding"):
        policy.shard()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_with_shares_of_weights_every_process_makes_as_many_pieces(monkeypatch, size, count, at_once):
    found, numbers = [], set()
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        parts = list(Sharing(torch.device("cpu")).counted(count, in_pieces_of(at_once)))
        numbers.add(len(parts))
        found += [item for part, weight in parts if weight for item in range(part.start, part.stop)]
    assert found == list(range(count))
    assert len(numbers) == 1


def test_an_unknown_choice_is_refused():
    with pytest.raises(UserError, match="processes"):
        TrainerSettings(processes="some")
