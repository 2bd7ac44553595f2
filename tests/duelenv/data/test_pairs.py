"""Tables of chosen and rejected responses: prompts of dialogues, margins, and the sentence for what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_files import REAL, ROWS, is_one_sentence, write

from duelenv import UserError
from duelenv.data import load_pairs, load_pool


def test_the_prompt_of_a_dialogue_is_what_both_share_up_to_the_last_assistant_turn(tmp_path: Path) -> None:
    start = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant:"
    # The second pair differs in an earlier turn: everything from there on is the response.
    rows = [
        {"chosen": f"{start} The A", "rejected": f"{start} The B"},
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: yes\n\nHuman: x\n\nAssistant: c",
            "rejected": "\n\nHuman: hi\n\nAssistant: no",
        },
    ]
    pairs = load_pairs(write(tmp_path / "t.jsonl.gz", rows))
    assert pairs.prompts == (start.strip(), "Human: hi\n\nAssistant:")
    assert pairs.chosen == ("The A", "yes\n\nHuman: x\n\nAssistant: c")
    assert pairs.rejected == ("The B", "no")


def test_an_answer_may_begin_with_the_words_of_its_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "hi", "chosen": "hi you", "rejected": "hi"}, {"prompt": "no", "chosen": "a", "rejected": "b"}]
    assert load_pairs(write(tmp_path / "t.jsonl", rows)).chosen == ("hi you", "a")


def test_messages_with_and_without_a_prompt_column_and_plain_pairs_agree(tmp_path: Path) -> None:
    user = {"role": "user", "content": "why?"}
    good, bad = ({"role": "assistant", "content": text} for text in ("because", "dunno"))
    tables: list[list[dict[str, Any]]] = [
        [{"chosen": [user, good], "rejected": [user, bad]}],
        [{"prompt": "why?", "chosen": [user, good], "rejected": [user, bad]}],
        [{"prompt": [user], "chosen": [good], "rejected": [bad]}],
        [{"prompt": "why?", "chosen": [good], "rejected": [bad]}],
        [{"prompt": "why?", "chosen": "because", "rejected": "dunno"}],
        [{"question": "why?", "chosen": "why? because", "rejected": "why? dunno"}],
    ]
    for number, rows in enumerate(tables):
        pairs = load_pairs(write(tmp_path / f"{number}.parquet", rows))
        assert (pairs.prompts, pairs.chosen, pairs.rejected) == (("why?",), ("because",), ("dunno",))


def test_a_conversation_of_messages_reads_like_a_dialogue_in_text(tmp_path: Path) -> None:
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "and?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    answers = [[*messages, {"role": "assistant", "content": text}] for text in "ab"]
    text = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: and?\n\nAssistant: "
    listed = load_pairs(write(tmp_path / "a.jsonl", [{"chosen": answers[0], "rejected": answers[1]}]))
    spoken = load_pairs(write(tmp_path / "b.jsonl", [{"chosen": text + "a", "rejected": text + "b"}]))
    assert (listed.prompts, listed.chosen, listed.rejected) == (spoken.prompts, spoken.chosen, spoken.rejected)


def test_pairs_stand_as_a_pool_in_which_the_chosen_wins(tmp_path: Path) -> None:
    rows = [{"prompt": p, "chosen": f"+{p}", "rejected": f"-{p}"} for p in ("one", "two")]
    path = write(tmp_path / "t.jsonl", rows)
    pool = load_pool(path, margin=2.0)
    assert pool.responses.tolist() == [["+one", "-one"], ["+two", "-two"]]
    assert (pool.utilities[:, 0] - pool.utilities[:, 1]).tolist() == [2.0, 2.0]
    assert pool.rows.tolist() == [[0, 1], [2, 3]] and pool.num_rows == 4


def test_recorded_scores_of_pairs_become_their_margins(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 8, "score_rejected": 5.5}]
    pairs = load_pairs(write(tmp_path / "t.parquet", rows))
    assert pairs.margins is not None and pairs.margins.tolist() == [2.5]
    assert np.diff(pairs.pool().utilities).tolist() == [[-2.5]]


@pytest.mark.parametrize(
    ("row", "settings", "sentence"),
    [
        ({"chosen": "a"}, {}, "no column 'rejected': choose from chosen"),
        ({"chosen": "a", "rejected": "b"}, {}, "row 0: 'chosen' and 'rejected' are not dialogues"),
        (
            {"chosen": "\n\nHuman: hi\n\nAssistant: a", "rejected": "\n\nHuman: you\n\nAssistant: b"},
            {},
            "row 0: 'chosen' and 'rejected' are not dialogues that share",
        ),
        (
            {"prompt": "p", "chosen": "a", "rejected": "b", "s": 1},
            {"chosen_score": "s"},
            "scores only in column 's'",
        ),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, {}, "row 0 has an empty 'rejected' response"),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, {"empty": "drop"}, "no pairs left; 1 of 1"),
        ({"chosen": [{"role": "user"}] * 2, "rejected": [{"role": "user"}] * 2}, {}, "without role and content"),
        (
            {"prompt": "p", "chosen": ["a"], "rejected": ["b"]},
            {},
            "row 0 has a message without role and content in 'ch",
        ),
        (
            {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]},
            {},
            "share no first message",
        ),
    ],
)
def test_pairs_that_do_not_fit_get_one_sentence(
    tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_pairs(write(tmp_path / "t.jsonl", [row]), **settings)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


def test_load_pool_refuses_a_setting_of_the_other_kind_of_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data setting 'margin' is unknown for .*a table of responses"):
        load_pool(write(tmp_path / "a.jsonl", ROWS), margin=1.0)
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    with pytest.raises(UserError, match=r"data setting 'score' is unknown for .*a table of pairs"):
        load_pool(write(tmp_path / "b.jsonl", [pair]), score="s")


@pytest.mark.skipif(not REAL.is_dir(), reason="the development data (../shared/data) are not here")
def test_a_real_table_of_pairs() -> None:
    with pytest.warns(UserWarning, match="4 of 2312 pairs dropped for an empty response"):
        pairs = load_pairs(REAL / "hh_rlhf_harmless" / "test.jsonl.gz", empty="drop")
    assert len(pairs) == 2308
    assert all(prompt.endswith("Assistant:") for prompt in pairs.prompts)
    assert all(pairs.chosen) and all(pairs.rejected)
