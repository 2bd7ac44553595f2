"""`duelenv bench alignment` and `duelenv bench gpu`: what is timed, what the tables say, their commands."""

import re

import pytest
import torch

from duelenv.experiments.bench import alignment as bench
from duelenv.experiments.bench import gpu as bench_gpu
from duelenv.experiments.bench.models import Shape, prompts, random_model, word_tokenizer
from duelenv.experiments.commands.cli import main

TINY = Shape(layers=1, hidden=16, heads=2, groups=1, feedforward=16, vocabulary=40, context=32)
RACE = bench.Race(shape=TINY, batch=2, prompt=5, response=4, threads=1, repeats=2)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_models_have_the_sizes_that_they_are_asked_for(architecture):
    before = torch.random.get_rng_state()
    model = random_model(architecture, TINY, dtype=torch.bfloat16)
    assert torch.equal(before, torch.random.get_rng_state()) and torch.get_default_dtype() == torch.float32
    assert model.dtype == torch.bfloat16 and not model.training
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (1, 16, 40)
    tokenizer = word_tokenizer(40)
    encoded = tokenizer(prompts(3, 7, 40))["input_ids"]
    assert [len(ids) for ids in encoded] == [7, 7, 7] and min(map(min, encoded)) >= 2


def test_times_are_medians_in_turn_without_the_first():
    now, order = [0.0], []

    def way(name, lengths):
        def run():
            order.append(name)
            now[0] += lengths.pop(0)

        return run

    ways = {"a": way("a", [9.0, 1.0, 3.0, 2.0]), "b": way("b", [7.0, 5.0, 4.0, 6.0])}
    assert bench._in_turn(ways, 3, lambda: now[0]) == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 4


def test_what_is_measured_is_what_the_tables_say(monkeypatch):
    monkeypatch.setattr(bench, "_trl_is_here", lambda: False)
    threads = torch.get_num_threads()
    drawn = list(bench.bench_drawing(RACE, ["llama"], [1, 3]))
    assert [(line.architecture, line.candidates) for line in drawn] == [("llama", 1), ("llama", 3)]
    assert all(line.generate > 0 and line.own > 0 for line in drawn)
    systems = [bench.System("passive", 2), bench.System("selm", 2, {"policy": 1, "reference": 1})]
    rounds = bench.bench_rounds(RACE, systems)
    assert [(line.name, line.candidates) for line in rounds] == [("passive", 2), ("selm", 2)]
    assert torch.get_num_threads() == threads
    table = bench.drawing_table([bench.Drawing("llama", 20, 3.0, 1.5)])
    assert table.splitlines()[1].split() == ["llama", "20", "3.000", "1.500", "2.00"]
    lines = [bench.Round("TRL online DPO", 2, 0.8), bench.Round("passive", 2, 0.5), bench.Round("selm", 2, 0.6)]
    rows = bench.round_table(lines).splitlines()
    assert rows[1].split() == ["TRL", "online", "DPO", "2", "0.800", "1.60", "1.00"]
    assert rows[3].split() == ["selm", "2", "0.600", "1.20", "1.33"]
    assert "TRL is not installed" in bench.round_table(lines[1:])


def test_trl_steps_are_timed_in_turn_with_ours():
    pytest.importorskip("trl")
    between = []
    seconds = bench._trl(RACE, lambda: between.append(None))
    assert len(seconds) == len(between) == RACE.repeats + 1
    assert all(each > 0 for each in seconds)


def test_the_gpu_bench_runs_anywhere_at_a_small_size(capsys):
    assert main(["bench", "gpu", "--quick"]) == 0
    out, err = capsys.readouterr()
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d,]*) \|", out, re.MULTILINE)
    assert [row[0] for row in rows] == [
        "draw, generate()",
        "draw, own loop",
        "round, passive",
        "round, thompson",
        "LoRA step on the large model",
    ]
    assert err.count("measured: ") == 5


def test_a_card_that_is_too_small_is_a_line_of_the_table(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(bench_gpu, "_training", full)
    *others, last = bench_gpu.bench_gpu(bench_gpu.QUICK, "cpu")
    assert all(line.seconds for line in others) and last.seconds is None
    assert "| LoRA step on the large model | does not fit |" in bench_gpu.gpu_table([last], bench_gpu.QUICK, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and it would be measured")
def test_without_a_gpu_it_is_refused_in_a_sentence(capsys):
    assert main(["bench", "gpu"]) == 2
    assert "needs a GPU that torch can use" in capsys.readouterr().err
    assert main(["bench", "alignment", "FeatureDuel"]) == 2
    assert "takes no world" in capsys.readouterr().err
