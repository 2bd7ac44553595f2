"""`duelenv floor`: what it refuses, folders of models, and every figure of its two pages."""

import json
import re
import shlex
from pathlib import Path

import pytest
from transformers import Qwen2Config

from duelenv.experiments.commands.cli import main
from duelenv.experiments.sizing.floors import Round, floor_of
from duelenv.experiments.sizing.machines import CARDS, Machine
from duelenv.experiments.sizing.shapes import SHAPES, shape_named

DOCS = Path(__file__).parents[3] / "docs"
PAGE = "\n".join((DOCS / name).read_text(encoding="utf-8") for name in ("machine.md", "scaling.md"))
TINY = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["9B"], "choose from 1B"),
        (["1B", "--card", "h20"], "did you mean 'h200'"),
        (["1B", "--agent", "pasive"], "passive, thompson"),
        (["1B", "--prompts", "0"], "--prompts is 0"),
        (["1B", "--candidates", "many"], "--candidates is 'many'"),
        (["1B", "--prompt-tokens", "1.5"], "--prompt-tokens is 1.5"),
        (["1B", "--response-tokens", "-3"], "--response-tokens is -3"),
        (["1B", "--lora", "0"], "--lora is 0"),
        (["1B", "--network", "nan"], "--network is nan"),
        (["1B", "--gpus", "3", "--tensor", "2"], "3 GPUs cannot be cut"),
        (["1B", "--gpus", "16", "--tensor", "16"], "--tensor is 16, expected an integer from 1 to 8"),
        (["1B", "--trainers", "0"], "--trainers is 0"),
    ],
)
def test_a_wrong_value_is_one_sentence(words, named, capsys):
    assert main(["floor", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("duelenv: ") and named in said.err


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "mixtral", "num_local_experts": 4}, "experts"),
        ({"model_type": "mamba"}, "no num_attention_heads"),
        ({"model_type": "bart"}, "encoder"),
        ({"model_type": "deepseek_v2", "n_routed_experts": 1}, "compresses"),
        ({"model_type": "deepseek_v2", "n_routed_experts": None}, "cannot be read"),
        ({"model_type": "llama", "hidden_size": 33, "num_attention_heads": 4}, "cannot be read"),
        ({"model_type": "qwen3_next", "num_experts": 0}, "layers of linear_attention"),
        ({"model_type": "nothing_known"}, "cannot be read"),
        ({"model_type": "vit"}, "no causal language model"),
    ],
)
def test_other_arithmetic_is_refused_in_a_sentence(config, why, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["floor", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("duelenv: ") and said.err.count("\n") == 1
    assert why in said.err


def test_a_folder_is_a_shape(tmp_path, capsys):
    Qwen2Config(**TINY, num_key_value_heads=2).save_pretrained(tmp_path / "mine")
    assert main(["floor", str(tmp_path / "mine"), "--prompts", "2", "--candidates", "3"]) == 0
    out = capsys.readouterr().out
    shape = shape_named(str(tmp_path / "mine"))
    assert out.startswith(f"mine: {shape.parameters:,} weights")
    assert "2 prompts of 512 tokens, 3 responses of 53 to each" in out


def blocks():
    """Commands that the pages show with what they print."""
    return re.findall(r"```\n\$ (duelenv floor [^\n]+)\n\n(.*?)```", PAGE, re.DOTALL)


def lines():
    """Rows of the page's tables that give a command: its words, the round shared and repeated, the longest phase."""
    return re.findall(r"^\|[^|]*\| `(duelenv floor [^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)


def paces():
    """Rows of the page's table of separate nodes: a command and its five figures."""
    return re.findall(r"^\|[^|]*\| `(duelenv floor [^`]+)` \| ((?:[^|]+\|){4}[^|]+) \|$", PAGE, re.MULTILINE)


def printed(command, capsys):
    assert main(shlex.split(command)[1:]) == 0
    return capsys.readouterr().out


def test_the_page_has_both_kinds_of_figures():
    assert len(blocks()) == 8 and len(lines()) == 14 and len(paces()) == 6


@pytest.mark.parametrize(("command", "text"), blocks(), ids=[command for command, _ in blocks()])
def test_blocks_of_the_page_are_what_the_command_prints(command, text, capsys):
    assert printed(command, capsys) == text


@pytest.mark.parametrize(("command", "shared", "repeated", "longest"), lines(), ids=[row[0] for row in lines()])
def test_rows_of_the_page_are_what_the_command_prints(command, shared, repeated, longest, capsys):
    table = printed(command, capsys).split("\n\n")[1].splitlines()[1:]
    cells = [re.split(r"\s{2,}", line.strip()) for line in table]
    assert cells[-1][:3] == ["the round", shared, repeated]
    top = max(cells[:-1], key=lambda row: float(row[1].replace(",", "").removeprefix("< ")))
    assert f"{top[0]}, {top[3]}, by {top[4]}" == longest


@pytest.mark.parametrize(("command", "cells"), paces(), ids=[row[0] for row in paces()])
def test_rows_of_separate_nodes_are_what_the_command_prints(command, cells, capsys):
    last = printed(command, capsys).rstrip().split("\n\n")[-1].splitlines()
    said = dict(re.split(r"\s{2,}", line.strip())[:2] for line in last)
    titles = ("sampling", "training", "transfer", "side by side", "sampling keeps pace with")
    assert [said[title] for title in titles] == [cell.strip() for cell in cells.split("|")]


def test_figures_beside_the_published_ones_are_those_of_the_page():
    rows = dict(re.findall(r"^\| (?:1B: |8B: )?([^|]+?) \| [^|]+ \| ([\d.]+)(?: GB)? \|$", PAGE, re.MULTILINE)[:6])
    h200 = Machine(CARDS["h200"])
    small = floor_of(SHAPES["1b"], Round(), h200)
    large = floor_of(SHAPES["8b"], Round(prompt_tokens=1024, response_tokens=512), h200)
    decoding = [phase for phase in small.phases if phase.name.startswith("decode")]
    expected = {
        "prefill, shared": small.phase("prefill").shared.seconds,
        "prefill, repeated": small.phase("prefill").repeated.seconds,
        "decode, shared": sum(phase.shared.seconds for phase in decoding),
        "decode, repeated": sum(phase.repeated.seconds for phase in decoding),
        "reference": small.phase("reference").shared.seconds,
        "training": small.phase("training").shared.seconds,
    }
    assert {name: float(value) for name, value in rows.items()} == {
        name: pytest.approx(value, abs=0.0005) for name, value in expected.items()
    }
    for value, digits in ((small.seconds(), 3), (small.seconds(False), 2), (large.seconds(), 2)):
        assert f"| {value:.{digits}f} |" in PAGE
    assert f"| {large.seconds(False):.2f} |" in PAGE
    assert f"| {large.memory.cache_repeated / 1e9:.1f} GB |" in PAGE


def test_cards_of_the_page_are_those_of_the_code():
    for card in CARDS.values():
        speed = (
            f"{card.peak_flops / 1e12:g} | {card.peak_bandwidth / 1e12:g} | {card.memory / 1e9:g} | {card.link / 1e9:g}"
        )
        assert f"| {card.name} | {speed}" in PAGE


def test_links_of_the_page_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (DOCS / target).exists(), target
