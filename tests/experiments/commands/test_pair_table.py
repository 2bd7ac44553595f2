"""Recorded pairs alone: what is held out, how well it is predicted, and what the command says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_files import is_one_sentence, write

from duelenv import UserError
from duelenv.data import Pairs, load_pairs
from duelenv.experiments.commands.cli import main
from duelenv.experiments.commands.pair_table import (
    about_pairs,
    hold_out,
    judged,
    longer,
    predicted_by_belief,
    predicted_by_oracle,
)
from duelenv.experiments.running.given_labels import read_labels


def made(count: int, *, labels: list[float] | None = None, turned: bool = False) -> Pairs:
    """Pairs, two of each prompt, of which the one with a list of words is preferred."""
    listed = tuple(f"- one{n}\n- two\n- three{n}" for n in range(count))
    flowing = tuple(f"One, two{n} and three, as they come along here{n}" for n in range(count))
    return Pairs(
        tuple(f"prompt {n // 2}" for n in range(count)),
        *((flowing, listed) if turned else (listed, flowing)),
        rows=np.arange(count),
        num_rows=count,
        labels=None if labels is None else np.array(labels),
    )


def test_all_pairs_of_a_prompt_are_held_out_together_and_ties_are_not_predicted() -> None:
    pairs = made(40, labels=[0.5 if n % 8 == 0 else 1.0 for n in range(40)])
    split = hold_out(pairs, 0.3)
    train, test = ({pairs.prompts[place] for place in places} for places in (split.train, split.test))
    assert not train & test and len(test) == split.prompts == 6
    assert not set(split.test.tolist()) & set(range(0, 40, 8))
    order = np.random.default_rng(0).permutation(40)
    assert pairs.labels is not None
    mixed = Pairs(
        *(tuple(texts[n] for n in order) for texts in (pairs.prompts, pairs.chosen, pairs.rejected)),
        labels=pairs.labels[order],
    )
    assert {mixed.prompts[place] for place in hold_out(mixed, 0.3).test} == test


def test_what_is_judged_is_accuracy_with_its_interval_and_log_loss() -> None:
    found = judged("x", np.array([0.9, 0.5, 0.2, 0.8]), "abcd")
    assert found.accuracy == 2.5 / 4
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.5, 0.2, 0.8]).mean())
    assert found.low < found.accuracy < found.high
    # Wilson's interval of 8 of 10, from his formula.
    eight = judged("x", np.array([0.9] * 8 + [0.1] * 2), "abcdefghij")
    z = 1.959964
    middle, half = (8 + z**2 / 2) / (10 + z**2), z / (10 + z**2) * np.sqrt(8 * 2 / 10 + z**2 / 4)
    np.testing.assert_allclose([eight.low, eight.high], [middle - half, middle + half], rtol=1e-5)
    # Pairs that say again what others of their prompt say tell nothing new.
    again = judged("x", np.array([0.9] * 8 + [0.1] * 2).repeat(3), [prompt for prompt in "abcdefghij" for _ in "123"])
    np.testing.assert_allclose([again.low, again.high], [eight.low, eight.high], rtol=1e-9)
    assert judged("x", np.full(6, 0.9), "aabbcc").low == pytest.approx(judged("x", np.full(3, 0.9), "abc").low)


def test_a_belief_predicts_what_can_be_learnt_and_no_more() -> None:
    pairs = made(60)
    assert predicted_by_belief(pairs, hold_out(pairs)).accuracy > 0.95
    assert longer(pairs, np.arange(60)).accuracy == 0.0
    assert longer(made(60, turned=True), np.arange(60)).accuracy == 1.0
    # Where nothing tells which was preferred, the order of the columns must not.
    generator = np.random.default_rng(3)
    texts = [["".join(generator.choice(list("abc d"), 30)) for _ in range(200)] for _ in range(2)]
    noise = Pairs(tuple(f"p{n}" for n in range(200)), *map(tuple, texts))
    found = predicted_by_belief(noise, hold_out(noise, 0.5))
    assert 0.3 < found.accuracy < 0.7
    assert found.log_loss is not None and found.log_loss > 0.6


def test_an_oracle_predicts_pairs_whichever_side_they_stand_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from duelenv import oracles

    monkeypatch.setattr(oracles, "make", lambda name, **_: lambda p, a, b: [0.8 if x[0] == "-" else 0.2 for x in a])
    for turned, accuracy in ((False, 1.0), (True, 0.0)):
        found = predicted_by_oracle(made(20, turned=turned), np.arange(20), {"name": "listing"})
        assert found.accuracy == accuracy
        assert found.log_loss == pytest.approx(-np.log(0.2 if turned else 0.8))


def test_pairs_that_an_oracle_leaves_unanswered_are_counted_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from duelenv import oracles

    for count in (3, 20):
        monkeypatch.setattr(
            oracles,
            "make",
            lambda name, count=count: (
                lambda p, a, b: [np.nan if row < count else 0.8 if x[0] == "-" else 0.2 for row, x in enumerate(a)]
            ),
        )
        if count == 3:
            found = predicted_by_oracle(made(20), np.arange(20), {"name": "listing"})
            assert (found.name, found.accuracy) == ("oracle listing, 3 pairs unanswered", 1.0)
            assert found.log_loss == pytest.approx(-np.log(0.8))
    with pytest.raises(UserError, match="'listing' can answer none of 20 pairs"):
        predicted_by_oracle(made(20), np.arange(20), {"name": "listing"})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_labels_keep_the_whole_prompt_and_are_read_from_scored_responses_too(tmp_path: Path) -> None:
    own = {"prompt": "p", "first": "a", "second": "b", "label": 0}
    assert read_labels(write(tmp_path / "own.jsonl", [own])).labels.tolist() == [0.0]
    given = read_labels(write(tmp_path / "system.jsonl", [own | {"system": "Be kind."}]))
    assert (given.prompts[0], given.first[0]) == ("System: Be kind.\n\nHuman: p\n\nAssistant:", "b")
    verdicts = [{"prompt": "p", "completion": text, "label": text == "b"} for text in "ab"]
    assert read_labels(write(tmp_path / "kto.jsonl", verdicts)).first.tolist() == ["b"]
    with pytest.raises(UserError, match="did you mean 'rejected'"):
        read_labels(tmp_path / "own.jsonl", rejectd="b")
    unread = [{"prompt": "p", "chosen": "a", "rejected": "b", "background": "c"}]
    with pytest.warns(UserWarning, match="not read: background"):
        read_labels(write(tmp_path / "unread.jsonl", unread))


def rows(count: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Why {n}?",
            "answer_a": (f"- a{n}\n- b", f"Because of {n}")[n % 2],
            "answer_b": (f"Because of {n}", f"- a{n}\n- b")[n % 2],
            "vote": ("left", "right", "tie")[n % 2 if n else 2],
        }
        for n in range(count)
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command_says_what_is_held_and_writes_what_others_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, plain = write(tmp_path / "t.jsonl", rows()), tmp_path / "plain.jsonl"
    assert main(["pairs", str(path), "label=vote", "oracle=length", "oracle.target=3", "--export", str(plain)]) == 0
    said = capsys.readouterr().out
    for words in ("30 pairs of 30 prompts; 1 ties", "belief laplace, after 21 pairs", "oracle length", "Caution"):
        assert words in said, said
    assert f"labels={plain}" in said
    pairs, given = load_pairs(path, label="vote"), read_labels(plain)
    assert given.labels.tolist() == [0.5] + [1.0] * 29
    assert given.first.tolist() == list(pairs.chosen) and given.second.tolist() == list(pairs.rejected)
    again = load_pairs(plain)
    assert (again.prompts, again.chosen, again.rejected) == (pairs.prompts, pairs.chosen, pairs.rejected)
    assert read_labels(path).first.tolist() == list(pairs.chosen)  # 'vote' is found without its name too


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"first": "answer_a"}, "first= is given without second="),
        ({"score": "x"}, "Unknown setting 'score'"),
        ({"test_share": 1.0}, "test_share is 1.0"),
        ({"limit": 0}, "limit is 0"),
        ({"oracle": {"name": "none"}}, "oracle 'none' is unknown"),
        ({"oracle": {"path": "x"}}, "'oracle.name' is None"),
        ({"prompt": "vote"}, "all ties"),
    ],
)
def test_what_the_command_cannot_do_is_one_sentence(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    table = write(tmp_path / "t.jsonl", rows())
    if sentence == "all ties":
        table = write(tmp_path / "t.jsonl", [row | {"vote": "tie"} for row in rows()])
        settings = {}
    with pytest.raises(UserError) as caught:
        about_pairs(table, **settings)
    assert sentence in str(caught.value) and is_one_sentence(str(caught.value))
    with pytest.raises(UserError, match="all pairs have the same prompt"):
        hold_out(Pairs(("p", "p"), ("a", "b"), ("c", "d")))
