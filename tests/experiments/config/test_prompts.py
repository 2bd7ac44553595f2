"""Prompt files: what becomes a prompt, what is said of it, and one sentence for what does not fit."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from table_files import is_one_sentence, write

from duelenv import UserError
from duelenv.experiments.config.prompts import read_prompts
from duelenv.experiments.config.run_config import RunConfig
from duelenv.experiments.running.assembly import make_prompts

TEXTS = [f"prompt {number}" for number in range(10)]


def read(path: Path, **settings: Any) -> set[str]:
    split = read_prompts(str(path), **settings)
    assert not set(split["train"]) & set(split["test"])
    return {*split["train"], *split["test"]}


def test_prompts_from_files(tmp_path: Path) -> None:
    plain = tmp_path / "prompts.txt"
    plain.write_text("\n".join([*TEXTS, TEXTS[0], ""]))
    split = read_prompts(str(plain))
    assert sorted(split["train"] + split["test"]) == sorted(TEXTS)
    assert len(split["test"]) == 2
    lines = tmp_path / "prompts.jsonl"
    lines.write_text("".join(json.dumps({"q": text}) + "\n" for text in TEXTS))
    assert read_prompts(str(lines), column="q") == split
    with pytest.raises(UserError, match=r"'prompts\.column'"):
        read_prompts(str(lines))
    with pytest.raises(UserError, match="No prompts file"):
        read_prompts(str(tmp_path / "none.txt"))
    plain.write_text("one")
    with pytest.raises(UserError, match="at least 2"):
        read_prompts(str(plain))


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz", "t.csv", "t.tsv", "t.json", "t.jsonl", "t.parquet", "t.prompts"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_of_file_gives_the_same_prompts(tmp_path: Path, name: str, encoding: str) -> None:
    path = tmp_path / name
    texts = ["Où?", "Why?", "How?"]
    rows: list[dict[str, Any]] = [{"prompt": text} for text in texts]
    if name == "t.parquet":
        write(path, rows)
    else:
        kind = name.split(".")[1]
        content = {
            "json": json.dumps(rows, indent=1),
            "jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        }.get(kind, "\r\n".join(["prompt" if kind in ("csv", "tsv") else "Why?", *texts]))
        data = content.encode(encoding)
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read(path) == set(texts)


def said(*turns: tuple[str, str], keys: tuple[str, str] = ("role", "content")) -> list[dict[str, str]]:
    return [dict(zip(keys, turn, strict=True)) for turn in turns]


DIALOGUE = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
TURNS = (("user", "a"), ("assistant", "b"), ("user", "c"))
SHARED = (("human", "a"), ("gpt", "b"), ("human", "c"))


@pytest.mark.parametrize(
    ("row", "prompt", "announced"),
    [
        ({"prompt": said(*TURNS)}, DIALOGUE, None),
        ({"messages": said(*TURNS, ("assistant", "d"))}, DIALOGUE, "the assistant's last turn is cut off from 2 of 2"),
        ({"conversations": said(*SHARED, ("gpt", "d"), keys=("from", "value"))}, DIALOGUE, "last turn is cut off"),
        ({"conversations": json.dumps(said(*TURNS))}, DIALOGUE, "the lists that it spells"),
        ({"system": "s", "prompt": "a"}, "System: s\n\nHuman: a\n\nAssistant:", "system, then prompt"),
        ({"instruction": "a", "input": "b"}, "a\n\nb", "instruction, then input"),
        ({"question": {"id": 1, "full_text": "a"}}, "a", "made of question.full_text"),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}, "a", None),
        ({"chosen": f"\n\n{DIALOGUE} d", "rejected": f"\n\n{DIALOGUE} e"}, DIALOGUE, None),
        ({"chosen": said(*TURNS, ("assistant", "d")), "rejected": said(*TURNS, ("assistant", "e"))}, DIALOGUE, None),
    ],
)
def test_what_becomes_a_prompt(tmp_path: Path, row: dict[str, Any], prompt: str, announced: str | None) -> None:
    other = json.loads(
        json.dumps(row).replace('"a"', '"z"').replace('\\"a\\"', '\\"z\\"').replace("Human: a", "Human: z")
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert prompt in read(write(tmp_path / "t.jsonl", [row, other]))
    notes = [str(warning.message) for warning in caught]
    assert any(announced in note for note in notes) if announced else not notes


def test_prompts_in_a_config_may_be_dialogues() -> None:
    def split(train: Any) -> dict[str, list[str]]:
        prompts = {"list": {"train": train, "test": ["d"]}}
        env = {"id": "AlignmentDuel"}
        return make_prompts(RunConfig.from_dict({"name": "x", "env": env, "prompts": prompts, "agents": ["passive"]}))

    assert split(["e", said(*TURNS)]) == {"train": ["e", DIALOGUE], "test": ["d"]}
    for wrong, sentence in (([3], "expected a list of texts"), ([said(("tool", "4"))], "a turn of 'tool'")):
        with pytest.raises(UserError, match=sentence):
            split(wrong)


def test_rows_without_a_prompt_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": text} for text in ("a", None, "", "b", " ")]
    with pytest.warns(UserWarning, match="3 of 5 rows have no prompt"):
        assert read(write(tmp_path / "t.jsonl", rows)) == {"a", "b"}


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        ([{"prompt": "a"}, {"prompt": {"x": 1}}], {}, "row 1 has dict"),
        ([{"prompt": "a"}, {"prompt": 7}], {}, "row 1 has int '7' in 'prompt'"),
        ([{"prompt": "a", "question": "b"}], {}, "could all be the prompt"),
        ([{"prompt": [{"role": "tool", "content": "4"}]}], {}, "a turn of 'tool'"),
        ([{"prompt": text} for text in TEXTS], {"test_share": 0.99}, "leaves none of 10 prompts to learn on"),
        ([{"prompt": text} for text in TEXTS], {"test_share": 1}, "test_share' is 1"),
        ([{"prompt": text} for text in TEXTS], {"test_share": "half"}, "test_share' is 'half'"),
        ([{"prompt": text} for text in TEXTS], {"limit": 1}, "limit' is 1"),
        ([{"prompt": text} for text in TEXTS], {"limit": 2.5}, "limit' is 2.5"),
        ([{"prompt": text} for text in TEXTS], {"column": "q"}, "has no column 'q'"),
        ([{"prompt": text} for text in TEXTS], {"column": 3}, "column' is 3"),
    ],
)
def test_prompts_that_do_not_fit_get_one_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_prompts(str(write(tmp_path / "t.jsonl", rows)), **settings)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.txt", "Où?\nWhy?".encode("latin-1"), r"not UTF-8 text \(line 1"),
        ("t.txt.gz", gzip.compress(b"a\nb\n" * 99, mtime=0)[:-9], "cannot be read"),
        ("t.csv", b"prompt,prompt\na,b\n", "the column 'prompt' more than once"),
        ("t.jsonl", b"not json\n", "line 1 is not JSON"),
    ],
)
def test_a_broken_prompt_file_gets_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_prompts(str(tmp_path / name))
