"""`duelenv aggregate`: what it reads, prints and writes, which `duelenv pairs` reads again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from duelenv.data import load_pairs
from duelenv.experiments.commands.cli import main

ROWS = [(f"q{n}", f"good {n}", f"bad {n}", name, 1 - (name == "bo")) for n in range(6) for name in ("al", "bo", "cy")]


def test_it_writes_a_label_a_pair_and_prints_abilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "labels.csv"
    lines = ["prompt,first,second,annotator,label", *(",".join(map(str, row)) for row in ROWS), "q0,good 0,bad 0,dan,"]
    source.write_text("\n".join(lines) + "\n")
    out, abilities = tmp_path / "pairs.parquet", tmp_path / "people.csv"
    command = ["aggregate", str(source), "--out", str(out), "--abilities", str(abilities), "--method", "one_coin"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "18 labels of 6 pairs, 0 of them ties, 1 rows skipped" in said
    assert [line.split()[0] for line in said.splitlines()[3:6]] == ["al", "cy", "bo"]
    assert pq.read_table(out)["label"].to_pylist() == [1.0] * 6
    assert len(abilities.read_text().splitlines()) == 4
    assert len(load_pairs(out).prompts) == 6


def test_a_mistake_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aggregate", str(tmp_path / "no.csv"), "--out", str(tmp_path / "o.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err
