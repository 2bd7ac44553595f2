"""Several floors beside each other: a row is what the floor alone says."""

import re

import pytest

from duelenv.experiments.commands.cli import main
from duelenv.experiments.sizing.floor_grid import grid_text
from duelenv.experiments.sizing.floors import Round, floor_of
from duelenv.experiments.sizing.machines import CARDS, Machine
from duelenv.experiments.sizing.pace import pace_of
from duelenv.experiments.sizing.shapes import SHAPES, ModelShape

H200 = Machine(CARDS["h200"])


def table(text):
    """Rows of a table by its titles; columns are told apart by two spaces or more."""
    titles, *rows = [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]
    return [dict(zip(titles, row, strict=True)) for row in rows]


def said(capsys, *words):
    assert main(["floor", *words]) == 0
    return capsys.readouterr().out


def test_a_row_is_the_floor_of_its_words(capsys):
    rows = table(said(capsys, "1B,8B", "--candidates", "2,20", "--prompts", "8"))
    assert [(row["size"], row["candidates"]) for row in rows] == [("1B", "2"), ("1B", "20"), ("8B", "2"), ("8B", "20")]
    assert "prompts" not in rows[0]  # the same in all
    for row in rows:
        floor = floor_of(SHAPES[row["size"].lower()], Round(prompts=8, candidates=int(row["candidates"])), H200)
        phases = {phase.name: phase.shared.seconds for phase in floor.phases}
        assert float(row["round"]) == pytest.approx(floor.seconds(), rel=0.005)
        assert float(row["decode"]) == pytest.approx(
            phases["decode, arithmetic"] + phases["decode, keys and values"], rel=0.005
        )
        assert float(row["training"]) == pytest.approx(phases["training"] + phases["optimiser"], rel=0.005)
        assert row["longest"].startswith(floor.dominant.name)
        assert row["fits"] == ("yes" if floor.memory.fits(True) else "no")


def test_parts_of_a_round_add_up_to_it(capsys):
    for row in table(said(capsys, "8B", "--agent", "thompson", "--response-tokens", "100,1000")):
        parts = sum(float(row[name]) for name in ("prefill", "decode", "features", "reference", "training"))
        assert parts == pytest.approx(float(row["round"]), rel=0.01)


def test_nodes_apart_have_their_lags(capsys):
    words = ["70B", "--gpus", "8,16", "--tensor", "8", "--trainers", "16", "--checkpointing", "--prompt-tokens", "1024"]
    for row in table(said(capsys, *words)):
        machine, trainers = Machine(CARDS["h200"], int(row["gpus"]), 8), Machine(CARDS["h200"], 16)
        floor = floor_of(SHAPES["70b"], Round(prompt_tokens=1024, checkpointing=True), machine, trainers)
        pace = pace_of(floor)
        assert float(row["lag 0"]) == pytest.approx(floor.seconds() + pace.transfer, rel=0.005)
        assert float(row["lag 1"]) == pytest.approx(pace.cycle, rel=0.005)
        assert float(row["one sender"]) == pytest.approx(pace.broadcast, rel=0.005)
        assert "round" not in row


def test_one_combination_is_no_table(capsys):
    assert said(capsys, "1B", "--candidates", "20") == said(capsys, "1B")
    assert "memory of a GPU" in said(capsys, "1B")


def test_a_folder_whose_name_has_a_comma_is_one_model(tmp_path, capsys):
    from transformers import LlamaConfig

    folder = tmp_path / "a,b"
    LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2).save_pretrained(folder)
    assert said(capsys, str(folder)).startswith("a,b: ")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["1B,9B"], "choose from 1B"),
        (["1B", "--candidates", "4,many"], "--candidates is 'many'"),
        (["1B", "--prompts", "4,"], "--prompts is ''"),
        (["1B", "--gpus", "2,3", "--tensor", "2"], "3 GPUs cannot be cut"),
        (["1B", "--network", "50,0", "--trainers", "8"], "--network is 0"),
    ],
)
def test_a_wrong_word_in_a_list_is_one_sentence(words, named, capsys):
    assert main(["floor", *words]) == 2
    got = capsys.readouterr()
    assert got.out == "" and got.err.count("\n") == 1
    assert got.err.startswith("duelenv: ") and named in got.err


def test_a_column_that_only_some_rows_have_is_empty_in_others():
    floors = [floor_of(SHAPES["1b"], Round(agent=agent), H200) for agent in ("passive", "thompson")]
    lines = grid_text([({"agent": floor.round.agent}, floor) for floor in floors]).splitlines()
    assert len({len(line) for line in lines}) == 1
    place = lines[0].index("features")
    assert lines[1][place : place + 8].strip() == "" != lines[2][place : place + 8].strip()


# One trainer that sends ----------------------------------------------------------------------------------------------


def test_one_sender_takes_as_long_as_all_weights_over_one_link():
    machine, trainers = Machine(CARDS["h200"], 16, 8), Machine(CARDS["h200"], 16)
    pace = pace_of(floor_of(SHAPES["70b"], Round(), machine, trainers))
    assert pace.broadcast == pytest.approx(2 * SHAPES["70b"].parameters / 50e9)
    assert pace.broadcast == pytest.approx(8 * pace.transfer)  # each of a copy of 8 takes in 8 times its part
    # Whole copies take in all weights either way.
    whole = pace_of(floor_of(SHAPES["8b"], Round(), Machine(CARDS["h200"], 8), Machine(CARDS["h200"], 8)))
    assert whole.broadcast == pytest.approx(whole.transfer)


def test_one_sender_waits_for_what_it_gathers_where_links_are_slower_than_the_network():
    trainers = Machine(CARDS["rtx4090"], 8)
    pace = pace_of(floor_of(SHAPES["1b"], Round(), Machine(CARDS["h200"]), trainers))
    assert pace.broadcast == pytest.approx(2 * SHAPES["1b"].parameters * 7 / 8 / 32e9)
    alone = pace_of(floor_of(SHAPES["1b"], Round(), Machine(CARDS["h200"]), Machine(CARDS["rtx4090"])))
    assert alone.broadcast == pytest.approx(2 * SHAPES["1b"].parameters / 50e9)  # it has them all


def test_an_adapter_is_all_that_is_sent():
    machine, trainers = Machine(CARDS["h200"], 8, 8), Machine(CARDS["h200"], 8)
    shape: ModelShape = SHAPES["70b"]
    pace = pace_of(floor_of(shape, Round(lora=16), machine, trainers))
    assert pace.broadcast == pytest.approx(2 * shape.adapter(16) / 50e9)
