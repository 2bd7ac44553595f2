"""Files become the same columns whatever their kind, and a broken one gets one sentence."""

from __future__ import annotations

import copy
import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from table_files import ROWS, is_one_sentence, write

from duelenv import UserError
from duelenv.data import Table, load_pool, load_responses, read_table


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.jsonl.gz", "T.JSONL"])
def test_every_format_gives_the_same_pool(tmp_path: Path, name: str) -> None:
    pool = load_responses(write(tmp_path / name, ROWS))
    assert pool.prompts == ("p", "q")
    assert pool.responses.tolist() == [["a", "b"], ["c", 'd, \n"e"']]
    assert pool.utilities.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert pool.responders is not None and pool.responders.tolist() == [["x", "y"], ["x", "y"]]
    assert pool.rows.tolist() == [[0, 2], [1, 3]] and pool.num_rows == 4 and pool.notes == ()


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_with_quoted_commas_and_line_breaks(tmp_path: Path, name: str) -> None:
    text = 'prompt,response,score\np,a,1\np,"d, \n""e""",2\n'
    data = text.encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    pool = load_responses(tmp_path / name)
    assert pool.responses.tolist() == [["a", 'd, \n"e"']]
    assert pool.utilities.tolist() == [[1.0, 2.0]]


def test_a_table_in_hand_is_as_good_as_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ROWS)
    table = read_table(path)
    path.unlink()
    assert table == {name: [row[name] for row in ROWS] for name in ROWS[0]}
    assert load_responses(table).responses.tolist() == [["a", "b"], ["c", 'd, \n"e"']]
    with pytest.raises(UserError, match=r"t\.jsonl has no column 'stars'"):
        load_responses(table, score="stars")
    for other in (pickle.loads(pickle.dumps(table)), copy.deepcopy(table)):
        assert isinstance(other, Table) and other == table and other.path == path


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.xlsx", b"", "unknown kind; give a file that ends in .parquet, .jsonl"),
        ("t.jsonl", b"", "holds no rows"),
        ("t.jsonl", b'{"prompt": "p"}\n\n{"prompt": \n', "line 3 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is a JSON list"),
        ("t.jsonl", b"\xff\xfe\n", "not UTF-8"),
        ("t.jsonl.gz", b"plain text", "cannot be read"),
        ("t.parquet", b"plain text", "cannot be read as Parquet"),
        ("t.arrow", b"plain text", "cannot be read as Arrow"),
        ("t.csv", b"prompt,response\np,a,b\n", "line 2 has 3 cells where the header has 2"),
        ("t.csv", b"prompt,response\n", "holds no rows"),
        ("t.csv", b"prompt,score,score\np,1,2\n", "the column 'score' more than once"),
        ("t.csv", b"prompt,score, score\np,1,2\n", "the column 'score' more than once"),
        ("t.csv", "prompt\nOù?\n".encode("latin-1"), "not UTF-8 text (line 2, byte 8); save it as UTF-8"),
        ("t.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n', "line 2 has the key 'a' twice"),
        ("t.jsonl", b"[" * 100_000, "nested too deeply"),
        ("t.jsonl", b"[\n{}]", "an array in a .json file"),
        ("t.json", b'[{"a": 1, "a": 2}]', "the key 'a' twice"),
        ("t.json", b'[{"a": 1},\n2]', "element 1 is a int"),
        ("t.json", b'{"train": [{}], "test": [{}]}', "several tables, train, test"),
        ("t.json", b"7", "holds a JSON int"),
        ("t.json", b'[{"a": 1},\n', "line 2 is not JSON"),
        ("t.json", b"[]", "holds no rows"),
    ],
)
def test_a_broken_file_gets_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_table(tmp_path / name)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


