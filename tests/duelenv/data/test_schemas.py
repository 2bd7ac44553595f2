"""Tables as people publish them: column names and codings of well-known data sets, with texts of our own."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from table_files import is_one_sentence, write

from duelenv import UserError
from duelenv.data import Pool, load_pairs, load_pool


def said(*turns: str, speakers: tuple[str, str] = ("user", "assistant")) -> list[dict[str, Any]]:
    """Messages of the user and the assistant by turns."""
    return [{"role": speakers[number % 2], "content": text} for number, text in enumerate(turns)]


def shared_gpt(*turns: str) -> list[dict[str, Any]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(turns)]


class Case(NamedTuple):
    """Rows, and the first pair that they hold: prompt, chosen, rejected; what must be announced; of all labels, 0.5 is
    a tie."""

    rows: list[dict[str, Any]]
    prompt: str = "Why?"
    announced: tuple[str, ...] = ()
    labels: list[float] | None = None
    settings: dict[str, Any] = {}  # noqa: RUF012
    margins: list[float] | None = None
    kept: int | None = None


GOOD, BAD = "Because it is.", "Dunno."
WHY, TWO = "Why?", "Human: Why?\n\nAssistant: How so?\n\nHuman: Tell me\n\nAssistant:"
PAIR = {"chosen": GOOD, "rejected": BAD}
KIND = {"role": "system", "content": "Be kind."}


def labelled(first: str, second: str, label: str, values: list[Any], **more: Any) -> list[dict[str, Any]]:
    """Rows with two responses, of which the first is the good one where the value stands in an even place."""
    return [
        {"prompt": WHY, first: (GOOD, BAD)[row % 2], second: (BAD, GOOD)[row % 2], label: value, **more}
        for row, value in enumerate(values)
    ]


PAIRS: dict[str, Case] = {
    "plain DPO": Case([{"prompt": WHY, **PAIR}]),
    "TRL messages": Case([{"prompt": said(WHY), "chosen": said("", GOOD)[1:], "rejected": said("", BAD)[1:]}]),
    "TRL implicit messages": Case([{"chosen": said(WHY, GOOD), "rejected": said(WHY, BAD)}]),
    "TRL implicit strings": Case(
        [{"chosen": "The sky is blue.", "rejected": "The sky is blurred."}], "The sky is", ("no column of prompts",)
    ),
    "HH-RLHF": Case(
        [{"chosen": f"\n\nHuman: Why?\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: Why?\n\nAssistant: {BAD}"}],
        "Human: Why?\n\nAssistant:",
    ),
    "HH-RLHF with its prompt apart": Case(
        [{"prompt": f"\n\n{TWO}", "response": f" {GOOD}", "chosen": f" {GOOD}", "rejected": f" {BAD}"}],
        TWO,
        ("not read: response",),
    ),
    "UltraFeedback binarized": Case(
        [
            {
                "prompt": WHY,
                "prompt_id": "x",
                "chosen": said(WHY, GOOD),
                "rejected": said(WHY, BAD),
                "messages": said(WHY, GOOD),
                "score_chosen": 8.0,
                "score_rejected": 5.5,
            }
        ],
        margins=[2.5],
    ),
    "argilla with chosen-rating": Case(
        [
            {
                "source": "s",
                "prompt": WHY,
                "chosen": said(WHY, GOOD),
                "chosen-rating": 5.0,
                "chosen-model": "m",
                "rejected": said(WHY, BAD),
                "rejected-rating": 2.0,
                "rejected-model": "n",
            }
        ],
        margins=[3.0],
    ),
    "ORCA DPO pairs": Case(
        [{"system": "Be kind.", "question": WHY, **PAIR}, {"system": "", "question": WHY, **PAIR}],
        "System: Be kind.\n\nHuman: Why?\n\nAssistant:",
        ("system, then question",),
    ),
    "a system column beside messages": Case(
        [{"system": "Be kind.", "chosen": said(WHY, GOOD), "rejected": said(WHY, BAD)}],
        "System: Be kind.\n\nHuman: Why?\n\nAssistant:",
    ),
    "a system column beside messages that have it": Case(
        [{"system_prompt": "Be kind.", **{k: [KIND, *said(WHY, text)] for k, text in PAIR.items()}}],
        "System: Be kind.\n\nHuman: Why?\n\nAssistant:",
    ),
    "a system column beside HH-RLHF": Case(
        [{"system": "Be kind.", **{k: f"\n\nHuman: Why?\n\nAssistant: {text}" for k, text in PAIR.items()}}],
        "System: Be kind.\n\nHuman: Why?\n\nAssistant:",
    ),
    "argilla ORCA with ties": Case(
        [
            {"system": None, "input": WHY, **PAIR, "status": "unchanged", "tie": False},
            {"system": None, "input": WHY, **PAIR, "status": "tie", "tie": True},
        ],
        labels=[1.0, 0.5],
        announced=("1 of 2 pairs are ties",),
    ),
    "Capybara": Case(
        [
            {
                "source": "s",
                "conversation": [{"input": WHY, "output": "How so?"}],
                "chosen": said(WHY, "How so?", "Tell me", GOOD),
                "rejected": said(WHY, "How so?", "Tell me", BAD),
            }
        ],
        TWO,
    ),
    "Alpaca with input": Case(
        [{"instruction": "Explain", "input": WHY, **PAIR}, {"instruction": WHY, "input": "", **PAIR}],
        "Explain\n\nWhy?",
        ("instruction, then input",),
    ),
    "LLaMA-Factory, system and history": Case(
        [{"system": "Be kind.", "instruction": "Tell me", "input": "", "history": [[WHY, "How so?"]], **PAIR}],
        f"System: Be kind.\n\n{TWO}",
        ("system, then history, then instruction",),
    ),
    "LLaMA-Factory, ShareGPT": Case(
        [
            {
                "conversations": shared_gpt(WHY, "How so?", "Tell me"),
                "chosen": {"from": "gpt", "value": GOOD},
                "rejected": {"from": "gpt", "value": BAD},
            }
        ],
        TWO,
    ),
    "UltraInteract": Case([{"trajectory": shared_gpt(WHY, "How so?", "Tell me"), **PAIR}], TWO),
    "content parts": Case(
        [
            {
                "chosen": [{"role": "user", "content": [{"type": "text", "text": WHY}]}, *said("", GOOD)[1:]],
                "rejected": [{"role": "user", "content": WHY}, *said("", BAD)[1:]],
            }
        ]
    ),
    "an image, and names with spaces": Case(
        [{" Prompt": WHY, "chosen ": GOOD, " rejected": BAD, "image": "a.png"}], announced=("not read: image",)
    ),
    "a prompt beside the dialogue of its answer": Case(
        [{"prompt": WHY, "messages": said(WHY, GOOD), **PAIR}], announced=("not read: messages",)
    ),
    "columns whose messages join them by a line break": Case(
        [{"instruction": "Explain", "input": WHY, **{k: said("Explain\nWhy?", text) for k, text in PAIR.items()}}],
        "Explain\nWhy?",
        ("instruction, then input",),
    ),
    "chosen and rejected the other way round": Case(
        [{"prompt": WHY, "chosen": BAD, "rejected": GOOD, "score_chosen": 9, "score_rejected": 1}],
        settings={"chosen": "rejected", "rejected": "chosen"},
        announced=("not read: score_chosen, score_rejected",),
    ),
    "a row without a label": Case(
        labelled("response_a", "response_b", "winner", ["a", "b", None]),
        settings={"empty": "drop"},
        announced=("1 of 3 pairs dropped for no label",),
        kept=2,
    ),
    "a score of one side alone": Case(
        [{"input": WHY, **PAIR, "rating": [9, 7], "chosen_score": 9}], announced=("not read: rating, chosen_score",)
    ),
    "names of the chosen beside two responses": Case(
        [{"prompt": WHY, "response_a": BAD, "response_b": GOOD, "chosen": "response_b", "rejected": "response_a"}],
        announced=("'chosen' says it in words",),
    ),
    "a passage and a history": Case(
        [
            {
                "chat_history": said(WHY, "How so?"),
                "user_prompt": "Tell me",
                "passage": "It was.",
                "title": "T",
                "sys_prompt": "Be kind.",
                **PAIR,
            }
        ],
        f"System: Be kind.\n\n{TWO}".replace("Tell me", "Tell me\n\nIt was."),
        ("not read: title",),
    ),
    "messages that repeat their prompt": Case(
        [{"prompt": WHY, **{k: said(WHY, f"Why?\n{text}") for k, text in PAIR.items()}}],
        announced=("both responses of 1 of 1 pairs began with their prompt, which was cut off",),
    ),
    "messages that repeat the user's last turn": Case(
        [{k: said(WHY, "How so?", "Tell me", f"Tell me {text}") for k, text in PAIR.items()}],
        TWO,
        ("both responses of 1 of 1 pairs began with their prompt",),
    ),
    "a dialogue that repeats the user's last turn": Case(
        [{k: f"\n\n{TWO} Tell me {text}" for k, text in PAIR.items()}],
        TWO,
        ("both responses of 1 of 1 pairs began with their prompt",),
    ),
    "stack-exchange-paired": Case([{"question": WHY, "response_j": GOOD, "response_k": BAD, "qid": 1}]),
    "messages printed in CSV": Case(
        [{"chosen": json.dumps(said(WHY, GOOD)), "rejected": str(said(WHY, BAD))}], announced=("the lists that",)
    ),
    "prompt column beside whole dialogues": Case(
        [{"prompt": WHY, **{k: f"Human: Why?\n\nAssistant: {text}" for k, text in PAIR.items()}}],
        "Human: Why?\n\nAssistant:",
    ),
    "SHP": Case(
        [
            {"history": WHY, "human_ref_A": a, "human_ref_B": b, "labels": label, "score_A": 9, "score_B": 3}
            for a, b, label in ((GOOD, BAD, 1), (BAD, GOOD, 0))
        ],
        announced=("1 for the first", "'human_ref_A' preferred 1 times"),
    ),
    "PKU-SafeRLHF": Case(
        labelled("response_0", "response_1", "better_response_id", [0, 1], safer_response_id=1),
        announced=("0 for the first", "not read: safer_response_id"),
    ),
    "HelpSteer2 preference": Case(
        labelled("response_1", "response_2", "preference_strength", [-2, 3, 0]),
        labels=[1.0, 1.0, 0.5],
        announced=("a negative number for the first",),
    ),
    "HelpSteer3": Case(
        [
            {
                "domain": "general",
                "context": said(WHY, "How so?", "Tell me"),
                "response1": GOOD,
                "response2": BAD,
                "overall_preference": -1,
            }
        ],
        TWO,
    ),
    "AlpacaFarm": Case(
        [
            {"instruction": "Explain", "input": WHY, "output_1": a, "output_2": b, "preference": label}
            for a, b, label in ((GOOD, BAD, 1), (BAD, GOOD, 2))
        ],
        "Explain\n\nWhy?",
        ("1 for the first, 2 for the second",),
    ),
    "AlpacaEval annotations": Case(
        labelled("output_1", "output_2", "preference", [1.0, 1.75, 1.5]), labels=[1.0, 0.75, 0.5]
    ),
    "Arena battles": Case(
        [
            {
                "model_a": "m",
                "model_b": "n",
                "winner": winner,
                "conversation_a": said(WHY, a),
                "conversation_b": said(WHY, b),
            }
            for winner, a, b in (
                ("model_a", GOOD, BAD),
                ("model_b", BAD, GOOD),
                ("tie", GOOD, BAD),
                ("tie (bothbad)", GOOD, BAD),
                ("m", GOOD, BAD),
                ("n", BAD, GOOD),
            )
        ],
        labels=[1.0, 1.0, 0.5, 0.5, 1.0, 1.0],
    ),
    "LMSYS of Kaggle": Case(
        [
            {
                "prompt": json.dumps([WHY, "And?"]),
                "response_a": json.dumps([BAD, "a"]),
                "response_b": json.dumps([GOOD, None]),
                "winner_model_a": 0,
                "winner_model_b": 1,
                "winner_tie": 0,
            }
        ],
    ),
    "WebGPT comparisons": Case(
        [
            {
                "question": {"dataset": "d", "id": "1", "full_text": WHY},
                "answer_0": BAD,
                "answer_1": GOOD,
                "score_0": -0.5,
                "score_1": 0.5,
                "quotes_0": {"title": []},
            }
        ],
        margins=[1.0],
        announced=("are scores",),
    ),
    "summarize-from-feedback": Case(
        [
            {
                "info": {"id": "i", "title": "Help", "post": WHY, "article": None, "subreddit": "r"},
                "summaries": [{"text": BAD, "policy": "p"}, {"text": GOOD, "policy": "q"}],
                "choice": 1,
                "worker": "w",
            }
        ],
        "Help\n\nWhy?",
        ("info.title, then info.post", "read as response_0 and response_1"),
    ),
    "judge verdicts": Case(
        labelled("answer_a", "answer_b", "verdict", ["[[A]]", "[[B]]", "[[C]]"]), labels=[1, 1, 0.5]
    ),
    "words": Case(
        labelled(
            "answer_a",
            "answer_b",
            "preference",
            ["Response A is better", "B", "A>>B", "B>A", "Tie", "Both are good", "A ≈ B"],
        ),
        labels=[1, 1, 1, 1, 0.5, 0.5, 0.5],
    ),
    "the winning column": Case(labelled("left_answer", "right_answer", "winner", ["left_answer", "right_answer"])),
    "the winning text": Case(labelled("answer_a", "answer_b", "preferred_response", [GOOD, GOOD])),
    "vote counts": Case(
        [{"prompt": WHY, "response_a": GOOD, "response_b": BAD, "votes_a": 3, "votes_b": 1}],
        labels=[0.75],
        announced=("count votes",),
    ),
    "one model against itself": Case(
        [{"prompt": WHY, "answer_a": GOOD, "answer_b": BAD, "model_a": "m", "model_b": "m", "winner": "m"}],
        labels=[0.5],
    ),
    "classes": Case(
        labelled("response_a", "response_b", "label", [0, 1, 2]),
        labels=[1, 1, 0.5],
        announced=("0 for the first, 1 for the second",),
    ),
    "classes of numbered responses": Case(
        labelled("response_1", "response_2", "label", [1, 2, 0]),
        labels=[1, 1, 0.5],
        announced=("1 for the first, 2 for the second",),
    ),
    "below 0 for the first": Case(
        labelled("response_a", "response_b", "label", [-2, 1, 0]),
        settings={"first_wins": -1},
        labels=[1, 1, 0.5],
        announced=("a negative number for the first",),
    ),
    "above 0 for the first": Case(
        labelled("response_a", "response_b", "label", [2, -1]), announced=("a positive number for the first",)
    ),
    "sentences that compare": Case(
        labelled(
            "response_1",
            "response_2",
            "preference",
            [
                "Response 1 is slightly better than Response 2",
                "@Response 2 is significantly better",
                "B<A",
                "rightvote",
            ],
        ),
    ),
    "a place counted from 1 that is never the second": Case(
        [{"prompt": WHY, "response_1": GOOD, "response_2": BAD, "winner": 1}],
        announced=("1 for the first", "'response_1' preferred 1 times"),
    ),
    "flags of a file of text": Case(
        labelled("response_a", "response_b", "preferred", ["True", "False"]), announced=("true for the first",)
    ),
    "a scale from 1 to 7": Case(
        labelled("response_a", "response_b", "label", [1, 7, 2, 5, 4]),
        settings={"first_wins": 1},
        labels=[1, 1, 1, 1, 0.5],
        announced=("a scale whose middle is 4, 1 for the first",),
    ),
    "yes and no, as YAML reads the setting": Case(
        labelled("response_a", "response_b", "label", ["No", "Yes"]),
        settings={"first_wins": False},
        announced=("No for the first",),
    ),
    "a scale from 0 to 3, the other way": Case(
        labelled("response_a", "response_b", "label", [3, 0, 2, 1]),
        settings={"first_wins": 3},
        announced=("a scale whose middle is 1.5, 3 for the first",),
    ),
    "shares of the second": Case(
        labelled("response_a", "response_b", "b_preferred", [0.25, 0.75, 0.5]),
        settings={"label": "b_preferred", "first_wins": 0},
        labels=[0.75, 0.75, 0.5],
        announced=("0 for the first, 1 not, between for doubt",),
    ),
    "a side of 0 that is never taken": Case(
        labelled("response_a", "response_b", "label", ["tie", 2, 0])[:2],
        settings={"first_wins": -1},
        labels=[0.5, 1],
    ),
    "a place or nobody's": Case(
        labelled("response_a", "response_b", "winner", [0, 1, -1]), settings={"first_wins": 0}, labels=[1, 1, 0.5]
    ),
    "a system column and a system message": Case(
        [{"system": "Be kind.", "prompt": [KIND, *said(WHY)], **PAIR}],
        "System: Be kind.\n\nHuman: Why?\n\nAssistant:",
    ),
    "named columns": Case(
        [{"ask": WHY, "x": BAD, "y": GOOD, "who": "other"}, {"ask": WHY, "x": GOOD, "y": BAD, "who": "one"}],
        settings={"prompt": "ask", "first": "x", "second": "y", "label": "who", "first_wins": "one"},
    ),
    "scores by name": Case(
        [{"prompt": WHY, "x": BAD, "y": GOOD, "p": 1, "q": 3}],
        settings={"first": "x", "second": "y", "first_score": "p", "second_score": "q"},
        margins=[2.0],
    ),
}


@pytest.mark.parametrize("schema", PAIRS)
def test_pairs_of_a_known_schema(tmp_path: Path, schema: str) -> None:
    case = PAIRS[schema]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairs = load_pairs(write(tmp_path / "t.jsonl", case.rows), **case.settings)
    assert pairs.prompts[0] == case.prompt
    assert len(pairs) == (case.kept or len(case.rows))
    tied = [label == 0.5 for label in case.labels or [1.0] * len(pairs)]
    for chosen, rejected, tie in zip(pairs.chosen, pairs.rejected, tied, strict=True):
        if schema == "TRL implicit strings":
            assert (chosen, rejected) == ("blue.", "blurred.")
        elif schema == "LMSYS of Kaggle":
            assert (chosen, rejected) == (
                f"{GOOD}\n\nHuman: And?\n\nAssistant:",
                f"{BAD}\n\nHuman: And?\n\nAssistant: a",
            )
        elif not tie:
            assert (chosen, rejected) == (GOOD, BAD)
    assert (None if pairs.labels is None else pairs.labels.tolist()) == case.labels
    assert (None if pairs.margins is None else pairs.margins.tolist()) == case.margins
    for note in case.announced:
        assert any(note in str(warning.message) for warning in caught), [str(warning.message) for warning in caught]
    assert all(is_one_sentence(str(warning.message)) for warning in caught)


RANKED, RANKS, MINUS = [GOOD, "So it is.", BAD], [1, 2, 4], [-1, -2, -4]
POOLS: dict[str, list[dict[str, Any]]] = {
    "Nectar": [
        {"prompt": WHY, "answers": [{"answer": t, "model": "m", "rank": r} for t, r in zip(RANKED, RANKS, strict=True)]}
    ],
    "UltraFeedback": [
        {
            "source": "s",
            "instruction": WHY,
            "models": ["a", "b", "c"],
            "completions": [
                {
                    "response": t,
                    "model": m,
                    "overall_score": s,
                    "critique": "",
                    "annotations": {"help": {"Rating": "1"}},
                }
                for t, m, s in zip(RANKED, "abc", MINUS, strict=True)
            ],
        }
    ],
    "lists": [{"prompt": WHY, "responses": RANKED, "scores": [-1, -2, -4]}],
    "a ranking that reads one way": [
        {"prompt": WHY, "responses": RANKED, "ranking": RANKS},
        {"prompt": "none", "responses": [], "ranking": []},
    ],
    "lists with ranks": [{"question": WHY, "answers": RANKED, "ranks": [1, 2, 4], "models": ["a", "b", "c"]}],
    "stack-exchange-preferences": [
        {"question": WHY, "answers": [{"text": t, "pm_score": s} for t, s in zip(RANKED, MINUS, strict=True)]}
    ],
    "a rank in every row": [{"prompt": WHY, "response": t, "rank": s} for t, s in zip(RANKED, RANKS, strict=True)],
    "HelpSteer2": [{"prompt": WHY, "response": t, "helpfulness": s} for t, s in zip(RANKED, MINUS, strict=True)],
}


@pytest.mark.parametrize("schema", POOLS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rankings_and_scores_of_a_known_schema(tmp_path: Path, schema: str) -> None:
    path = write(tmp_path / "t.jsonl", POOLS[schema])
    pool = load_pool(path)
    assert pool.prompts == (WHY,) and pool.responses.tolist() == [RANKED]
    assert pool.utilities.tolist() == [[-1, -2, -4]]
    pairs = load_pairs(path)
    assert pool.pairs().chosen == pairs.chosen
    assert pairs.margins is not None and pairs.margins.tolist() == [1, 3, 2]
    assert pairs.chosen == (RANKED[0], RANKED[0], RANKED[1])
    assert pairs.rejected == (RANKED[1], RANKED[2], RANKED[2])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_scored_responses_in_a_list_are_a_pair(tmp_path: Path) -> None:
    rows = [
        {"instruction": WHY, "completions": [{"response": t, "overall_score": s} for t, s in ((BAD, 2), (GOOD, 5))]}
    ]
    pairs = load_pairs(write(tmp_path / "t.jsonl", rows))
    assert (pairs.chosen, pairs.rejected) == ((GOOD,), (BAD,))
    assert pairs.margins is not None and pairs.margins.tolist() == [3]


def test_a_kto_table_is_a_pool_where_prompts_have_both_verdicts(tmp_path: Path) -> None:
    rows = [{"prompt": WHY, "completion": GOOD, "label": True}, {"prompt": WHY, "completion": BAD, "label": False}]
    with pytest.warns(UserWarning, match="the score is 'label': 1 for true, 0 for false"):
        assert load_pool(write(tmp_path / "t.jsonl", rows)).utilities.tolist() == [[1, 0]]
    with pytest.warns(UserWarning, match="the score is 'label'"):
        assert load_pairs(tmp_path / "t.jsonl").chosen == (GOOD,)
    with pytest.raises(UserError, match=r"no pairs of responses among prompt, text_1; name them with chosen"):
        load_pairs(write(tmp_path / "u.jsonl", [{"prompt": WHY, "text_1": GOOD}]))


TREE = {"message_id": "m", "parent_id": None, "text": WHY, "role": "prompter", "rank": None}
REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "OpenAssistant messages": ([TREE, TREE | {"parent_id": "m", "role": "assistant", "rank": 0}], "trees of messages"),
    "OpenAssistant trees": ([{"message_tree_id": "t", "prompt": {"text": WHY, "replies": []}}], "trees of messages"),
    "KTO without a second verdict": ([{"prompt": WHY, "completion": GOOD, "label": True}], "at most 1 responses"),
    "two prompts of one name": ([{"prompt": WHY, "Prompt": "How?", **PAIR}], "'Prompt', which could all be the prompt"),
    "two prompts": ([{"prompt": WHY, "question": "How?", **PAIR}], "could all be the prompt"),
    "two scores of one name": (
        [{"prompt": WHY, "response": GOOD, "Score": 1, "SCORE": 2}],
        "has the columns 'Score' and 'SCORE'",
    ),
    "no preference": ([{"prompt": WHY, "response_a": GOOD, "response_b": BAD}], "nothing that says which"),
    "a scale": (labelled("response_a", "response_b", "rating_of_both", [1, 4, 7]), "nothing that says which"),
    "seven steps": (labelled("response_a", "response_b", "label", [1, 4, 7]), "the end of a scale such as 1 to 7"),
    "a place or a side of 0": (labelled("response_a", "response_b", "winner", [-1, 1, 0]), "first_wins=.. (1 or -1 if"),
    "a place counted from 0 or 1": (labelled("response_a", "response_b", "winner", [1]), "could mean several things"),
    "a place or a share": (labelled("response_a", "response_b", "winner", [1, 0, 0.5]), "could mean several things"),
    "a side's name that the other holds": (
        [{"prompt": WHY, "response_a": "B", "response_b": "A", "winner": "A"}],
        "what the other holds in 'response_b'",
    ),
    "counts of something": (
        [{"prompt": WHY, "response_a": GOOD, "response_b": BAD, "count_a": 3, "count_b": 9}],
        "nothing that says which",
    ),
    "one side of 0": (labelled("response_1", "response_2", "overall_preference", [2, 1]), "could mean several things"),
    "a history in a form of its own": (
        [{"prompt": WHY, "history": [{"user": "Hi", "assistant": "Hello"}], **PAIR}],
        "in 'history', expected messages or exchanges [user, assistant]",
    ),
    "two system messages": (
        [{"system": "Be kind.", "system_prompt": "Be brief.", "prompt": WHY, **PAIR}],
        "could all be the system message",
    ),
    "a dialogue beside a text": (
        [{"prompt": WHY, "chosen": said(WHY, GOOD), "rejected": BAD}],
        "and text in the other",
    ),
    "a word whose meaning is not known": (
        labelled("response_a", "response_b", "label", ["yes", "no"]),
        "has 'yes' in 'label', expected words for the first",
    ),
    "four responses": (
        [{"prompt": WHY, "response_1": GOOD, "response_2": BAD, "response_3": "c", "label": 1}],
        "more than two responses",
    ),
    "ranks or an order": ([{"prompt": WHY, "responses": RANKED, "ranking": [3, 1, 2]}], "or the responses in order"),
    "an order from 0": ([{"prompt": WHY, "responses": RANKED, "ranking": [2, 0, 1]}], "or the responses in order"),
    "an odd sign": (labelled("response_a", "response_b", "winner", ["A ≥ B"]), "row 0 has 'A ≥ B' in 'winner'"),
    "an odd word": (labelled("response_a", "response_b", "winner", ["a", "gpt"]), "row 1 has 'gpt' in 'winner'"),
    "no label in a row": (labelled("response_a", "response_b", "winner", ["a", None]), "row 1 has nothing in 'winner'"),
    "a tool's turn": (
        [{"chosen": [*said(WHY), {"role": "tool", "content": "4"}, *said("", GOOD)[1:]], "rejected": said(WHY, BAD)}],
        "a turn of 'tool' in 'chosen'",
    ),
    "other conversations": ([{"chosen": said(WHY, GOOD), "rejected": said("How?", BAD)}], "share no first message"),
    "a prompt from elsewhere": (
        [{"prompt": "Where?", "chosen": said(WHY, GOOD), "rejected": said(WHY, BAD)}],
        "none of the first messages",
    ),
    "a number": ([{"prompt": 7, **PAIR}], "int '7' in 'prompt'"),
}


@pytest.mark.parametrize("schema", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, schema: str) -> None:
    rows, sentence = REFUSED[schema]
    with pytest.raises(UserError) as caught:
        load_pool(write(tmp_path / "t.jsonl", rows))
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


def test_a_label_whose_name_tells_of_the_second_is_not_taken_for_the_first(tmp_path: Path) -> None:
    for label in ("response_2_is_better", "is_response_2_safe", "winner_tie", "right_won"):
        rows = labelled("response_1", "response_2", label, [False, True])
        with pytest.raises(UserError, match="could mean several things"):
            load_pairs(write(tmp_path / "t.jsonl", rows), label=label)
    path = write(tmp_path / "t.jsonl", labelled("response_a", "response_b", "b_preferred", [False, True]))
    with pytest.raises(UserError, match="could mean several things"):
        load_pairs(path, label="b_preferred")
    with pytest.warns(UserWarning, match="'response_a' preferred 1 times"):
        assert load_pairs(path, label="b_preferred", first_wins=False).chosen == (GOOD, GOOD)


PRINTED = "[{{'role': 'user', 'content': 'Why?'}}\n {{'role': 'assistant', 'content': \"{}\"}}]"
CELLS: dict[str, tuple[list[dict[str, str]], str]] = {
    "a message a cell": (
        [{"prompt": json.dumps(said(WHY)[0]), **{k: json.dumps(said("", text)[1]) for k, text in PAIR.items()}}],
        "'chosen' and 'rejected' and 'prompt' is read as the lists",
    ),
    "messages as NumPy prints them": ([{k: PRINTED.format(text) for k, text in PAIR.items()}], "is read as the lists"),
    "responses and scores": (
        [
            {"prompt": WHY, "responses": json.dumps([BAD, GOOD]), "scores": "[2, 3]"},
            {"prompt": "none", "responses": "", "scores": ""},
        ],
        "'responses' and 'scores' is read as the lists",
    ),
    "ranked mappings": (
        [{"prompt": WHY, "answers": json.dumps([{"answer": BAD, "rank": 2}, {"answer": GOOD, "rank": 1}])}],
        "'answers' is read as the lists",
    ),
    "two responses and a choice": (
        [{"prompt": WHY, "responses": json.dumps([BAD, GOOD]), "choice": "1"}],
        "response_0 and response_1",
    ),
    "verdicts": (
        [{"prompt": WHY, "completion": GOOD, "label": "True"}, {"prompt": WHY, "completion": BAD, "label": "False"}],
        "1 for true",
    ),
}


@pytest.mark.parametrize("schema", CELLS)
def test_cells_of_text_that_spell_what_other_files_hold(tmp_path: Path, schema: str) -> None:
    rows, announced = CELLS[schema]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.warns(UserWarning, match=announced):
        pairs = load_pairs(tmp_path / "t.csv")
    assert (pairs.prompts, pairs.chosen, pairs.rejected) == ((WHY,), (GOOD,), (BAD,))


def test_a_rank_of_which_the_most_is_the_best_is_named_as_the_score(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": WHY, "responses": [GOOD, BAD], "ranks": [2, 1]}])
    with pytest.warns(UserWarning, match=r"minus 'rank': the least is the best \(score=rank says otherwise\)"):
        assert load_pairs(path).chosen == (BAD,)
    with pytest.warns(UserWarning, match="each of the responses"):
        assert load_pool(path, score="rank").pairs().chosen == (GOOD,)


def test_a_key_of_listed_responses_can_be_named(tmp_path: Path) -> None:
    rows = [{"prompt": WHY, "candidates": [{"content": text, "rating": n} for n, text in enumerate((BAD, GOOD))]}]
    with pytest.warns(UserWarning, match="each of the responses"):
        assert load_pool(write(tmp_path / "t.jsonl", rows), response="content").responses.tolist() == [[BAD, GOOD]]


def test_a_tie_is_a_coin_flip_in_a_pool_and_votes_are_the_share_they_were(tmp_path: Path) -> None:
    rows = labelled("response_a", "response_b", "winner", ["a", "b", "tie"])
    with pytest.warns(UserWarning, match="1 of 3 pairs are ties"):
        pool = load_pool(write(tmp_path / "t.jsonl", rows), margin=2.0)
    assert (pool.utilities[:, 0] - pool.utilities[:, 1]).tolist() == [2.0, 2.0, 0.0]
    votes = [{"prompt": WHY, "response_a": GOOD, "response_b": BAD, "votes_a": 3, "votes_b": 1}]
    with pytest.warns(UserWarning, match="count votes"):
        pool = load_pool(write(tmp_path / "v.jsonl", votes), margin=2.0)
    np.testing.assert_allclose(pool.utilities[0, 0] - pool.utilities[0, 1], np.log(3))


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected"),
    [
        ("Is it so?", "Is it so? Yes", "Is it so?\nNo", ("Yes", "No")),
        ("Is  it\nso?", "is it so? Yes", "Is it so? No", ("is it so? Yes", "Is it so? No")),
        ("Is  it\nso?", "  Is it so?Yes", "Is it  so? No", ("Yes", "No")),
        ("I am", "I am.", "I amuse", ("I am.", "I amuse")),
        (
            "Tell me about I",
            "Tell me about Iodine",
            "Tell me about Ions",
            ("Tell me about Iodine", "Tell me about Ions"),
        ),
        ("We don", "We don't", "We don", ("We don't", "We don")),
        ("It is 3", "It is 3.14", "It is 3 or so", ("It is 3.14", "It is 3 or so")),
        ("It is 3.", "It is 3.14", "It is 3.2", ("It is 3.14", "It is 3.2")),
        ("It is well-", "It is well-known", "It is well-done", ("It is well-known", "It is well-done")),
        ("Is it so?", "Isit so? Yes", "Isit so? No", ("Isit so? Yes", "Isit so? No")),
        ("Say hi", "Say hi", "Say hi", ("Say hi", "Say hi")),
        ("I", "I think", "I guess", ("I think", "I guess")),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_repeated_prompt_is_cut_off_row_by_row_and_never_within_a_word(
    tmp_path: Path, prompt: str, chosen: str, rejected: str, expected: tuple[str, str]
) -> None:
    rows = [{"prompt": WHY, **PAIR}, {"prompt": prompt, "chosen": chosen, "rejected": rejected}]
    pairs = load_pairs(write(tmp_path / "t.jsonl", rows))
    assert (pairs.chosen, pairs.rejected) == ((GOOD, expected[0]), (BAD, expected[1]))
    assert any("began with their prompt" in note for note in pairs.notes) == (expected != (chosen, rejected))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"first": "x", "second": "x"}, "first= and second= are both 'x'"),
        ({"first": "answer_b", "second": "answer_a"}, "give first=answer_a and second=answer_b"),
        ({"chosen": "x", "rejected": "x"}, "chosen= and rejected= are both 'x'"),
        ({"first": "x", "second": "y", "label": "y"}, "label= is 'y', which holds responses"),
        ({"prompt": "x", "chosen": "x", "rejected": "y"}, "prompt= is 'x', and 'x' is read as something else"),
    ],
)
def test_no_column_is_two_things(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    row = {"prompt": WHY, "x": GOOD, "y": BAD, "answer_a": GOOD, "answer_b": BAD, "score_a": 2, "score_b": 1}
    with pytest.raises(UserError) as caught:
        load_pairs(write(tmp_path / "t.jsonl", [row]), **settings)  # type: ignore[arg-type]
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))


def test_several_columns_make_the_prompt_where_they_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": WHY, "question": "How?", "meta": {"hint": "Look"}, **PAIR}])
    with pytest.warns(UserWarning, match="not read: question"):
        assert load_pairs(path, prompt="prompt").prompts == (WHY,)
    assert load_pairs(path, prompt="question + prompt+meta.hint").prompts == ("How?\n\nWhy?\n\nLook",)
    with pytest.raises(UserError, match="no column 'meta2'"):
        load_pairs(path, prompt="prompt+meta2")


def test_conversations_part_at_the_last_turn_of_the_user_that_they_share(tmp_path: Path) -> None:
    turns = [said(WHY, "How so?", asked, text) for asked, text in (("Tell me", GOOD), ("Go on", BAD))]
    spoken = [
        f"\n\nHuman: Why?\n\nAssistant: How so?\n\nHuman: {asked}\n\nAssistant: {text}"
        for asked, text in (("Tell me", GOOD), ("Go on", BAD))
    ]
    listed = load_pairs(write(tmp_path / "a.jsonl", [{"chosen": turns[0], "rejected": turns[1]}]))
    told = load_pairs(write(tmp_path / "b.jsonl", [{"chosen": spoken[0], "rejected": spoken[1]}]))
    assert listed.prompts == (WHY,) and told.prompts == (f"Human: {WHY}\n\nAssistant:",)
    assert listed.chosen == told.chosen == ("How so?\n\nHuman: Tell me\n\nAssistant: Because it is.",)
    assert listed.rejected == told.rejected == ("How so?\n\nHuman: Go on\n\nAssistant: Dunno.",)


def test_pairs_of_a_pool_put_the_better_response_first_wherever_it_stands() -> None:
    pool = Pool(("p",), np.array([["low", "high", "same"]], dtype=object), [[0.0, 2.0, 2.0]])  # type: ignore[arg-type]
    pairs = pool.pairs()
    assert (pairs.chosen, pairs.rejected) == (("high", "same"), ("low", "low"))
    assert pairs.margins is not None and pairs.margins.tolist() == [2.0, 2.0]
    with pytest.raises(UserError, match="the same utility"):
        Pool(("p",), np.array([["a", "b"]], dtype=object), np.zeros((1, 2))).pairs()


def test_single_responses_lose_their_prompt_where_all_to_it_repeat_it(tmp_path: Path) -> None:
    texts = {"Is it so?": ("Is it so? Yes", "Is it so?\nNo"), "Or not?": ("Or not? Yes", "No"), "I": ("I am", "I was")}
    rows = [{"prompt": p, "response": t, "score": n} for p, pair in texts.items() for n, t in enumerate(pair)]
    with pytest.warns(UserWarning, match="all responses to 1 of 3 prompts began with it"):
        pool = load_pool(write(tmp_path / "t.jsonl", rows))
    assert pool.responses.tolist() == [["Yes", "No"], ["Or not? Yes", "No"], ["I am", "I was"]]


@pytest.mark.parametrize("written", [False, True])
def test_single_responses_that_are_whole_dialogues_lose_the_turns_of_their_prompt(
    tmp_path: Path, written: bool
) -> None:
    def whole(*turns: str) -> Any:
        speakers = ("Human", "Assistant")
        return "\n\n".join(f"{speakers[n % 2]}: {t}" for n, t in enumerate(turns)) if written else said(*turns)

    rows = [
        {"prompt": WHY, "completion": whole(WHY, GOOD), "score": 3},
        {"prompt": WHY, "completion": whole(WHY, BAD, "Tell me", BAD), "score": 2},
    ]
    with pytest.warns(UserWarning, match="of 2 responses are dialogues that begin with the prompt's turns, cut off"):
        pool = load_pool(write(tmp_path / "t.jsonl", rows))
    kept = f"Human: {WHY}\n\nAssistant: " if written else ""  # more than one answer: nothing is lost
    assert pool.responses.tolist() == [[GOOD, f"{kept}{BAD}\n\nHuman: Tell me\n\nAssistant: {BAD}"]]


def test_rows_without_any_response_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": WHY, "responses": RANKED, "scores": MINUS}, {"prompt": "none", "responses": [], "scores": []}]
    with pytest.warns(UserWarning, match="1 of 2 rows have no response in 'responses'"):
        assert load_pool(write(tmp_path / "t.jsonl", rows)).prompts == (WHY,)


def test_a_pool_of_pairs_says_that_it_leaves_nothing_to_choose(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"prompt": WHY, **PAIR}])
    with pytest.warns(UserWarning, match=r"nothing to choose.*the same margin \(2\)"):
        load_pool(path, margin=2.0)
    scored = [{"prompt": WHY, **PAIR, "chosen_score": score, "rejected_score": 1} for score in (2, 3)]
    with pytest.warns(UserWarning, match="get the same labels$"):
        load_pool(write(tmp_path / "s.jsonl", scored))
