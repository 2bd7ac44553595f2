"""What labels and the files of oracles say of whoever answered."""

import json
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
from made_up_runs import policy_run

from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.report.answering import answering_lines
from duelenv.experiments.results.measurements import Results


def lines(directory):
    return answering_lines(RunFolder(directory), Results(directory).config)


def test_the_share_of_the_first_place_is_of_decided_labels(tmp_path):
    directory = policy_run(tmp_path)
    rows = [{"label": label, "id": "x"} for label in (*([1.0] * 6), *([0.0] * 4), 0.5, 0.5, None)]
    pq.write_table(pa.Table.from_pylist([*rows, {"label": None, "id": None}]), directory / "labels.parquet")
    ties, first, silent = lines(directory)
    assert (ties.oracle, ties.value) == ("length", "16.7 %")
    assert first.value == "60.0 % ± 30.4"  # 1.96 sqrt(0.6 * 0.4 / 10)
    assert "of 10; 50 %" in first.meaning
    assert (silent.value, silent.meaning) == ("1", "duels without an answer, of 14")


def test_a_cascade_says_how_its_cheap_oracle_had_to_be_corrected(tmp_path):
    directory = policy_run(tmp_path)
    (directory / "labels.parquet").unlink()
    (directory / "oracles").mkdir()
    # The cheap one says 0.9 for the first place whatever is there, which wins half the time.
    pairs = [json.dumps([f"k{number}", 0.9, 0.0, float(number % 2)]) for number in range(40)]
    (directory / "oracles" / "cascade-all-x.jsonl").write_text("\n".join([*pairs, '["cut", 0.']))
    agree, slope, shift = lines(directory)
    assert (agree.value, agree.meaning) == ("50.0 %", "agreement with the dear one, of 40 asked of both")
    assert float(slope.value) < 1.0
    assert float(shift.value) < 0.0


def test_scores_of_reward_servers_are_counted(tmp_path):
    directory = policy_run(tmp_path)
    (directory / "labels.parquet").unlink()
    (directory / "oracles").mkdir()
    with sqlite3.connect(directory / "oracles" / "reward_servers.sqlite") as connection:
        connection.execute("CREATE TABLE scores (key BLOB PRIMARY KEY, score REAL NOT NULL)")
        connection.executemany("INSERT INTO scores VALUES (?, ?)", [(b"a", 1.0), (b"b", 3.0)])
    connection.close()
    (line,) = lines(directory)
    assert (line.value, line.meaning) == ("2", "responses scored once each: 2 ± 1 (deviation)")