ARRAY = b'[{"prompt": "p", "response": "a"}, {"prompt": "q"}]'


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("t.json", ARRAY, None),
        ("t.json.gz", gzip.compress(ARRAY, mtime=0), None),
        ("t.json", gzip.compress(ARRAY, mtime=0), None),  # by another name
        ("t.json", b'{"prompt": "p", "response": "a"}\r\n{"prompt": "q"}\r\n', None),
        ("t.json", b'{"version": "1", "data": ' + ARRAY + b"}", "under 'data'"),
        ("t.json", b'{"prompt": {"0": "p", "1": "q"}, "response": {"0": "a", "1": null}}', "keys are columns"),
        ("t.json", b'{"prompt": ["p", "q"], "response": ["a", null]}', "keys are columns"),
        ("t.jsonl", '{"prompt": "p", "response": "a"}\n{"prompt": "q"}'.encode("utf-16"), None),
    ],
)
def test_rows_in_any_json(tmp_path: Path, name: str, content: bytes, note: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert table == {"prompt": ["p", "q"], "response": ["a", None]}
    assert [note in said for said in table.notes] == ([True] if note else []) if note else table.notes == ()


@pytest.mark.parametrize(
    ("name", "mark", "notes"), [("t.csv", ",", 0), ("t.csv", ";", 1), ("t.csv", "\t", 1), ("t.tsv", "\t", 0)]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_separated_cells_whatever_stands_between(tmp_path: Path, name: str, mark: str, notes: int, ending: str) -> None:
    huge = "x" * 140_000
    lines = [mark.join(cells) for cells in (("prompt ", "response"), ("p", '"a, b;\nc"'), ("q", huge))]
    (tmp_path / name).write_bytes("".join(line + ending for line in lines).encode("utf-8-sig"))
    table = read_table(tmp_path / name)
    assert table == {"prompt": ["p", "q"], "response": ["a, b;\nc", huge]}
    assert len(table.notes) == notes


@pytest.mark.parametrize("opened", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_and_streams(tmp_path: Path, opened: Any) -> None:
    table = pa.table({"prompt": ["p", "q"], "response": ["a", None]})
    with opened(tmp_path / "data.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read_table(tmp_path / "data.arrow") == table.to_pydict()
    with pytest.raises(UserError, match=r"is a folder; give one of its files, such as data\.arrow$"):
        read_table(tmp_path)


class Frame:
    """As much of a `datasets.Dataset` as there is to see."""

    column_names = ("prompt", "response")

    def __getitem__(self, name: str) -> list[str | None]:
        return {"prompt": ["p", "q"], "response": ["a", None]}[name]


def test_tables_in_memory() -> None:
    columns: dict[str, list[str | None]] = {"prompt": ["p", "q"], "response": ["a", None]}
    rows = [{"prompt": "p", "response": "a"}, {"prompt": "q"}]
    for source in (columns, rows, pa.table(columns), Frame()):
        assert read_table(source) == columns
    message = {"role": "user", "content": np.array([{"type": "text", "text": "p"}], dtype=object)}
    cells = {"prompt": np.array([[message]], dtype=object), "score": np.array([np.int64(3)]), "tie": [np.True_]}
    plain = read_table(cells)
    assert plain == {
        "prompt": [[{"role": "user", "content": [{"type": "text", "text": "p"}]}]],
        "score": [3],
        "tie": [True],
    }
    assert [type(value) for value in (plain["prompt"][0], plain["score"][0], plain["tie"][0])] == [list, int, bool]
    for source, sentence in (
        ({"train": Frame(), "test": Frame()}, "the data are 2 tables, train, test; pass one"),
        ({"prompt": ["p"], "response": []}, "unequal lengths"),
        ({"prompt": "p"}, "a str for a column"),
        ([1], "element 0 is a int"),
        (7, "the data are a int"),
        ([], "holds no rows"),
        (pa.table([["a"], ["b"]], names=["x", "x"]), "'x' more than once"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_table(source)


def test_a_truncated_gzip_file_gets_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl.gz", ROWS * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        read_table(path)


def test_a_missing_file_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.parquet does not exist"):
        load_pool(tmp_path / "missing.parquet")
